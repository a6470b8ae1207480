"""Windows of metrics as Redis has them, kept in memory and read again while they change."""

import asyncio
from collections.abc import Callable, Sequence

from state.entries import METRIC_WINDOWS, metric_window_id
from state.metric_readings import Readings
from state.metrics import WINDOWED
from state.store import AsyncStore

_CLOSES_AFTER_MS = 6 * 60_000
_AGAIN_AFTER_MS = 1000
_ALL_AGAIN_AFTER_MS = 60_000
"""A flow that is behind still changes old windows."""
_KEYS_AT_ONCE = 500


class MetricWindows:
    """The windows of one width.

    Parameters
    ----------
    store
        Where they are read.
    n_partitions
        Of the topics keyed by user.
    clock
        Epoch ms.
    """

    def __init__(self, store: AsyncStore, n_partitions: int, width: int, clock: Callable[[], int]) -> None:
        self._store = store
        self._n_partitions = n_partitions
        self._width = width
        self._clock = clock
        self._lock = asyncio.Lock()
        self._readings = Readings()
        self._known: set[int] = set()
        self._read_at = self._all_read_at = 0

    async def read(self, n_windows: int) -> tuple[list[int], Readings]:
        """Return the starts of the newest windows, oldest first, and what is known of them.

        Raise `StoreUnavailableError`.
        """
        async with self._lock:
            now = self._clock()
            newest = now - now % self._width
            starts = [newest - back * self._width for back in reversed(range(n_windows))]
            if now - self._read_at >= _AGAIN_AFTER_MS or not self._known.issuperset(starts[:-1]):
                await self._load(self._wanted(starts, now))
                self._read_at = now
            return starts, self._readings

    def forget(self, oldest: int) -> None:
        """Drop windows that begin earlier than `oldest`, epoch ms."""
        self._readings.forget([group for group in self._readings.groups() if group[1] < oldest])
        self._known = {start for start in self._known if start >= oldest}

    def _wanted(self, starts: Sequence[int], now: int) -> list[int]:
        if now - self._all_read_at >= _ALL_AGAIN_AFTER_MS:
            self._all_read_at = now
            return list(starts)
        changing = now - self._width - _CLOSES_AFTER_MS
        return [start for start in starts if start > changing or start not in self._known]

    async def _load(self, starts: Sequence[int]) -> None:
        wanted = [
            (family.name, start, partition)
            for start in starts
            for family in WINDOWED
            for partition in range(self._n_partitions)
        ]
        entry = METRIC_WINDOWS[self._width]
        for first in range(0, len(wanted), _KEYS_AT_ONCE):
            some = wanted[first : first + _KEYS_AT_ONCE]
            found = await self._store.get_many(entry, [metric_window_id(*one) for one in some])
            for (family, start, partition), window in zip(some, found, strict=True):
                for cut, sums in window.sums.items() if window is not None else ():
                    self._readings.add(family, (self._width, start, cut), partition, sums, window.final)  # type: ignore[union-attr]
            await asyncio.sleep(0)  # requests have their turn
        self._known.update(starts)
