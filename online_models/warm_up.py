"""Compiles, or loads from numba's cache, every kernel that learning and requests need, before the first of them waits.

The first time takes about a minute of one core, later ones some seconds.
"""

import time

import numpy as np

from online_models.arrays import Slots, descending
from online_models.engine import inputs
from online_models.learning import rows
from online_models.learning.learner import Learner
from online_models.replica import Replica
from online_models.reranking.exploration import Arms
from online_models.reranking.rerank import Exploration as Trying
from online_models.reranking.rerank import LabelCap, Share, rerank
from online_models.sources import Alike, Content, Exploration, Nearest, gather
from online_models.users.view import UserView
from online_models.versions.trees import LEAF, TreeScorer, packed
from state.entries import CATALOGUE, MODEL
from state.memory_store import MemoryStore
from state.records import CleanEvent, Item
from state.store import Changes

_STUMP = [(0, 0.0, 1, 2, 0.0), (LEAF, 0.0, 1, 1, 0.0), (LEAF, 0.0, 2, 2, 0.0)]


def warm_up() -> float:
    """Learn a few events and make a list of them; return the seconds that took."""
    started = time.perf_counter()
    learner = Learner(organic_share=1e9, max_items=8)
    store = MemoryStore()
    for n in range(60):
        item = Item(item_id=f"i{n % 9}", genres=["g"], release_date="2000")
        learner.learn_item(item.item_id, item)
        learner.learn_event(CleanEvent(f"e{n}", "click", f"u{n % 7}", item.item_id, 1_000_000_000_000 + n))
    changes = Changes()
    rows.write(learner, changes)
    changes.upsert(CATALOGUE, "i0", Item(item_id="i0", genres=["g"]))
    store.commit(changes)
    rows.written(learner)
    rows.restore(Learner(), store)
    replica = Replica()
    replica.apply({table: dict(store.scan_rows(table)) for table in Replica.TABLES}, complete=True)
    assert store.get_rows(MODEL, ["ranker"])
    context = replica.context(UserView.of_items(("i0", "i3"), 1_000_000_001_000), repeats=True)
    context.bar(replica.slots(["i5"]))
    found = gather(context, (Nearest(), Alike(), Content(), Exploration()))
    found = gather(context)
    features = replica.features(context, found.slots)
    replica.ranking.score(features)
    stump = TreeScorer(inputs.N_INPUTS).load(packed(inputs.NAMES, 0, [0], _STUMP), inputs.NAMES)
    stump.predict_many(features)
    stump.contributions(features, features[0])
    _rerank(replica, found.slots)
    descending(np.array([1.0, 1.0, 0.5]))
    return time.perf_counter() - started


def _rerank(replica: Replica, slots: Slots) -> None:
    labels = replica.columns.catalogue.genres[slots]
    arms, trials = np.arange(len(slots), dtype=np.int32), np.zeros(len(slots))
    for diversity in (0.0, 0.5):
        rerank(
            np.linspace(1.0, 0.1, len(slots)),
            len(slots),
            caps=[LabelCap(labels, 3, 10)],
            shares=[Share(np.ones(len(slots), np.bool_), 0.5, 10)],
            diversity=diversity,
            duplicate=0.99,
            vectors=replica.vectors(slots),
            labels=labels,
            exploration=Trying(0.5, Arms.of(arms, trials, trials), np.full((len(slots), 2), 0.4)),
        )


if __name__ == "__main__":
    warm_up()
