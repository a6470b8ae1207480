"""Sums per window of event time and cut: the logic of `flows.metrics`.

A cut says which part of the traffic was summed, as in `surface=home&arm=ranker%3Ab`; the empty one is all of it.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import NamedTuple

from state.metrics import WIDTHS, cut_of, dimensions_of, sample_of

GRACE = timedelta(minutes=5)
LATE = "late=true"
"""The cut of what came when the window of its time was closed; it is in the window of its arrival in stream time."""

_GRACE_MS = int(GRACE / timedelta(milliseconds=1))
_MINUTE_MS = 60_000
_MAX_NAMES = 64
_MAX_CUTS = 256
_OTHER = "other"

Sums = dict[str, int]
Cuts = tuple[str, ...]
Where = tuple[int, int]
"""A window: its width and its start, epoch ms."""


class WindowSums(NamedTuple):
    """A window as it is now."""

    width: int
    start: int
    final: bool
    sums: dict[str, Sums]
    """By cut, whole."""
    changed: set[str]
    """Cuts whose sums are not what was told before; of a final window all of them."""


class WindowedSums:
    """One partition's open windows.

    A window closes when stream time is 5 minutes past its end. What comes for it then is summed in the cut `LATE` of
    the window of stream time, so that no result that was called final changes.

    Names and cuts are bounded; what is too many is summed as `other`. With `max_sampled`, names are items: of many
    those with the lowest hashes are kept, with exact sums (see `state.metrics.sample_of`).
    """

    def __init__(
        self,
        stream_ts: int = 0,
        windows: Mapping[Where, dict[str, Sums]] | None = None,
        *,
        widths: Iterable[int] = WIDTHS,
        max_sampled: int | None = None,
    ) -> None:
        self.stream_ts = stream_ts
        self.windows = dict(windows or {})
        self._widths = tuple(widths)
        self._max_sampled = max_sampled
        self._fresh: dict[tuple[int, Cuts], Sums] = {}
        """By minute, of what is not in its windows yet: one look-up an event instead of one for each width and cut."""
        self._changed: dict[Where, set[str]] = {}

    def count(self, cuts: Cuts, name: str, ts: int) -> None:
        """Add 1 to a sum, at the event time `ts` (epoch ms)."""
        sums = self._sums_at(cuts, ts)
        if sums is None:
            self._add_late(cuts, {name: 1}, ts)
        else:
            sums[name] = sums.get(name, 0) + 1

    def add(self, cuts: Cuts, sums: Mapping[str, int], ts: int) -> None:
        """Add to several sums, at the event time `ts` (epoch ms)."""
        found = self._sums_at(cuts, ts)
        if found is None:
            self._add_late(cuts, sums, ts)
        else:
            _add(found, sums)

    def take(self) -> list[WindowSums]:
        """Return the windows that have changed since the last call, and those that have closed; drop the latter."""
        for (minute, cuts), sums in self._fresh.items():
            for width in self._widths:
                self._add_to((width, minute - minute % width), cuts, sums)
        self._fresh = {}
        changed, self._changed = self._changed, {}
        results = []
        closed_before = self.stream_ts - _GRACE_MS
        for where in sorted(self.windows):
            width, start = where
            if start + width <= closed_before:
                changed.pop(where, None)
                sums_of = self.windows.pop(where)
                results.append(WindowSums(width, start, True, sums_of, set(sums_of)))
        for where, names in changed.items():
            results.append(WindowSums(*where, False, self.windows[where], names))
        return results

    def _sums_at(self, cuts: Cuts, ts: int) -> Sums | None:
        """Return where to add; None: too late for the window of one minute."""
        minute = ts - ts % _MINUTE_MS
        if ts > self.stream_ts:
            self.stream_ts = ts
        elif minute + _MINUTE_MS + _GRACE_MS <= self.stream_ts:
            return None
        sums = self._fresh.get((minute, cuts))
        if sums is None:
            sums = self._fresh[minute, cuts] = {}
        return sums

    def _add_late(self, cuts: Cuts, sums: Mapping[str, int], ts: int) -> None:
        for width in self._widths:
            where = width, ts - ts % width
            if _is_closed(where, self.stream_ts):
                self._add_to((width, self.stream_ts - self.stream_ts % width), (LATE,), sums)
            else:
                self._add_to(where, cuts, sums)

    def _add_to(self, where: Where, cuts: Cuts, sums: Mapping[str, int]) -> None:
        window = self.windows.get(where)
        if window is None:
            window = self.windows[where] = {}
        changed = self._changed.get(where)
        if changed is None:
            changed = self._changed[where] = set()
        for cut in cuts:
            found = window.get(cut)
            if found is None:
                if len(window) >= _MAX_CUTS:
                    cut = _other(cut)
                found = window.setdefault(cut, {})
            changed.add(cut)
            if self._max_sampled is not None:
                _add(found, sums)
                if len(found) > self._max_sampled:
                    window[cut] = sample_of(found, self._max_sampled)
            elif len(found) + len(sums) <= _MAX_NAMES:
                _add(found, sums)
            else:
                _add_bounded(found, sums)


def _is_closed(where: Where, stream_ts: int) -> bool:
    width, start = where
    return start + width + _GRACE_MS <= stream_ts


def _add(found: Sums, sums: Mapping[str, int]) -> None:
    for name, value in sums.items():
        found[name] = found.get(name, 0) + value


def _add_bounded(found: Sums, sums: Mapping[str, int]) -> None:
    for name, value in sums.items():
        kept = name if name in found or len(found) < _MAX_NAMES else _OTHER
        found[kept] = found.get(kept, 0) + value


def _other(cut: str) -> str:
    return cut_of(**dict.fromkeys(dimensions_of(cut), _OTHER))
