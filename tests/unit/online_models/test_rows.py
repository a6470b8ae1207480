"""Rows of everything rebuild a replica that answers alike, and a learner that goes on alike (R14, R17)."""

import copy

import numpy as np
import pytest
from numpy.typing import NDArray

from online_models.engine import inputs
from online_models.engine.engine import Engine, Slate
from online_models.engine.factors import Factors, ItemFactors
from online_models.engine.history import History
from online_models.engine.items import DAY, ItemTable
from online_models.engine.listwise import ListwiseRanker
from online_models.engine.neighbours import Neighbours
from online_models.engine.scorer import Scorer

N_ITEMS = 150


def played(n_events: int = 1200) -> Engine:
    engine = Engine()
    play(engine, n_events, 0)
    return engine


def play(engine: Engine, n_events: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for k in range(n_events):
        user, item = int(rng.integers(0, 60)), int(min(rng.pareto(0.8) * 10, N_ITEMS - 1))
        t = 1e9 + seed * 30 * DAY + 500.0 * k + rng.normal(0, 300)
        engine.observe(f"u{user}", f"i{item}", bool(rng.random() < 0.7), 1.0, t)


def slate_of(engine: Engine, user: str, repeats: bool = True) -> Slate:
    return engine.slate(engine._histories[engine._users[user]], 1e9 + 40 * DAY, repeats)


def mapped(history: History, own: NDArray[np.int32]) -> History:
    other = History()
    for item in history.seen.tolist():
        other.append(own[item], 0.0, True)
    other._start = other.end = other.n = 0
    for item, t, positive in zip(history.items.tolist(), history.times, history.positive, strict=True):
        other.append(own[item], t, positive)
    other.n = history.n
    return other


@pytest.fixture(scope="module")
def learner() -> Engine:
    return played()


@pytest.mark.parametrize("repeats", [True, False])
def test_a_replica_of_rows_answers_alike(learner: Engine, repeats: bool) -> None:
    """Rows arrive in any order, and at slots of its own."""
    n = len(learner)
    rng = np.random.default_rng(1)
    own = (rng.permutation(2 * n)[:n]).astype(np.int32)
    replica = Engine()
    replica.items, replica.neighbours, replica.factors = ItemTable(), Neighbours(), ItemFactors()  # type: ignore[assignment]
    replica._own, replica.n_events = own, learner.n_events
    replica.ranker = Scorer(inputs.N_INPUTS).load(learner.ranker.weights(inputs.NAMES), inputs.NAMES)  # type: ignore[assignment]
    for part in (replica.items, replica.neighbours, replica.factors, replica.content, replica._scratch):
        part.reserve(2 * n)
    for k in np.array_split(rng.permutation(n), 7):
        for slot in k.tolist():
            replica.items.restore(own[slot], learner.items.row(slot))
            replica.neighbours.restore(int(own[slot]), learner.neighbours.row(slot))
            replica.factors.restore(own[slot], learner.factors.row(slot))
        replica.items.refresh(own[k])
        replica.factors.refresh(own[k], replica.items)
    replica.factors.restore_item_gramians(learner.factors.item_gramians())
    for user in ("u1", "u2", "u33"):
        expected = slate_of(learner, user, repeats)
        history = mapped(learner._histories[learner._users[user]], own)
        found = replica.slate(history, 1e9 + 40 * DAY, repeats)
        assert found.items.tolist() == own[expected.items].tolist()
        assert (found.inputs == expected.inputs).all()
        assert (replica.ranker.predict_many(found.inputs) == learner.ranker.predict_many(expected.inputs)).all()


def test_a_restored_learner_goes_on_alike(learner: Engine) -> None:
    engine, n = copy.deepcopy(learner), len(learner)
    engine.items, engine.neighbours, engine.factors = ItemTable(), Neighbours(), Factors()
    engine.ranker = ListwiseRanker(inputs.N_INPUTS, seed=5).restore(learner.ranker.state())
    for k in range(len(learner.ranker._kept)):
        engine.ranker.restore_kept(k, learner.ranker.kept_row(k))
    for slot in range(n):
        engine.items.restore(slot, learner.items.row(slot))
        engine.neighbours.restore(slot, learner.neighbours.row(slot))
        engine.factors.restore(slot, learner.factors.row(slot))
        engine.factors.rings.restore(slot, learner.factors.rings.row(slot))
    for slot in range(len(learner._histories)):
        engine.factors.restore_user(slot, learner.factors.user_row(slot))
    engine.factors.restore_item_gramians(learner.factors.item_gramians())
    engine.factors.restore_user_gramians(learner.factors.user_gramians())
    everything = np.arange(n, dtype=np.int32)
    engine.items.refresh(everything)
    engine.factors.refresh(everything, engine.items)
    original = copy.deepcopy(learner)
    for going in (original, engine):
        play(going, 200, 1)
    assert (engine.factors.items == original.factors.items).all()
    assert (engine.factors.users == original.factors.users).all()
    for user in ("u1", "u2", "u33"):
        expected, found = slate_of(original, user), slate_of(engine, user)
        assert found.items.tolist() == expected.items.tolist()
        assert (found.inputs == expected.inputs).all()
        assert (engine.ranker.predict_many(found.inputs) == original.ranker.predict_many(found.inputs)).all()


def test_what_changed_is_named_once() -> None:
    engine = played(200)
    changed = {part: getattr(engine, part).changed.take().tolist() for part in ("items", "neighbours", "factors")}
    assert sorted(changed["items"]) == list(range(len(engine)))
    before = {slot: [getattr(engine, part).row(slot) for part in changed] for slot in range(len(engine))}
    user = engine._histories[engine._users["u1"]]
    engine.observe("u1", "i0", True, 1.0, 1e9 + DAY)
    for k, part in enumerate(changed):
        names = getattr(engine, part).changed.take().tolist()
        assert len(names) == len(set(names))
        moved = {slot for slot, rows in before.items() if rows[k] != getattr(engine, part).row(slot)}
        assert moved <= set(names)
        if part == "neighbours":
            assert set(names) == {engine._slots["i0"], *user.items[-16:].tolist()}
