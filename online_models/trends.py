"""What is taken most right now: interaction counts per item and window, for the trending surface."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots, grown, highest
from online_models.users.activity import WINDOWS, Standing, merge, standings, together
from online_models.users.outcomes import INTERACTIONS
from state.entries import activity_field
from state.records import Activity

_COLUMN = {name: column for column, name in enumerate(WINDOWS)}


class Trends:
    """Per-partition activity rows, summed.

    A count per item and window is kept with the time until which it stands: a window loses its panes without being
    told. Until it is counted again it is a bound from above. A list counts those again that could be in it.
    Stream time does not go back.
    """

    def __init__(self) -> None:
        self._parts: dict[int, dict[int, Activity]] = {}
        """Slot -> partition -> activity."""
        self._standings: dict[int, dict[int, tuple[Standing, ...]]] = {}
        """The same -> what its windows held when it was written."""
        self._counts: NDArray[np.int64] = np.zeros((0, len(WINDOWS)), np.int64)
        self._stay_until: NDArray[np.int64] = np.zeros((0, len(WINDOWS)), np.int64)
        """Epoch s from which the count may be lower."""
        self._end_at: NDArray[np.int64] = np.zeros((0, len(WINDOWS)), np.int64)
        """Epoch s from which it is 0."""

    def apply(self, rows: Mapping[str, Activity | None], slot_of: Callable[[str], int]) -> None:
        """Take over rows of `ITEM_ACTIVITY`, None where one is gone."""
        changed = set()
        for field, row in rows.items():
            partition, _, item_id = field.partition(":")
            slot = slot_of(item_id)
            changed.add(slot)
            parts, found = self._parts.setdefault(slot, {}), self._standings.setdefault(slot, {})
            if row is None:
                parts.pop(int(partition), None)
                found.pop(int(partition), None)
            else:
                parts[int(partition)] = row
                found[int(partition)] = standings(row, INTERACTIONS)
        n_slots = max(changed, default=-1) + 1
        self._counts = grown(self._counts, n_slots, 0)
        self._stay_until = grown(self._stay_until, n_slots, 0)
        self._end_at = grown(self._end_at, n_slots, 0)
        for slot in changed:
            self._put(slot, together(self._standings[slot].values()))

    def activity(self, slot: int) -> Activity:
        """Return the item's activity over all partitions."""
        return merge(self._parts.get(slot, {}).values())

    def top(
        self, k: int, window: str, now_ms: int, allowed: Callable[[Slots], Slots]
    ) -> tuple[Slots, NDArray[np.float32]]:
        """Return up to k allowed items with the most interactions in the window before now, and the counts."""
        column, now_s = _COLUMN[window], now_ms // 1000
        counts, stay_until = self._counts[:, column], self._stay_until[:, column]
        slots = allowed(np.flatnonzero((counts > 0) & (self._end_at[:, column] > now_s)).astype(np.int32))
        while True:
            best = slots[highest(counts[slots], k)]
            stale = best[stay_until[best] <= now_s]
            if not len(stale):
                break
            for slot in stale.tolist():
                self._put(
                    slot, together([standings(part, INTERACTIONS, now_ms) for part in self._parts[slot].values()])
                )
        best = best[counts[best] > 0]
        return best, counts[best].astype(np.float32)

    def rows(self, item_id_of: Callable[[int], str]) -> dict[str, Activity]:
        """Return all rows of `ITEM_ACTIVITY`."""
        return {
            activity_field(partition, item_id_of(slot)): part
            for slot, parts in self._parts.items()
            for partition, part in parts.items()
        }

    def _put(self, slot: int, windows: tuple[Standing, ...]) -> None:
        self._counts[slot], self._stay_until[slot], self._end_at[slot] = zip(*windows, strict=True)
