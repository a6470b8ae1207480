"""The ranker learns lists online, and survives a trip through bytes (R14)."""

import numpy as np
import pytest
from numpy.typing import NDArray

from online_models.engine.listwise import ListwiseRanker
from online_models.engine.scorer import Scorer, SnapshotVersionError


def a_list(rng: np.random.Generator) -> tuple[NDArray[np.float32], int]:
    """The target is the highest product of two inputs: out of reach of a linear model."""
    x = rng.normal(0, 1, (30, 4)).astype(np.float32)
    return x, int(np.argmax(x[:, 0] * x[:, 1] + 0.1 * x[:, 2]))


def trained(n: int = 1500) -> ListwiseRanker:
    ranker, rng = ListwiseRanker(4, n_kept=200, n_averaged=200), np.random.default_rng(0)
    for _ in range(n):
        ranker.learn_many(*a_list(rng))
    return ranker


def test_it_learns_what_is_not_linear() -> None:
    ranker, rng = trained(), np.random.default_rng(1)
    lists = [a_list(rng) for _ in range(200)]
    found = np.mean([np.argmax(ranker.predict_many(x)) == target for x, target in lists])
    assert found > 0.5


def test_predicting_changes_nothing() -> None:
    ranker, (x, _) = trained(60), a_list(np.random.default_rng(2))
    before = ranker.state()
    assert (ranker.predict_many(x) == ranker.predict_many(x)).all()
    assert ranker.state() == before


def test_restored_it_predicts_and_learns_on_identically() -> None:
    one = trained(300)
    other = ListwiseRanker(4, n_kept=200, n_averaged=200, seed=9).restore(one.state())
    assert one.kept_changed == set(range(200))
    for k in one.kept_changed:
        other.restore_kept(k, one.kept_row(k))
    rng = np.random.default_rng(3)
    for _ in range(50):
        x, target = a_list(rng)
        assert (one.predict_many(x) == other.predict_many(x)).all()
        one.learn_many(x, target)
        other.learn_many(x, target)


def test_another_layout_is_refused() -> None:
    with pytest.raises(SnapshotVersionError, match="expected"):
        ListwiseRanker(5).restore(trained(1).state())


def test_short_lists_are_learned() -> None:
    ranker, rng = ListwiseRanker(4, n_kept=50), np.random.default_rng(0)
    for _ in range(40):
        ranker.learn_many(rng.normal(0, 1, (2, 4)).astype(np.float32), 1)
    assert np.isfinite(ranker.predict_many(np.zeros((3, 4), np.float32))).all()


def test_gradient_is_that_of_the_loss() -> None:
    """Against finite differences of the softmax cross entropy."""
    ranker = ListwiseRanker(3, hidden=(4, 3), n_negatives=5, n_kept=4)
    rng = np.random.default_rng(0)
    for _ in range(4):
        ranker.learn_many(rng.normal(0, 1, (6, 3)).astype(np.float32), 2)
    lists = np.array([0, 1, 3])
    kept = np.stack([ranker._kept[k] for k in lists]) * (4.0 / 32767.0)

    def loss(flat: NDArray[np.float64]) -> float:
        w1, b1, w2, b2, w3, skip = ranker._views(flat)  # type: ignore[arg-type]
        h = kept @ w1 + b1
        h = np.maximum(h, 0.05 * h) @ w2 + b2
        s = np.maximum(h, 0.05 * h) @ w3 + kept @ skip
        return float(np.mean(np.log(np.exp(s - s[:, :1]).sum(1))))

    before = ranker._parameters.astype(np.float64)
    ranker._adam = lambda: None  # type: ignore[method-assign]
    ranker._step(lists)
    for k in rng.choice(before.size, 25, replace=False):
        up, down = before.copy(), before.copy()
        up[k] += 1e-5
        down[k] -= 1e-5
        assert ranker._gradient[k] == pytest.approx((loss(up) - loss(down)) / 2e-5, abs=1e-4)


def test_weights_learned_elsewhere_are_a_start() -> None:
    names = ("a", "b", "c", "d")
    source = trained()
    started = ListwiseRanker(4, n_kept=200, n_averaged=200, seed=5).load(source.weights(names), names)
    x, target = a_list(np.random.default_rng(4))
    assert started.is_ready
    assert (started.predict_many(x) == source.predict_many(x)).all()
    started.learn_many(x, target)
    with pytest.raises(SnapshotVersionError, match="weights"):
        ListwiseRanker(4).load(source.weights(names), ("a", "b", "c", "e"))


def test_the_scorer_scores_as_the_ranker_does() -> None:
    """R14: what serving holds is a twin."""
    names = ("a", "b", "c", "d")
    ranker, (x, _) = trained(100), a_list(np.random.default_rng(4))
    scorer = Scorer(4)
    assert not scorer.is_ready
    scorer.load(ranker.weights(names), names)
    assert scorer.is_ready
    assert (scorer.predict_many(x) == ranker.predict_many(x)).all()


def test_a_logged_mean_stands_for_the_candidates_that_were_not_shown() -> None:
    """R11: the values that scored an item are those it is learned from."""
    ranker, (x, _) = trained(100), a_list(np.random.default_rng(4))
    shown = ranker.predict_many(x[:8], Scorer.list_mean(x))
    assert shown == pytest.approx(ranker.predict_many(x)[:8], abs=1e-5)
    ranker.learn_many(x[:8], 0, Scorer.list_mean(x))
    mean = (x - x.mean(0)) / np.sqrt(ranker._statistics[2])
    assert ranker._kept[-1][0, 4:] * (4.0 / 32767.0) == pytest.approx(np.clip(mean[0], -4, 4), abs=1e-2)


def test_a_weight_scales_the_gradient_of_its_list() -> None:
    """R11: inverse propensity."""
    plain, weighted = trained(100), trained(100)
    for ranker, weight in ((plain, 1.0), (weighted, 3.0)):
        ranker._adam = lambda: None  # type: ignore[method-assign]
        ranker.n_replayed = 0
        ranker.learn_many(*a_list(np.random.default_rng(4)), weight=weight)
    assert weighted._gradient == pytest.approx(3.0 * plain._gradient, rel=1e-4, abs=1e-6)


def test_nothing_is_allocated_before_lists_come() -> None:
    assert ListwiseRanker(64)._kept == []
