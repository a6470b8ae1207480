"""Backfill: the same from the same log, over interruptions, and judged before it is learned (R19)."""

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from flows.common.batches import KafkaBatch
from flows.learn.learning import LearningState
from online_models.engine import inputs
from online_models.engine.defaults import default_weights
from online_models.engine.listwise import ListwiseRanker
from online_models.learning.learner import Learner
from online_models.versions.boosting import TreeParameters
from online_models.versions.ranking import Ranking
from ops.backfill.registering import artifact_of, live_ranking
from ops.backfill.running import InterruptedRunError, KeptRunError, NothingToLearnError, forget, run
from ops.backfill.sources import merged
from ops.backfill.training import Parameters, Training, parsed
from state import kept_runs
from state.artifacts import decode, encode
from state.control import MODELS, ControlDocument
from state.entries import CONTROL, MODEL
from state.memory_store import MemoryStore
from state.models import Models
from state.records import BlobRow, CleanEvent
from state.registry import Registry
from state.store import Changes
from state.validation import ERASE
from tests.unit.online_models.artifacts import an_artifact
from tests.unit.online_models.boosted import needs_lightgbm
from tests.unit.ops.backfill.log import START_MS, STEP_MS, FakeLog, a_request

LIVE = Ranking.live(default_weights())


def learned(folder: Path, log: FakeLog | None = None, live: Ranking = LIVE, **fields: object) -> Training:
    return run(a_request(**fields), log or FakeLog(), live, folder, threading.Event())


def test_partitions_and_topics_come_in_stream_time() -> None:
    """R19: a list before its outcome, and that before later events."""
    log = FakeLog()
    ends = {where: end for where, (_, end) in log.bounds().items()}
    messages = list(merged(log, {}, ends))
    assert len(messages) == sum(map(len, log.records.values()))
    assert [message.stream_ts for message in messages] == sorted(message.record.ts for message in messages)
    names = [message.where[0] for message in messages[:3]]
    assert names == ["impressions", "examples", "clean"]


def test_two_runs_of_one_request_learn_the_same(tmp_path: Path) -> None:
    """R19"""
    one, other = learned(tmp_path / "a"), learned(tmp_path / "b")
    assert one.weights() == other.weights()
    assert one.held_out.challenger.losses == other.held_out.challenger.losses
    assert one.weights() != learned(tmp_path / "c", parameters=Parameters(seed=1)).weights()


def test_without_organic_lists_none_is_learned(tmp_path: Path) -> None:
    """R19: neither in the first tenth of a second."""
    assert learned(tmp_path / "with").learner.counts.organic_lists > 40
    assert learned(tmp_path / "without", parameters=Parameters(organic=False)).learner.counts.organic_lists == 0


def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R19: nothing is learned twice or left out; new events do not disturb the run that goes on.

    Equal to rounding: sums over what lies elsewhere in memory may be rounded differently.
    """
    monkeypatch.setattr("ops.backfill.running._LOOK_EVERY", 1)
    whole = learned(tmp_path / "whole")
    stop, log, after = threading.Event(), FakeLog(), 300

    def progress(done: int, total: int) -> None:
        if done == after:
            stop.set()

    with pytest.raises(InterruptedRunError, match=f"after {after} of"):
        run(a_request(), log, LIVE, tmp_path, stop, progress)
    grown = FakeLog(550)
    resumed = run(a_request(), grown, LIVE, tmp_path, threading.Event())
    assert resumed.learner.counts == whole.learner.counts
    assert resumed.held_out.challenger.losses == pytest.approx(whole.held_out.challenger.losses, rel=1e-3)
    forget(a_request(), tmp_path)
    assert not list(tmp_path.glob("*.run"))
    assert learned(tmp_path, grown).learner.counts.events == 550


def test_an_erasure_removes_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R27: kept runs hold histories. One that is under way keeps nothing any more; the next begins anew."""
    monkeypatch.setattr("ops.backfill.running._LOOK_EVERY", 1)

    def interrupted(at: int, meanwhile: Callable[[], None] = lambda: None) -> list[Path]:
        stop = threading.Event()

        def progress(done: int, total: int) -> None:
            if done == at:
                meanwhile()
                stop.set()

        with pytest.raises(InterruptedRunError):
            run(a_request(), FakeLog(), LIVE, tmp_path, stop, progress)
        return list(tmp_path.glob("*.run"))

    assert len(interrupted(100)) == 1
    learning = LearningState(MemoryStore(), "learn", Learner(), on_erase=lambda: kept_runs.erase(tmp_path))
    for k, kind in enumerate(("click", ERASE)):
        assert len(list(tmp_path.glob("*.run"))) == 1
        event = msgspec.msgpack.encode(CleanEvent(f"e{k}", kind, "u1", None, START_MS))
        learning.apply(KafkaBatch("clean", 0, [k], [None], [event], [0], k + 1))
    assert list(tmp_path.glob("*.run")) == []
    assert interrupted(120, lambda: kept_runs.erase(tmp_path)) == []
    assert len(interrupted(140)) == 1
    (kept,) = tmp_path.glob("*.run")
    written = kept.stat().st_mtime
    assert not kept_runs.is_older(tmp_path, written)
    assert kept_runs.is_older(tmp_path, written + 1)
    kept_runs.erase(tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_lists_are_judged_before_they_are_learned(tmp_path: Path) -> None:
    """R19: what comes later changes no judgement of what came before."""
    long, cut = learned(tmp_path), START_MS + 450 * STEP_MS
    same_split = 1 - (long.plan.held_out_ms - START_MS) / (cut - START_MS)
    cut_short = learned(tmp_path, until_ms=cut, held_out=same_split)
    assert abs(cut_short.plan.held_out_ms - long.plan.held_out_ms) <= 1
    n = len(cut_short.held_out)
    assert 50 < n < len(long.held_out)
    assert cut_short.held_out.challenger.losses == long.held_out.challenger.losses[:n]


def test_served_lists_are_compared_with_what_was_logged(tmp_path: Path) -> None:
    """R19: the live model's chances are those that it gave then: here all alike."""
    training = learned(tmp_path)
    challenger, live = (
        training.held_out.metrics(of, 60)["served"] for of in (training.held_out.challenger, training.held_out.live)
    )
    assert live["AUC"] == 0.5
    assert live["log loss"] == pytest.approx(2.302585)
    assert challenger["AUC"] > 0.6
    assert challenger["lists"] == live["lists"] > 40
    assert training.n_served_by_others == 0
    organic = training.held_out.metrics(training.held_out.challenger, 60)["organic"]
    assert organic["lists"] > 40


def test_a_worse_one_is_told_by_the_gate(tmp_path: Path) -> None:
    """R19: a ranker that begins with nothing and hardly learns, against the one of a good run."""
    good = learned(tmp_path)
    assert good.held_out.objection() is None
    live = Ranking.live(good.weights())
    log = FakeLog()
    for where in log.records:
        if where[0] == "impressions":
            log.records[where] = {}
    log.records = {where: records for where, records in log.records.items() if records}
    bad = learned(tmp_path, log, live, parameters=Parameters(start="none", learning_rate=1e-7))
    assert bad.n_served_by_others > 40
    assert (bad.held_out.objection() or "").startswith("worse in")


def test_the_artifact_tells_where_it_comes_from(tmp_path: Path) -> None:
    """R18: offsets, time, parameters, metrics beside the live model's, code."""
    training = learned(tmp_path, parameters=Parameters(n_replayed=5))
    artifact = artifact_of(training, {}, "nightly")
    manifest = decode(encode(artifact), artifact.manifest.name).manifest
    assert manifest.lineage.source == "lake"
    assert manifest.lineage.offsets["clean/0"] == (0, FakeLog().bounds()["clean", 0][1])
    assert (manifest.lineage.since, manifest.code, manifest.note) == (
        "2026-09-21T14:13:20.000+00:00",
        "test",
        "nightly",
    )
    assert manifest.parameters["n_replayed"] == 5
    assert manifest.metrics["all"].keys() == manifest.beside["all"].keys()
    assert manifest.metrics["all"]["lists"] == len(training.held_out)
    ranking = Ranking.of(artifact)
    assert ranking.scorer.n_lists == training.learner.ranker.n_lists == manifest.n_lists


def test_trees_are_learned_from_the_same_log_and_judged_on_the_same_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R19: a challenger of another kind, by the same command; an interrupted run comes to the same trees."""
    needs_lightgbm()
    monkeypatch.setattr("ops.backfill.running._LOOK_EVERY", 1)
    parameters = TreeParameters(n_trees=10, n_leaves=7, min_leaf=20)
    training = learned(tmp_path / "whole", parameters=parameters)
    ranker = learned(tmp_path / "ranker")
    assert training.held_out.live.losses == pytest.approx(ranker.held_out.live.losses, rel=1e-3)
    assert training.held_out.metrics(training.held_out.challenger, 60)["served"]["AUC"] > 0.6

    stop = threading.Event()
    with pytest.raises(InterruptedRunError):
        run(
            a_request(parameters=parameters), FakeLog(), LIVE, tmp_path, stop,
            lambda done, total: stop.set() if done == 300 else None,
        )  # fmt: skip
    resumed = run(a_request(parameters=parameters), FakeLog(), LIVE, tmp_path, threading.Event())
    assert resumed.n_lists == training.n_lists > 100
    assert resumed.held_out.challenger.losses == pytest.approx(training.held_out.challenger.losses, rel=0.05)

    artifact = artifact_of(training, {}, "")
    manifest = decode(encode(artifact)).manifest
    assert manifest.name.startswith("trees@")
    assert manifest.lineage.until == manifest.parameters["held_out_from"]
    assert manifest.parameters["n_leaves"] == 7
    assert Ranking.of(artifact).version == manifest.name


def test_what_is_live_is_what_it_is_compared_with(tmp_path: Path) -> None:
    """R19: the document says which; without one, the learner's newest weights, else those that ship."""
    store, registry = MemoryStore(), Registry(str(tmp_path))
    assert live_ranking(store, registry).version == LIVE.version
    changes = Changes()
    weights = ListwiseRanker(inputs.N_INPUTS).weights(inputs.NAMES)
    changes.upsert(MODEL, "ranker", BlobRow(weights))
    store.commit(changes)
    assert live_ranking(store, registry).scorer.weights(inputs.NAMES) == weights
    artifact = an_artifact()
    registry.put(artifact)
    changes = Changes()
    body = MODELS.encode(Models(ranker=artifact.manifest.name))
    changes.upsert(CONTROL, "models", ControlDocument("models", 1, body, "", 0))
    store.commit(changes)
    assert live_ranking(store, registry).version == artifact.manifest.name


def test_bad_requests_say_what_to_do(tmp_path: Path) -> None:
    """R19"""
    with pytest.raises(NothingToLearnError, match=r"from 20\d\d-.* none as asked"):
        learned(tmp_path, since_ms=START_MS * 2)
    with pytest.raises(NothingToLearnError, match="there is no event in lake"):
        learned(tmp_path, FakeLog(0))
    for pairs, reason in (
        (["x"], "expected name=value"),
        (["rate=1"], "there are: learning_rate"),
        (["seed=a"], "there are"),
    ):
        with pytest.raises(ValueError, match=reason):
            parsed(pairs)
    a_request().path(tmp_path).write_bytes(b"\xc1")
    with pytest.raises(KeptRunError, match="--restart begins again"):
        learned(tmp_path)
    with pytest.raises(ValueError, match="there are: n_trees"):
        parsed(["n_replayed=5"], "trees")
    assert parsed(["n_trees=5"], "trees") == TreeParameters(n_trees=5)
    assert parsed(["learning_rate=0.01", "organic=false", "start=none"]) == Parameters(
        learning_rate=0.01, organic=False, start="none"
    )
