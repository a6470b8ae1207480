"""`python -m flows.lake` on a real Kafka: each message is a row once, also when it is killed (R23, R26)."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import duckdb
import msgspec
import pytest
from confluent_kafka import Producer

from flows.lake.store import count_of_user, files, stored_table
from flows.lake.tables import TABLES
from ops.lake.query import LakeError, opened
from ops.stack.children import Child, wait_until
from state.records import Item
from state.settings import Settings
from state.topics import CLEAN, EXAMPLES, IMPRESSIONS, ITEMS, PARTITIONER, REJECTED, Topic
from tests.unit.flows.lake_input import START, event, example, impression

RunProcess = Callable[..., AbstractContextManager[Child]]
MakeSettings = Callable[..., Settings]

_DAY = 86_400_000
_WAIT = timedelta(seconds=30)
_SOON = timedelta(seconds=0.005)


class Writer:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer({"bootstrap.servers": settings.kafka_brokers, "partitioner": PARTITIONER})

    def send(self, topic: Topic, key: str, value: object, headers: dict[str, str] | None = None) -> None:
        encoded = value if isinstance(value, bytes) else msgspec.msgpack.encode(value)
        self._producer.produce(topic.full_name(self._settings), encoded, key.encode(), headers=headers)
        self._producer.poll(0)

    def events(self, first: int, n: int, days: int = 2) -> None:
        for number in range(first, first + n):
            user = f"u{number % 50}"
            ts = START + number % days * _DAY
            self.send(CLEAN, user, event(number, "view" if number % 3 else "click", ts=ts, user=user))

    def flush(self) -> None:
        assert self._producer.flush(30) == 0


def n_rows(settings: Settings, name: str = "events") -> int:
    """Return the rows that count now, by the log."""
    stored = stored_table(settings.lake_root, next(table for table in TABLES if table.name == name))
    return 0 if stored is None else sum(file.n_rows for file in files(stored))


def rows(settings: Settings, sql: str, name: str = "events") -> list[tuple[object, ...]]:
    stored = stored_table(settings.lake_root, next(table for table in TABLES if table.name == name))
    assert stored is not None
    paths = [f"{settings.lake_root}/{name}/{file.path}" for file in files(stored)]
    with duckdb.connect() as connection:
        connection.read_parquet(paths, hive_partitioning=True, union_by_name=True).create_view("rows")
        return connection.sql(sql).fetchall()


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings(lake_delay_s=0.2)


def test_every_table_gets_its_messages(settings: Settings, run_process: RunProcess) -> None:
    writer = Writer(settings)
    writer.events(0, 600)
    writer.send(CLEAN, "u", b"\xc1")
    for number in range(20):
        writer.send(IMPRESSIONS, "u1", impression(number))
        writer.send(EXAMPLES, "u1", example(number))
    writer.send(ITEMS, "i1", msgspec.json.encode(Item(item_id="i1", title="A")))
    writer.send(REJECTED, "u1", b"?", {"field": "ts", "reason": "too old", "source": "freshet.events/0/7"})
    writer.flush()
    expected = {"events": 600, "impressions": 20, "examples": 20, "items": 1, "rejected": 1}
    with run_process("flows.lake", settings) as process:
        assert wait_until(lambda: {name: n_rows(settings, name) for name in expected} == expected, _WAIT)
        assert process.stop() == 0
    assert rows(settings, "select date::text, type, count(*) from rows group by all order by all") == [
        ("2026-09-21", "click", 100),
        ("2026-09-21", "view", 200),
        ("2026-09-22", "click", 100),
        ("2026-09-22", "view", 200),
    ]
    assert rows(settings, "select field, reason, user_id from rows", "rejected") == [("ts", "too old", "u1")]


def test_no_row_is_lost_or_doubled_through_kills(settings: Settings, run_process: RunProcess) -> None:
    """R23, R26, R31: SIGKILL while it writes, again and again, then a stop that writes what waits."""
    writer = Writer(settings)
    n_events = 0
    for _ in range(6):
        writer.events(n_events, 20_000, days=40)
        n_events += 20_000
        writer.flush()
        before = n_rows(settings)
        with run_process("flows.lake", settings) as process:
            assert wait_until(lambda before=before: n_rows(settings) > before, _WAIT, _SOON)  # type: ignore[misc]
            process.kill()
    writer.events(n_events, 10)
    n_events += 10
    writer.flush()
    with run_process("flows.lake", settings) as process:
        assert wait_until(lambda: n_rows(settings) >= n_events, _WAIT)
        assert process.stop() == 0
    summary = "select count(*), count(distinct event_id), count(distinct (kafka_partition, kafka_offset)) from rows"
    assert rows(settings, summary) == [(n_events, n_events, n_events)]


def test_what_waits_is_written_when_it_is_asked_to_stop(make_settings: MakeSettings, run_process: RunProcess) -> None:
    """Nothing else would write these rows; whether a start has read them already does not show, so there are some."""
    settings = make_settings(lake_delay_s=3600)
    writer = Writer(settings)
    writer.events(0, 100)
    writer.flush()
    for _ in range(10):
        with run_process("flows.lake", settings) as process:
            process.wait_until(lambda: "goes on at" in process.log.read_text(), _WAIT)
            assert process.stop() == 0
        process.log.unlink()
        if n_rows(settings):
            break
    assert n_rows(settings) == 100


def test_an_erased_user_leaves_every_table(settings: Settings, run_process: RunProcess) -> None:
    """R27: and the erasure's own row goes with it; what the user does later is kept."""
    writer = Writer(settings)
    writer.events(0, 600)
    for number in range(20):
        writer.send(IMPRESSIONS, "u1", impression(number, user=f"u{number % 2}"))
        writer.send(EXAMPLES, "u1", example(number))
    writer.flush()
    with run_process("flows.lake", settings) as process:
        tables = ("events", "impressions", "examples")
        assert wait_until(lambda: [n_rows(settings, name) for name in tables] == [600, 20, 20], _WAIT)
        writer.send(CLEAN, "u1", event(600, "erase", user="u1"))
        writer.flush()
        process.wait_until(lambda: "erased 1 users" in process.log.read_text(), _WAIT)
        assert [n_rows(settings, name) for name in tables] == [588, 10, 0]
        assert [count_of_user(settings.lake_root, table, "u1") for table in TABLES if table.of_user] == [0, 0, 0, 0]
        writer.events(601, 1)
        writer.flush()
        assert wait_until(lambda: count_of_user(settings.lake_root, TABLES[0], "u1") == 1, _WAIT)


def test_an_emptied_lake_is_built_again_from_the_log(settings: Settings, run_process: RunProcess) -> None:
    """The lake's own commits say where to go on; the consumer group does not."""
    writer = Writer(settings)
    writer.events(0, 100)
    writer.flush()
    with run_process("flows.lake", settings):
        assert wait_until(lambda: n_rows(settings) == 100, _WAIT)
    Path(settings.lake_root).rename(f"{settings.lake_root}-before")
    with run_process("flows.lake", settings):
        assert wait_until(lambda: n_rows(settings) == 100, _WAIT)


def test_two_processes_share_the_partitions(settings: Settings, run_process: RunProcess) -> None:
    """R30: one joins in mid-stream, the first one leaves; every row is there once."""
    writer = Writer(settings)
    writer.events(0, 5000)
    writer.flush()
    with run_process("flows.lake", settings) as first:
        assert wait_until(lambda: n_rows(settings) > 0, _WAIT)
        other = settings.model_copy(update={"instance": "1"})
        with run_process("flows.lake", other) as second:
            writer.events(5000, 5000)
            writer.flush()
            assert wait_until(lambda: n_rows(settings) == 10_000, _WAIT)
            first.kill()
            writer.events(10_000, 5000)
            writer.flush()
            assert wait_until(lambda: n_rows(settings) == 15_000, _WAIT)
            assert second.stop() == 0
    assert rows(settings, "select count(distinct event_id), count(*) from rows") == [(15_000, 15_000)]


def test_an_object_store_holds_the_lake(make_settings: MakeSettings, run_process: RunProcess, bucket: str) -> None:
    """R26: by configuration only, also through a kill."""
    settings = make_settings(lake_delay_s=0.2, lake=f"{bucket}/lake")
    writer = Writer(settings)
    for first in (0, 2000):
        writer.events(first, 2000)
        writer.flush()
        with run_process("flows.lake", settings) as process:
            assert wait_until(lambda first=first: n_rows(settings) > first, _WAIT)  # type: ignore[misc]
            process.kill()
    with run_process("flows.lake", settings):
        assert wait_until(lambda: n_rows(settings) == 4000, _WAIT)
    with opened(settings) as lake:
        answer = lake.ask("select count(distinct event_id), count(*), min(date)::text from events")
        assert list(answer.rows) == [(4000, 4000, "2026-09-21")]
        with pytest.raises(LakeError, match="disabled"):
            lake.ask("select * from read_csv('/etc/passwd')")
