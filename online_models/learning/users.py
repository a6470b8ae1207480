"""The users that the learner has in memory: those who came last."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots, grown
from online_models.engine.changes import Changed
from online_models.engine.history import Histories, History
from state.records import UserRow

Mask = NDArray[np.bool_]


class LearnerUsers:
    """Histories by name, and by slot: a row number for histories and factors, given in turns.

    When all `max_users` slots are taken, those who have had theirs for longest lose them, a sixteenth of all at once.
    They come back with their histories at the next event: until the next write from here, then from the store
    (`restore`). Factors follow the history at each event, so little is lost with a slot.

    Parameters
    ----------
    as_of
        Says which items those of a stored history are.
    is_current
        `is_current(items, as_of)` says which of them are still those of that time.
    before_reuse
        Called before users lose their slots, and before one of these is given again: what is under way must be done.
    on_evict
        Called with the slots that they lost.
    """

    def __init__(
        self,
        max_users: int,
        as_of: Callable[[], int],
        is_current: Callable[[Slots, int], Mask],
        before_reuse: Callable[[], None],
        on_evict: Callable[[Slots], None],
    ) -> None:
        self._max_users = max_users
        self._n_at_once = max(1, max_users // 16)
        self._as_of = as_of
        self._is_current = is_current
        self._before_reuse = before_reuse
        self._on_evict = on_evict
        self._slots: dict[str, int] = {}
        self._names: list[str | None] = []
        self.histories = Histories()
        self.held: Mask = np.zeros(0, np.bool_)
        """Which slots somebody has."""
        self.n_given = 0
        """Slots given out so far, also those that were taken back."""
        self.changed = Changed(1024)
        """Slots of users whose histories have changed since `written`."""
        self.erased: set[str] = set()
        """Users whose stored rows are to be deleted."""
        self._left: dict[str, UserRow] = {}
        """Rows of users who lost their slots since `written`."""
        self._unstored: set[str] = set()
        """Those of them whose histories had changed."""

    def __contains__(self, name: str) -> bool:
        return name in self._slots

    def __len__(self) -> int:
        return len(self._slots)

    def get(self, name: str) -> History | None:
        slot = self._slots.get(name)
        return None if slot is None else self.histories.of(slot)

    def of(self, name: str) -> History:
        """Return a user's history, an empty one for a new user."""
        return self.histories.of(self.slot(name))

    def slot(self, name: str) -> int:
        """Return a user's slot, a new one for a new user."""
        slot = self._slots.get(name)
        return self._give(name) if slot is None else slot

    def name(self, slot: int) -> str | None:
        return self._names[slot]

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those who have to be restored before their next event."""
        return [name for name in dict.fromkeys(names) if name not in self._slots and name not in self._left]

    def restore(self, rows: Mapping[str, UserRow | None]) -> None:
        """Take over stored users."""
        for name, row in rows.items():
            if name not in self._slots:
                self._give(name, None if name in self.erased else row)

    def erase(self, name: str) -> None:
        """Forget a user for good."""
        self.erased.add(name)
        self._left.pop(name, None)
        self._unstored.discard(name)
        slot = self._slots.get(name)
        if slot is not None:
            self._free(slot, name)
            self.changed.drop(np.array([slot], np.int32))

    def restore_slots(self, owners: Mapping[int, str]) -> None:
        """Give the slots back to those who had them; `n_given` must be known. Only on new users."""
        self._names = [None] * min(self.n_given, self._max_users)
        self._reserve(len(self._names))
        for slot, name in owners.items():
            self._names[slot] = name
            self._slots[name] = slot
            self.held[slot] = True

    def fill(self, rows: Mapping[str, UserRow | None]) -> None:
        """Fill the histories of some who have slots, after `restore_slots`."""
        for name, row in rows.items():
            if row is not None:
                self._fill(self._slots[name], row)

    def write(self, as_of: int) -> dict[str, UserRow]:
        """Return the rows of those who have changed."""
        rows = {}
        for slot in self.changed.peek().tolist():
            name = self._names[slot]
            if name is not None:
                rows[name] = self._row(slot, as_of)
        return {name: self._left[name] for name in self._left if name in self._unstored} | rows

    def written(self) -> None:
        """Say that what `write` gave is stored."""
        self._left.clear()
        self._unstored.clear()
        self.erased.clear()
        self.changed.take()

    def forget_items(self, gone: NDArray[np.bool_]) -> None:
        """Take items out of all histories; a mask over the slots."""
        self.histories.forget(gone)

    def _row(self, slot: int, as_of: int) -> UserRow:
        history = self.histories.of(slot)
        arrays = (history.items, history.times, history.positive, history.seen)
        items, times, positive, seen = (array.tobytes() for array in arrays)
        return UserRow(items, times, positive, seen, history.n, as_of)

    def _fill(self, slot: int, row: UserRow) -> None:
        """Take over a row, leaving out items that are not those of that time any more."""
        items, seen = np.frombuffer(row.items, np.int32), np.frombuffer(row.seen, np.int32)
        kept = self._is_current(items, row.as_of)
        times, positive = np.frombuffer(row.times, np.float64), np.frombuffer(row.positive, np.bool_)
        seen = seen[self._is_current(seen, row.as_of)]
        self.histories.restore(slot, items[kept], times[kept], positive[kept], seen, row.n_events)

    def _give(self, name: str, stored: UserRow | None = None) -> int:
        """Give a slot to somebody who has none, with the newest history that there is of them."""
        row = self._left.pop(name, stored)
        slot = self.n_given % self._max_users
        if self.n_given >= self._max_users:
            self._before_reuse()
        if slot == len(self._names):
            self._names.append(None)
            self._reserve(slot + 1)
        elif self._names[slot] is not None:
            self._take_back(range(slot, min(slot + self._n_at_once, self._max_users)))
        self._names[slot] = name
        self._slots[name] = slot
        self.held[slot] = True
        self.n_given += 1
        if row is not None:
            self._fill(slot, row)
        if name in self._unstored:
            self._unstored.remove(name)
            self.changed.add(slot)
        return slot

    def _reserve(self, n_slots: int) -> None:
        self.histories.reserve(n_slots)
        self.held = grown(self.held, n_slots, False)
        self.changed.reserve(len(self.held))

    def _take_back(self, slots: range) -> None:
        for slot in slots:
            name = self._names[slot]
            if name is not None:
                self._left[name] = self._row(slot, self._as_of())
                if self.changed.flags[slot]:
                    self._unstored.add(name)
                self._free(slot, name)
        gone = np.array(slots, np.int32)
        self.changed.drop(gone)
        self._on_evict(gone)

    def _free(self, slot: int, name: str) -> None:
        self.histories.clear(slot)
        del self._slots[name]
        self._names[slot] = None
        self.held[slot] = False
