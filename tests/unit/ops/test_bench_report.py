"""What a benchmark's figures say."""

import math

import pytest
from rich.console import Console

from ops.bench.report import Figure, Report, percentiles


def rendered(report: Report) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(report.table())
    return captured.get()


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure("a", 5, "ms", target=5), True),
        (Figure("a", 6, "ms", target=5), False),
        (Figure("a", 6, "/s", target=5, at_most=False), True),
        (Figure("a", 4, "/s", target=5, at_most=False), False),
        (Figure("a", math.nan, "ms", target=5), False),
        (Figure("a", 4, "/s"), None),
    ],
)
def test_a_target_is_met_or_missed(figure: Figure, met: bool | None) -> None:
    assert figure.met is met
    assert Report("r", [figure]).met is (met is not False)


def test_percentiles_of_seconds_are_milliseconds() -> None:
    figures = percentiles("x", [n / 1000 for n in range(101)], targets_ms={99: 400.0})
    assert [(figure.name, figure.value, figure.target) for figure in figures] == [
        ("x p50", pytest.approx(50), None),
        ("x p90", pytest.approx(90), None),
        ("x p99", pytest.approx(99), 400.0),
    ]


def test_no_samples_miss_their_target() -> None:
    assert percentiles("x", [], targets_ms={50: 1.0})[0].met is False


def test_the_table_shows_value_ceiling_ratio_target_and_note() -> None:
    text = rendered(
        Report("Title", [Figure("rate", 250, "/s", ceiling=1000, target=200, at_most=False, note="so it was")])
    )
    for part in ("Title", "rate", "250", "1,000", "25%", "≥ 200", "rate: so it was"):
        assert part in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.9887, "0.989"),
        (0.95, "0.95"),
        (0.0, "0"),
        (1.0, "1"),
        (1.25, "1.2"),
        (12_345.6, "12,346"),
        (math.nan, "none"),
    ],
)
def test_a_share_is_told_closely_enough_to_be_held_against_its_target(value: float, shown: str) -> None:
    assert f" {shown} " in rendered(Report("Title", [Figure("a", value, "", target=0.95, at_most=False)]))
