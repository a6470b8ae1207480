"""Counts per minute of event time, of what has few names: the logic of `flows.metrics`."""

from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple, TypedDict

WINDOW = timedelta(minutes=1)
GRACE = timedelta(minutes=5)

_WINDOW_MS = int(WINDOW.total_seconds() * 1000)
_GRACE_MS = int(GRACE.total_seconds() * 1000)
_MAX_NAMES = 50
_OTHER = "other"


class Counts(TypedDict):
    """One partition's open windows, as JSON can keep them."""

    stream_ts: int
    windows: dict[str, dict[str, int]]
    """Start of the window (epoch ms) -> name -> events."""
    late: dict[str, dict[str, int]]
    """The same of late ones, in the window of their arrival in stream time."""


class Count(NamedTuple):
    """A window's count as it is now."""

    name: str
    start: int
    value: int
    late: bool
    final: bool


def empty() -> Counts:
    """Return the state before the first event."""
    return {"stream_ts": 0, "windows": {}, "late": {}}


def count(counts: Counts, name: str, ts: int) -> list[Count]:
    """Count one event of time `ts` (epoch ms) in place; return what has changed and what is closed by it.

    A window closes when stream time is 5 minutes past its end. An event for a closed window counts as late, in the
    window of stream time: so that no result that was called final changes.
    """
    changed = []
    if ts > counts["stream_ts"]:
        counts["stream_ts"] = ts
        changed += list(_close(counts))
    late = _ends_before(_start(ts), counts["stream_ts"] - _GRACE_MS)
    start = _start(counts["stream_ts"] if late else ts)
    names = counts["late" if late else "windows"].setdefault(str(start), {})
    if name not in names and len(names) >= _MAX_NAMES:
        name = _OTHER
    names[name] = names.get(name, 0) + 1
    changed.append(Count(name, start, names[name], late, final=False))
    return changed


def _close(counts: Counts) -> Iterator[Count]:
    closing_time = counts["stream_ts"] - _GRACE_MS
    for late, windows in ((False, counts["windows"]), (True, counts["late"])):
        for start in [start for start in windows if _ends_before(int(start), closing_time)]:
            for name, value in windows.pop(start).items():
                yield Count(name, int(start), value, late, final=True)


def _start(ts: int) -> int:
    return ts - ts % _WINDOW_MS


def _ends_before(start: int, closing_time: int) -> bool:
    return start + _WINDOW_MS <= closing_time
