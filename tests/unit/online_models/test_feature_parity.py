"""The ranker's inputs equal the same values computed by SQL from the log, at any moment (R13)."""

import math
from collections.abc import Iterator

import duckdb
import numpy as np
import pytest

from online_models.engine.engine import Engine
from online_models.engine.inputs import NAMES

N_EVENTS, N_MOMENTS = 3000, 25
Row = tuple[int, str, str, bool, float]

DAY = 86_400.0
STAGE = "least(7, floor(log2(n_user + 1)))"

OF_ITEMS = f"""
with before as (
    select *, row_number() over (partition by user order by seq) - 1 as n_user
    from log where seq < $seq
),
staged as (select *, {STAGE} as stage from before),
asking as (
    select least(7, floor(log2(count(*) + 1))) as stage, ln(count(*) + 1) as ln_user
    from before where user = $user
)
select
    item,
    coalesce(sum(pow(2, -($t - t) / (0.1 * {DAY}))) filter (positive), 0) as "pop_0.1d",
    coalesce(sum(pow(2, -($t - t) / (0.5 * {DAY}))) filter (positive), 0) as "pop_0.5d",
    coalesce(sum(pow(2, -($t - t) / (2 * {DAY}))) filter (positive), 0) as pop_2d,
    coalesce(sum(pow(2, -($t - t) / (8 * {DAY}))) filter (positive), 0) as pop_8d,
    coalesce(sum(pow(2, -($t - t) / (30 * {DAY}))) filter (positive), 0) as pop_30d,
    count(*) filter (positive) as pop_all,
    coalesce(sum(pow(2, -($t - t) / (8 * {DAY}))) filter (positive and staged.stage = asking.stage), 0) as stage_8d,
    count(*) filter (positive and staged.stage = asking.stage) as n_stage,
    count(*) as n_events,
    ($t - max(t)) / 3600 as hours_since_item,
    ($t - min(t)) / {DAY} as item_age,
    $seq - max(seq) as events_since_item,
    avg(ln(n_user + 1)) as item_stage,
    any_value(ln_user) as ln_user
from staged, asking
group by item
"""

OF_USER = """
with ever as (select * from log where seq < $seq and user = $user),
newest as (select * from ever order by t desc, seq desc limit 100)
select
    (select count(*) from ever) as n_user,
    coalesce($t - max(t), 0) / 60 as minutes_since_user,
    count(*) = 0 as is_new_user,
    count(*) filter (t >= $t - 1800) as burst,
    count(*) - count(distinct item) as n_repeats
from newest
"""


def log() -> list[Row]:
    """Skewed users and items, repeats, items that come late, bursts and ties in time."""
    rng = np.random.default_rng(5)
    users = np.minimum(rng.zipf(1.4, N_EVENTS), 200)
    items = np.minimum(rng.zipf(1.3, N_EVENTS) + np.arange(N_EVENTS) // 60, 120)
    steps = rng.exponential(1500.0, N_EVENTS) * (rng.random(N_EVENTS) < 0.7)
    times = 1.4e9 + np.round(np.cumsum(steps))
    positive = rng.random(N_EVENTS) < 0.7
    return [(k, f"u{users[k]}", f"i{items[k]}", bool(positive[k]), float(times[k])) for k in range(N_EVENTS)]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return log()


@pytest.fixture(scope="module")
def lake(rows: list[Row]) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("create table log (seq bigint, user text, item text, positive boolean, t double)")
        connection.executemany("insert into log values (?, ?, ?, ?, ?)", rows)
        yield connection


def inputs_of(engine: Engine, arrived: list[str], user: str, t: float) -> dict[str, dict[str, float]]:
    """The inputs of a list's candidates by item and by name. Slots are given in the order of arrival."""
    engine.recommend(user, 1, t, "all")
    assert engine._pending is not None
    slots, values = engine._pending[2][:2]
    return {arrived[slot]: dict(zip(NAMES, row.tolist(), strict=True)) for slot, row in zip(slots, values, strict=True)}


def of_items(lake: duckdb.DuckDBPyConnection, seq: int, user: str, t: float) -> dict[str, dict[str, float]]:
    found = lake.execute(OF_ITEMS, {"seq": seq, "user": user, "t": t})
    names = [column[0] for column in found.description or ()]
    return {row[0]: dict(zip(names[1:], map(float, row[1:]), strict=True)) for row in found.fetchall()}


def of_user(lake: duckdb.DuckDBPyConnection, seq: int, user: str, t: float) -> dict[str, float]:
    found = lake.execute(OF_USER, {"seq": seq, "user": user, "t": t})
    names = [column[0] for column in found.description or ()]
    return dict(zip(names, map(float, found.fetchall()[0]), strict=True))


def expected(item: dict[str, float], user: dict[str, float]) -> dict[str, float]:
    """The inputs as `engine.inputs` defines them."""
    found = {
        name: math.log(item[name] + 0.05)
        for name in ("pop_0.1d", "pop_0.5d", "pop_2d", "pop_8d", "pop_30d", "pop_all", "stage_8d")
    }
    found["stage_share"] = math.log((item["n_stage"] + 0.2) / (item["n_events"] + 1.6))
    found |= {name: math.log1p(item[name]) for name in ("hours_since_item", "item_age", "events_since_item")}
    found["positive_share"] = (item["pop_all"] + 1.0) / (item["n_events"] + 1.5)
    found["item_stage"] = item["item_stage"]
    found["stage_offset"] = item["item_stage"] - item["ln_user"]
    found["stage_distance"] = abs(found["stage_offset"])
    found |= {name: math.log1p(user[name]) for name in ("n_user", "minutes_since_user", "burst", "n_repeats")}
    found["is_new_user"] = user["is_new_user"]
    return found


def test_inputs_equal_sql_over_the_log(rows: list[Row], lake: duckdb.DuckDBPyConnection) -> None:
    """At a sample of moments, for known users and one that nobody has seen, of every candidate of the list."""
    rng = np.random.default_rng(6)
    moments = set(rng.choice(np.arange(100, N_EVENTS), N_MOMENTS, replace=False).tolist())
    engine = Engine()
    arrived = list(dict.fromkeys(row[2] for row in rows))
    n_compared = 0
    for seq, user, item, positive, t in rows:
        if seq in moments:
            now = t + float(rng.choice([0.0, 7.0, 90_000.0]))
            for asking in (user, "nobody"):
                from_log = of_items(lake, seq, asking, now)
                from_user = of_user(lake, seq, asking, now)
                for candidate, values in inputs_of(engine, arrived, asking, now).items():
                    wanted = expected(from_log[candidate], from_user)
                    assert {name: values[name] for name in wanted} == pytest.approx(wanted, rel=1e-4, abs=1e-4)
                    n_compared += 1
        engine.observe(user, item, positive, 1.0, t)
    assert n_compared > 20 * N_MOMENTS
