"""From an order by score to the order that is shown: relevance against repetition, under constraints that may give way.

Places are filled one after the other, each with the best candidate that breaks no constraint. Where none is left, it
is the best one of those that break the least important ones, and these are counted: they have given way for this place.

References
----------
Carbonell, Goldstein (1998), The use of MMR, diversity-based reranking for reordering documents and producing summaries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit

NEVER_DUPLICATE = 2.0
"""A cosine that no two vectors reach: nothing counts as a duplicate."""

MAX_CONSTRAINTS = 60

_RANGE = float(np.log(100.0))
"""A candidate with a hundredth of the best score has relevance 0, the best one 1."""
_LEAST = 1e-6
_NO_VECTORS = np.zeros((0, 0), np.float32)
_NO_LABELS = np.zeros((0, 1), np.int32)
_NO_SCORES = np.zeros(0)
_NO_BITS = np.zeros(0, np.uint64)
_NOTHING = np.int32(-1)


@dataclass(frozen=True, slots=True)
class LabelCap:
    """At most so many items with one label among some places."""

    labels: NDArray[np.int32]
    """(n, width) labels of each candidate, padded with -1."""
    at_most: int
    among: int
    """Places of a window."""
    every: bool = False
    """Of each window of the list, instead of the first one only."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the first places for some candidates, spread evenly: never the first place unless all are theirs."""

    members: NDArray[np.bool_]
    """(n,)"""
    share: float
    among: int


@dataclass(frozen=True, slots=True)
class Reranked:
    """A new order."""

    order: NDArray[np.intp]
    """(n,) positions of the candidates in the old order: first those that were chosen, then the others as they were."""
    n_chosen: int
    relaxed: NDArray[np.int64]
    """(1 + n_caps + n_shares,) places at which near duplicates, each cap and each share had to give way."""


def rerank(
    scores: NDArray[np.float64],
    n_wanted: int,
    *,
    caps: Sequence[LabelCap] = (),
    shares: Sequence[Share] = (),
    pins: Sequence[tuple[int, int]] = (),
    diversity: float = 0.0,
    duplicate: float = NEVER_DUPLICATE,
    vectors: NDArray[np.float32] = _NO_VECTORS,
    labels: NDArray[np.int32] = _NO_LABELS,
) -> Reranked:
    """Fill `n_wanted` places from candidates that are sorted by score, best first, shape (n,).

    A place has the candidate with the highest (1 - diversity) * relevance - diversity * similarity, where relevance is
    1 + ln(score / best score) / ln 100, and similarity the highest to a candidate above it: the mean of the cosine of
    the vectors (not below 0) and the Jaccard index of the labels. With `diversity` 0 the order by score stands,
    whatever the scores mean.

    What gives way first: the last share, ..., the first share, the last cap, ..., the first cap, near duplicates. There
    may be `MAX_CONSTRAINTS` caps and shares.

    Parameters
    ----------
    pins
        (candidate, place): has this place, whatever else is asked. Each candidate and each place at most once.
    duplicate
        Candidates whose vectors have a cosine of at least this are near duplicates.
    vectors
        (n, d) of length 1, or 0 where unknown; may be left out when neither duplicates nor diversity matter.
    labels
        (n, width) padded with -1, for similarity: those whose numbers are equal modulo 64 count as one.
    """
    n = len(scores)
    n_wanted = min(n_wanted, n)
    table, columns = _beside([cap.labels for cap in caps], n)
    of_caps = np.array([(cap.at_most, cap.among, cap.every) for cap in caps], np.int64).reshape(-1, 3)
    members = np.array([share.members for share in shares], np.bool_).reshape(len(shares), n)
    wanted = np.array([(share.share, share.among) for share in shares], np.float64).reshape(-1, 2)
    pinned = np.full(n_wanted, _NOTHING, np.int32)
    reserved = np.zeros(n, np.bool_)
    for candidate, place in pins:
        if place < n_wanted:
            pinned[place] = candidate
            reserved[candidate] = True
    if not len(vectors):
        vectors = np.zeros((n, 1), np.float32)
    order = np.empty(n, np.intp)
    relaxed = np.zeros(1 + len(caps) + len(shares), np.int64)
    relevance = relevance_of(scores) if diversity > 0.0 else _NO_SCORES
    bits = bits_of(labels, n) if diversity > 0.0 else _NO_BITS
    fill_places(
        order, relaxed, relevance, diversity, duplicate, vectors, bits, table, columns, of_caps, members, wanted,
        pinned, reserved,
    )  # fmt: skip
    return Reranked(order, n_wanted, relaxed)


def relevance_of(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 + ln(score / best) / ln 100, of positive scores; others count as a millionth of the best."""
    usable = np.where(np.isfinite(scores), scores, 0.0)
    best = usable.max(initial=0.0)
    if best <= 0.0:
        return np.ones(len(scores))
    return np.asarray(1.0 + np.log(np.maximum(usable / best, _LEAST)) / _RANGE)


def bits_of(labels: NDArray[np.int32], n: int) -> NDArray[np.uint64]:
    """Return label sets as bits, (n, width) -> (n,); none where no labels are given."""
    if not len(labels):
        return np.zeros(n, np.uint64)
    bits = np.left_shift(np.uint64(1), (labels & 63).astype(np.uint64))
    return np.asarray(np.bitwise_or.reduce(np.where(labels >= 0, bits, np.uint64(0)), axis=1), np.uint64)


def _beside(tables: Sequence[NDArray[np.int32]], n: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the tables side by side, and (where it begins, how wide it is) of each."""
    if not tables:
        return np.empty((n, 0), np.int32), np.empty((0, 2), np.int64)
    sizes = np.array([table.shape[1] for table in tables])
    joined = tables[0] if len(tables) == 1 else np.concatenate(tables, axis=1)
    return np.ascontiguousarray(joined, np.int32), np.stack([np.cumsum(sizes) - sizes, sizes], axis=1)


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
    for x in range(start, start + size):
        for k in range(n_full):
            if full[k] == table[candidate, x]:
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
        n = 0
        for before in range(first, place + 1):
            for y in range(start, start + size):
                if table[order[before], y] == label:
                    n += 1
        if label >= 0 and n == at_most and n_full < full.size:
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
) -> None:
    """Begin a new window of each cap that has many, and say which shares are due at this place."""
    for c in range(len(caps)):
        if caps[c, 2] and place % caps[c, 1] == 0:
            n_full[c] = 0
    for s in range(len(shares)):
        due[s] = place < shares[s, 1] and n_given[s] < int(shares[s, 0] * (place + 1) + 1e-9)


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
    n_constraints: int,
) -> tuple[int, int]:
    """Return the candidate for a place, and the constraints that it breaks: bit 0 for the least important one.

    Without diversity the first one that breaks nothing ends the search, so that the cost is that of the places, not of
    the candidates. `duplicate` is above 1 where nothing counts as one.
    """
    by_value = diversity > 0.0
    best, best_cost, best_value = -1, np.iinfo(np.int64).max, -np.inf
    for m in range(order.size):
        value = (1.0 - diversity) * relevance[m] - diversity * alike[m] if by_value else 0.0
        if taken[m] or (best_cost == 0 and value <= best_value):
            continue
        if duplicate <= 1.0 and not by_value:
            compare_one(m, order, place, vectors, n_seen, closest)
        cost = 0
        for constraint in range(n_constraints):
            cost = 2 * cost + breaks(
                constraint, m, place, closest[m] >= duplicate, table, columns, caps, full, n_full, due, members
            )
        if cost < best_cost or (cost == best_cost and value > best_value):
            best, best_cost, best_value = m, cost, value
            if cost == 0 and not by_value:
                break
    return best, best_cost


@jit
def append_others(order: NDArray[np.intp], n_chosen: int, taken: NDArray[np.bool_]) -> None:
    """Write those that were not chosen behind the others, as they were."""
    at = n_chosen
    for m in range(taken.size):
        if not taken[m]:
            order[at] = m
            at += 1


@jit
def fill_places(
    order: NDArray[np.intp],
    relaxed: NDArray[np.int64],
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
    for place in range(pinned.size):
        begin_place(place, caps, n_full, shares, n_given, due)
        best, broken = int(pinned[place]), 0
        if best < 0:
            best, broken = best_at(
                place, diversity, duplicate, relevance, alike, closest, n_seen, order, vectors, table, columns, caps,
                full, n_full, due, members, taken, n_constraints,
            )  # fmt: skip
        for constraint in range(n_constraints):
            relaxed[constraint] += (broken >> (n_constraints - 1 - constraint)) & 1
        taken[best] = True
        order[place] = best
        note_chosen(order, place, table, columns, caps, full, n_full, members, n_given)
        if diversity > 0.0:
            compare_all(best, vectors, bits, closest, alike)
    append_others(order, pinned.size, taken)
