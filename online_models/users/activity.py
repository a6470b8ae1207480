"""How often what happened: all-time counts, and windows summed from panes.

Every event is counted in one pane of each window. A window at stream time `s` with span `d` is the sum of its panes
that start after `s - d`: it never holds an event older than `d`, and misses at most one pane's width of the oldest
ones. Which events a window holds depends on their times alone, not on the order in which they came (R24).

A pane's key in `Activity.panes` is its start in epoch seconds, a multiple of 30, plus the window's index.
"""

from collections.abc import Collection, Iterable
from datetime import timedelta
from functools import lru_cache
from sys import intern
from typing import NamedTuple

from state.records import Activity

WINDOWS: dict[str, timedelta] = {"5m": timedelta(minutes=5), "1h": timedelta(hours=1), "1d": timedelta(days=1)}
PANE_WIDTHS: dict[str, timedelta] = {
    "5m": timedelta(seconds=30),
    "1h": timedelta(minutes=5),
    "1d": timedelta(hours=1),
}

_NAMES = tuple(WINDOWS)
_SPANS_S = tuple(int(span.total_seconds()) for span in WINDOWS.values())
_LEVELS = tuple((index, int(PANE_WIDTHS[name].total_seconds()), _SPANS_S[index]) for index, name in enumerate(_NAMES))
_FINEST_S = 30
_END_S = tuple(span - index for index, span in enumerate(_SPANS_S))
"""By window, what is to be added to a pane's key for the second from which the window does not hold it any more."""
NEVER = 1 << 62


def add(activity: Activity, event_type: str, ts: int, stream_ts: int) -> None:
    """Count one event of time `ts` (epoch ms), late or not; `stream_ts` >= `ts`."""
    event_type = intern(event_type)  # panes keep it for a day
    counts = activity.counts
    counts[event_type] = counts.get(event_type, 0) + 1
    stream_s = stream_ts // 1000
    panes = activity.panes
    is_new = False
    for key, end in _panes_of(ts // 1000):
        if end > stream_s:
            pane = panes.get(key)
            if pane is None:
                panes[key] = {event_type: 1}
                is_new = True
            else:
                pane[event_type] = pane.get(event_type, 0) + 1
    if is_new:
        expire(activity, stream_ts)


@lru_cache(maxsize=1024)  # most events are of the present second, and each is added three times
def _panes_of(seconds: int) -> tuple[tuple[int, int], ...]:
    """Return, of each window, the key of the pane that an event is in, and the second from which it is in none."""
    starts = [seconds - seconds % width for _, width, _ in _LEVELS]
    return tuple((start + index, start + span) for start, (index, _, span) in zip(starts, _LEVELS, strict=True))


def expire(activity: Activity, stream_ts: int) -> bool:
    """Drop the panes that no window holds any more; return whether there were any."""
    stream_s = stream_ts // 1000
    panes = activity.panes
    gone = [key for key in panes if key + _END_S[key % _FINEST_S] <= stream_s]
    for key in gone:
        del panes[key]
    return bool(gone)


def next_expiry(activity: Activity) -> int | None:
    """Return the stream time (epoch ms) from which `expire` will drop something, None while there is no pane."""
    if not activity.panes:
        return None
    return 1000 * min([key + _END_S[key % _FINEST_S] for key in activity.panes])


def windows(activity: Activity, stream_ts: int) -> dict[str, dict[str, int]]:
    """Return window -> event type -> count, at stream time `stream_ts` (epoch ms)."""
    stream_s = stream_ts // 1000
    sums: tuple[dict[str, int], ...] = tuple({} for _ in _NAMES)
    for key, pane in activity.panes.items():
        if key + _END_S[key % _FINEST_S] > stream_s:
            _sum_into(sums[key % _FINEST_S], pane)
    return dict(zip(_NAMES, sums, strict=True))


class Standing(NamedTuple):
    """What one window holds of something, and for how long."""

    n_events: int
    stays_until: int
    """Stream time (epoch s) from which it holds fewer; `NEVER` when there is nothing that it can lose."""
    ends_at: int
    """Stream time (epoch s) from which it holds nothing."""


def standings(activity: Activity, event_types: Collection[str], stream_ts: int = 0) -> tuple[Standing, ...]:
    """Return what each of `WINDOWS` holds of some event types at stream time `stream_ts` (epoch ms).

    By default all that the panes hold: that is true until a window loses the first of them.
    """
    stream_s = stream_ts // 1000
    totals, firsts, lasts = [0] * len(_NAMES), [NEVER] * len(_NAMES), [0] * len(_NAMES)
    for key, pane in activity.panes.items():
        index = key % _FINEST_S
        end = key + _END_S[index]
        if end <= stream_s:
            continue
        n = 0
        for event_type, n_of_type in pane.items():
            if event_type in event_types:
                n += n_of_type
        if n:
            totals[index] += n
            firsts[index] = min(firsts[index], end)
            lasts[index] = max(lasts[index], end)
    return tuple(map(Standing, totals, firsts, lasts))


def together(parts: Iterable[tuple[Standing, ...]]) -> tuple[Standing, ...]:
    """Return the standings of something whose events were counted apart."""
    totals, firsts, lasts = [0] * len(_NAMES), [NEVER] * len(_NAMES), [0] * len(_NAMES)
    for part in parts:
        for index, (n, first, last) in enumerate(part):
            totals[index] += n
            firsts[index] = min(firsts[index], first)
            lasts[index] = max(lasts[index], last)
    return tuple(map(Standing, totals, firsts, lasts))


def merge(parts: Iterable[Activity]) -> Activity:
    """Return the activity of something whose events were counted apart."""
    merged = Activity()
    for part in parts:
        _sum_into(merged.counts, part.counts)
        for key, pane in part.panes.items():
            _sum_into(merged.panes.setdefault(key, {}), pane)
    return merged


def _sum_into(total: dict[str, int], counts: dict[str, int]) -> None:
    for event_type, n in counts.items():
        total[event_type] = total.get(event_type, 0) + n
