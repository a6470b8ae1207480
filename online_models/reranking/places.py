"""Filling the places of a list: the loops of `online_models.reranking.rerank`, which says what they do."""

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit
from online_models.reranking.exploration import draw, win_chances


@jit
def n_bits(x: np.uint64) -> np.uint64:
    """Return how many bits are set."""
    x -= (x >> np.uint64(1)) & np.uint64(0x5555555555555555)
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@jit
def compare_all(
    chosen: int,
    vectors: NDArray[np.float32],
    bits: NDArray[np.uint64],
    closest: NDArray[np.float32],
    alike: NDArray[np.float32],
) -> None:
    """Bring the highest cosine and similarity of every candidate to the chosen ones up to date with a new one.

    Similarity is the mean of the cosine (not below 0) and the Jaccard index of the labels.
    """
    vector, of_chosen = vectors[chosen], bits[chosen]
    half, nothing = np.float32(0.5), np.float32(0.0)
    for m in range(closest.size):
        cosine = nothing
        for k in range(vector.size):
            cosine += vectors[m, k] * vector[k]
        n_any = n_bits(bits[m] | of_chosen)
        jaccard = np.float32(n_bits(bits[m] & of_chosen)) / np.float32(n_any) if n_any > 0 else nothing
        closest[m] = max(closest[m], cosine)
        alike[m] = max(alike[m], half * max(cosine, nothing) + half * jaccard)


@jit
def compare_one(
    m: int,
    order: NDArray[np.intp],
    n_chosen: int,
    vectors: NDArray[np.float32],
    n_seen: NDArray[np.int64],
    closest: NDArray[np.float32],
) -> None:
    """Bring the highest cosine of one candidate to the chosen ones up to date."""
    for x in range(n_seen[m], n_chosen):
        cosine = np.float32(0.0)
        for k in range(vectors.shape[1]):
            cosine += vectors[m, k] * vectors[order[x], k]
        closest[m] = max(closest[m], cosine)
    n_seen[m] = n_chosen


@jit
def has_full_label(
    table: NDArray[np.int32], start: int, size: int, full: NDArray[np.int32], n_full: int, candidate: int
) -> bool:
    """Return whether one of the candidate's labels is there as often as it may be."""
    for k in range(n_full):
        for x in range(start, start + size):
            if table[candidate, x] == full[k]:
                return True
    return False


@jit
def breaks(
    constraint: int,
    m: int,
    place: int,
    is_duplicate: bool,
    table: NDArray[np.int32],
    columns: NDArray[np.int64],
    caps: NDArray[np.int64],
    full: NDArray[np.int32],
    n_full: NDArray[np.int64],
    due: NDArray[np.bool_],
    members: NDArray[np.bool_],
) -> bool:
    """Return whether a candidate breaks a constraint: 0 is near duplicates, then come the caps, then the shares."""
    if constraint == 0:
        return is_duplicate
    c = constraint - 1
    if c < len(caps):
        if not caps[c, 2] and place >= caps[c, 1]:
            return False
        return has_full_label(table, columns[c, 0], columns[c, 1], full[c], n_full[c], m)
    s = c - len(caps)
    return due[s] and not members[s, m]


@jit
def note_labels(
    table: NDArray[np.int32],
    start: int,
    size: int,
    at_most: int,
    order: NDArray[np.intp],
    first: int,
    place: int,
    full: NDArray[np.int32],
    n_full: int,
) -> int:
    """Add to `full` the labels of the candidate at `place` that may not come again; return how many there are."""
    for x in range(start, start + size):
        label = table[order[place], x]
        if label < 0:
            continue
        n = 0
        for before in range(first, place + 1):
            for y in range(start, start + size):
                if table[order[before], y] == label:
                    n += 1
        if n == at_most and n_full < full.size:
            full[n_full] = label
            n_full += 1
    return n_full


@jit
def note_chosen(
    order: NDArray[np.intp],
    place: int,
    table: NDArray[np.int32],
    columns: NDArray[np.int64],
    caps: NDArray[np.int64],
    full: NDArray[np.int32],
    n_full: NDArray[np.int64],
    members: NDArray[np.bool_],
    n_given: NDArray[np.int64],
) -> None:
    """Count what has been placed for the places behind it."""
    for c in range(len(caps)):
        if caps[c, 2] or place < caps[c, 1]:
            first = place - place % caps[c, 1] if caps[c, 2] else 0
            n_full[c] = note_labels(
                table, columns[c, 0], columns[c, 1], caps[c, 0], order, first, place, full[c], n_full[c]
            )
    for s in range(len(members)):
        if members[s, order[place]]:
            n_given[s] += 1


@jit
def begin_place(
    place: int,
    caps: NDArray[np.int64],
    n_full: NDArray[np.int64],
    shares: NDArray[np.float64],
    n_given: NDArray[np.int64],
    due: NDArray[np.bool_],
) -> bool:
    """Begin a new window of each cap that has many, and say which shares are due at this place.

    Return whether less may be broken here than at the place before: within windows candidates only get fewer, and
    labels full.
    """
    eased = len(shares) > 0
    for c in range(len(caps)):
        eased |= place % caps[c, 1] == 0
        if caps[c, 2] and place % caps[c, 1] == 0:
            n_full[c] = 0
    for s in range(len(shares)):
        due[s] = place < shares[s, 1] and n_given[s] < int(shares[s, 0] * (place + 1) + 1e-9)
    return eased


@jit
def best_at(
    place: int,
    diversity: float,
    duplicate: float,
    relevance: NDArray[np.float64],
    alike: NDArray[np.float32],
    closest: NDArray[np.float32],
    n_seen: NDArray[np.int64],
    order: NDArray[np.intp],
    vectors: NDArray[np.float32],
    table: NDArray[np.int32],
    columns: NDArray[np.int64],
    caps: NDArray[np.int64],
    full: NDArray[np.int32],
    n_full: NDArray[np.int64],
    due: NDArray[np.bool_],
    members: NDArray[np.bool_],
    taken: NDArray[np.bool_],
    hopeless: NDArray[np.bool_],
    n_constraints: int,
    least: int,
) -> tuple[int, int]:
    """Return the candidate for a place, and the constraints that it breaks: bit 0 for the least important one.

    Without diversity the first one that breaks nothing ends the search, so that the cost is that of the places, not of
    the candidates. `duplicate` is above 1 where nothing counts as one, `least` is what cannot but be broken, `hopeless`
    are those that are known to break something here.
    """
    by_value = diversity > 0.0
    if not by_value and least == 0:
        for m in range(order.size):
            if taken[m] or hopeless[m]:
                continue
            hopeless[m] = cost_of(
                m, place, diversity, duplicate, closest, n_seen, order, vectors, table, columns, caps, full, n_full,
                due, members, n_constraints,
            ) > 0  # fmt: skip
            if not hopeless[m]:
                return m, 0
    best, best_cost, best_value = -1, np.iinfo(np.int64).max, -np.inf
    for m in range(order.size):
        value = (1.0 - diversity) * relevance[m] - diversity * alike[m] if by_value else 0.0
        if taken[m] or (best_cost <= least and value <= best_value):
            continue
        cost = cost_of(
            m, place, diversity, duplicate, closest, n_seen, order, vectors, table, columns, caps, full, n_full, due,
            members, n_constraints,
        )  # fmt: skip
        if cost < best_cost or (cost == best_cost and value > best_value):
            best, best_cost, best_value = m, cost, value
            if cost <= least and not by_value:
                break
    return best, best_cost


@jit
def cost_of(
    m: int,
    place: int,
    diversity: float,
    duplicate: float,
    closest: NDArray[np.float32],
    n_seen: NDArray[np.int64],
    order: NDArray[np.intp],
    vectors: NDArray[np.float32],
    table: NDArray[np.int32],
    columns: NDArray[np.int64],
    caps: NDArray[np.int64],
    full: NDArray[np.int32],
    n_full: NDArray[np.int64],
    due: NDArray[np.bool_],
    members: NDArray[np.bool_],
    n_constraints: int,
) -> int:
    """Return the constraints that a candidate breaks at a place: bit 0 for the least important one."""
    if duplicate <= 1.0 and diversity == 0.0:
        compare_one(m, order, place, vectors, n_seen, closest)
    cost = 0
    for constraint in range(n_constraints):
        cost = 2 * cost + breaks(
            constraint, m, place, closest[m] >= duplicate, table, columns, caps, full, n_full, due, members
        )
    return cost


@jit
def append_others(order: NDArray[np.intp], n_chosen: int, taken: NDArray[np.bool_]) -> None:
    """Write those that were not chosen behind the others, as they were."""
    at = n_chosen
    for m in range(taken.size):
        if not taken[m]:
            order[at] = m
            at += 1


@jit
def try_arm(
    share: float,
    arms: NDArray[np.int32],
    chances: NDArray[np.float64],
    free: NDArray[np.bool_],
    wins: NDArray[np.float64],
    uniforms: NDArray[np.float64],
    best: int,
    propensities: NDArray[np.float64],
    place: int,
) -> int:
    """Return the candidate to try out at a place, -1 for none, and write the propensity of what it gets."""
    if not free.any():
        return -1
    win_chances(chances, free, wins)
    tried = draw(wins, uniforms[1]) if uniforms[0] < share else -1
    chosen = best if tried < 0 else arms[tried]
    propensities[place] = 0.0 if chosen != best else 1.0 - share
    for a in range(arms.size):
        if arms[a] == chosen:
            propensities[place] += share * wins[a]
    return -1 if tried < 0 else int(chosen)


@jit
def fill_places(
    order: NDArray[np.intp],
    relaxed: NDArray[np.int64],
    propensities: NDArray[np.float64],
    explored: NDArray[np.bool_],
    share: float,
    arms: NDArray[np.int32],
    chances: NDArray[np.float64],
    uniforms: NDArray[np.float64],
    relevance: NDArray[np.float64],
    diversity: float,
    duplicate: float,
    vectors: NDArray[np.float32],
    bits: NDArray[np.uint64],
    table: NDArray[np.int32],
    columns: NDArray[np.int64],
    caps: NDArray[np.int64],
    members: NDArray[np.bool_],
    shares: NDArray[np.float64],
    pinned: NDArray[np.int32],
    taken: NDArray[np.bool_],
) -> None:
    """Write the new order and how often each constraint gave way; see `rerank`.

    `columns`: where each cap's labels begin in `table`, and how many there are. `taken`: True for pinned candidates.
    """
    n_constraints = relaxed.size
    closest = np.full(order.size, -1.0, np.float32)  # highest cosine to a chosen one
    alike = np.zeros(order.size, np.float32)  # highest similarity to a chosen one
    n_seen = np.zeros(order.size, np.int64)  # chosen ones that it was compared with
    full = np.empty((len(caps), max(pinned.size * table.shape[1], 1)), np.int32)
    n_full = np.zeros(len(caps), np.int64)
    n_given = np.zeros(len(shares), np.int64)
    due = np.zeros(len(shares), np.bool_)
    least = 0
    hopeless = np.zeros(order.size, np.bool_)  # break something here, and until less may be broken again
    free, wins = np.zeros(arms.size, np.bool_), np.zeros(arms.size)
    for place in range(pinned.size):
        if begin_place(place, caps, n_full, shares, n_given, due):
            least = 0
            hopeless[:] = False
        best, broken = int(pinned[place]), 0
        if best < 0:
            best, broken = best_at(
                place, diversity, duplicate, relevance, alike, closest, n_seen, order, vectors, table, columns, caps,
                full, n_full, due, members, taken, hopeless, n_constraints, least,
            )  # fmt: skip
            least = broken
            if share > 0.0 and place > 0:
                for a in range(arms.size):
                    m = int(np.int64(arms[a]))  # as `best_at` asks: each type is compiled apart
                    free[a] = not taken[m] and not cost_of(
                        m, place, diversity, duplicate, closest, n_seen, order, vectors, table, columns, caps,
                        full, n_full, due, members, n_constraints,
                    )  # fmt: skip
                tried = try_arm(share, arms, chances, free, wins, uniforms[place], best, propensities, place)
                if tried >= 0:
                    best, broken, explored[place] = tried, 0, True
        for constraint in range(n_constraints):
            relaxed[constraint] += (broken >> (n_constraints - 1 - constraint)) & 1
        taken[best] = True
        order[place] = best
        note_chosen(order, place, table, columns, caps, full, n_full, members, n_given)
        if diversity > 0.0:
            compare_all(best, vectors, bits, closest, alike)
    append_others(order, pinned.size, taken)
