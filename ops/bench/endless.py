"""An endless stream: items and users come and go, memory must stay flat and an event must cost the same."""

import time
from collections.abc import Callable

import numpy as np
import psutil

from online_models.learning import rows
from online_models.learning.learner import Learner
from ops.bench.report import Figure, Report

_PER_ITEM, _PER_USER = 20, 12
"""Mean events of an item and of a user before they are gone for good."""

_PARTS = 20
_COMMIT = 2000
"""Events after which changed rows count as stored."""


def measure(
    n_events: int,
    max_items: int = 10_000,
    max_users: int = 10_000,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Feed the learner `n_events` over far more items and users than it may hold, without lists.

    Memory is that of the process once a fifth of the stream has passed, and the largest after that.
    """
    learner = Learner(max_items, max_users, organic_share=0.0)
    rng = np.random.default_rng(0)
    process = psutil.Process()
    costs, sizes = [], []
    for part in range(_PARTS):
        seqs = np.arange(part * n_events // _PARTS, (part + 1) * n_events // _PARTS)
        # each drawn from a window that moves on: some are taken often, in the end all are gone
        items = seqs // _PER_ITEM - (rng.pareto(1.0, len(seqs)) * 50 % (max_items // 2)).astype(np.int64)
        users = seqs // _PER_USER - rng.integers(0, max_users // 2, len(seqs))
        began = time.process_time()
        for seq, user, item in zip(seqs.tolist(), users.tolist(), items.tolist(), strict=True):
            learner.learn(f"u{user}", f"i{item}", True, 60.0 * seq)
            if not seq % _COMMIT:
                rows.written(learner)
        costs.append((time.process_time() - began) / max(len(seqs), 1) * 1e6)
        sizes.append(process.memory_info().rss / 2**20)
        if progress is not None:
            progress(part + 1, _PARTS)
    early = _PARTS // 5
    largest = Figure(
        "memory at most", max(sizes[early:]), "MiB", target=1.1 * sizes[early], note="after the first fifth"
    )
    figures = [
        Figure("items forgotten", learner.counts.forgotten_items, f"in {n_events:,} events"),
        Figure("items held", len(learner.items), "items", target=max_items),
        Figure("users held", len(learner.users), "users", target=max_users),
        Figure("memory after a fifth", sizes[early], "MiB"),
        largest,
        Figure("an event, second fifth", float(np.median(costs[early : 2 * early])), "µs"),
        Figure("an event, last fifth", float(np.median(costs[-early:])), "µs"),
    ]
    return Report("Endless stream: bounded memory", figures)
