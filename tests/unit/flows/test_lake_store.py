"""Tables on a local disk: atomic, each row once, evolving, erasable (R26, R27)."""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from deltalake.exceptions import DeltaError

from flows.lake.store import (
    KEPT,
    LakeConflictError,
    LakeSchemaError,
    StoredTable,
    Stretch,
    compact,
    drop_replaced,
    erase,
    files,
    stored_table,
    to_erase,
    uri,
    worth_compacting,
)
from flows.lake.tables import INTEGER, TABLES, TEXT, LakeTable
from tests.unit.flows.lake_input import START, batch, event, impression

EVENTS, IMPRESSIONS = TABLES[0], TABLES[1]
DAY = 86_400_000
NOW = START + 10 * DAY


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "a lake")


def append(stored: StoredTable, first: int, n: int, users: int = 2, days: int = 1) -> None:
    events = [event(k, ts=START + k % days * DAY, user=f"u{k % users}") for k in range(first, first + n)]
    rows = stored.table.rows(batch(events, first=first)).rows
    stored.append([rows], {0: Stretch(first, first + n)})


def select(root: str, sql: str, table: LakeTable = EVENTS) -> list[tuple[object, ...]]:
    stored = stored_table(root, table)
    assert stored is not None
    paths = [f"{uri(root, table)}/{file.path}" for file in files(stored)]
    with duckdb.connect() as connection:
        connection.read_parquet(paths, hive_partitioning=True, union_by_name=True).create_view("rows")
        return connection.sql(sql).fetchall()


def test_rows_lie_by_date_and_type(root: str) -> None:
    append(StoredTable(root, EVENTS, "c"), 0, 10, days=2)
    assert select(root, "select date::text, type, count(*) from rows group by all order by 1") == [
        ("2026-09-21", "click", 5),
        ("2026-09-22", "click", 5),
    ]
    assert len(list(Path(root).glob("events/date=2026-09-2?/type=click/*.parquet"))) == 2


def test_the_position_is_that_of_the_rows(root: str) -> None:
    stored = StoredTable(root, EVENTS, "c")
    assert stored.position(0) is None
    append(stored, 0, 10)
    append(stored, 10, 5)
    again = StoredTable(root, EVENTS, "c")
    assert (again.position(0), again.position(1)) == (15, None)
    assert StoredTable(root, EVENTS, "another Kafka").position(0) is None


def test_two_writers_of_one_partition_cannot_both_write(root: str) -> None:
    """A process that was taken for dead comes back, or a restart overlaps: no row is there twice."""
    first, second = StoredTable(root, EVENTS, "c"), StoredTable(root, EVENTS, "c")
    append(first, 0, 10)
    with pytest.raises(LakeConflictError):
        append(second, 0, 10)
    with pytest.raises(LakeConflictError):
        append(first, 5, 10)
    assert select(root, "select count(*), count(distinct kafka_offset) from rows") == [(10, 10)]


def test_writers_of_different_partitions_do_not_disturb_one_another(root: str) -> None:
    first, second = StoredTable(root, EVENTS, "c"), StoredTable(root, EVENTS, "c")
    append(first, 0, 10)
    rows = EVENTS.rows(batch([event(1)], partition=1)).rows
    second.append([rows], {1: Stretch(0, 1)})
    append(first, 10, 10)
    assert select(root, "select count(*) from rows") == [(21,)]


def test_a_write_that_dies_before_its_commit_leaves_nothing_to_see(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = StoredTable(root, EVENTS, "c")
    append(stored, 0, 10)
    log = Path(root, "events", "_delta_log")
    (log / "00000000000000000002.json").mkdir()  # the next commit cannot be put in its place
    with pytest.raises((LakeConflictError, DeltaError, OSError)):
        append(stored, 10, 10)
    (log / "00000000000000000002.json").rmdir()
    again = StoredTable(root, EVENTS, "c")
    assert again.position(0) == 10
    append(again, 10, 10)
    assert select(root, "select count(*), count(distinct kafka_offset) from rows") == [(20, 20)]


def test_compaction_changes_files_and_no_row(root: str) -> None:
    stored = StoredTable(root, EVENTS, "c")
    for k in range(30):
        append(stored, k * 10, 10, days=2)
    before = select(root, "select sum(hash(rows)) from rows")
    table = stored_table(root, EVENTS)
    assert table is not None
    assert len(files(table)) == 60
    partitions = worth_compacting(stored.delta, EVENTS, "2026-09-22", NOW)
    assert len(partitions) == 2
    for partition in partitions:
        assert compact(stored.delta, partition)
    append(stored, 300, 1)  # the writer goes on with the same handle
    table.update_incremental()
    assert len(files(table)) == 3
    assert sum(file.n_rows for file in files(table)) == 301
    assert select(root, "select sum(hash(rows)) from rows where kafka_offset < 300") == before
    assert drop_replaced(table, KEPT) == 0  # somebody may read them still
    assert drop_replaced(table, timedelta()) == 60
    assert select(root, "select sum(hash(rows)) from rows where kafka_offset < 300") == before


def test_a_new_column_is_null_in_older_rows(root: str) -> None:
    """Old files are not touched; both generations of the code can write and read."""
    append(StoredTable(root, EVENTS, "c"), 0, 10)
    newer = dataclasses.replace(EVENTS, columns=EVENTS.columns | {"country": TEXT}, to_columns=_with_country)
    stored = StoredTable(root, newer, "c")
    append(stored, 10, 10)
    assert select(root, "select country, count(*) from rows group by 1 order by 1") == [("se", 10), (None, 10)]
    append(StoredTable(root, EVENTS, "c"), 20, 10)
    assert select(root, "select country, count(*) from rows group by 1 order by 1") == [("se", 10), (None, 20)]


def test_a_column_of_another_type_is_refused(root: str) -> None:
    StoredTable(root, EVENTS, "c")
    with pytest.raises(LakeSchemaError, match=r"events\.value"):
        StoredTable(root, dataclasses.replace(EVENTS, columns=EVENTS.columns | {"value": INTEGER}), "c")


def test_erasures_stand_in_the_events_until_they_are_done(root: str) -> None:
    """R27"""
    stored = StoredTable(root, EVENTS, "c")
    assert to_erase(root, EVENTS, datetime.max.replace(tzinfo=UTC)) == []
    append(stored, 0, 4)
    erasures = [event(10, "erase", ts=START, user="u1"), event(11, "erase", ts=START + DAY, user="u0")]
    stored.append([stored.table.rows(batch(erasures, first=4)).rows], {0: Stretch(4, 6)})
    assert to_erase(root, EVENTS, datetime.fromtimestamp(START / 1000 + 1, UTC)) == ["u1"]
    assert erase(root, EVENTS, "u1") == 3
    assert to_erase(root, EVENTS, datetime.max.replace(tzinfo=UTC)) == ["u0"]


def test_an_erased_user_is_in_no_file(root: str) -> None:
    """R27: neither in rows, nor in replaced files, nor in the log."""
    quoted = "o'hara"
    for table, records in (
        (EVENTS, [event(1, user=quoted), event(2, user="other")]),
        (IMPRESSIONS, [impression(1, user=quoted), impression(2, user="other")]),
    ):
        stored = StoredTable(root, table, "c")
        stored.append([table.rows(batch(records, table.topic.name)).rows], {0: Stretch(0, 2)})
        assert erase(root, table, quoted) == 1
        assert erase(root, table, quoted) == 0
        assert select(root, "select user_id from rows", table) == [("other",)]
        assert stored.position(0) == 2
    assert sum(erase(root, table, quoted) for table in TABLES) == 0
    for file in Path(root).rglob("*"):
        if file.suffix == ".parquet":
            with duckdb.connect() as connection:
                assert "o'hara" not in str(connection.read_parquet(str(file)).fetchall())
        elif file.is_file():
            assert "hara" not in file.read_text(), file


def _with_country(messages: object) -> object:
    columns, places, left_out = EVENTS.to_columns(messages)  # type: ignore[arg-type]
    from flows.lake.tables import _texts

    return columns | {"country": _texts(["se"] * len(places))}, places, left_out


def test_what_is_written_can_be_read_back(root: str) -> None:
    stored = StoredTable(root, IMPRESSIONS, "c")
    stored.append([IMPRESSIONS.rows(batch([impression(1)], "impressions")).rows], {0: Stretch(0, 1)})
    (row,) = select(root, "select features, sources, experiments, scores from rows", IMPRESSIONS)
    assert row == ([[0.0] * 3, [1.0] * 3], [["popular"], ["popular", "cooc"]], '{"ranking":"b"}', [1.0, 0.5])
