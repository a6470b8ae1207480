"""What is popular where, on what and when: decayed counts of positives per item in each context, bounded.

An event's contexts are its device, its region and the part of the day, as in `device:tv`. How much more an item is
taken in a context than everywhere multiplies its score there:

    lift(item, context) = (taken there + a) / (taken everywhere * share of the context + a)

with the `a` events of a gamma prior that nothing is different, so that what little is known changes little.

References
----------
DuMouchel (1999), Bayesian data mining in large frequency tables: the ratio of observed to expected counts, shrunk.
Cormode, Shkapenyuk, Srivastava, Xu (2009), Forward decay: counts that need no work while time passes.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from state.records import ContextRow

HALF_LIFE_S = 8 * 86_400.0
"""As that of popularity."""
PRIOR = 5.0
N_ITEMS = 256
"""The most taken ones of a context; twice as many are kept in between."""
N_VALUES = 64
"""Of devices, and of regions; the one with the least events gives way."""
_HOURS = 3
_TIME = "hours:"
_TIMES = tuple(f"{_TIME}{hour:02}-{hour + _HOURS:02}" for hour in range(0, 24, _HOURS))
_MOST_HALVINGS = 64.0
_STATED = ("device", "region")
"""What events and requests say of their context."""

Situation = tuple[str, ...]
"""Names of contexts."""


def situation_of(ts_ms: int, stated: Mapping[str, Any] | None) -> Situation:
    """Return the names of the contexts of an event or a request at a time (epoch ms, UTC)."""
    names = [_TIMES[ts_ms // 3_600_000 % 24 // _HOURS]]
    if stated:
        names += [_name_of(key, value) for key in _STATED if isinstance(value := stated.get(key), str) and value]
    return tuple(names)


@lru_cache(maxsize=1024)
def _name_of(key: str, value: str) -> str:
    return f"{key}:{value}"


class ContextCount:
    """One context's counts, in units of an event at time `at` (epoch seconds).

    An item that was dropped may have had `least` events more than are counted.
    """

    def __init__(self, row: ContextRow) -> None:
        self.items = dict(zip(row.items, row.counts, strict=True))
        self.total, self.at, self.least = row.total, row.at, row.least

    def add(self, item_id: str, t: float) -> None:
        """Count a positive at a time (epoch seconds), early or late."""
        halvings = (t - self.at) / HALF_LIFE_S
        if halvings > _MOST_HALVINGS:
            self._rescale(t, 2.0**-halvings)
            halvings = 0.0
        weight = 2.0**halvings
        self.total += weight
        self.items[item_id] = self.items.get(item_id, 0.0) + weight
        if len(self.items) > 2 * N_ITEMS:
            kept = sorted(self.items, key=self.items.__getitem__, reverse=True)
            self.least += self.items[kept[N_ITEMS]]
            self.items = {name: self.items[name] for name in kept[:N_ITEMS]}

    def as_of(self, t: float) -> float:
        """Return the decayed number of events at a time."""
        return float(self.total * 2.0 ** ((self.at - t) / HALF_LIFE_S))

    def row(self) -> ContextRow:
        return ContextRow(list(self.items), list(self.items.values()), self.total, self.at, self.least)

    def _rescale(self, t: float, factor: float) -> None:
        self.items = {name: count * factor for name, count in self.items.items()}
        self.total, self.least, self.at = self.total * factor, self.least * factor, t


class ContextCounts:
    """The write side: counts by name of the context."""

    def __init__(self) -> None:
        self.by_name: dict[str, ContextCount] = {}
        self.changed: set[str] = set()
        self.gone: set[str] = set()

    def learn_one(self, item_id: str, ts_ms: int, stated: Mapping[str, Any] | None) -> None:
        """Count a positive in each of its contexts."""
        for name in situation_of(ts_ms, stated):
            count = self.by_name.get(name)
            if count is None:
                self._make_room(name.partition(":")[0], ts_ms / 1000.0)
                count = self.by_name[name] = ContextCount(ContextRow([], [], 0.0, ts_ms / 1000.0))
                self.gone.discard(name)
            count.add(item_id, ts_ms / 1000.0)
            self.changed.add(name)

    def restore(self, name: str, row: ContextRow) -> None:
        self.by_name[name] = ContextCount(row)

    def written(self) -> None:
        """Say that what has changed and what is gone is stored."""
        self.changed.clear()
        self.gone.clear()

    def _make_room(self, key: str, t: float) -> None:
        held = [name for name in self.by_name if name.startswith(key + ":")]
        if len(held) >= N_VALUES:
            weakest = min(held, key=lambda name: (self.by_name[name].as_of(t), name))
            del self.by_name[weakest]
            self.changed.discard(weakest)
            self.gone.add(weakest)


class _Resolved(NamedTuple):
    slots: Slots
    """Sorted."""
    counts: NDArray[np.float64]
    row: ContextRow


class Contexts:
    """The read side, by slot: rows as they were stored last."""

    def __init__(self) -> None:
        self._by_name: dict[str, _Resolved] = {}

    def apply(self, rows: Mapping[str, ContextRow | None], slot_of: Callable[[str], int]) -> None:
        """Take over rows of `CONTEXTS`, None where one is gone."""
        for name, row in rows.items():
            if row is None:
                self._by_name.pop(name, None)
                continue
            slots = np.array([slot_of(item_id) for item_id in row.items], np.int32)
            order = np.argsort(slots)
            self._by_name[name] = _Resolved(slots[order], np.array(row.counts)[order], row)

    def rows(self) -> dict[str, ContextRow]:
        return {name: of.row for name, of in self._by_name.items()}

    def items(self, situation: Situation) -> Slots:
        """Return all items that are counted in one of the contexts."""
        found = [of.slots for name in situation if (of := self._by_name.get(name)) is not None]
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.int32)

    def lifts(
        self, situation: Situation, slots: Slots, popularity: NDArray[np.float32], t: float
    ) -> NDArray[np.float64]:
        """Return by what the scores of items are multiplied in these contexts, shape (n,), each above 0.

        `popularity`: decayed positives of the items everywhere at time `t` (epoch seconds). Counts that were dropped
        are taken to be what is to be expected.
        """
        lifts = np.ones(len(slots))
        everywhere = sum(_at(of.row, of.row.total, t) for name, of in self._by_name.items() if name.startswith(_TIME))
        for name in situation:
            of = self._by_name.get(name)
            if of is None or not len(of.slots) or everywhere <= 0.0:
                continue
            at = np.minimum(np.searchsorted(of.slots, slots), len(of.slots) - 1)
            counted = _at(of.row, 1.0, t) * np.where(of.slots[at] == slots, of.counts[at], 0.0)
            expected = popularity * (_at(of.row, of.row.total, t) / everywhere)
            taken = np.clip(expected, counted, counted + _at(of.row, of.row.least, t))
            lifts *= (taken + PRIOR) / (expected + PRIOR)
        return lifts


def _at(row: ContextRow, count: float, t: float) -> float:
    """Return a count of a row as decayed to time `t`."""
    return float(count * 2.0 ** ((row.at - t) / HALF_LIFE_S))
