"""An endless stream: items and users come and go, memory must stay flat and an event must cost the same."""

import time
from collections.abc import Callable

import numpy as np
import psutil
from numpy.typing import NDArray

from online_models.engine.factors import Factors
from online_models.engine.history import History
from online_models.engine.items import ItemTable
from online_models.engine.neighbours import Neighbours
from ops.bench.report import Figure, Report

FORGOTTEN = 0.05
"""Share of the items, or users, that make room when the bound is reached: those idle the longest."""

_PER_ITEM, _PER_USER = 20, 12
"""Mean events of an item and of a user before they are gone for good."""


class _Sources:
    """Everything that learns from each event, at bounded numbers of items and users."""

    def __init__(self, max_items: int, max_users: int, max_pairs: int) -> None:
        self.items = ItemTable(max_items)
        self.neighbours = Neighbours(max_items, max_pairs)
        self.factors = Factors(0, max_items)
        self.factors.reserve_users(max_users)
        self.histories = [History() for _ in range(max_users)]
        self._last = np.zeros(max_users, np.int64)
        self._item_slots: dict[int, int] = {}
        self._user_slots: dict[int, int] = {}
        self._free_items, self._free_users = list(range(max_items)), list(range(max_users))
        self.n_forgotten = 0

    def learn_one(self, seq: int, user: int, item: int, t: float) -> None:
        if item not in self._item_slots:
            if not self._free_items:
                self._forget_items()
            slot = self._item_slots[item] = self._free_items.pop()
            self.factors.add_item(slot)
        if user not in self._user_slots:
            if not self._free_users:
                self._forget_users()
            self._user_slots[user] = self._free_users.pop()
        at, slot = self._user_slots[user], self._item_slots[item]
        history = self.histories[at]
        self.items.learn_one(slot, t, True, history.n, seq)
        self.neighbours.learn_one(history.items, history.times, history.positive, slot, t, True)
        history.append(slot, t, True)
        self.factors.append(at, slot, True)
        self.factors.learn_one(at, slot, history.items, history.positive, history.n)
        self.factors.refresh(np.array([slot], np.int32), self.items)
        self._last[at] = seq

    def _forget_items(self) -> None:
        gone = self.items.oldest(int(FORGOTTEN * len(self.items.counts)))
        flags = _flags(gone, len(self.items.counts))
        self.items.forget(gone)
        self.neighbours.forget(gone)
        self.factors.forget(gone, self.items)
        for history in self.histories:
            history.forget(flags)
        self._item_slots = {name: slot for name, slot in self._item_slots.items() if not flags[slot]}
        self._free_items = gone.tolist()
        self.n_forgotten += len(gone)

    def _forget_users(self) -> None:
        gone = np.argsort(self._last)[: int(FORGOTTEN * len(self._last))].astype(np.int32)
        flags = _flags(gone, len(self._last))
        self.factors.forget_users(gone)
        for slot in gone.tolist():
            self.histories[slot] = History()
        self._user_slots = {name: slot for name, slot in self._user_slots.items() if not flags[slot]}
        self._free_users = gone.tolist()
        self.n_forgotten += len(gone)


def _flags(slots: NDArray[np.int32], n: int) -> NDArray[np.bool_]:
    flags = np.zeros(n, np.bool_)
    flags[slots] = True
    return flags


def measure(
    n_events: int,
    max_items: int = 10_000,
    max_users: int = 10_000,
    max_pairs: int = 500_000,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Feed `n_events` over far more items and users than the bounds and compare the ends of the stream.

    Memory is that of the process after a fifth of the stream, when every bound has been reached, and at its end.
    """
    sources = _Sources(max_items, max_users, max_pairs)
    rng = np.random.default_rng(0)
    process = psutil.Process()
    parts = 20
    costs, sizes = [], []
    for part in range(parts):
        seqs = np.arange(part * n_events // parts, (part + 1) * n_events // parts)
        # each drawn from a window that moves on: some are taken often, in the end all are gone
        items = seqs // _PER_ITEM - (rng.pareto(1.0, len(seqs)) * 50 % (max_items // 2)).astype(np.int64)
        users = seqs // _PER_USER - rng.integers(0, max_users // 2, len(seqs))
        began = time.process_time()
        for seq, user, item in zip(seqs.tolist(), users.tolist(), items.tolist(), strict=True):
            sources.learn_one(seq, user, item, 60.0 * seq)
        costs.append((time.process_time() - began) / max(len(seqs), 1) * 1e6)
        sizes.append(process.memory_info().rss / 2**20)
        if progress is not None:
            progress(part + 1, parts)
    early = parts // 5
    figures = [
        Figure("items and users forgotten", sources.n_forgotten, f"in {n_events:,} events"),
        Figure("memory after a fifth", sizes[early], "MiB"),
        Figure(
            "memory at the end", max(sizes[early:]), "MiB", target=1.1 * sizes[early], note="largest after the fifth"
        ),
        Figure("neighbour pairs held", len(sources.neighbours.ids), "pairs", target=max_pairs),
        Figure("an event, second fifth", float(np.median(costs[early : 2 * early])), "µs"),
        Figure("an event, last fifth", float(np.median(costs[-early:])), "µs"),
    ]
    return Report("Endless stream: bounded memory", figures)
