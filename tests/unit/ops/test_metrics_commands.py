"""`freshet metrics`: arguments, the list, and what the table shows."""

import json

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from ops.metrics_commands import number, register, sparkline, table_of
from state.metric_readings import Readings
from state.metrics import BY_NAME, METRICS

MINUTE = 60_000


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, ["metrics", *arguments], env={"COLUMNS": "250"})
    return result.exit_code, result.output


def test_every_metric_is_listed_with_its_formula() -> None:
    """R28"""
    code, table = run("list")
    assert code == 0
    code, lines = run("list", "--json")
    assert code == 0
    listed = {found["metric"]: found for found in json.loads(lines)}
    assert set(listed) == {metric.name for metric in METRICS}
    assert all(metric.name in table for metric in METRICS)
    assert listed["ctr"]["formula"] == "outcomes.click / slates.items"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--metric", "crt"], "there is no 'crt'"),
        (["--by", "moon"], "surface,arm"),
        (["--width", "2m"], "1m, 5m, 1h"),
        (["--since", "yesterday"], "such as 5m"),
    ],
)
def test_wrong_arguments_are_explained(arguments: list[str], complaint: str) -> None:
    code, output = run("tail", *arguments)
    assert code == 2
    assert complaint in output


def test_help_has_examples() -> None:
    assert "freshet metrics tail --metric ctr" in run("tail", "--help")[1]
    assert "freshet metrics list --json" in run("list", "--help")[1]


def test_a_sparkline_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([0, 7, 3.5]) == "▁█▅"
    assert sparkline([2, 2]) == "▁▁"


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.123"), (3.0, "3"), (12_345.6, "12,346"), (1e9, "1,000,000,000")]
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_the_table_has_a_row_for_each_part_and_says_what_is_early() -> None:
    readings = Readings()
    for minute, surface, clicks, final in ((0, "home", 2, True), (1, "home", 4, False), (1, "search", 1, True)):
        group = (MINUTE, minute * MINUTE, f"surface={surface}")
        readings.add("outcomes", group, 0, {"click": clicks}, final)
        readings.add("slates", group, 0, {"items": 100}, final)
    console = Console(width=120, record=True)
    console.print(table_of(readings, [BY_NAME["ctr"]], ("surface",), MINUTE))
    lines = console.export_text().splitlines()
    home, search = (next(line.split() for line in lines if surface in line) for surface in ("home", "search"))
    assert home[:2] == ["ctr", "home"]
    assert "…" in home
    assert home[-4:] == ["0.04", "0.02", "▁█", "share"]
    assert "…" not in search
