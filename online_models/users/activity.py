"""How often what happened: all-time counts, and windows summed from panes.

An event is counted in one pane, the narrowest of those that a window still holds. When its window loses a pane, what it
counts goes into the wider one around it. A window at stream time `s` with span `d` is the sum of its panes that start
after `s - d`, and of the narrower ones within them: it never holds an event older than `d`, and misses at most one
pane's width of the oldest ones. Which events a window holds depends on their times alone, not on the order in which
they came (R24).

A pane's key in `Activity.panes` is its start in epoch seconds, a multiple of 30, plus 3 and the window's index. Without
the 3, as earlier versions wrote it, it counts for this window only.
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
_LEVELS = tuple((int(PANE_WIDTHS[name].total_seconds()), int(span.total_seconds())) for name, span in WINDOWS.items())
"""Pane width and span of each window in seconds. Each width is a multiple of the one before."""
_FINEST_S = 30
_NESTED = 3
"""What the keys of panes have more that count for wider windows, too."""
_END_S = tuple(_LEVELS[code % _NESTED][1] - code for code in range(2 * _NESTED))
"""What is to be added to a pane's key for the second from which its window does not hold it any more."""
NEVER = 1 << 62


def add(activity: Activity, event_type: str, ts: int, stream_ts: int) -> None:
    """Count one event of time `ts` (epoch ms), late or not; `stream_ts` >= `ts`."""
    event_type = intern(event_type)  # panes keep it for a day
    counts = activity.counts
    counts[event_type] = counts.get(event_type, 0) + 1
    stream_s = stream_ts // 1000
    for key, end in _panes_around(ts // 1000):
        if end > stream_s:
            pane = activity.panes.get(key)
            if pane is not None:
                pane[event_type] = pane.get(event_type, 0) + 1
            else:
                activity.panes[key] = {event_type: 1}
                expire(activity, stream_ts)
            break


@lru_cache(maxsize=4096)
def _panes_around(seconds: int) -> tuple[tuple[int, int], ...]:
    """Return, of each window, the key of the pane around a time, and the second from which the window has lost it."""
    starts = [seconds - seconds % width for width, _ in _LEVELS]
    return tuple(
        (start + _NESTED + index, start + span)
        for index, (start, (_, span)) in enumerate(zip(starts, _LEVELS, strict=True))
    )


@lru_cache(maxsize=4096)
def _holding(key: int) -> tuple[tuple[int, int], ...]:
    """Return the indices of the windows that a pane counts for, and until which second."""
    code = key % _FINEST_S
    if code < _NESTED:
        return ((code, key + _END_S[code]),)
    around = _panes_around(key - code)
    return tuple((index, around[index][1]) for index in range(code - _NESTED, len(_LEVELS)))


def expire(activity: Activity, stream_ts: int) -> bool:
    """Let wider panes have what the narrowest window around it has lost; return whether there was anything."""
    stream_s = stream_ts // 1000
    panes = activity.panes
    lost = [key for key in panes if key + _END_S[key % _FINEST_S] <= stream_s]
    for key in lost:
        pane, code = panes.pop(key), key % _FINEST_S
        for wider, end in _panes_around(key - code)[code - _NESTED + 1 :] if code >= _NESTED else ():
            if end > stream_s:
                _sum_into(panes.setdefault(wider, {}), pane)
                break
    return bool(lost)


def next_expiry(activity: Activity) -> int | None:
    """Return the stream time (epoch ms) from which no window holds some of it, None while there is no pane."""
    if not activity.panes:
        return None
    return 1000 * min([_holding(key)[-1][1] for key in activity.panes])


def windows(activity: Activity, stream_ts: int) -> dict[str, dict[str, int]]:
    """Return window -> event type -> count, at stream time `stream_ts` (epoch ms)."""
    stream_s = stream_ts // 1000
    sums: tuple[dict[str, int], ...] = tuple({} for _ in _NAMES)
    for key, pane in activity.panes.items():
        for index, end in _holding(key):
            if end > stream_s:
                _sum_into(sums[index], pane)
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
    alike: dict[int, list[int]] = {}
    """Sum, oldest and newest key of panes that the same windows hold."""
    for key, pane in activity.panes.items():
        n = 0
        for event_type, n_of_type in pane.items():
            if event_type in event_types:
                n += n_of_type
        if n:
            code = key % _FINEST_S
            group = alike.setdefault(code if key + _END_S[code] > stream_s else key, [0, key, key])
            group[0] += n
            if key < group[1]:
                group[1] = key
            elif key > group[2]:
                group[2] = key
    totals, firsts, lasts = [0] * len(_NAMES), [NEVER] * len(_NAMES), [0] * len(_NAMES)
    for n, oldest, newest in alike.values():
        for (index, first), (_, last) in zip(_holding(oldest), _holding(newest), strict=True):
            if first > stream_s:
                totals[index] += n
                firsts[index] = min(firsts[index], first)
                lasts[index] = max(lasts[index], last)
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
