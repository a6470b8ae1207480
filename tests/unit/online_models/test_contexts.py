"""What is popular on a device, in a region and at a time of day."""

import numpy as np
import pytest

from online_models.contexts import N_ITEMS, N_VALUES, ContextCounts, Contexts, situation_of
from online_models.learning import rows
from state.entries import CONTEXTS
from state.records import CleanEvent, ContextRow
from tests.unit.online_models.synthetic import START_MS, System

NOON_MS = START_MS - START_MS % 86_400_000 + 12 * 3_600_000
DAY_MS = 86_400_000
TV, MOBILE = {"device": "tv"}, {"device": "mobile"}


def lifts(counts: ContextCounts, popularity: dict[str, float], ts: int, **stated: str) -> dict[str, float]:
    contexts, items = Contexts(), list(popularity)
    contexts.apply({name: count.row() for name, count in counts.by_name.items()}, lambda item: int(item[1:]))
    slots = np.array([int(item[1:]) for item in items], np.int32)
    found = contexts.lifts(
        situation_of(ts, stated), slots, np.array(list(popularity.values()), np.float32), ts / 1000.0
    )
    return dict(zip(items, found.tolist(), strict=True))


def test_a_situation_names_the_device_the_region_and_the_part_of_the_day() -> None:
    """R1: what a request does not say is no part of it."""
    assert situation_of(NOON_MS, {"device": "tv", "region": "AT", "scale": 5}) == (
        "hours:12-15",
        "device:tv",
        "region:AT",
    )
    assert situation_of(NOON_MS - 1, {"device": None, "region": ""}) == ("hours:09-12",)


def test_an_item_that_is_taken_on_one_device_is_lifted_there_and_lowered_elsewhere() -> None:
    """R15"""
    counts = ContextCounts()
    for k in range(200):
        counts.learn_one("i0", NOON_MS + k, TV if k % 4 else MOBILE)  # 150 on tv, 50 on mobile
        counts.learn_one("i1", NOON_MS + k, MOBILE if k % 4 else TV)
    popularity = {"i0": 200.0, "i1": 200.0}
    on_tv = lifts(counts, popularity, NOON_MS + 200, device="tv")
    assert on_tv["i0"] == pytest.approx(155 / 105, abs=0.01)
    assert on_tv["i1"] == pytest.approx(55 / 105, abs=0.01)
    unheard_of = lifts(counts, popularity, NOON_MS + 200, device="car")
    assert unheard_of == pytest.approx({"i0": 1.0, "i1": 1.0}, abs=0.01)  # the hour alone: both are of this one


def test_little_evidence_changes_little() -> None:
    """R15"""
    counts = ContextCounts()
    for k in range(1000):
        counts.learn_one(f"i{k % 10}", NOON_MS + k, MOBILE)
    counts.learn_one("i11", NOON_MS, TV)
    found = lifts(counts, {"i11": 1.0, "i0": 100.0}, NOON_MS, device="tv")
    assert 1.0 < found["i11"] < 1.3
    assert 0.9 < found["i0"] < 1.0


def test_counts_fade_with_stream_time_and_late_events_count_as_if_they_had_come_in_time() -> None:
    """R24: the order of arrival makes no difference."""
    events = [(f"i{k % 3}", NOON_MS + k * DAY_MS) for k in range(40)]
    in_time, late = ContextCounts(), ContextCounts()
    for item, ts in events:
        in_time.learn_one(item, ts, None)
    for item, ts in events[20:] + events[:20]:
        late.learn_one(item, ts, None)
    end = events[-1][1] / 1000.0
    name = "hours:12-15"
    assert in_time.by_name[name].as_of(end) == pytest.approx(late.by_name[name].as_of(end))
    assert in_time.by_name[name].as_of(end + 8 * 86_400) == pytest.approx(in_time.by_name[name].as_of(end) / 2)
    popularity = {"i0": 5.0, "i1": 5.0, "i2": 5.0}
    assert lifts(in_time, popularity, events[-1][1]) == pytest.approx(lifts(late, popularity, events[-1][1]))


def test_counts_stay_right_over_years() -> None:
    """R11: numbers are scaled before they are too large."""
    counts = ContextCounts()
    for k in range(0, 20 * 365, 5):
        counts.learn_one("i0", NOON_MS + k * DAY_MS, None)
    count = counts.by_name["hours:12-15"]
    end = (NOON_MS + (20 * 365 - 5) * DAY_MS) / 1000.0
    assert count.as_of(end) == pytest.approx(1 / (1 - 2 ** (-5 / 8)), rel=1e-6)


def test_it_is_bounded_and_keeps_what_is_taken_most() -> None:
    """R15: a client that makes up devices and items takes no more room."""
    counts = ContextCounts()
    for k in range(5000):
        counts.learn_one(f"rare{k}", NOON_MS, {"device": f"d{k}"})
        counts.learn_one(f"often{k % 100}", NOON_MS, TV)
    assert sum(name.startswith("device:") for name in counts.by_name) == N_VALUES
    assert "device:tv" in counts.by_name
    hours = counts.by_name["hours:12-15"]
    assert len(hours.items) <= 2 * N_ITEMS
    assert all(hours.items[f"often{k}"] == 50 for k in range(100))
    assert hours.total == 10_000
    assert counts.gone
    assert not counts.gone & set(counts.by_name)


def test_what_was_dropped_is_taken_to_be_what_is_to_be_expected() -> None:
    """R15: an item is not lowered because a bound left no room to count it."""
    row = ContextRow(["i0"], [50.0], 100.0, NOON_MS / 1000.0, 3.0)
    contexts = Contexts()
    contexts.apply({"hours:12-15": row, "device:tv": row}, lambda item: int(item[1:]))
    slots, popularity = np.array([0, 1, 2], np.int32), np.array([50.0, 2.0, 20.0], np.float32)
    found = contexts.lifts(("device:tv",), slots, popularity, NOON_MS / 1000.0)
    assert found[:2].tolist() == [1.0, 1.0]
    assert found[2] == pytest.approx(8 / 25)


def test_stored_rows_go_on_where_they_ended() -> None:
    """R23: a learner that starts again has the counts of the one before."""
    system = System()
    clicks = [
        CleanEvent(f"e{k}", "click", f"u{k % 9}", f"m{k % 7}", NOON_MS + k, context=TV if k % 3 else MOBILE)
        for k in range(60)
    ]
    system.learn(clicks[:40])
    resumed = type(system)(type(system.learner)(organic_share=1e9, replay_share=1e9), system.store)
    rows.restore(resumed.learner, system.store)
    resumed.learn(clicks[40:])
    stored = dict(resumed.store.scan_rows(CONTEXTS))
    whole = System()
    whole.learn(clicks)
    assert stored == dict(whole.store.scan_rows(CONTEXTS))
    assert set(stored) == {"hours:12-15", "device:tv", "device:mobile"}
    assert stored["device:tv"].total == pytest.approx(40, rel=1e-3)
