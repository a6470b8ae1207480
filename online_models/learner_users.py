"""The users that the learner has in memory: those who came last."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from online_models.engine.history import History
from state.records import UserRow

Mask = NDArray[np.bool_]


class LearnerUsers:
    """Histories by name, and by slot: a row number for the factors, given in turns.

    When all `max_users` slots are taken, those who have had theirs for longest lose them, a sixteenth of all at once,
    and are read back from the store (`restore`) at the next event. Factors are solved from the history at each event,
    so nothing is lost with a slot.
    """

    def __init__(self, max_users: int, as_of: Callable[[], int], on_evict: Callable[[Slots], None]) -> None:
        self._max_users = max_users
        self._n_at_once = max(1, max_users // 16)
        self._as_of = as_of
        self._on_evict = on_evict
        self._by_name: dict[str, History] = {}
        self._names: list[str | None] = []
        self.n_given = 0
        """Slots given out so far, also those that were taken back."""
        self.changed: set[str] = set()
        """Users whose histories have changed since somebody cleared this."""
        self.erased: set[str] = set()
        """Users whose stored rows are to be deleted."""
        self._leaving: dict[str, UserRow] = {}
        """Rows of users who lost their slots before they were stored."""

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> History | None:
        return self._by_name.get(name)

    def of(self, name: str) -> History:
        """Return a user's history, an empty one for a new user."""
        known = self._by_name.get(name)
        return self._give(name) if known is None else known

    def at(self, slot: int) -> History | None:
        """Return the history of the user who has the slot."""
        name = self._names[slot] if slot < len(self._names) else None
        return None if name is None else self._by_name[name]

    def name(self, slot: int) -> str | None:
        return self._names[slot]

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those who have to be restored before their next event."""
        return [name for name in dict.fromkeys(names) if name not in self._by_name]

    def restore(self, rows: Mapping[str, UserRow | None], is_current: Callable[[Slots, int], Mask]) -> None:
        """Take over stored users. `is_current(items, as_of)` says which items are still those of that time."""
        for name, row in rows.items():
            if name in self._by_name:
                continue
            row = self._leaving.pop(name, None if name in self.erased else row)
            history = self._give(name)
            if row is not None:
                history.restore(row, is_current)

    def erase(self, name: str) -> History | None:
        """Forget a user for good; return what was known, None when nothing was in memory."""
        self.erased.add(name)
        self.changed.discard(name)
        self._leaving.pop(name, None)
        history = self._by_name.pop(name, None)
        if history is not None:
            self._names[history.slot] = None
        return history

    def restore_slots(self, owners: Mapping[int, str]) -> None:
        """Give the slots back to those who had them; `n_given` must be known. Only on new users."""
        self._names = [None] * min(self.n_given, self._max_users)
        for slot, name in owners.items():
            self._names[slot] = name
            self._by_name[name] = History(slot)

    def fill(self, rows: Mapping[str, UserRow | None], is_current: Callable[[Slots, int], Mask]) -> None:
        """Fill the histories of some who have slots, after `restore_slots`."""
        for name, row in rows.items():
            history = self._by_name[name]
            if row is not None:
                history.restore(row, is_current)

    def write(self, as_of: int) -> dict[str, UserRow]:
        """Return the rows of those who have changed."""
        rows = {name: self._by_name[name].row(as_of) for name in self.changed if name in self._by_name}
        return self._leaving | rows

    def written(self) -> None:
        """Say that what `write` gave is stored."""
        self._leaving.clear()
        self.erased.clear()
        self.changed.clear()

    def forget_items(self, gone: NDArray[np.bool_]) -> None:
        """Take items out of all histories; a mask over the slots."""
        for history in self._by_name.values():
            history.forget(gone)

    def _give(self, name: str) -> History:
        slot = self.n_given % self._max_users
        if slot == len(self._names):
            self._names.append(None)
        elif self._names[slot] is not None:
            self._take_back(range(slot, min(slot + self._n_at_once, self._max_users)))
        self._names[slot] = name
        self.n_given += 1
        history = self._by_name[name] = History(slot)
        return history

    def _take_back(self, slots: range) -> None:
        for slot in slots:
            name = self._names[slot]
            if name is not None:
                history = self._by_name.pop(name)
                if name in self.changed:
                    self._leaving[name] = history.row(self._as_of())
                self._names[slot] = None
        self._on_evict(np.array(slots, np.int32))
