"""What each input contributes to a score."""

import numpy as np
import pytest

from online_models.engine import inputs
from online_models.engine.contributions import contributions
from online_models.engine.listwise import ListwiseRanker
from online_models.replica import Replica


def a_ranker(n_inputs: int = 12) -> ListwiseRanker:
    ranker = ListwiseRanker(n_inputs, seed=1)
    rng = np.random.default_rng(2)
    for _ in range(200):
        features = rng.normal(size=(30, n_inputs)).astype(np.float32)
        ranker.learn_many(features, int(np.argmax(features[:, 0] + np.abs(features[:, 1]))))
    return ranker


def test_contributions_add_up_to_the_difference_from_the_baseline() -> None:
    """R1: exact, also where inputs are so far off that they are clipped."""
    ranker = a_ranker()
    features = np.random.default_rng(3).normal(size=(40, 12), scale=2.0).astype(np.float32)
    mean = ranker.list_mean(features)
    parts, baseline = contributions(ranker, features, mean)
    scores = ranker.predict_many(features, mean)
    assert np.abs(scores - baseline).max() > 0.5
    assert parts.sum(axis=1) + baseline == pytest.approx(scores, abs=2e-4)


def test_they_are_the_integral_of_the_gradient() -> None:
    """R1: against a fine sum over the line, by differences of scores."""
    ranker = a_ranker()
    features = np.random.default_rng(4).normal(size=(3, 12), scale=0.3).astype(np.float32)
    mean = ranker.list_mean(features)
    parts, _ = contributions(ranker, features, mean)
    n_steps, h = 400, 1e-2
    for item in range(3):
        path = mean + (np.arange(n_steps)[:, None] + 0.5) / n_steps * (features[item] - mean)
        for k in range(12):
            up, down = path.astype(np.float32).copy(), path.astype(np.float32).copy()
            up[:, k] += h
            down[:, k] -= h
            slope = (ranker.predict_many(up, mean) - ranker.predict_many(down, mean)).mean() / (2 * h)
            assert parts[item, k] == pytest.approx(slope * (features[item, k] - mean[k]), abs=5e-3)


def test_what_decides_contributes_most() -> None:
    ranker = a_ranker()
    features = np.zeros((2, 12), np.float32)
    features[0, 0] = 2.0
    parts, _ = contributions(ranker, features, np.zeros(12, np.float32))
    assert np.argmax(np.abs(parts[0])) == 0
    assert parts[1] == pytest.approx(np.zeros(12))


@pytest.mark.parametrize("is_ready", [True, False])
def test_a_replica_explains_with_and_without_a_trained_ranker(is_ready: bool) -> None:
    """R1"""
    replica = Replica()
    replica.ranking.scorer._is_ready = is_ready
    features = np.random.default_rng(5).normal(size=(10, inputs.N_INPUTS)).astype(np.float32)
    mean = features.mean(axis=0)
    parts, scores, baseline = replica.ranking.contributions(features, mean)
    assert parts.sum(axis=1) + baseline == pytest.approx(scores, abs=1e-3)
