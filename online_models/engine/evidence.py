"""From a user's newest items to what their neighbour lists say of others, merged."""

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit
from online_models.engine.pairs import (
    CLOSE_S,
    NEAR,
    NEXT,
    NEXT_AT,
    NEXT_TIME,
)
from online_models.engine.pool import LARGEST

N_STEPS = 20
"""Steps back whose neighbour lists are merged."""

STEP_FADING = 0.8

CF, CB, CDEC, CL, LK, S0, S1, S2, S3, MK, RZ, RT, COMB, HITS, MOST = range(15)
N_EVIDENCE = 15
"""Columns of what the neighbour lists say of an item; the first five are sums of a pair's first five, the last two the
number of steps that have it in their lists and the most that one of them says, however far back."""

MAX_TOUCHED = N_STEPS * LARGEST
"""Distinct neighbours that a request can meet at most."""

NEVER_COUNT, NEVER_HOURS = 664.0, 22_025.0
"""Occurrences and hours since a transition that was never seen."""


@jit
def look_up(
    neighbours: NDArray[np.int32],
    translation: NDArray[np.int32],
    touched_at: NDArray[np.int64],
    slots: NDArray[np.int32],
    rows: NDArray[np.int64],
) -> None:
    """Write own slot of each neighbour, -1 for those not known here, and what `touched_at` has of it.

    These reads from all over the memory wait for each other in a loop that depends on what they find.
    """
    for k in range(neighbours.size):
        slots[k] = translation[neighbours[k]] if neighbours[k] < translation.size else -1
        rows[k] = touched_at[slots[k]]


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
    touched_at: NDArray[np.int64],
    tick: int,
    touched: NDArray[np.int32],
    evidence: NDArray[np.float32],
) -> int:
    """Sum the evidence of the newest steps' lists over all their neighbours; return how many were touched.

    `translation`: own slot of each of the learner's, which the lists hold; -1 for those not known here.
    `n_events`: per item, for the normalisation of COMB. `touched_at`: `tick` * MAX_TOUCHED + the row of evidence.
    """
    slots, rows = np.empty(LARGEST, np.int32), np.empty(LARGEST, np.int64)
    n_touched = 0
    base = tick * MAX_TOUCHED
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
        start, n = starts[item], sizes[item]
        look_up(ids[start : start + n], translation, touched_at, slots, rows)
        for k in range(start, start + n):
            j = slots[k - start]
            if j < 0:
                continue
            m = rows[k - start] - base
            if m < 0:
                m = n_touched
                touched_at[j] = base + m
                touched[m] = j
                evidence[m, :] = 0.0
                evidence[m, RZ] = NEVER_COUNT
                evidence[m, RT] = NEVER_HOURS
                n_touched += 1
            for c in range(5):
                evidence[m, c] += factors[c] * values[k, c]
            evidence[m, HITS] += np.float32(1.0)
            evidence[m, MOST] = max(evidence[m, MOST], f1 * values[k, NEAR])
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
