"""R19: boosted trees as a challenger: what LightGBM learned, scored without it, to the bit."""

import builtins
from typing import Any

import numpy as np
import pytest

from online_models.engine import inputs
from online_models.engine.scorer import Scorer, SnapshotVersionError
from online_models.versions.boosting import (
    CollectedLists,
    MissingLibraryError,
    TooFewListsError,
    boost,
    lightgbm,
    nodes_of,
)
from online_models.versions.ranking import Ranking
from online_models.versions.shadow import Challenger
from online_models.versions.trees import TreeScorer, columns_of
from state.artifacts import ArtifactError
from tests.unit.online_models.boosted import PARAMETERS, a_booster, a_tree_artifact, needs_lightgbm, some_lists

N = inputs.N_INPUTS


@pytest.fixture
def trees() -> TreeScorer:
    needs_lightgbm()
    return TreeScorer(N).load(a_booster()[1], inputs.NAMES)


def values(n: int = 200, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=(n, N)).astype(np.float32)


def test_scores_are_those_of_lightgbm_to_the_bit(trees: TreeScorer) -> None:
    """R19: also at the thresholds themselves, and of candidates that are only some of their list."""
    booster, _ = a_booster()
    assert booster.best_iteration > 5
    listed = values()
    thresholds = trees._thresholds[trees._columns == 0]
    listed[: len(thresholds), 0] = thresholds
    mean = listed.mean(axis=0)
    for some in (listed, listed[:7], listed[:0]):
        expected = booster.predict(columns_of(some, mean)) if len(some) else np.zeros(0)
        assert np.array_equal(trees.raw(some, mean), expected)
    assert np.array_equal(trees.predict_many(listed), trees.predict_many(listed, Scorer.list_mean(listed)))


def test_the_same_lists_give_the_same_trees(trees: TreeScorer) -> None:
    """R19: in one thread, with a seed."""
    again = nodes_of(boost(some_lists(), PARAMETERS), inputs.NAMES, 250)
    assert again == a_booster()[1]


def test_what_is_learned_is_what_was_taken(trees: TreeScorer) -> None:
    """R19: the second input counts on both sides of 0, which no linear ranker sees."""
    found = 0
    for seed in range(50):
        listed = values(30, 100 + seed)
        wanted = int(np.argmax(listed[:, 0] + np.abs(listed[:, 1])))
        found += int(np.argmax(trees.predict_many(listed))) == wanted
    assert found > 25


def test_contributions_make_up_the_score(trees: TreeScorer) -> None:
    """R22: baseline and what each input gives; inputs that no tree asks about give nothing."""
    listed = values()
    mean = listed.mean(axis=0)
    parts, baseline = trees.contributions(listed, mean)
    assert parts.sum(axis=1) + baseline == pytest.approx(trees.raw(listed, mean))
    asked = set((trees._columns[trees._columns >= 0] % N).tolist())
    assert set(np.flatnonzero(np.abs(parts).sum(axis=0)).tolist()) <= asked
    assert set(np.argsort(-np.abs(parts).sum(axis=0))[:2].tolist()) == {0, 1}
    ranking = Ranking.of(a_tree_artifact())
    told, scores, _ = ranking.contributions(listed, mean)
    assert np.array_equal(told, parts)
    assert scores == pytest.approx(trees.predict_many(listed, mean))


def test_collected_lists_are_kept_like_a_rankers(trees: TreeScorer) -> None:
    """R19: bounded, the newest ones, and restored from their rows as they were."""
    lists = some_lists()
    collected, weights = lists.collected()
    assert len(collected) == len(weights) == PARAMETERS.max_lists
    assert collected[0].shape == (1 + 1 + PARAMETERS.n_negatives, N)
    again = CollectedLists(N, PARAMETERS).restore(lists.state())
    for k in range(PARAMETERS.max_lists):
        again.restore_kept(k, lists.kept_row(k))
    assert nodes_of(boost(again, PARAMETERS), inputs.NAMES, 250) == a_booster()[1]


def test_it_is_a_ranker_like_others_for_the_shadow(trees: TreeScorer) -> None:
    """R20: agreement and quality by the same interface."""
    ranking = Ranking.of(a_tree_artifact())
    assert (ranking.name, ranking.version) == ("trees", a_tree_artifact().manifest.name)
    challenger = Challenger(ranking, 1.0)
    listed = values(20)
    features = np.vstack([listed, listed.mean(axis=0)]).tobytes()
    scores = np.exp(ranking.score(listed, listed.mean(axis=0)).astype(np.float64)).tolist()
    agreement = challenger.agreement(features, inputs.FEATURE_SET, scores)
    assert agreement is not None
    assert agreement["overlap10"] == 1_000_000
    assert challenger.quality(features, inputs.FEATURE_SET, [1] + [0] * 19) is not None


def test_what_cannot_be_used_is_refused(trees: TreeScorer) -> None:
    """R18: of other inputs, of another kind, cut short."""
    _, weights = a_booster()
    with pytest.raises(SnapshotVersionError, match="expected layout"):
        TreeScorer(N).load(weights, (*inputs.NAMES[:-1], "other"))
    for artifact, reason in (
        (a_tree_artifact(model="forest"), "expected one of ranker, trees"),
        (a_tree_artifact()._replace(weights=weights[:100]), "trees@"),
        (a_tree_artifact(feature_set="other"), "expected feature set"),
        (a_tree_artifact(model="ranker"), "trees@"),
    ):
        with pytest.raises(ArtifactError, match=reason):
            Ranking.of(artifact)


def test_too_few_lists_are_told() -> None:
    """R19"""
    needs_lightgbm()
    with pytest.raises(TooFewListsError, match="5 lists before"):
        boost(some_lists(5), PARAMETERS)


def test_a_missing_library_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """R19: LightGBM loads libgomp, which a slim image does not have."""
    actual = builtins.__import__

    def without(name: str, *others: Any) -> Any:
        if name == "lightgbm":
            raise OSError("libgomp.so.1: cannot open shared object file: No such file or directory")
        return actual(name, *others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingLibraryError, match=r"libgomp\.so\.1.*apt install libgomp1"):
        lightgbm()
