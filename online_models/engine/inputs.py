"""The ranker's inputs: one definition, used by requests and by learning."""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from online_models.engine.als import RANK
from online_models.engine.evidence import COMB, HITS, MOST, NEVER_COUNT, NEVER_HOURS, RT, RZ
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
    ItemTable,
)
from online_models.engine.jit import jit
from online_models.engine.liking import direction, positive_share

LOGS = (
    *("pop_0.1d", "pop_0.5d", "pop_2d", "pop_8d", "pop_30d", "pop_all", "stage_8d", "stage_share"),
    *("hours_since_item", "item_age", "events_since_item"),
    *(
        "cf",
        "cb",
        "cdec",
        "close",
        "liked",
        "s0",
        "s1",
        "s2",
        "s3",
        "mk",
        "transition_count",
        "transition_hours",
        "hits",
        "most",
    ),
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
CONTENT = slice(_AT["taste_slow"], _AT["taste_slow"] + 4)
_SHARE, _COMB, _MF, _RANKS, _REPEAT, _MATCH, _CONTEXT = (
    _AT[name] for name in ("positive_share", "comb", "mf_smooth", "rank_comb", "is_last", "age_offset", "n_user")
)
_FLOORS = np.array([0.01, 0.01, 0.001, 0.001, 0.01, 0.001, 0.001, 0.001, 0.001, 0.001], np.float32)
"""Added to evidence before the logarithm, in the order of its columns."""
_MOST_FLOOR = np.float32(0.001)
_RANKED = (_COMB, _MF, _AT["pop_0.5d"], _AT["s0"])


@jit
def fill(
    out: NDArray[np.float32],
    items: NDArray[np.int32],
    t: float,
    seq: int,
    n_user: int,
    bucket: int,
    counts: NDArray[np.float32],
    clocks: NDArray[np.float64],
    seq_last: NDArray[np.int64],
    rates: NDArray[np.float64],
    at: NDArray[np.int32],
    stamp: NDArray[np.int64],
    tick: int,
    evidence: NDArray[np.float32],
    vectors: NDArray[np.float32],
    folds: NDArray[np.float32],
    liking: NDArray[np.float32],
) -> None:
    """Write the inputs of `items`, row per item: of `LOGS` the arguments, of `PLAIN` counts, evidence and factors."""
    ln_user = math.log1p(n_user)
    best = np.float32(1e-12)
    unit = np.empty(RANK, np.float32)
    for m in range(items.size):
        item = items[m]
        fill_counts(out, m, counts[item], clocks[item], rates, t, bucket, ln_user)
        out[m, _SINCE + 2] = 1.0 + (seq - seq_last[item])
        fill_evidence(out, m, evidence, at[item] if stamp[item] == tick else -1)
        best = max(best, out[m, _COMB])
        for fold in range(3):
            y = vectors[0 if fold < 2 else 1, item]
            score = np.float32(0.0)
            for r in range(y.size):
                score += y[r] * folds[fold, r]
            out[m, _MF + fold] = score
        direction(vectors[0, item], unit)
        score = np.float32(0.0)
        for r in range(RANK):
            score += unit[r] * liking[r]
        out[m, _LIKING] = score
    for m in range(items.size):
        out[m, _COMB] /= best


@jit
def fill_counts(
    out: NDArray[np.float32],
    m: int,
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
    out[m, 4] = row[4] * math.exp(-rates[4] * elapsed) + 0.05
    out[m, TOTAL + 1] = row[STAGE_RECENT + bucket] * fade + 0.05
    out[m, 3] = row[3] * fade + 0.05
    fade = (fade * fade) * (fade * fade)  # 8, 2, .5, .1 days: powers of each other
    out[m, 2] = row[2] * fade + 0.05
    fade = (fade * fade) * (fade * fade)
    out[m, 1] = row[1] * fade + 0.05
    out[m, 0] = row[0] * (fade * fade) * (fade * fade) * fade + 0.05
    out[m, TOTAL] = row[TOTAL] + 0.05
    out[m, TOTAL + 2] = (row[STAGE_TOTAL + bucket] + 0.2) / (row[N_EVENTS] + 1.6)
    out[m, _SINCE] = 1.0 + max(t - clock[CLOCK_LAST], 0.0) / 3600.0
    out[m, _SINCE + 1] = 1.0 + max(t - clock[CLOCK_FIRST], 0.0) / DAY
    out[m, _SHARE] = positive_share(row[TOTAL], row[N_EVENTS])
    mean_stage = row[SUM_STAGE] / max(row[N_EVENTS], np.float32(1.0))
    out[m, _SHARE + 1] = mean_stage
    out[m, _SHARE + 2] = abs(mean_stage - ln_user)
    out[m, _SHARE + 3] = mean_stage - ln_user


@jit
def fill_evidence(out: NDArray[np.float32], m: int, evidence: NDArray[np.float32], at: int) -> None:
    """What the neighbour lists say of one item; `at` is its row of evidence, -1 for none."""
    for k in range(_FLOORS.size):
        out[m, _CF + k] = _FLOORS[k]
    if at < 0:
        out[m, _RZ] = 1.0 + NEVER_COUNT
        out[m, _RZ + 1] = 1.0 + NEVER_HOURS
        out[m, _RZ + 2] = 1.0
        out[m, _RZ + 3] = _MOST_FLOOR
        out[m, _COMB] = 0.0
        return
    for k in range(_FLOORS.size):
        out[m, _CF + k] += evidence[at, k]
    out[m, _RZ] = 1.0 + evidence[at, RZ]
    out[m, _RZ + 1] = 1.0 + evidence[at, RT]
    out[m, _RZ + 2] = 1.0 + evidence[at, HITS]
    out[m, _RZ + 3] = _MOST_FLOOR + evidence[at, MOST]
    out[m, _COMB] = evidence[at, COMB]


@jit
def fill_repeats(
    out: NDArray[np.float32], items: NDArray[np.int32], history: NDArray[np.int32], times: NDArray[np.float64], t: float
) -> None:
    """How often, how far and how long back the items are in the history; zero where repeats are not wanted."""
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


def context(
    history: NDArray[np.int32],
    times: NDArray[np.float64],
    n_user: int,
    t: float,
    table: ItemTable,
) -> tuple[float, ...]:
    """Values of `CONTEXT` for a user with these newest events of `n_user`."""
    if not len(times):
        return (0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    burst = len(times) - int(np.searchsorted(times, t - BURST))
    age, pop, n_repeats = tastes(history, times, t, table.counts, table.clocks, table.rates[POP_SLOW])
    return (
        math.log1p(n_user),
        math.log1p(max(t - times[-1], 0.0) / 60.0),
        0.0,
        math.log1p(burst),
        math.log1p(n_repeats),
        age,
        pop,
    )


def of_last(history: NDArray[np.int32], t: float, table: ItemTable) -> tuple[float, float, float] | None:
    """Return ln popularity, ln age and mean stage of the newest item now; None without a history."""
    if not len(history):
        return None
    item = int(history[-1])
    row, clock = table.counts[item], table.clocks[item]
    fade = math.exp(-table.rates[POP_SLOW] * max(t - clock[CLOCK_POSITIVE], 0.0))
    age = math.log1p(max(t - clock[CLOCK_FIRST], 0.0) / DAY) if row[N_EVENTS] else 0.0
    return (
        math.log(float(row[POP_SLOW]) * fade + 0.05),
        age,
        float(row[SUM_STAGE] / max(row[N_EVENTS], 1.0)),
    )


def untrained(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score candidates before there are weights: popularity and covisitation, shape (n, N_INPUTS) -> (n,)."""
    return np.asarray(values[:, POP_8D] + 3.0 * values[:, _COMB], np.float32)


@jit
def sort_keys(bits: NDArray[np.uint32], keys: NDArray[np.uint64]) -> None:
    """Write numbers that sort as floats with these bits do, the highest first, each with its position."""
    for k in range(bits.size):
        low = bits[k]
        ascending = ~low if low >> np.uint32(31) else low | np.uint32(0x80000000)
        keys[k] = np.uint64(~ascending & np.uint32(0xFFFFFFFF)) << np.uint64(32) | np.uint64(k)


@jit
def write_ranks(keys: NDArray[np.uint64], logs: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write ln(1 + rank) to where each sorted key came from."""
    for k in range(keys.size):
        out[keys[k] & np.uint64(0xFFFFFFFF)] = logs[k] if k < logs.size else math.log1p(k)


_LOGS = np.log1p(np.arange(4096, dtype=np.float32))


def log_rank(scores: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write ln(1 + rank), rank 0 the highest; equal scores in their order. Integers sort many times faster."""
    keys = np.empty(len(scores), np.uint64)
    sort_keys(scores.view(np.uint32), keys)
    keys.sort()
    write_ranks(keys, _LOGS, out)


@jit
def complete(
    out: NDArray[np.float32],
    has_last: bool,
    last: tuple[float, float, float],
    context: tuple[float, ...],
) -> None:
    """Write how the items differ from the user's means and from the newest item, and what is equal for all."""
    of_user = np.empty(len(CONTEXT), np.float32)
    for k in range(len(CONTEXT)):
        of_user[k] = context[k]
    mean_age, mean_pop = of_user[-2], of_user[-1]
    last_pop, last_age, last_stage = np.float32(last[0]), np.float32(last[1]), np.float32(last[2])
    for m in range(len(out)):
        row = out[m]
        if has_last:
            age, pop = row[ITEM_AGE], row[POP_8D]
            row[_MATCH] = age - mean_age
            row[_MATCH + 1] = abs(age - mean_age)
            row[_MATCH + 2] = pop - mean_pop
            row[_MATCH + 3] = abs(pop - mean_pop)
            row[_MATCH + 4] = abs(pop - last_pop)
            row[_MATCH + 5] = abs(age - last_age)
            row[_MATCH + 6] = abs(row[_SHARE + 1] - last_stage)
        for k in range(of_user.size):
            row[_CONTEXT + k] = of_user[k]


def finish(
    out: NDArray[np.float32],
    last: tuple[float, float, float] | None,
    context: tuple[float, ...],
) -> NDArray[np.float32]:
    """Complete what `fill` began, in place, and return it; without a newest item what it would be matched with is 0.

    `last`: ln popularity, ln age and stage of the user's newest item. `context`: values in the order of `CONTEXT`.
    """
    logs = out[:, :N_LOGS]
    np.log(logs, out=logs)
    for k, ranked in enumerate(_RANKED):
        log_rank(out[:, ranked], out[:, _RANKS + k])
    complete(out, last is not None, last or (0.0, 0.0, 0.0), context)
    return out
