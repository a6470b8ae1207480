"""The ranker's inputs equal the same values computed by SQL from the log, at any moment (R13)."""

import math
from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import pytest

from online_models.engine.content import bucket
from online_models.engine.engine import Engine
from online_models.engine.inputs import NAMES
from online_models.evaluation.ablation import INPUT_GROUPS
from state.records import Item

N_EVENTS, N_MOMENTS, N_ITEMS = 3000, 10, 120
Row = tuple[int, str, str, bool, float]

LEARNED = {*INPUT_GROUPS["inputs:factors"], "rank_comb", "rank_pop", "rank_s0"}
"""What no query can state: products of learned vectors, and ranks among the candidates, which sources choose."""

DAY = 86_400.0
INPUTS = f"""
with before as (
    select *, row_number() over (partition by user order by seq) - 1 as n_user from log where seq < $seq
),
staged as (select *, least(7, floor(log2(n_user + 1))) as stage from before),
asking as (
    select count(*) as n, least(7, floor(log2(count(*) + 1))) as stage, ln(count(*) + 1) as ln_n
    from before where user = $user
),
of_item as (
    select
        item,
        count(*) as n,
        count(*) filter (positive) as n_positive,
        coalesce(sum(pow(2, -($t - t) / (0.1 * {DAY}))) filter (positive), 0) as pop_01,
        coalesce(sum(pow(2, -($t - t) / (0.5 * {DAY}))) filter (positive), 0) as pop_05,
        coalesce(sum(pow(2, -($t - t) / (2 * {DAY}))) filter (positive), 0) as pop_2,
        coalesce(sum(pow(2, -($t - t) / (8 * {DAY}))) filter (positive), 0) as pop_8,
        coalesce(sum(pow(2, -($t - t) / (30 * {DAY}))) filter (positive), 0) as pop_30,
        coalesce(sum(pow(2, -($t - t) / (8 * {DAY}))) filter (positive and staged.stage = asking.stage), 0) as stage_8,
        count(*) filter (positive and staged.stage = asking.stage) as n_stage,
        sum(pow(2, -($t - t) / (4 * {DAY}))) as decayed,
        min(t) as first_t,
        ($t - max(t)) / 3600 as hours,
        ln(1 + ($t - min(t)) / {DAY}) as age,
        $seq - max(seq) as since,
        avg(ln(staged.n_user + 1)) as mean_stage
    from staged, (select stage from asking) as asking group by item
),
own as (select *, (select n from asking) - 1 - n_user as x from before where user = $user),  -- x: steps back
of_user as (
    select
        coalesce(ln(1 + min($t - t) / 60), 0) as minutes,
        count(*) filter (t >= $t - 1800) as burst,
        count(*) - count(distinct item) as n_repeats,
        coalesce(sum(pow(.9, x) * ln(1 + (t - first_t) / {DAY})) filter (pow(.9, x) > 1e-3), 0)
            / greatest(sum(pow(.9, x)) filter (pow(.9, x) > 1e-3), .5) as age,
        coalesce(sum(pow(.9, x) * ln(pop_8 + .05)) filter (pow(.9, x) > 1e-3), 0)
            / greatest(sum(pow(.9, x)) filter (pow(.9, x) > 1e-3), .5) as pop,
        sum(pow(.7, x) * year) filter (x < 50) / sum(pow(.7, x)) filter (x < 50 and year is not null) as year,
        sum(pow(.95, x) * if(positive, 1, .3)) filter (x < 50) as slow,
        sum(pow(.7, x) * if(positive, 1, .3)) filter (x < 50) as fast,
        any_value(ln(pop_8 + .05)) filter (x = 0) as last_pop,
        any_value(of_item.age) filter (x = 0) as last_age,
        any_value(mean_stage) filter (x = 0) as last_stage
    from own join of_item using (item) left join catalogue using (item) where x < 100
),
recurring as (
    select item, count(*) as n, min(x) as back, $t - max(t) as seconds from own where x < 100 group by item
),
taste as (
    select
        genre,
        sum(pow(.95, x) * if(positive, 1, .3)) / any_value(slow) as slow,
        sum(pow(.7, x) * if(positive, 1, .3)) / any_value(fast) as fast
    from own join genres using (item), of_user where x < 50 group by genre
),
matching as (
    select item, sum(coalesce(slow, 0)) / count(*) as slow, sum(coalesce(fast, 0)) / count(*) as fast
    from genres left join taste using (genre) group by item
),
pairs as (
    select one.item as one, two.item as two, two.n_user - one.n_user - 1 as d, two.seq, two.t,
        1 / (1 + (two.t - one.t) / 60) as close, one.positive as one_liked, two.positive as two_liked
    from before as one join before as two on one.user = two.user and two.n_user - one.n_user between 1 and 15
),
lists as (
    select
        item, other,
        coalesce(sum(1 / sqrt(d + 1)) filter (after), 0) as forward,
        coalesce(sum(1 / sqrt(d + 1)) filter (not after), 0) as backward,
        coalesce(sum(pow(2, -($t - t) / (4 * {DAY})) / (d + 1)) filter (after), 0) as recent,
        sum(close) as close,
        coalesce(sum(1 / sqrt(d + 1)) filter (liked), 0) as liked,
        sum(if(after, 1, .5) / (d + 1)) as near,
        count(*) filter (after and d = 0) as successors,
        max(seq) filter (after and d < 3) as next_seq,
        max(t) filter (after and d < 3) as next_t
    from (
        select one as item, two as other, true as after, d, t, seq, close, two_liked as liked from pairs
        union all
        select two, one, false, d, t, seq, close, one_liked from pairs
    ) group by item, other
),
evidence as (
    select
        other as item,
        sum(pow(.8, x) / pow(n + 1, .7) * forward) as cf,
        sum(pow(.8, x) / pow(n + 1, .7) * backward) as cb,
        sum(pow(.8, x) / (decayed + .5) * recent) as cdec,
        sum(lists.close / pow(n + 1, .7) / (1 + ($t - own.t) / 60)) as close,
        sum(pow(.8, x) / pow(n + 1, .7) * liked) as liked,
        sum(near / (n + 1)) filter (x = 0) as s0,
        sum(near / (n + 1)) filter (x = 1) as s1,
        sum(near / (n + 1)) filter (x = 2) as s2,
        sum(near / (n + 1)) filter (x = 3) as s3,
        sum(successors / (n + 1)) filter (x = 0) as mk,
        any_value(next_seq) filter (x = 0) as next_seq,
        any_value(($t - next_t) / 3600) filter (x = 0) as next_hours,
        count(*) as hits,
        max(near / (n + 1)) as most
    from own join lists using (item) join of_item using (item) where x < 20 group by other
),
followed as (
    select evidence.item, count(*) as n  -- events of the newest item since this one last followed it
    from evidence, before where before.item = (select item from own where x = 0) and before.seq >= next_seq
    group by evidence.item
)
select
    of_item.item,
    ln(pop_01 + .05) as "pop_0.1d",
    ln(pop_05 + .05) as "pop_0.5d",
    ln(pop_2 + .05) as pop_2d,
    ln(pop_8 + .05) as pop_8d,
    ln(pop_30 + .05) as pop_30d,
    ln(n_positive + .05) as pop_all,
    ln(stage_8 + .05) as stage_8d,
    ln((n_stage + .2) / (of_item.n + 1.6)) as stage_share,
    ln(1 + of_item.hours) as hours_since_item,
    of_item.age as item_age,
    ln(1 + of_item.since) as events_since_item,
    (n_positive + 1) / (of_item.n + 1.5) as positive_share,
    mean_stage as item_stage,
    mean_stage - ln_n as stage_offset,
    abs(mean_stage - ln_n) as stage_distance,
    ln(.01 + coalesce(cf, 0)) as cf,
    ln(.01 + coalesce(cb, 0)) as cb,
    ln(.001 + coalesce(cdec, 0)) as cdec,
    ln(.001 + coalesce(close, 0)) as close,
    ln(.01 + coalesce(liked, 0)) as liked,
    ln(.001 + coalesce(s0, 0)) as s0,
    ln(.001 + coalesce(s1, 0)) as s1,
    ln(.001 + coalesce(s2, 0)) as s2,
    ln(.001 + coalesce(s3, 0)) as s3,
    ln(.001 + coalesce(mk, 0)) as mk,
    ln(1 + if(next_seq is null, 664, coalesce(followed.n, 0))) as transition_count,
    ln(1 + coalesce(next_hours, 22025)) as transition_hours,
    ln(1 + coalesce(hits, 0)) as hits,
    ln(.001 + coalesce(most, 0)) as most,
    coalesce((cf + .5 * cb) / pow(of_item.n + 1, .3), 0) as comb,
    coalesce(back = 0, false)::int as is_last,
    ln(1 + coalesce(recurring.n, 0)) as times_in_history,
    coalesce(1 / (1 + back), 0) as repeat_nearness,
    coalesce(ln(1.5 + seconds / 60), 0) as repeat_minutes,
    coalesce(of_item.age - of_user.age, 0) * (asking.n > 0)::int as age_offset,
    abs(age_offset) as age_distance,
    (pop_8d - of_user.pop) * (asking.n > 0)::int as pop_offset,
    abs(pop_offset) as pop_distance,
    coalesce(abs(pop_8d - last_pop), 0) as pop_to_last,
    coalesce(abs(of_item.age - last_age), 0) as age_to_last,
    coalesce(abs(mean_stage - last_stage), 0) as stage_to_last,
    coalesce(matching.slow, 0) as taste_slow,
    coalesce(matching.fast, 0) as taste_fast,
    coalesce(ln(1 + abs(catalogue.year - of_user.year)), 0) as year_distance,
    coalesce(ln(1 + greatest(1970 + $t / {DAY} / 365.25 - catalogue.year + 1, 0)), 0) as years_old,
    ln_n as n_user,
    of_user.minutes as minutes_since_user,
    (asking.n = 0)::int as is_new_user,
    ln(1 + burst) as burst,
    ln(1 + n_repeats) as n_repeats,
    coalesce(of_user.age, 0) as user_age,
    coalesce(of_user.pop, 0) as user_pop
from of_item, asking, of_user
left join evidence on evidence.item = of_item.item
left join followed on followed.item = of_item.item
left join recurring on recurring.item = of_item.item
left join matching on matching.item = of_item.item
left join catalogue on catalogue.item = of_item.item
"""


def log() -> list[Row]:
    """Skewed users and items, repeats, items that come late, bursts and ties in time."""
    rng = np.random.default_rng(5)
    users = np.minimum(rng.zipf(1.4, N_EVENTS), 200)
    items = np.minimum(rng.zipf(1.3, N_EVENTS) + np.arange(N_EVENTS) // 60, N_ITEMS)
    steps = rng.exponential(1500.0, N_EVENTS) * (rng.random(N_EVENTS) < 0.7)
    times = 1.4e9 + np.round(np.cumsum(steps))
    positive = rng.random(N_EVENTS) < 0.7
    return [(k, f"u{users[k]}", f"i{items[k]}", bool(positive[k]), float(times[k])) for k in range(N_EVENTS)]


def catalogue() -> list[Item]:
    """Items with none to three genres, of which each has a bucket of its own, some without a year."""
    rng = np.random.default_rng(7)
    genres = [f"genre {k}" for k in range(9)]
    assert len({bucket(f"genre:{genre}") for genre in genres}) == len(genres)
    return [
        Item(
            item_id=f"i{k}",
            genres=[str(genre) for genre in rng.choice(genres, rng.integers(0, 4), replace=False)],
            release_date=str(1990 + k % 24) if k % 5 else None,
        )
        for k in range(N_ITEMS + 1)
    ]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return log()


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return catalogue()


def columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


@pytest.fixture(scope="module")
def lake(rows: list[Row], items: list[Item]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A user's events of one second are a millisecond apart, as the engine takes them."""
    with duckdb.connect() as connection:
        connection.execute("create table told (seq bigint, user text, item text, positive boolean, t double)")
        connection.execute(
            "insert into told select unnest(?), unnest(?), unnest(?), unnest(?), unnest(?)", columns(rows)
        )
        connection.execute("""
            create table log as
            select * replace (t + .001 * (row_number() over (partition by user, t order by seq) - 1) as t) from told
        """)
        connection.execute("create table catalogue (item text, year double)")
        years = [(item.item_id, float(item.release_date) if item.release_date else None) for item in items]
        connection.execute("insert into catalogue select unnest(?), unnest(?)", columns(years))
        connection.execute("create table genres (item text, genre text)")
        genres = [(item.item_id, genre) for item in items for genre in item.genres]
        connection.execute("insert into genres select unnest(?), unnest(?)", columns(genres))
        yield connection


def inputs_of(engine: Engine, user: str, t: float) -> dict[str, dict[str, float]]:
    """The inputs of a list's candidates by item and by name."""
    engine.recommend(user, 1, t, "all")
    assert engine._pending is not None
    slots, values = engine._pending[2][:2]
    names = [str(engine.learner.items.item_id(slot)) for slot in slots.tolist()]
    return {name: dict(zip(NAMES, row.tolist(), strict=True)) for name, row in zip(names, values, strict=True)}


def from_log(lake: duckdb.DuckDBPyConnection, seq: int, user: str, t: float) -> dict[str, dict[str, float]]:
    """The same of all items by SQL; `comb` is not yet a share of the highest."""
    found = lake.execute(INPUTS, {"seq": seq, "user": user, "t": t})
    names = [column[0] for column in found.description or ()]
    return {row[0]: dict(zip(names[1:], map(float, row[1:]), strict=True)) for row in found.fetchall()}


def test_inputs_equal_sql_over_the_log(rows: list[Row], items: list[Item], lake: duckdb.DuckDBPyConnection) -> None:
    """R13: at a sample of moments, for known users and one that nobody has seen, of every candidate of the list."""
    rng = np.random.default_rng(6)
    moments = set(rng.choice(np.arange(100, N_EVENTS), N_MOMENTS, replace=False).tolist())
    engine = Engine()
    for entry in items:
        engine.describe(entry)
    n_compared, n_met = 0, 0
    for seq, user, item, positive, t in rows:
        if seq in moments:
            now = t + float(rng.choice([0.5, 7.5, 90_000.5]))
            for asking in (user, "nobody"):
                online, wanted = inputs_of(engine, asking, now), from_log(lake, seq, asking, now)
                best = max(max(wanted[name]["comb"] for name in online), 1e-12)
                for name, values in online.items():
                    wanted[name]["comb"] /= best
                    assert wanted[name].keys() == set(NAMES) - LEARNED
                    told = {key: values[key] for key in wanted[name]}
                    assert told == pytest.approx(wanted[name], rel=1e-4, abs=5e-4), (seq, asking, name)
                    n_compared += 1
                    n_met += values["cf"] > math.log(0.011)
        engine.observe(user, item, positive, 1.0, t)
    assert n_compared > 20 * N_MOMENTS
    assert n_met > 5 * N_MOMENTS
