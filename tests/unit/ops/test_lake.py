"""`freshet lake`: what it answers, and what it refuses (R26)."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from flows.lake.store import StoredTable, Stretch
from flows.lake.tables import TABLES
from ops.cli import app
from ops.lake.views import DESCRIPTIONS
from state.records import Item
from state.settings import Settings
from tests.unit.flows.lake_input import START, batch, event, example, impression

DAY = 86_400_000


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRESHET_HOME", str(tmp_path / "my home"))
    monkeypatch.setenv("KAFKA_BROKERS", "127.0.0.1:1")
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path / "my home"


def write(name: str, records: Sequence[object], first: int = 0) -> None:
    table = next(table for table in TABLES if table.name == name)
    messages = batch(records, table.topic.name, first=first)
    StoredTable(Settings().lake_root, table, "c").append([table.rows(messages).rows], {0: Stretch(first, first + 1)})


@pytest.fixture
def lake() -> None:
    write("events", [event(k, "click" if k % 2 else "view", START + k * DAY, f"u{k % 3}") for k in range(9)])
    write("impressions", [impression(1), impression(2)])
    write("examples", [example(1, [0, 0]), example(1, [-1, 1])])
    write("items", [msgspec.json.encode(Item(item_id="i1", title=title)) for title in ("old", "new")])


def freshet(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["lake", *arguments])


def asked(query: str, *options: str) -> list[dict[str, object]]:
    result = freshet("sql", query, "--json", *options)
    assert result.exit_code == 0, result.output
    answer: list[dict[str, object]] = json.loads(result.stdout)
    return answer


@pytest.mark.usefixtures("lake")
def test_rows_come_as_a_table_json_or_csv() -> None:
    query = "select type, count(*) as n, min(ts) as first from events group by type order by type"
    assert asked(query) == [
        {"type": "click", "n": 4, "first": "2026-09-22T14:13:20"},
        {"type": "view", "n": 5, "first": "2026-09-21T14:13:20"},
    ]
    lines = list(csv.reader(io.StringIO(freshet("sql", query, "--csv").stdout)))
    assert lines == [
        ["type", "n", "first"],
        ["click", "4", "2026-09-22 14:13:20"],
        ["view", "5", "2026-09-21 14:13:20"],
    ]
    shown = freshet("sql", query, "--limit", "1").stdout
    assert "click" in shown
    assert "only the first 1 rows" in shown
    assert asked("select 1 as a where false") == []
    assert asked("from range(5) t(a)", "--limit", "2") == [{"a": 0}, {"a": 1}]


@pytest.mark.usefixtures("lake")
def test_views_derived_from_tables() -> None:
    slates = asked("select request_id, position, item_id, sources, features[1] as f from slates order by all")
    assert slates[1] == {"request_id": "r1", "position": 1, "item_id": "i1", "sources": ["popular", "cooc"], "f": 1.0}
    assert asked("select request_id, position, label, outcome from outcomes order by all") == [
        {"request_id": "r1", "position": 0, "label": 0, "outcome": None},
        {"request_id": "r1", "position": 1, "label": 1, "outcome": "click"},
        {"request_id": "r2", "position": 0, "label": None, "outcome": None},
        {"request_id": "r2", "position": 1, "label": None, "outcome": None},
    ]
    assert asked("select user_id, events, active_days from users where user_id = 'u0'") == [
        {"user_id": "u0", "events": 3, "active_days": 3}
    ]
    assert asked("select title from items") == [{"title": "new"}]
    assert asked("select count(*) as n from items_history") == [{"n": 2}]
    assert asked("select experiments->>'ranking' as arm from impressions limit 1") == [{"arm": "b"}]


@pytest.mark.usefixtures("lake")
def test_dates_can_be_chosen_before_files_are_read() -> None:
    query = "select count(*) as n from events"
    assert asked(query, "--since", "2026-09-22", "--until", "2026-09-23") == [{"n": 2}]
    assert freshet("sql", query, "--since", "yesterday").exit_code == 2


@pytest.mark.parametrize("view", DESCRIPTIONS)
def test_an_empty_lake_has_every_view(view: str) -> None:
    assert asked(f"select count(*) as n from {view}") == [{"n": 0}]


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("select * from evens", "There are: events, impressions"),
        ("selec 1", "syntax error"),
        ("select 1; select 2", "one query, got 2"),
        ("", "one query, got 0"),
        ("create table t as select 1", "not CREATE"),
        ("explain analyze copy (select 1) to 'x.csv'", "not COPY"),
        ("copy events to '/tmp/events.csv'", "not COPY"),
        ("attach '/tmp/x.db'", "not ATTACH"),
        ("set enable_external_access = true", "not SET"),
        ("select * from read_csv('/etc/passwd')", "disabled"),
        ("select * from glob('/etc/*')", "disabled"),
        ("select * from read_text('/proc/self/environ')", "disabled"),
        ("select * from lines", "does not exist"),
    ],
)
def test_what_is_no_query_of_the_lake_is_refused(query: str, reason: str) -> None:
    """R29: it reads the lake and nothing else, and writes nowhere."""
    result = freshet("sql", query)
    assert result.exit_code == 1
    assert reason in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("lake")
def test_the_query_can_come_from_a_file() -> None:
    result = CliRunner().invoke(app, ["lake", "sql", "-", "--json"], input="select 1 as one")
    assert json.loads(result.stdout) == [{"one": 1}]


@pytest.mark.usefixtures("lake")
def test_stats_count_rows_files_and_dates() -> None:
    found = json.loads(freshet("stats", "--json").stdout)
    events = next(table for table in found["tables"] if table["name"] == "events")
    assert (events["rows"], events["files"]) == (9, 9)
    assert (events["first_date"], events["last_date"]) == ("2026-09-21", "2026-09-29")
    assert events["bytes"] > 0
    assert found["lag"] is None
    assert "2026-09-21 - 2026-09-29" in freshet("stats").stdout


def test_compact_puts_files_together() -> None:
    for k in range(5):
        write("events", [event(k)], first=k)
    assert "0 partitions" in freshet("compact").stdout
    assert "1 partitions" in freshet("compact", "--all").stdout
    assert json.loads(freshet("stats", "--json").stdout)["tables"][0]["files"] == 1
    assert asked("select count(distinct event_id) as n from events") == [{"n": 5}]


def test_views_are_listed() -> None:
    shown = freshet("views").stdout
    assert all(view in shown for view in DESCRIPTIONS)
