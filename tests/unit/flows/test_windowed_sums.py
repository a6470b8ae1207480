"""Sums per window of event time (R24, R28)."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.metrics.windowed_sums import LATE, Where, WindowedSums, WindowSums
from state.metrics import WIDTHS, cut_of, dimensions_of

MINUTE = 60_000
FIVE, HOUR = 5 * MINUTE, 60 * MINUTE
START = 1_790_000_000_000 // HOUR * HOUR
ALL = ("",)


def after(book: WindowedSums, *events: tuple[str, int]) -> dict[Where, WindowSums]:
    for name, ts in events:
        book.count(ALL, name, ts)
    return {(window.width, window.start): window for window in book.take()}


def restored(book: WindowedSums) -> WindowedSums:
    windows = {where: msgspec.json.decode(msgspec.json.encode(sums)) for where, sums in book.windows.items()}
    return WindowedSums(book.stream_ts, windows)


def test_an_event_changes_the_windows_of_its_time() -> None:
    book = WindowedSums()
    found = after(book, ("click", START + 5), ("click", START + MINUTE))
    assert {where: window.sums[""] for where, window in found.items()} == {
        (MINUTE, START): {"click": 1},
        (MINUTE, START + MINUTE): {"click": 1},
        (FIVE, START): {"click": 2},
        (HOUR, START): {"click": 2},
    }
    assert not any(window.final for window in found.values())
    assert book.take() == []
    again = after(book, ("view", START + 59_999))
    assert again[MINUTE, START].sums == {"": {"click": 1, "view": 1}}
    assert set(again) == {(MINUTE, START), (FIVE, START), (HOUR, START)}


def test_a_window_closes_when_stream_time_is_past_its_grace() -> None:
    book = WindowedSums()
    assert not any(window.final for window in after(book, ("click", START), ("a", START + 6 * MINUTE - 1)).values())
    closed = {where: w.sums for where, w in after(book, ("a", START + 6 * MINUTE)).items() if w.final}
    assert closed == {(MINUTE, START): {"": {"click": 1}}}
    closed = {where: w.sums for where, w in after(book, ("a", START + 10 * MINUTE)).items() if w.final}
    assert closed == {(FIVE, START): {"": {"click": 1}}}


def test_a_window_that_opens_and_closes_between_two_results_is_told_once() -> None:
    found = after(WindowedSums(), ("click", START), ("click", START + 2 * HOUR))
    assert {where for where, window in found.items() if window.final} == {(width, START) for width in WIDTHS}


def test_an_event_of_a_closed_window_is_late_where_stream_time_is() -> None:
    """R24: what was called final does not change; a wider window may still be open."""
    book = WindowedSums()
    now = START + 30 * MINUTE
    after(book, ("click", now))
    found = after(book, ("click", START))
    assert {where: dict(window.sums) for where, window in found.items()} == {
        (MINUTE, now): {"": {"click": 1}, LATE: {"click": 1}},
        (FIVE, now): {"": {"click": 1}, LATE: {"click": 1}},
        (HOUR, START): {"": {"click": 2}},
    }
    assert found[MINUTE, now].changed == {LATE}
    assert after(book, ("click", now - 4 * MINUTE))[MINUTE, now - 4 * MINUTE].sums == {"": {"click": 1}}


def test_each_cut_has_its_own_sums() -> None:
    book = WindowedSums(widths=[MINUTE])
    home, search = cut_of(surface="home"), cut_of(surface="search")
    book.add(("", home), {"items": 20, "slates": 1}, START)
    book.add(("", search), {"items": 5, "slates": 1}, START)
    (window,) = book.take()
    assert window.sums == {
        "": {"items": 25, "slates": 2},
        home: {"items": 20, "slates": 1},
        search: {"items": 5, "slates": 1},
    }
    book.add(("", home), {"items": 1}, START)
    (window,) = book.take()
    assert window.changed == {"", home}


def test_names_and_cuts_are_bounded() -> None:
    book = WindowedSums(widths=[MINUTE])
    for number in range(1000):
        book.count(("", cut_of(device=f"d{number}")), f"name {number}", START)
    (window,) = book.take()
    assert len(window.sums) <= 257
    assert len(window.sums[""]) <= 65
    assert sum(window.sums[""].values()) == 1000
    assert sum(sum(sums.values()) for cut, sums in window.sums.items() if cut) == 1000
    assert window.sums[cut_of(device="other")]


@pytest.mark.parametrize("n_items", [50, 100, 5000])
def test_of_many_items_a_sample_has_exact_sums(n_items: int) -> None:
    book = WindowedSums(widths=[MINUTE], max_sampled=100)
    for times in range(3):
        for number in range(n_items):
            book.add(ALL, {f"i{number}": 1}, START)
        if times:
            book.take()
    book.count(ALL, "i0", START)
    (window,) = book.take()
    assert len(window.sums[""]) == min(n_items, 100)
    assert set(window.sums[""].values()) <= {3, 4}


@given(st.dictionaries(st.sampled_from(["surface", "arm"]), st.text(max_size=20)))
def test_a_cut_tells_its_dimensions(dimensions: dict[str, str]) -> None:
    assert dimensions_of(cut_of(**dimensions)) == dimensions


events = st.lists(st.tuples(st.sampled_from("abc"), st.integers(START, START + 3 * HOUR)))


@given(events, st.integers(1, 5))
def test_the_newest_results_add_up_to_all_events_and_state_is_json(stream: list[tuple[str, int]], every: int) -> None:
    """R23: with a checkpoint, and a restart, after every few events."""
    book = WindowedSums()
    newest: dict[Where, WindowSums] = {}
    for first in range(0, len(stream), every):
        for where, window in after(book, *stream[first : first + every]).items():
            before = newest.get(where)
            assert before is None or not before.final
            newest[where] = window
        book = restored(book)
        assert len(book.windows) <= 6 + 1 + 3 + 2
    for width in WIDTHS:
        totals: Counter[str] = Counter()
        for where, window in newest.items():
            if where[0] == width:
                for sums in window.sums.values():
                    totals.update(sums)
        assert totals == Counter(name for name, _ in stream)
