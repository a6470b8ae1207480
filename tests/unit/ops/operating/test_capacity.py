"""The capacity model: arithmetic over costs, and what the command prints."""

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from ops.cli import app
from ops.operating.capacity import SHARED, Assumptions, Costs, need, read, shipped
from ops.stack.errors import StackError
from ops.stack.home import project_root

COSTS = Costs(
    machine="one",
    measured="today",
    event_us={"clean": 10.0, "learn": 100.0, "redis": 10.0, "kafka": 20.0},
    list_us={"serving": 2000.0, "learn": 50.0, "metrics": 40.0},
    event_log_bytes=100,
    list_log_bytes=1000,
    event_lake_bytes=10,
    list_lake_bytes=500,
    user_bytes=1000,
    item_bytes=2000,
)
ASSUMED = Assumptions(events_per_user=24, lists_per_user=24, peak=3.6, utilisation=0.5, items=1000)


def test_cores_are_rates_times_costs() -> None:
    """R30: a million users, 24 events and lists a day, 3.6 times the mean: 1000 of each a second."""
    found = need(1_000_000, COSTS, ASSUMED)
    assert (found.events_per_s, found.lists_per_s) == (1000, 1000)
    assert found.serving_cores == 4  # 1000 * 2 ms / 0.5
    assert (found.cells, found.bound_by) == (1, "learn")
    assert found.processes == dict.fromkeys(SHARED, 1)
    assert found.kafka_tib == pytest.approx(1e6 * 24 * 1100 * 7 * 3 / (1 << 40))
    assert found.partitions == 4


def test_a_cell_is_filled_by_what_cannot_be_spread() -> None:
    """R30: the learner is one process, Redis one primary."""
    by_learner = need(10_000_000, COSTS, ASSUMED)
    assert (by_learner.cells, by_learner.bound_by) == (3, "learn")  # 10 000 * 150 us / 0.5
    small = msgspec.structs.replace(ASSUMED, redis_gib=1)
    by_memory = need(10_000_000, COSTS, small)
    assert by_memory.bound_by == "redis memory"
    assert by_memory.cells == 57  # 3e7 users of 1000 bytes, in halves of a GiB less the items
    with pytest.raises(StackError, match="do not fit"):
        need(1000, COSTS, msgspec.structs.replace(small, items=1_000_000))


def test_twice_the_users_take_no_more_than_twice_of_all() -> None:
    one, two = (need(n, COSTS, ASSUMED) for n in (50_000_000, 100_000_000))
    assert two.cells <= 2 * one.cells
    assert two.per_month <= 2 * one.per_month * 1.01


def test_the_command_says_what_is_assumed_and_takes_other_assumptions(tmp_path: Path) -> None:
    """R30"""
    path = tmp_path / "costs.json"
    path.write_bytes(msgspec.json.encode(COSTS))
    arguments = ["capacity", "--json", "--costs", str(path), "--users", "1000000", "--set", "peak=7.2"]
    found = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert found["assumptions"]["peak"] == 7.2
    assert [one["daily_users"] for one in found["needs"]] == [1_000_000]
    table = CliRunner().invoke(app, ["capacity"], env={"COLUMNS": "200"}).stdout
    assert all(text in table for text in ("200,000,000", "lists_per_user=60", "CPU learn", shipped().measured))
    for wrong in ("--set", "peek=2"), ("--set", "peak=high"):
        assert CliRunner().invoke(app, ["capacity", *wrong]).exit_code == 2


def test_the_page_shows_what_the_command_prints() -> None:
    page = (project_root() / "docs/capacity.md").read_text()
    printed = CliRunner().invoke(app, ["capacity"]).stdout
    assert " ".join(printed.split()) in " ".join(page.split())


def test_costs_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text("{}")
    with pytest.raises(StackError, match=r"costs\.json"):
        read(tmp_path / "costs.json")
