"""Counts per minute of event time (R24, R28)."""

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from flows.windowed_counts import Count, count, empty

MINUTE = 60_000
START = 1_790_000_000_000 // MINUTE * MINUTE


def test_an_event_changes_the_window_of_its_time() -> None:
    counts = empty()
    assert count(counts, "click", START + 5) == [Count("click", START, 1, late=False, final=False)]
    assert count(counts, "click", START + 59_999) == [Count("click", START, 2, late=False, final=False)]
    assert count(counts, "view", START) == [Count("view", START, 1, late=False, final=False)]
    assert count(counts, "click", START + MINUTE) == [Count("click", START + MINUTE, 1, late=False, final=False)]


def test_a_window_closes_when_stream_time_is_past_its_grace() -> None:
    counts = empty()
    count(counts, "click", START)
    count(counts, "view", START)
    assert not any(result.final for result in count(counts, "click", START + 6 * MINUTE - 1))
    closed = [result for result in count(counts, "click", START + 6 * MINUTE) if result.final]
    assert closed == [
        Count("click", START, 1, late=False, final=True),
        Count("view", START, 1, late=False, final=True),
    ]


def test_an_event_of_a_closed_window_counts_as_late_where_stream_time_is() -> None:
    """R24: what was called final does not change."""
    counts = empty()
    now = START + 60 * MINUTE
    count(counts, "click", now)
    assert count(counts, "click", START) == [Count("click", now, 1, late=True, final=False)]
    assert count(counts, "click", now - 4 * MINUTE) == [Count("click", now - 4 * MINUTE, 1, late=False, final=False)]


def test_names_are_bounded() -> None:
    counts = empty()
    for number in range(1000):
        count(counts, f"name {number}", START)
    (names,) = counts["windows"].values()
    assert len(names) == 51
    assert sum(names.values()) == 1000


events = st.lists(st.tuples(st.sampled_from("abc"), st.integers(START, START + 30 * MINUTE)))


@given(events)
def test_the_newest_results_add_up_to_all_events_and_state_is_json(stream: list[tuple[str, int]]) -> None:
    """R23"""
    counts = empty()
    newest: dict[tuple[str, int, bool], Count] = {}
    for name, ts in stream:
        counts = msgspec.json.decode(msgspec.json.encode(counts))
        for result in count(counts, name, ts):
            before = newest.get((result.name, result.start, result.late))
            assert before is None or not before.final
            newest[result.name, result.start, result.late] = result
        assert len(counts["windows"]) <= 12
    totals: Counter[str] = Counter()
    for result in newest.values():
        totals[result.name] += result.value
    assert totals == Counter(name for name, _ in stream)
