"""R19: a backfilled model is the start of a live learner, which goes on with the first event that was not learned."""

import threading
from pathlib import Path

import msgspec
import pytest

from flows.common.batches import KafkaBatch
from flows.learn.learning import LearningState
from online_models.engine.defaults import default_weights
from online_models.learning.budget import UNLIMITED
from online_models.learning.learner import Learner
from online_models.versions.boosting import TreeParameters
from online_models.versions.ranking import Ranking
from ops.backfill.running import run
from ops.backfill.taking_over import CannotTakeOverError, check, take_over
from ops.backfill.training import Parameters
from state.entries import ITEM_MODEL, LEARNER_USER, MODEL
from state.memory_store import MemoryStore
from state.records import BlobRow
from state.store import Changes, StateLostError
from tests.unit.ops.backfill.log import FakeLog, a_request

LIVE = Ranking.live(default_weights())


def clean_only(n_events: int) -> FakeLog:
    """A log of one partition of events, which has one order."""
    log = FakeLog(n_events)
    events = sorted((r for w, of in log.records.items() if w[0] == "clean" for r in of.values()), key=lambda r: r.ts)
    log.records = {("clean", 0): {2 * k: event for k, event in enumerate(events)}}
    return log


def batch(topic: str, rows: dict[int, object]) -> KafkaBatch:
    encode = msgspec.json.encode if topic == "items" else msgspec.msgpack.encode
    values = [encode(row) for row in rows.values()]
    return KafkaBatch(topic, 0, list(rows), [None] * len(rows), values, [0] * len(rows), max(rows) + 1)  # type: ignore[arg-type]


def a_learner(store: MemoryStore) -> LearningState:
    return LearningState(store, "learn", Learner(organic_share=UNLIMITED, replay_share=UNLIMITED), clock=lambda: 0.0)


def learn_rest(state: LearningState, log: FakeLog) -> None:
    """Learn what is behind the watermarks, as a flow does."""
    for topic, rows in (("items", dict(enumerate(log.items.values()))), ("clean", dict(log.records["clean", 0]))):
        begin = state.start().get((topic, 0), 0)
        if left := {offset: row for offset, row in rows.items() if offset >= begin}:
            state.apply(batch(topic, left))
    state.flush()


def test_the_live_learner_goes_on_without_a_gap_or_a_repeat(tmp_path: Path) -> None:
    """R19: its state is that of a learner that learned everything once, whatever was in its place before."""
    whole, part = clean_only(400), clean_only(250)
    once = a_learner(MemoryStore())
    learn_rest(once, whole)

    training = run(a_request(), part, LIVE, tmp_path, threading.Event())
    store = MemoryStore()
    before = a_learner(store)
    learn_rest(before, clean_only(100))
    changes = Changes()
    changes.put(LEARNER_USER, "stale", store.get_many(LEARNER_USER, ["u1"])[0])
    changes.upsert(MODEL, "stale", BlobRow(b""))
    store.commit(changes)
    known = {user_id for user_id, _ in store.scan_entries(LEARNER_USER)}
    take_over(training, store, known, 0)
    with pytest.raises(StateLostError):
        before.verify()  # it ends, and is started again

    resumed = a_learner(store)
    assert resumed.start()["clean", 0] == 2 * 250 - 1
    learn_rest(resumed, whole)
    assert resumed.learner.counts == once.learner.counts
    ours, theirs = (state.learner.ranker for state in (resumed, once))
    assert (ours.n_lists, ours.n_steps) == (theirs.n_lists, theirs.n_steps)
    for layer, expected in zip(ours.layers, theirs.layers, strict=True):
        assert layer == pytest.approx(expected, rel=1e-3, abs=1e-5)
    for user_id in ("u0", "u7", "u39"):
        ours_of, theirs_of = (state.learner.users.of(user_id) for state in (resumed, once))
        assert int(ours_of.n) == int(theirs_of.n) > 0
    assert store.get_many(LEARNER_USER, ["stale"]) == [None]
    assert store.get_rows(MODEL, ["stale"]) == {}
    assert {name for name, _ in store.scan_rows(ITEM_MODEL)} == set(whole.items)


def test_a_learner_that_commits_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    """R19: the commit fails as a whole, and is tried again by the command."""
    training = run(a_request(), clean_only(250), LIVE, tmp_path, threading.Event())
    store = MemoryStore()
    state = a_learner(store)
    learn_rest(state, clean_only(100))

    class Moving(MemoryStore):
        def commit(self, changes: Changes) -> None:
            learn_rest(state, clean_only(150))
            store.commit(changes)

    moving = Moving.of(store.dump())
    moving._watermarks = store._watermarks
    with pytest.raises(StateLostError):
        take_over(training, moving, set(), 0)
    assert store.watermarks("learn")["clean", 0].next_offset == 2 * 150 - 1


def test_what_cannot_take_over_is_told_before_it_is_learned() -> None:
    """R19"""
    check(Parameters(learning_rate=0.01), False, False)
    for parameters, since, until, reason in (
        (TreeParameters(), False, False, "only --model ranker"),
        (Parameters(), True, False, "leave out --since"),
        (Parameters(), False, True, "leave out --since"),
        (Parameters(n_negatives=99), False, False, "at most 40"),
    ):
        with pytest.raises(CannotTakeOverError, match=reason):
            check(parameters, since, until)
