"""Counts per minute of event time, of what has few names: the logic of `flows.metrics`."""

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


class WindowedCounts:
    """One partition's counts in memory, from a `Counts` and back to one.

    A window closes when stream time is 5 minutes past its end. An event for a closed window counts as late, in the
    window of stream time: so that no result that was called final changes.
    """

    def __init__(self, kept: Counts | None = None) -> None:
        self._stream_ts = kept["stream_ts"] if kept else 0
        self._windows = _by_start(kept["windows"] if kept else {})
        self._late = _by_start(kept["late"] if kept else {})
        self._changed: set[tuple[bool, int, str]] = set()
        self._closed: list[Count] = []

    def add(self, name: str, ts: int) -> None:
        """Count one event of time `ts` (epoch ms)."""
        if ts > self._stream_ts:
            if ts - ts % _WINDOW_MS > self._stream_ts:  # they close on the minute: the grace is whole minutes
                self._close(ts - _GRACE_MS)
            self._stream_ts = ts
        start = ts - ts % _WINDOW_MS
        late = start + _WINDOW_MS <= self._stream_ts - _GRACE_MS
        if late:
            start = self._stream_ts - self._stream_ts % _WINDOW_MS
        windows = self._late if late else self._windows
        names = windows.get(start)
        if names is None:
            names = windows[start] = {}
        if name not in names and len(names) >= _MAX_NAMES:
            name = _OTHER
        names[name] = names.get(name, 0) + 1
        self._changed.add((late, start, name))

    def results(self) -> list[Count]:
        """Return the counts that have changed since the last call, and those of windows that have closed."""
        found = self._closed
        for late, start, name in sorted(self._changed):
            names = (self._late if late else self._windows).get(start)
            if names is not None:
                found.append(Count(name, start, names[name], late, final=False))
        self._closed = []
        self._changed.clear()
        return found

    def to_counts(self) -> Counts:
        """Return what to keep."""
        return {
            "stream_ts": self._stream_ts,
            "windows": {str(start): names for start, names in self._windows.items()},
            "late": {str(start): names for start, names in self._late.items()},
        }

    def _close(self, closing_time: int) -> None:
        for late, windows in ((False, self._windows), (True, self._late)):
            for start in [start for start in windows if start + _WINDOW_MS <= closing_time]:
                names = windows.pop(start)
                self._closed += [Count(name, start, value, late, final=True) for name, value in names.items()]


def _by_start(windows: dict[str, dict[str, int]]) -> dict[int, dict[str, int]]:
    return {int(start): names for start, names in windows.items()}
