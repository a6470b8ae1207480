"""When a replay sends what, and with which time."""

from collections import Counter
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from ops.datasets import Dataset, detect
from ops.traffic import schedule
from ops.traffic.replay import Plan, events_due
from state.records import Event

NOW_MS = 1_750_000_000_000
STEP_MS = 10_000


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    lines = [f"{n % 7}::{n % 5}::{n % 11}::{1365029000 + 10 * n}" for n in range(100)]
    (tmp_path / "ratings.dat").write_text("\n".join(lines) + "\n")
    return detect(tmp_path)


def sent(dataset: Dataset, **plan: object) -> list[Event]:
    return [due.event for due in events_due(dataset, Plan(**plan), NOW_MS)]  # type: ignore[arg-type]


def test_the_log_ends_now_and_keeps_its_gaps(dataset: Dataset) -> None:
    times = [event.ts for event in sent(dataset)]
    assert times[-1] == NOW_MS
    assert {later - earlier for earlier, later in pairwise(times)} == {STEP_MS}


def test_original_times_are_those_of_the_file(dataset: Dataset) -> None:
    assert sent(dataset, original_times=True) == list(dataset.events())


def test_with_a_speed_the_first_90_percent_are_history_that_ends_now(dataset: Dataset) -> None:
    due = list(events_due(dataset, Plan(speed=10.0), NOW_MS))
    history = [d for d in due if d.after_s is None]
    live = [d for d in due if d.after_s is not None]
    assert (len(history), len(live)) == (90, 10)
    assert history[-1].event.ts == NOW_MS
    assert [d.after_s for d in live] == pytest.approx([n * 1.0 for n in range(10)])
    assert all(d.live for d in live)


def test_a_rate_plays_the_last_tenth_evenly(dataset: Dataset) -> None:
    live = list(events_due(dataset, Plan(rate=4.0, part="live"), NOW_MS))
    assert [d.after_s for d in live] == pytest.approx([n / 4 for n in range(10)])


def test_history_and_live_part_are_the_whole_log(dataset: Dataset) -> None:
    history = [d.event.event_id for d in events_due(dataset, Plan(rate=4.0, part="history"), NOW_MS)]
    live = [d.event.event_id for d in events_due(dataset, Plan(rate=4.0, part="live"), NOW_MS)]
    assert history + live == [event.event_id for event in dataset.events()]


def test_a_limit_takes_the_first_events_and_they_end_now(dataset: Dataset) -> None:
    events = sent(dataset, limit=30)
    assert [e.event_id for e in events] == [e.event_id for e in dataset.events()][:30]
    assert events[-1].ts == NOW_MS


def test_running_twice_sends_the_same_ids(dataset: Dataset) -> None:
    plan = {"duplicate_share": 0.2, "shuffle_window": timedelta(minutes=5)}
    assert sent(dataset, **plan) == sent(dataset, **plan)


def test_disorder_repeats_a_share_and_stays_within_the_window(dataset: Dataset) -> None:
    window = timedelta(minutes=5)
    events = sent(dataset, duplicate_share=0.5, shuffle_window=window)
    copies = Counter(event.event_id for event in events)
    assert set(copies) == {event.event_id for event in dataset.events()}
    assert 30 <= sum(n - 1 for n in copies.values()) <= 70
    highest = 0
    late = 0
    for event in events:
        highest = max(highest, event.ts)
        late = max(late, highest - event.ts)
    assert 0 < late <= window.total_seconds() * 1000


def test_without_window_and_share_nothing_changes(dataset: Dataset) -> None:
    events = list(dataset.events())
    assert list(schedule.disordered(events, 0.0, timedelta(), seed=1)) == events
