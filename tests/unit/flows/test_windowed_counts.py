"""Counts per minute of event time (R24, R28)."""

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from flows.windowed_counts import Count, Counts, WindowedCounts

MINUTE = 60_000
START = 1_790_000_000_000 // MINUTE * MINUTE


def after(counts: WindowedCounts, *events: tuple[str, int]) -> list[Count]:
    for name, ts in events:
        counts.add(name, ts)
    return counts.results()


def restored(counts: WindowedCounts) -> WindowedCounts:
    return WindowedCounts(msgspec.json.decode(msgspec.json.encode(counts.to_counts()), type=Counts))


def test_an_event_changes_the_window_of_its_time() -> None:
    counts = WindowedCounts()
    assert after(counts, ("click", START + 5)) == [Count("click", START, 1, late=False, final=False)]
    assert after(counts, ("click", START + 59_999)) == [Count("click", START, 2, late=False, final=False)]
    assert after(counts, ("view", START), ("click", START + MINUTE)) == [
        Count("view", START, 1, late=False, final=False),
        Count("click", START + MINUTE, 1, late=False, final=False),
    ]
    assert counts.results() == []


def test_a_window_closes_when_stream_time_is_past_its_grace() -> None:
    counts = WindowedCounts()
    found = after(counts, ("click", START), ("view", START), ("click", START + 6 * MINUTE - 1))
    assert not any(result.final for result in found)
    closed = [result for result in after(counts, ("click", START + 6 * MINUTE)) if result.final]
    assert closed == [
        Count("click", START, 1, late=False, final=True),
        Count("view", START, 1, late=False, final=True),
    ]


def test_a_window_that_opens_and_closes_between_two_results_is_told_once() -> None:
    counts = WindowedCounts()
    assert after(counts, ("click", START), ("click", START + 10 * MINUTE)) == [
        Count("click", START, 1, late=False, final=True),
        Count("click", START + 10 * MINUTE, 1, late=False, final=False),
    ]


def test_an_event_of_a_closed_window_counts_as_late_where_stream_time_is() -> None:
    """R24: what was called final does not change."""
    counts = WindowedCounts()
    now = START + 60 * MINUTE
    after(counts, ("click", now))
    assert after(counts, ("click", START)) == [Count("click", now, 1, late=True, final=False)]
    assert after(counts, ("click", now - 4 * MINUTE)) == [Count("click", now - 4 * MINUTE, 1, late=False, final=False)]


def test_names_are_bounded() -> None:
    counts = WindowedCounts()
    found = after(counts, *((f"name {number}", START) for number in range(1000)))
    assert len(found) == 51
    assert sum(result.value for result in found) == 1000


events = st.lists(st.tuples(st.sampled_from("abc"), st.integers(START, START + 30 * MINUTE)))


@given(events, st.integers(1, 5))
def test_the_newest_results_add_up_to_all_events_and_state_is_json(stream: list[tuple[str, int]], every: int) -> None:
    """R23: with a checkpoint, and a restart, after every few events."""
    counts = WindowedCounts()
    newest: dict[tuple[str, int, bool], Count] = {}
    for first in range(0, len(stream), every):
        for result in after(counts, *stream[first : first + every]):
            before = newest.get((result.name, result.start, result.late))
            assert before is None or not before.final
            newest[result.name, result.start, result.late] = result
        counts = restored(counts)
        assert len(counts.to_counts()["windows"]) <= 12
    totals: Counter[str] = Counter()
    for result in newest.values():
        totals[result.name] += result.value
    assert totals == Counter(name for name, _ in stream)
