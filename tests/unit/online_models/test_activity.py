from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.users import activity
from online_models.users.activity import PANE_WIDTHS, WINDOWS
from state.records import Activity

START = 1_700_000_000_000
TYPES = ("view", "click", "like")
streams = st.lists(
    st.tuples(st.sampled_from(TYPES), st.integers(START, START + 2 * 24 * 3600 * 1000)), min_size=1, max_size=80
)


def fold(events: list[tuple[str, int]]) -> tuple[Activity, int]:
    folded, stream_ts = Activity(), 0
    for event_type, ts in events:
        stream_ts = max(stream_ts, ts)
        activity.add(folded, event_type, ts, stream_ts)
    return folded, stream_ts


def brute_windows(events: list[tuple[str, int]], now_ms: int) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for name, span in WINDOWS.items():
        width_s = int(PANE_WIDTHS[name].total_seconds())
        inside = counts[name] = {}
        for event_type, ts in events:
            if ts // 1000 // width_s * width_s > now_ms // 1000 - span.total_seconds():
                inside[event_type] = inside.get(event_type, 0) + 1
    return counts


def n_in_panes(folded: Activity) -> int:
    return sum(sum(pane.values()) for pane in folded.panes.values())


@given(streams)
def test_counts_are_those_of_the_stream_late_events_included(events: list[tuple[str, int]]) -> None:
    """R11, R24."""
    folded, _ = fold(events)
    assert folded.counts == {t: n for t in TYPES if (n := sum(event[0] == t for event in events))}


@given(streams, st.integers(0, 24 * 3600 * 1000))
def test_windows_equal_brute_force_now_and_later(events: list[tuple[str, int]], later_ms: int) -> None:
    """R11, R24: late events count in the pane they belong to."""
    folded, stream_ts = fold(events)
    assert activity.windows(folded, stream_ts) == brute_windows(events, stream_ts)
    assert activity.windows(folded, stream_ts + later_ms) == brute_windows(events, stream_ts + later_ms)


@given(streams, st.integers(0, 24 * 3600 * 1000))
def test_expiry_changes_no_window_and_leaves_only_what_windows_hold(
    events: list[tuple[str, int]], later_ms: int
) -> None:
    folded, stream_ts = fold(events)
    now_ms = stream_ts + later_ms
    before = activity.windows(folded, now_ms)
    panes, n_events = set(folded.panes), n_in_panes(folded)
    next_expiry = activity.next_expiry(folded)
    assert activity.expire(folded, now_ms) == (set(folded.panes) != panes)
    assert (next_expiry is not None and now_ms >= next_expiry) == (n_in_panes(folded) < n_events)
    assert activity.windows(folded, now_ms) == before
    assert sum(len(pane) for pane in folded.panes.values()) == 0 or any(before.values())


@given(streams, st.integers(1, 4))
def test_merged_parts_equal_the_whole(events: list[tuple[str, int]], n_parts: int) -> None:
    """R30: partitions count an item's events apart."""
    stream_ts = max(ts for _, ts in events)
    whole = Activity()
    parts = [Activity() for _ in range(n_parts)]
    for index, (event_type, ts) in enumerate(events):
        activity.add(whole, event_type, ts, stream_ts)
        activity.add(parts[index % n_parts], event_type, ts, stream_ts)
    merged = activity.merge(parts)
    assert merged.counts == whole.counts
    assert activity.windows(merged, stream_ts) == activity.windows(whole, stream_ts)


@given(streams, streams, st.integers(0, 24 * 3600 * 1000))
def test_panes_of_earlier_versions_count_on(
    earlier: list[tuple[str, int]], events: list[tuple[str, int]], later_ms: int
) -> None:
    """R31: they counted an event in one pane of each window."""
    folded, stream_ts = Activity(), 0
    for event_type, ts in earlier:
        stream_ts = max(stream_ts, ts)
        for index, width in enumerate(PANE_WIDTHS.values()):
            key = ts // 1000 - ts // 1000 % int(width.total_seconds()) + index
            pane = folded.panes.setdefault(key, {})
            pane[event_type] = pane.get(event_type, 0) + 1
    for event_type, ts in events:
        stream_ts = max(stream_ts, ts)
        activity.add(folded, event_type, ts, stream_ts)
    now_ms = stream_ts + later_ms
    assert activity.windows(folded, now_ms) == brute_windows(earlier + events, now_ms)
    activity.expire(folded, now_ms)
    assert activity.windows(folded, now_ms) == brute_windows(earlier + events, now_ms)


def test_panes_are_bounded() -> None:
    folded, _ = fold([("view", START + s * 1000) for s in range(0, 3 * 24 * 3600, 7)])
    assert len(folded.panes) <= 10 + 12 + 24


@pytest.mark.parametrize(
    ("age", "names"), [(10, {"5m", "1h", "1d"}), (600, {"1h", "1d"}), (7200, {"1d"}), (90_000, set())]
)
def test_an_event_is_in_the_windows_that_reach_back_to_it(age: int, names: set[str]) -> None:
    folded, _ = fold([("click", START)])
    now_ms = START + int(timedelta(seconds=age).total_seconds() * 1000)
    assert {name for name, counts in activity.windows(folded, now_ms).items() if counts} == names


@given(streams, st.integers(0, 24 * 3600 * 1000), st.integers(1, 3))
def test_what_windows_hold_stays_until_the_time_that_is_told(
    events: list[tuple[str, int]], later_ms: int, n_parts: int
) -> None:
    """R2: so that windows need not be summed for each list."""
    wanted = {"click", "like"}
    stream_ts = max(ts for _, ts in events)
    whole, parts = Activity(), [Activity() for _ in range(n_parts)]
    for index, (event_type, ts) in enumerate(events):
        activity.add(whole, event_type, ts, stream_ts)
        activity.add(parts[index % n_parts], event_type, ts, stream_ts)

    def held(name: str, now_ms: int) -> int:
        return sum(n for event_type, n in activity.windows(whole, now_ms)[name].items() if event_type in wanted)

    now_ms = stream_ts + later_ms
    found = activity.together([activity.standings(part, wanted, now_ms) for part in parts])
    for name, (n_events, stays_until, ends_at) in zip(WINDOWS, found, strict=True):
        assert held(name, now_ms) == n_events
        if n_events:
            assert now_ms // 1000 < stays_until <= ends_at
            assert held(name, 1000 * stays_until - 1) == n_events > held(name, 1000 * stays_until)
            assert held(name, 1000 * ends_at - 1) > 0 == held(name, 1000 * ends_at)
        else:
            assert (stays_until, ends_at) == (activity.NEVER, 0)
