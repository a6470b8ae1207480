"""The live models, driven in process: what `freshet evaluate` judges."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from online_models.engine.history import History
from online_models.engine.inputs import untrained
from online_models.engine.items import POP_ACTIVE
from online_models.engine.listwise import ListwiseRanker
from online_models.learning.budget import UNLIMITED
from online_models.learning.learner import Learner, Slate
from state.records import Item

Candidates = Literal["unseen", "all"]

TICK_S = 0.001
"""Between events of one user that a log gives the same second."""


class Engine:
    """Learns each event once, answers a list at any time.

    Order matters: `recommend` uses what was observed before the call, and nothing else.

    Parameters
    ----------
    seed
        Of everything random: initial vectors and weights, replay.
    ranker
        A ranker that others learn with, too; by default one of its own, which begins with the weights that ship.
    learner
        In place of one made with `seed` and `ranker`.
    """

    def __init__(self, seed: int = 0, ranker: ListwiseRanker | None = None, learner: Learner | None = None) -> None:
        self.learner = learner or Learner(organic_share=UNLIMITED, replay_share=UNLIMITED, seed=seed, ranker=ranker)
        self._pending: tuple[str, int, Slate] | None = None

    def __len__(self) -> int:
        return len(self.learner.items)

    def describe(self, item: Item) -> None:
        """Take over a catalogue entry, new or changed."""
        self.learner.learn_item(item.item_id, item)

    def observe(self, user: str, item: str, positive: bool, rating: float, t: float) -> None:
        """Learn one event: the ranker first, from the list of this moment, then the sources.

        A user's events of one whole second keep the order in which they come: each is taken to be `TICK_S` later than
        the one before, as live events, timed to the millisecond, would be.
        """
        t = self._in_order(user, t)
        pending = self._pending
        slate = pending[2] if pending is not None and pending[:2] == (user, self.learner.counts.events) else None
        self.learner.learn(user, item, positive, t, slate=slate)
        self._pending = None

    def _in_order(self, user: str, t: float) -> float:
        history = self.learner.users.get(user)
        if history is None or not len(history.items) or t % 1.0:
            return t
        last = float(history.times[-1])
        return last + TICK_S if t <= last < t + 1.0 else t

    def recommend(self, user: str, n: int, t: float, candidates: Candidates = "unseen") -> list[str]:
        """Return the best `n` items for a user at time `t` (epoch seconds), best first.

        Where that is more than the sources find, the others that may come follow by popularity.
        """
        t = self._in_order(user, t)
        learner = self.learner
        history = learner.users.get(user) or History()
        slate = learner.slate(history, t, candidates == "all")
        self._pending = (user, learner.counts.events, slate)
        scores = learner.ranker.predict_many(slate.inputs) if learner.ranker.is_ready else untrained(slate.inputs)
        best = self.best(slate.slots, scores, n)
        if len(best) < n:
            best = np.concatenate([best, self._others(slate.slots, t)[: n - len(best)]])
        return [str(learner.items.item_id(slot)) for slot in best.tolist()]

    def best(self, slots: Slots, scores: NDArray[np.float32], n: int) -> Slots:
        """Return `n` of the scored items, or as many as there are, in the order of the list."""
        return slots[np.argsort(-scores)[:n]]

    def _others(self, listed: Slots, t: float) -> Slots:
        """Return the items with events that the newest list lacks and its request allows, the most popular first."""
        columns = self.learner.columns
        known = columns.items.known()
        allowed = columns.workspace.allows(known)
        allowed[np.isin(known, listed)] = False
        others = known[allowed]
        popularity = columns.items.popularity(others, POP_ACTIVE, t)
        return others[np.lexsort((-columns.items.seq_last[others], -popularity))]
