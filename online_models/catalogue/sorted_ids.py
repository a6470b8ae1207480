"""Item ids in order, for going through a catalogue."""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import islice


class SortedIds:
    """Every id that was added, in order. What is gone stays, and is left out by who asks."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._known: set[str] = set()
        self._new: list[str] = []

    def add(self, item_ids: Iterable[str]) -> None:
        for item_id in item_ids:
            if item_id not in self._known:
                self._known.add(item_id)
                self._new.append(item_id)

    def after(self, item_id: str, n: int, wanted: Callable[[str], bool]) -> list[str]:
        """Return the first n wanted ids behind this one."""
        if self._new:
            self._ids += sorted(self._new)
            self._ids.sort()  # two runs, which are merged
            self._new = []
        behind = (self._ids[k] for k in range(bisect_right(self._ids, item_id), len(self._ids)))
        return list(islice(filter(wanted, behind), n))
