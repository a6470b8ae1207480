"""From a user's history to candidates: merge the neighbour lists of the newest items, add popular and factor items."""

import numpy as np
from numpy.typing import NDArray

from online_models.engine.items import grown
from online_models.engine.jit import jit
from online_models.engine.neighbours import (
    CLOSE_S,
    NEAR,
    NEXT,
    NEXT_AT,
    NEXT_TIME,
)
from online_models.engine.pool import LARGEST

N_CANDIDATES = 200
N_STEPS = 20
"""Steps back whose neighbour lists are merged."""

STEP_FADING = 0.8

CF, CB, CDEC, CL, LK, S0, S1, S2, S3, MK, RZ, RT, COMB = range(13)
N_EVIDENCE = 13
"""Columns of what the neighbour lists say of an item; the first five are sums of a pair's first five."""

N_COMB, N_STEP, N_RECENT, N_POP_FAST, N_POP_SLOW, N_SMOOTH, N_SHARP = 60, 25, 25, 40, 30, 40, 25
"""Candidates from each source, of `N_CANDIDATES`; in proportion for another number."""

NEVER_COUNT, NEVER_HOURS = 664.0, 22_025.0
"""Occurrences and hours since a transition that was never seen."""


class Scratch:
    """Work space of one request at a time: which items were touched, and their evidence."""

    def __init__(self, capacity: int, n_candidates: int = N_CANDIDATES) -> None:
        self.at = np.zeros(capacity, np.int32)
        self.stamp = np.zeros(capacity, np.int64)
        self.hidden = np.zeros(capacity, np.int64)
        self.chosen = np.zeros(capacity, np.int64)
        self.touched = np.zeros(N_STEPS * LARGEST, np.int32)
        self.evidence = np.zeros((N_STEPS * LARGEST, N_EVIDENCE), np.float32)
        self.candidates = np.zeros(n_candidates, np.int32)
        self.tick = 0

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`."""
        if n_slots > len(self.at):
            capacity = max(n_slots, 2 * len(self.at))
            for name in ("at", "stamp", "hidden", "chosen"):
                setattr(self, name, grown(getattr(self, name), capacity))


@jit
def merge(
    ids: NDArray[np.int32],
    values: NDArray[np.float32],
    starts: NDArray[np.int32],
    sizes: NDArray[np.int32],
    totals: NDArray[np.float32],
    refs: NDArray[np.float64],
    translation: NDArray[np.int32],
    rate: float,
    n_events: NDArray[np.float32],
    history: NDArray[np.int32],
    times: NDArray[np.float64],
    t: float,
    at: NDArray[np.int32],
    stamp: NDArray[np.int64],
    tick: int,
    touched: NDArray[np.int32],
    evidence: NDArray[np.float32],
) -> int:
    """Sum the evidence of the newest steps' lists over all their neighbours; return how many were touched.

    `translation`: own slot of each of the learner's, which the lists hold; -1 for those not known here.
    `n_events`: per item, for the normalisation of COMB.
    """
    n_touched = 0
    weight = np.float32(1.0)
    factors = np.empty(5, np.float32)
    for x in range(min(N_STEPS, history.size)):
        item = history[history.size - 1 - x]
        count = totals[item, 0]
        f0 = weight / (count + np.float32(1.0)) ** np.float32(0.7)
        f1 = np.float32(1.0) / (count + np.float32(1.0))
        fade = np.float32(np.exp(-rate * max(t - refs[item], 0.0)))
        factors[CF] = factors[CB] = factors[LK] = f0
        factors[CDEC] = weight * fade / (totals[item, 1] * fade + np.float32(0.5))
        factors[CL] = np.float32(f0 / weight / (1.0 + max(t - times[history.size - 1 - x], 0.0) / CLOSE_S))
        hour = np.float32((t - refs[item]) / 3600.0)
        for k in range(starts[item], starts[item] + sizes[item]):
            j = translation[ids[k]] if ids[k] < translation.size else -1
            if j < 0:
                continue
            if stamp[j] != tick:
                stamp[j] = tick
                at[j] = n_touched
                touched[n_touched] = j
                evidence[n_touched, :] = 0.0
                evidence[n_touched, RZ] = NEVER_COUNT
                evidence[n_touched, RT] = NEVER_HOURS
                n_touched += 1
            m = at[j]
            for c in range(5):
                evidence[m, c] += factors[c] * values[k, c]
            if x < 4:
                evidence[m, S0 + x] += f1 * values[k, NEAR]
                if x == 0:
                    evidence[m, MK] = f1 * values[k, NEXT]
                    if values[k, NEXT_AT] >= 0.0:
                        evidence[m, RZ] = count - values[k, NEXT_AT]
                        evidence[m, RT] = max(hour - values[k, NEXT_TIME], np.float32(0.0))
        weight *= np.float32(STEP_FADING)
    for m in range(n_touched):
        norm = (n_events[touched[m]] + np.float32(1.0)) ** np.float32(0.3)
        evidence[m, COMB] = (evidence[m, CF] + np.float32(0.5) * evidence[m, CB]) / norm
    return n_touched


@jit
def sift(heap: NDArray[np.float32], ids: NDArray[np.int32], size: int) -> None:
    """Restore a min-heap whose root was replaced."""
    k = 0
    while True:
        child = 2 * k + 1
        if child >= size:
            return
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[k] <= heap[child]:
            return
        heap[k], heap[child] = heap[child], heap[k]
        ids[k], ids[child] = ids[child], ids[k]
        k = child


@jit
def choose(
    scores: NDArray[np.float32],
    items: NDArray[np.int32],
    n: int,
    wanted: int,
    hidden: NDArray[np.int64],
    chosen: NDArray[np.int64],
    tick: int,
    candidates: NDArray[np.int32],
    n_candidates: int,
) -> int:
    """Add the `wanted` items with the highest positive scores, best first, not hidden; return the new number."""
    heap = np.full(wanted, np.float32(0.0))
    ids = np.full(wanted, np.int32(-1))
    for m in range(n):
        if scores[m] > heap[0] and hidden[items[m]] != tick:
            heap[0] = scores[m]
            ids[0] = items[m]
            sift(heap, ids, wanted)
    for size in range(wanted - 1, 0, -1):  # heap sort
        heap[0], heap[size] = heap[size], heap[0]
        ids[0], ids[size] = ids[size], ids[0]
        sift(heap, ids, size)
    for k in range(wanted):
        if ids[k] >= 0:
            n_candidates = take(ids[k], chosen, tick, candidates, n_candidates)
    return n_candidates


@jit
def take(item: int, chosen: NDArray[np.int64], tick: int, candidates: NDArray[np.int32], n: int) -> int:
    """Add one item once, while there is room."""
    if n < candidates.size and chosen[item] != tick:
        chosen[item] = tick
        candidates[n] = item
        n += 1
    return n


@jit
def take_first(
    items: NDArray[np.int32],
    wanted: int,
    hidden: NDArray[np.int64],
    chosen: NDArray[np.int64],
    tick: int,
    candidates: NDArray[np.int32],
    n: int,
) -> int:
    """Add the first `wanted` of `items` that are not hidden."""
    got = 0
    for m in range(items.size):
        if got == wanted:
            break
        if hidden[items[m]] != tick:
            n = take(items[m], chosen, tick, candidates, n)
            got += 1
    return n


@jit
def gather(
    history: NDArray[np.int32],
    seen: NDArray[np.int32],
    repeats: bool,
    n_touched: int,
    touched: NDArray[np.int32],
    evidence: NDArray[np.float32],
    fast: NDArray[np.int32],
    slow: NDArray[np.int32],
    active: NDArray[np.int32],
    smooth: NDArray[np.float32],
    sharp: NDArray[np.float32],
    hidden: NDArray[np.int64],
    chosen: NDArray[np.int64],
    tick: int,
    candidates: NDArray[np.int32],
) -> int:
    """Fill `candidates` from all sources and return how many there are.

    Without `repeats` the items `seen` are left out. `smooth`, `sharp`: factor scores of the `active` items.
    """
    n = 0
    share = candidates.size / N_CANDIDATES
    if repeats:
        for x in range(min(N_STEPS, history.size)):
            n = take(history[history.size - 1 - x], chosen, tick, candidates, n)
    else:
        for m in range(seen.size):
            hidden[seen[m]] = tick
    n = choose(evidence[:, COMB], touched, n_touched, int(N_COMB * share), hidden, chosen, tick, candidates, n)
    n = take_first(fast, int(N_POP_FAST * share), hidden, chosen, tick, candidates, n)
    if history.size > 0:
        n = choose(smooth, active, active.size, int(N_SMOOTH * share), hidden, chosen, tick, candidates, n)
        n = choose(sharp, active, active.size, int(N_SHARP * share), hidden, chosen, tick, candidates, n)
        n = choose(evidence[:, S0], touched, n_touched, int(N_STEP * share), hidden, chosen, tick, candidates, n)
        n = choose(evidence[:, CDEC], touched, n_touched, int(N_RECENT * share), hidden, chosen, tick, candidates, n)
    return take_first(slow, int(N_POP_SLOW * share), hidden, chosen, tick, candidates, n)
