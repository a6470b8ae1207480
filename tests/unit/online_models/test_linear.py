import numpy as np
import pytest
from numpy.typing import NDArray

from online_models.engine.inputs import N_INPUTS, NAMES
from online_models.engine.linear import LinearRanker
from online_models.engine.scorer import SnapshotVersionError

TELLING = NAMES.index("comb")


def rows(n: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(1.0, 2.0, (n, N_INPUTS)).astype(np.float32)


def learn(ranker: LinearRanker, n_lists: int, seed: int) -> None:
    """The first is taken; it differs by one input."""
    for number in range(n_lists):
        features = rows(8, seed + number)
        features[0, TELLING] += 2.0
        ranker.learn_many(features, 0)


@pytest.mark.parametrize("n_lists", [1, 100])
def test_the_vectorised_scorer_equals_rivers_predict_proba_one(n_lists: int) -> None:
    """R14: one vectorised pass is River's own model."""
    ranker = LinearRanker()
    learn(ranker, n_lists, seed=1)
    features = rows(500, seed=99)
    ones = [ranker.predict_one(dict(zip(NAMES, row, strict=True))) for row in features.tolist()]
    assert ranker.predict_many(features) == pytest.approx(np.array(ones), abs=1e-12)


def test_predicting_changes_nothing() -> None:
    ranker = LinearRanker()
    learn(ranker, 20, seed=1)
    before = ranker.to_bytes()
    ranker.predict_many(rows(50))
    ranker.predict_one(dict(zip(NAMES, rows(1)[0].tolist(), strict=True)))
    assert ranker.to_bytes() == before


def test_a_restored_ranker_learns_on_identically() -> None:
    ranker = LinearRanker()
    learn(ranker, 30, seed=1)
    restored = LinearRanker.from_bytes(ranker.to_bytes())
    assert restored.predict_many(rows(50)).tolist() == ranker.predict_many(rows(50)).tolist()
    for each in (ranker, restored):
        learn(each, 30, seed=2)
    assert restored.to_bytes() == ranker.to_bytes()


def test_it_learns_which_input_tells_the_positive() -> None:
    ranker = LinearRanker()
    learn(ranker, 300, seed=1)
    assert max(ranker.regression.weights, key=ranker.regression.weights.get) == NAMES[TELLING]


@pytest.mark.parametrize("damaged", [b"", b"nonsense", LinearRanker().to_bytes()[:-3]])
def test_damaged_bytes_are_refused(damaged: bytes) -> None:
    with pytest.raises(SnapshotVersionError, match="linear ranker"):
        LinearRanker.from_bytes(damaged)
