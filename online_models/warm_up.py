"""Compiles, or loads from numba's cache, every kernel that learning and requests need, before the first of them waits.

`python -m online_models.warm_up` compiles in two processes, in about a minute. Later it takes some seconds.
"""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from online_models.arrays import Slots, descending
from online_models.engine import inputs
from online_models.evaluation import slates
from online_models.learning import rows
from online_models.learning.learner import Learner
from online_models.replica import Replica
from online_models.reranking.exploration import Arms
from online_models.reranking.rerank import Exploration as Trying
from online_models.reranking.rerank import LabelCap, Share, likeness, rerank
from online_models.shortlist import hints
from online_models.sources import Alike, Content, Exploration, Nearest, gather
from online_models.users.view import UserView
from online_models.versions.trees import LEAF, TreeScorer, packed
from state.entries import CATALOGUE, MODEL
from state.memory_store import MemoryStore
from state.records import CleanEvent, Item
from state.store import Changes

_N_LISTS = 22
"""The ranker takes its first step when it has learned some twenty."""
_STUMP = [(0, 0.0, 1, 2, 0.0), (LEAF, 0.0, 1, 1, 0.0), (LEAF, 0.0, 2, 2, 0.0)]


def warm_up() -> float:
    """Learn a few events and make a list of them; return the seconds that took."""
    started = time.perf_counter()
    _take_up(_learned(n_events=60))
    return time.perf_counter() - started


def compile_all() -> None:
    """Do what `warm_up` does, while another process compiles what lists need: about half of all.

    Threads would wait for each other: numba compiles one function at a time.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as other:
        lists = other.submit(_compile_lists)
        learner = _learned(n_events=60)
        lists.result()
    _take_up(learner)


def _compile_lists() -> None:
    """Make lists of items that had no events, so that nothing of what learns of events is needed."""
    _take_up(_learned(n_events=0))


def _learned(n_events: int) -> Learner:
    """Return a learner that knows some items, and events of lists whose examples are yet to come."""
    learner = Learner(max_items=8, max_users=4)  # too few, so that some are forgotten
    for n in range(n_events or 6):
        item = Item(item_id=f"i{n % 9}", genres=["g"], release_date="2000")
        learner.learn_item(item.item_id, item)
        if n < n_events:
            ts = 1_000_000_000_000 + n
            learner.learn_event(CleanEvent(f"e{n}", "click", f"u{n % 7}", item.item_id, ts, request_id="r"))
    return learner


def _take_up(learner: Learner) -> None:
    """Bring what was learned to where requests find it, and make lists of it."""
    learner.slate(learner.users.histories.of(learner.users.slot("u0")), 1_000_000_001.0, repeats=True)
    for _ in range(_N_LISTS):
        learner.ranker.learn_many(np.zeros((3, inputs.N_INPUTS), np.float32), 0)
    store, changes = MemoryStore(), Changes()
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
    hints(context, found.slots)
    stump = TreeScorer(inputs.N_INPUTS).load(packed(inputs.NAMES, 0, [0], _STUMP), inputs.NAMES)
    stump.predict_many(features)
    stump.contributions(features, features[0])
    _rerank(replica, found.slots)
    descending(np.array([1.0, 1.0, 0.5]))


def _rerank(replica: Replica, slots: Slots) -> None:
    labels = replica.columns.catalogue.genres[slots]
    slates.diversity(labels)
    likeness(replica.vectors(slots), labels, 1)
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
    compile_all()
