"""What a soak compares, and when it says that it failed."""

from collections import Counter
from typing import Any

import pytest

from ops.bench.soak import Samples, Soaked, differences, last_third, middle_third, report, windows_of
from ops.bench.soak_traffic import n_crowds, visitor

HOUR = 1_700_002_800_000
MINUTE = 60_000


def soaked(**chosen: Any) -> Soaked:
    samples = Samples(
        {"lake": [1.0] * 9, "clean": [0.1] * 9}, {"lake": [5] * 9, "clean": [1] * 9}, {"kafka": [1 << 28] * 9}
    )
    return Soaked(
        **{
            "asked_per_s": 1000.0,
            "n_events": 60_000,
            "seconds": 60.0,
            "n_lists": 600,
            "n_failed": 0,
            "caught_up_s": 1.0,
            "n_windows": 8,
            "wrong": [],
            "n_restarts": 0,
            "samples": samples,
        }
        | chosen
    )


def test_windows_of_all_widths_follow_from_what_was_sent_by_the_minute() -> None:
    """R28."""
    sent = Counter({("events", HOUR, "click"): 3, ("events", HOUR + MINUTE, "click"): 4, ("slates", HOUR, "slates"): 1})
    assert windows_of(sent) == {
        ("events", MINUTE, HOUR): {"click": 3},
        ("events", MINUTE, HOUR + MINUTE): {"click": 4},
        ("events", 5 * MINUTE, HOUR): {"click": 7},
        ("events", 60 * MINUTE, HOUR): {"click": 7},
        ("slates", MINUTE, HOUR): {"slates": 1},
        ("slates", 5 * MINUTE, HOUR): {"slates": 1},
        ("slates", 60 * MINUTE, HOUR): {"slates": 1},
    }


def test_a_lost_window_and_one_count_too_many_are_found() -> None:
    """R28: sums that nothing is expected of (a list has many) are no difference."""
    expected = windows_of(Counter({("events", HOUR, "click"): 3}))
    found = {window: sums | {"watch": 1} for window, sums in expected.items()}
    assert differences(expected, found, 0) == []
    del found["events", MINUTE, HOUR]
    found["events", 5 * MINUTE, HOUR] = {"click": 4}
    assert len(differences(expected, found, 5)) == 2


def test_lists_that_nobody_waited_for_any_more_may_be_there() -> None:
    """R28: not more of them than requests that failed, and none may be missing."""
    expected = windows_of(Counter({("slates", HOUR, "slates"): 3}))
    for n, n_wrong in ((2, 3), (3, 0), (5, 0), (6, 3)):
        found = {window: {"slates": n} for window in expected}
        assert len(differences(expected, found, 2)) == n_wrong


@pytest.mark.parametrize(
    ("chosen", "missed"),
    [
        ({}, []),
        ({"n_events": 50_000}, ["events sent"]),
        ({"n_failed": 1}, ["lists that failed"]),
        ({"wrong": ["events"]}, ["windows with wrong counts"]),
        ({"n_restarts": 1}, ["processes that died"]),
    ],
)
def test_each_promise_that_is_not_kept_is_named(chosen: dict[str, Any], missed: list[str]) -> None:
    """R28: also that the machine did not reach the rate that was asked for."""
    assert [figure.name for figure in report(soaked(**chosen), 30.0).figures if figure.met is False] == missed


def test_growth_and_lag_are_judged_by_the_last_third() -> None:
    """R28: what is full after a while may grow before; what is behind at first may catch up."""
    mib = 1 << 20
    samples = Samples(
        {"clean": [90.0] * 3 + [1.0] * 6, "learn": [1.0] * 8 + [31.0], "lake": [59.0] * 9},
        {"clean": [1] * 9, "learn": [1] * 9, "lake": [1] * 9},
        {"kafka": [100 * mib] * 3 + [500 * mib] * 6, "serving": [100 * mib] * 6 + [130 * mib] * 3},
    )
    figures = report(soaked(samples=samples), 30.0).figures
    assert [f.name for f in figures if f.met is False] == ["learn is behind", "serving memory"]
    assert middle_third([1.0]) == last_third([1.0]) == [1.0]


def test_redis_may_grow_but_not_faster_than_before() -> None:
    """R28: it keeps users and sessions for days, so that it grows with those that come."""
    first, steady, faster = [0, 40, 80, 120, 160, 200], [240, 280, 320], [240, 340, 440]
    for last, missed in ((steady, []), (faster, ["redis memory grows by"])):
        rss = [n << 20 for n in first + last]
        figures = report(soaked(samples=Samples(rss={"redis": rss})), 30.0).figures
        assert [figure.name for figure in figures if figure.met is False] == missed


def test_users_of_a_soak_come_back_a_few_times_each() -> None:
    """R28: nobody does a thousand things in ten minutes, and after the first sixth of the time nobody is new."""
    assert [n_crowds(rate, seconds) for rate, seconds in ((10_000, 600), (2_000, 180), (1_000, 60))] == [10, 1, 1]
    assert visitor("u7", 3) != visitor("u7", 4)
