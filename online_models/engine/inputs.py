"""The ranker's inputs: one definition, used by requests and by learning."""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from online_models.engine.als import RANK
from online_models.engine.content import match
from online_models.engine.evidence import COMB, HITS, MAX_TOUCHED, MOST, NEVER_COUNT, NEVER_HOURS, RT, RZ
from online_models.engine.items import (
    CLOCK_FIRST,
    CLOCK_LAST,
    CLOCK_POSITIVE,
    DAY,
    N_EVENTS,
    POP_SLOW,
    STAGE_RECENT,
    STAGE_TOTAL,
    SUM_STAGE,
    TOTAL,
)
from online_models.engine.jit import jit
from online_models.engine.liking import NO_DIRECTION, positive_share
from online_models.engine.prefetch import AHEAD, prefetch

LOGS = (
    *("pop_0.1d", "pop_0.5d", "pop_2d", "pop_8d", "pop_30d", "pop_all", "stage_8d", "stage_share"),
    *("hours_since_item", "item_age", "events_since_item"),
    *("cf", "cb", "cdec", "close", "liked", "s0", "s1", "s2", "s3", "mk", "transition_count", "transition_hours"),
    *("hits", "most"),
)
"""Inputs that are logarithms; the kernel fills in the arguments."""
PLAIN = (
    *("positive_share", "item_stage", "stage_distance", "stage_offset", "comb"),
    *("mf_smooth", "mf_smooth_long", "mf_sharp", "rank_comb", "rank_mf", "rank_pop", "rank_s0"),
    *("is_last", "times_in_history", "repeat_nearness"),
    *("age_offset", "age_distance", "pop_offset", "pop_distance", "pop_to_last", "age_to_last", "stage_to_last"),
    *("taste_slow", "taste_fast", "year_distance", "years_old", "liking", "repeat_minutes"),
)
CONTEXT = ("n_user", "minutes_since_user", "is_new_user", "burst", "n_repeats", "user_age", "user_pop")
"""Equal for all candidates of a list."""
NAMES = (*LOGS, *PLAIN, *CONTEXT)
FEATURE_SET = hashlib.blake2b(repr((1, NAMES)).encode(), digest_size=6).hexdigest()
"""Version of the definitions, logged with each impression: values of another version are not learned from."""
N_LOGS, N_INPUTS = len(LOGS), len(NAMES)
_AT = {name: k for k, name in enumerate(NAMES)}

BURST = 1800.0
"""Seconds: events in this span count as the current run."""

FADING = 0.9
"""Weight per step back of the user's means."""

_LIKING, _REPEAT_MINUTES = _AT["liking"], _AT["repeat_minutes"]
POP_8D, ITEM_AGE = _AT["pop_8d"], _AT["item_age"]
_SINCE, _CF, _RZ = _AT["hours_since_item"], _AT["cf"], _AT["transition_count"]
_SHARE, _COMB, _MF, _REPEAT, _MATCH, _TASTES, _CONTEXT = (
    _AT[name] for name in ("positive_share", "comb", "mf_smooth", "is_last", "age_offset", "taste_slow", "n_user")
)
_LAST = len(CONTEXT)
N_OF_USER = _LAST + 3
"""What `of_user` writes."""
_FLOORS = np.array([0.01, 0.01, 0.001, 0.001, 0.01, 0.001, 0.001, 0.001, 0.001, 0.001], np.float32)
"""Added to evidence before the logarithm, in the order of its columns."""
_MOST_FLOOR = 0.001
RANKED = np.array([_COMB, _MF, _AT["pop_0.5d"], _AT["s0"]])
RANKS = np.arange(len(RANKED)) + _AT["rank_comb"]
"""Columns of the ranks in the columns `RANKED`."""


@jit
def fill(
    out: NDArray[np.float32],
    arguments: NDArray[np.float32],
    items: NDArray[np.int32],
    t: float,
    seq: int,
    n_user: int,
    bucket: int,
    counts: NDArray[np.float32],
    clocks: NDArray[np.float64],
    seq_last: NDArray[np.int64],
    rates: NDArray[np.float64],
    touched_at: NDArray[np.int64],
    tick: int,
    evidence: NDArray[np.float32],
    vectors: NDArray[np.float32],
    folds: NDArray[np.float32],
    liking: NDArray[np.float32],
    history: NDArray[np.int32],
    times: NDArray[np.float64],
    repeats: bool,
) -> None:
    """Write what is known of `items`, row per item: counts, evidence and factors.

    Of `LOGS`, the arguments: into an array of their own, since numpy takes logarithms of all of one array many times
    faster than of columns.
    """
    ln_user = math.log1p(n_user)
    base = tick * MAX_TOUCHED
    best = np.float32(1e-12)
    for m in range(items.size):
        later = items[min(m + AHEAD, items.size - 1)]
        for k in (0, 16):
            prefetch(counts, (later, k))
            prefetch(vectors, (0, later, k))
            prefetch(vectors, (1, later, k))
        prefetch(clocks, (later, 0))
        prefetch(seq_last, (later,))
        prefetch(touched_at, (later,))
        item = items[m]
        row = arguments[m]
        fill_counts(out[m], row, counts[item], clocks[item], rates, t, bucket, ln_user)
        # Serving hears of an item before it hears how many events there were.
        row[_SINCE + 2] = 1.0 + max(seq - seq_last[item], 0)
        comb = fill_evidence(row, evidence, touched_at[item] - base)
        out[m, _COMB] = comb
        best = max(best, comb)
        fill_products(out[m], vectors[0, item], vectors[1, item], folds, liking)
        out[m, _REPEAT] = out[m, _REPEAT + 1] = out[m, _REPEAT + 2] = out[m, _REPEAT_MINUTES] = 0.0
    for m in range(items.size):
        out[m, _COMB] /= best
    if repeats:
        fill_repeats(out, items, history, times, t)


@jit
def fill_products(
    out: NDArray[np.float32],
    smooth: NDArray[np.float32],
    sharp: NDArray[np.float32],
    folds: NDArray[np.float32],
    liking: NDArray[np.float32],
) -> None:
    """How the two vectors of one item match those of the user."""
    long, longer, newest = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    score, square = np.float32(0.0), NO_DIRECTION
    for r in range(RANK):
        long += smooth[r] * folds[0, r]
        longer += smooth[r] * folds[1, r]
        newest += sharp[r] * folds[2, r]
        score += smooth[r] * liking[r]
        square += smooth[r] * smooth[r]
    out[_MF], out[_MF + 1], out[_MF + 2] = long, longer, newest
    out[_LIKING] = score / np.sqrt(square)


@jit
def fill_counts(
    out: NDArray[np.float32],
    arguments: NDArray[np.float32],
    row: NDArray[np.float32],
    clock: NDArray[np.float64],
    rates: NDArray[np.float64],
    t: float,
    bucket: int,
    ln_user: float,
) -> None:
    """Popularity, stage, age and recency of one item, decayed to time `t`."""
    elapsed = max(t - clock[CLOCK_POSITIVE], 0.0)
    fade = math.exp(-rates[POP_SLOW] * elapsed)
    arguments[4] = row[4] * math.exp(-rates[4] * elapsed) + 0.05
    arguments[TOTAL + 1] = row[STAGE_RECENT + bucket] * fade + 0.05
    arguments[3] = row[3] * fade + 0.05
    fade = (fade * fade) * (fade * fade)  # 8, 2, .5, .1 days: powers of each other
    arguments[2] = row[2] * fade + 0.05
    fade = (fade * fade) * (fade * fade)
    arguments[1] = row[1] * fade + 0.05
    arguments[0] = row[0] * (fade * fade) * (fade * fade) * fade + 0.05
    arguments[TOTAL] = row[TOTAL] + 0.05
    arguments[TOTAL + 2] = (row[STAGE_TOTAL + bucket] + 0.2) / (row[N_EVENTS] + 1.6)
    arguments[_SINCE] = 1.0 + max(t - clock[CLOCK_LAST], 0.0) / 3600.0
    arguments[_SINCE + 1] = 1.0 + max(t - clock[CLOCK_FIRST], 0.0) / DAY
    out[_SHARE] = positive_share(row[TOTAL], row[N_EVENTS])
    mean_stage = row[SUM_STAGE] / max(row[N_EVENTS], np.float32(1.0))
    out[_SHARE + 1] = mean_stage
    out[_SHARE + 2] = abs(mean_stage - ln_user)
    out[_SHARE + 3] = mean_stage - ln_user


@jit
def fill_evidence(arguments: NDArray[np.float32], evidence: NDArray[np.float32], at: int) -> np.float32:
    """What the neighbour lists say of one item; `at` is its row of evidence, negative for none. Return COMB."""
    for k in range(_FLOORS.size):
        arguments[_CF + k] = _FLOORS[k]
    if at < 0:
        arguments[_RZ] = 1.0 + NEVER_COUNT
        arguments[_RZ + 1] = 1.0 + NEVER_HOURS
        arguments[_RZ + 2] = 1.0
        arguments[_RZ + 3] = _MOST_FLOOR
        return np.float32(0.0)
    for k in range(_FLOORS.size):
        arguments[_CF + k] += evidence[at, k]
    arguments[_RZ] = 1.0 + evidence[at, RZ]
    arguments[_RZ + 1] = 1.0 + evidence[at, RT]
    arguments[_RZ + 2] = 1.0 + evidence[at, HITS]
    arguments[_RZ + 3] = _MOST_FLOOR + evidence[at, MOST]
    return np.float32(evidence[at, COMB])


@jit
def fill_repeats(
    out: NDArray[np.float32], items: NDArray[np.int32], history: NDArray[np.int32], times: NDArray[np.float64], t: float
) -> None:
    """Write how often, how far and how long back the items are in the history over zeros."""
    for m in range(items.size):
        n_times = 0
        distance = 0
        minutes = 0.0
        for x in range(history.size):
            if history[history.size - 1 - x] == items[m]:
                n_times += 1
                if distance == 0:
                    distance = x + 1
                    minutes = max(t - times[history.size - 1 - x], 0.0) / 60.0
        if n_times > 0:
            out[m, _REPEAT] = 1.0 if distance == 1 else 0.0
            out[m, _REPEAT + 1] = math.log1p(n_times)
            out[m, _REPEAT + 2] = 1.0 / distance
            out[m, _REPEAT_MINUTES] = math.log(1.5 + minutes)


@jit
def tastes(
    history: NDArray[np.int32],
    times: NDArray[np.float64],
    t: float,
    counts: NDArray[np.float32],
    clocks: NDArray[np.float64],
    rate: float,
) -> tuple[float, float, int]:
    """Return means over the history (newest last) and how many of its events repeat an earlier one of it.

    The means, weighted by recency: ln(1 + age in days) of the items when they were taken, ln(popularity at 8 days
    + .05) of the items now. `rate`: of that popularity.
    """
    n = history.size
    age, pop, total, weight = 0.0, 0.0, 0.0, 1.0
    n_repeats = 0
    for x in range(n - 1, -1, -1):
        item = history[x]
        if weight > 1e-3:
            age += weight * math.log1p(max(times[x] - clocks[item, CLOCK_FIRST], 0.0) / DAY)
            fade = math.exp(-rate * max(t - clocks[item, CLOCK_POSITIVE], 0.0))
            pop += weight * math.log(counts[item, POP_SLOW] * fade + 0.05)
            total += weight
            weight *= FADING
        for y in range(x):
            if history[y] == item:
                n_repeats += 1
                break
    return age / total, pop / total, n_repeats


@jit
def of_user(
    history: NDArray[np.int32],
    times: NDArray[np.float64],
    n_user: int,
    t: float,
    counts: NDArray[np.float32],
    clocks: NDArray[np.float64],
    rate: float,
    out: NDArray[np.float32],
) -> None:
    """Write the values of `CONTEXT`, and ln popularity, ln age and mean stage of the newest item now.

    For a user with these newest events of `n_user`. `rate`: of the popularity.
    """
    out[:] = 0.0
    n = history.size
    if n == 0:
        out[2] = 1.0
        return
    burst = 0
    while burst < n and times[n - 1 - burst] >= t - BURST:
        burst += 1
    age, pop, n_repeats = tastes(history, times, t, counts, clocks, rate)
    out[0] = math.log1p(n_user)
    out[1] = math.log1p(max(t - times[n - 1], 0.0) / 60.0)
    out[3] = math.log1p(burst)
    out[4] = math.log1p(n_repeats)
    out[5] = age
    out[6] = pop
    row, clock = counts[history[n - 1]], clocks[history[n - 1]]
    fade = math.exp(-rate * max(t - clock[CLOCK_POSITIVE], 0.0))
    out[_LAST] = math.log(row[POP_SLOW] * fade + 0.05)
    out[_LAST + 1] = math.log1p(max(t - clock[CLOCK_FIRST], 0.0) / DAY) if row[N_EVENTS] > 0.0 else 0.0
    out[_LAST + 2] = row[SUM_STAGE] / max(row[N_EVENTS], np.float32(1.0))


def untrained(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score candidates before there are weights: popularity and covisitation, shape (n, N_INPUTS) -> (n,)."""
    return np.asarray(values[:, POP_8D] + 3.0 * values[:, _COMB], np.float32)


@jit
def complete(
    out: NDArray[np.float32],
    logs: NDArray[np.float32],
    items: NDArray[np.int32],
    has_last: bool,
    of_user: NDArray[np.float32],
    labels: NDArray[np.int16],
    years: NDArray[np.float32],
    year: float,
    taste: NDArray[np.float32],
    mean_year: float,
) -> None:
    """Write all that follows from what `fill` wrote but the ranks, and what is equal for all items.

    How the items match the user's tastes, and how they differ from the user's means and from the newest item; without
    a newest item that is 0.
    """
    mean_age, mean_pop = of_user[_LAST - 2], of_user[_LAST - 1]
    last_pop, last_age, last_stage = of_user[_LAST], of_user[_LAST + 1], of_user[_LAST + 2]
    match(labels, years, items, year, taste, mean_year, out[:, _TASTES : _TASTES + 4])
    for m in range(items.size):
        row = out[m]
        for k in range(N_LOGS):
            row[k] = logs[m, k]
        if has_last:
            age, pop = row[ITEM_AGE], row[POP_8D]
            row[_MATCH] = age - mean_age
            row[_MATCH + 1] = abs(age - mean_age)
            row[_MATCH + 2] = pop - mean_pop
            row[_MATCH + 3] = abs(pop - mean_pop)
            row[_MATCH + 4] = abs(pop - last_pop)
            row[_MATCH + 5] = abs(age - last_age)
            row[_MATCH + 6] = abs(row[_SHARE + 1] - last_stage)
        else:
            for k in range(_MATCH, _TASTES):
                row[k] = 0.0
        for k in range(_LAST):
            row[_CONTEXT + k] = of_user[k]


@jit
def write_keys(bits: NDArray[np.uint32], columns: NDArray[np.int64], keys: NDArray[np.uint64]) -> None:
    """Write numbers that sort as the columns' floats do, the highest first; `bits` are theirs.

    A row of keys for each column, the low half of a key is the place.
    """
    for m in range(len(bits)):
        for k in range(columns.size):
            low = bits[m, columns[k]]
            ascending = ~low if low >> np.uint32(31) else low | np.uint32(0x80000000)
            keys[k, m] = np.uint64(~ascending & np.uint32(0xFFFFFFFF)) << np.uint64(32) | np.uint64(m)


@jit
def write_ranks(
    keys: NDArray[np.uint64], logs: NDArray[np.float32], columns: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    """Write ln(1 + rank) to where each sorted key came from, a column for each row of keys."""
    for k in range(columns.size):
        for rank in range(keys.shape[1]):
            log_rank = logs[rank] if rank < logs.size else np.float32(math.log1p(rank))
            out[keys[k, rank] & np.uint64(0xFFFFFFFF), columns[k]] = log_rank


_LOG_RANKS = np.log1p(np.arange(4096, dtype=np.float32))


def write_log_ranks(
    out: NDArray[np.float32], ranked: NDArray[np.int64] = RANKED, into: NDArray[np.int64] = RANKS
) -> None:
    """Write ln(1 + rank) in some of the columns into others; rank 0 is the highest, equal values are in their order.

    Integers sort many times faster than floats by index.
    """
    keys = np.empty((len(ranked), len(out)), np.uint64)
    write_keys(out.view(np.uint32), ranked, keys)
    keys.sort(axis=1)
    write_ranks(keys, _LOG_RANKS, into, out)
