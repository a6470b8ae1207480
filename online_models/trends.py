"""What is taken most right now: interaction counts per item and window, for the trending surface."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots, grown
from online_models.users.activity import WINDOWS, held, merge, windows
from online_models.users.outcomes import INTERACTIONS
from state.entries import activity_field
from state.records import Activity

_COLUMN = {name: column for column, name in enumerate(WINDOWS)}


class Trends:
    """Per-partition activity rows, summed.

    The counts kept per item are bounds from above: of all that was in its rows when they were written, and windows
    lose events without being told. A list counts its candidates again, until no bound below can beat its last item.
    """

    def __init__(self) -> None:
        self._parts: dict[int, dict[int, Activity]] = {}
        """Slot -> partition -> activity."""
        self._held: dict[int, dict[int, tuple[int, ...]]] = {}
        """The same -> events in the panes of each window."""
        self._bounds: NDArray[np.int64] = np.zeros((0, len(WINDOWS)), dtype=np.int64)

    def apply(self, rows: Mapping[str, Activity | None], slot_of: Callable[[str], int]) -> None:
        """Take over rows of `ITEM_ACTIVITY`, None where one is gone."""
        for field, row in rows.items():
            partition, _, item_id = field.partition(":")
            slot = slot_of(item_id)
            parts, sums = self._parts.setdefault(slot, {}), self._held.setdefault(slot, {})
            if row is None:
                parts.pop(int(partition), None)
                sums.pop(int(partition), None)
            else:
                parts[int(partition)] = row
                sums[int(partition)] = held(row)
            self._bounds = grown(self._bounds, slot + 1, 0)
            self._bounds[slot] = [sum(column) for column in zip(*sums.values(), strict=True)] or 0

    def activity(self, slot: int) -> Activity:
        """Return the item's activity over all partitions."""
        return merge(self._parts.get(slot, {}).values())

    def top(
        self, k: int, window: str, now_ms: int, allowed: Callable[[Slots], Slots]
    ) -> tuple[Slots, NDArray[np.float32]]:
        """Return up to k allowed items with the most interactions in the window before now, and the counts."""
        column = _COLUMN[window]
        slots = allowed(np.flatnonzero(self._bounds[:, column]).astype(np.int32))
        counted: set[int] = set()
        while True:
            slots = slots[np.lexsort((slots, -self._bounds[slots, column]))]
            stale = [slot for slot in slots[: 2 * k].tolist() if slot not in counted]
            if not stale:
                break
            for slot in stale:
                self._bounds[slot, column] = self._count(slot, now_ms)[column]
            counted.update(stale)
        best = slots[:k]
        best = best[self._bounds[best, column] > 0]
        return best, self._bounds[best, column].astype(np.float32)

    def rows(self, item_id_of: Callable[[int], str]) -> dict[str, Activity]:
        """Return all rows of `ITEM_ACTIVITY`."""
        return {
            activity_field(partition, item_id_of(slot)): part
            for slot, parts in self._parts.items()
            for partition, part in parts.items()
        }

    def _count(self, slot: int, now_ms: int) -> list[int]:
        """Return the item's interactions in each window before now."""
        counts = [0] * len(WINDOWS)
        for part in self._parts[slot].values():
            for name, by_type in windows(part, now_ms).items():
                counts[_COLUMN[name]] += sum(n for kind, n in by_type.items() if kind in INTERACTIONS)
        return counts
