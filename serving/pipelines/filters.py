"""Which candidates may stay. Filters that protect fail closed: without them nothing is served."""

from collections.abc import Callable, Collection
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from serving.pipelines.slate import Slate

Mask = NDArray[np.bool_]


class Filter(Protocol):
    """Says which candidates may stay."""

    @property
    def name(self) -> str: ...

    @property
    def fails_closed(self) -> bool:
        """True where serving a wrong item is worse than serving none."""

    def keep(self, slate: Slate, slots: Slots) -> Mask | None:
        """Return a mask over the slots, None when all may stay."""


class Servable:
    """No hidden or deleted items, nor those that this process hid a moment ago."""

    name = "not_servable"
    fails_closed = True

    def __init__(self, withheld: Callable[[], Collection[str]]) -> None:
        self._withheld = withheld

    def keep(self, slate: Slate, slots: Slots) -> Mask | None:
        servable = slate.replica.servable(slots)
        withheld = self._withheld()
        if not withheld:
            return servable
        kept = _without(slate, slots, slate.replica.slots(withheld))
        return servable if kept is None else servable & kept


class Permitted:
    """Nothing that a rule blocks or a content policy denies."""

    name = "withheld_by_rules"
    fails_closed = True

    def keep(self, slate: Slate, slots: Slots) -> Mask | None:
        withheld = slate.withheld()
        return None if withheld is None else ~withheld[0][slots]


class HiddenByUser:
    """Nothing that the user has hidden."""

    name = "hidden_by_user"
    fails_closed = True

    def keep(self, slate: Slate, slots: Slots) -> Mask | None:
        return _without(slate, slots, slate.hidden())


class Excluded:
    """Nothing that the request excludes or earlier pages had, nor the item that the list is about."""

    name = "excluded"
    fails_closed = True

    def keep(self, slate: Slate, slots: Slots) -> Mask | None:
        kept = _without(slate, slots, slate.excluded())
        if slate.anchor is not None:
            other = slots != slate.anchor
            kept = other if kept is None else kept & other
        if len(slate.shown):
            new = _marks.absent(slots, slate.shown, slate.replica.n_slots)
            kept = new if kept is None else kept & new
        return kept


class Seen:
    """What becomes of consumed items: left out, shown, or shown alone."""

    name = "seen"
    fails_closed = False

    def keep(self, slate: Slate, slots: Slots) -> Mask | None:
        wanted = slate.query.seen
        if wanted == "show":
            return None
        unseen = _without(slate, slots, slate.consumed())
        if wanted == "hide":
            return unseen
        return np.zeros(len(slots), np.bool_) if unseen is None else ~unseen


class Wanted:
    """Only what the request's filter expression asks for."""

    name = "not_wanted"
    fails_closed = True

    def keep(self, slate: Slate, slots: Slots) -> Mask | None:
        return None if slate.wanted is None else slate.replica.matching(slate.wanted)[slots]


def _without(slate: Slate, slots: Slots, dropped: Slots) -> Mask | None:
    """Return False where the slot is one of the dropped ones, None when there are none."""
    if not len(dropped):
        return None
    return _marks.absent(slots, dropped, slate.replica.n_slots)


class _Marks:
    """One mark for every slot, all set between two calls: a new array for each would cost what the items are many."""

    def __init__(self) -> None:
        self._marks = np.ones(0, np.bool_)

    def absent(self, slots: Slots, dropped: Slots, n_slots: int) -> Mask:
        """Return False where a slot is among the dropped ones."""
        if n_slots > len(self._marks):
            self._marks = np.ones(2 * n_slots, np.bool_)
        self._marks[dropped] = False
        absent = self._marks[slots]
        self._marks[dropped] = True
        return absent


_marks = _Marks()
