import numpy as np
import pytest
from numpy.typing import NDArray

from online_models.features import DECLARED, FEATURES
from online_models.ranker import Ranker, SnapshotError


def rows(n: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    usual = rng.normal([f.mean for f in DECLARED], [f.std for f in DECLARED], (n, len(FEATURES)))
    return usual.astype(np.float32)


def learn(ranker: Ranker, n_lists: int, seed: int) -> None:
    """The first is taken; it differs by its genre match."""
    for number in range(n_lists):
        features = rows(8, seed + number)
        features[0, FEATURES.index("genre_match")] += 1.0
        ranker.learn_many(features, [1, 0, 0, 0, 0, 0, 0, -1])


@pytest.mark.parametrize("n_lists", [0, 1, 100])
def test_the_vectorised_scorer_equals_rivers_predict_proba_one(n_lists: int) -> None:
    """R14: one vectorised pass in serving is River's own model."""
    ranker = Ranker()
    learn(ranker, n_lists, seed=1)
    features = rows(500, seed=99)
    ones = [ranker.predict_one(dict(zip(FEATURES, row, strict=True))) for row in features.tolist()]
    assert ranker.predict_many(features) == pytest.approx(np.array(ones), abs=1e-12)


def test_predicting_changes_nothing() -> None:
    ranker = Ranker()
    learn(ranker, 20, seed=1)
    before = ranker.to_bytes()
    ranker.predict_many(rows(50))
    ranker.predict_one(dict(zip(FEATURES, rows(1)[0].tolist(), strict=True)))
    assert ranker.to_bytes() == before


def test_a_restored_ranker_learns_on_identically() -> None:
    ranker = Ranker()
    learn(ranker, 30, seed=1)
    restored = Ranker.from_bytes(ranker.to_bytes())
    assert restored.predict_many(rows(50)).tolist() == ranker.predict_many(rows(50)).tolist()
    for each in (ranker, restored):
        learn(each, 30, seed=2)
    assert restored.to_bytes() == ranker.to_bytes()
    assert restored.version == ranker.version


@pytest.mark.parametrize("feature", ["pop_2d", "covis", "genre_match", "emb_user"])
def test_an_untrained_ranker_prefers_what_is_popular_covisited_and_to_the_taste(feature: str) -> None:
    low = np.array([[f.mean for f in DECLARED]], dtype=np.float32)
    high = low.copy()
    high[0, FEATURES.index(feature)] += 1.0
    assert Ranker().predict_many(high)[0] > Ranker().predict_many(low)[0]


def test_it_learns_which_feature_tells_the_positive() -> None:
    ranker = Ranker()
    before = ranker.regression.weights["genre_match"]
    learn(ranker, 300, seed=1)
    assert ranker.regression.weights["genre_match"] > before + 0.2


def test_rows_that_an_earlier_example_told_are_left_out() -> None:
    """R25: a late positive corrects one row; the others of its slate were learned before."""
    ranker, alone = Ranker(), Ranker()
    features = rows(3)
    ranker.learn_many(features, [-1, 1, -1])
    alone.learn_many(features[1:2], [1])
    assert ranker.to_bytes() == alone.to_bytes()


def test_contributions_add_up_to_the_log_odds() -> None:
    ranker = Ranker()
    learn(ranker, 30, seed=1)
    features = rows(20)
    odds = np.log(1 / (1 / ranker.predict_many(features) - 1))
    assert ranker.contributions(features).sum(axis=1) + ranker.regression.intercept == pytest.approx(odds, abs=1e-9)


@pytest.mark.parametrize("damaged", [b"", b"nonsense", Ranker().to_bytes()[:-3]])
def test_damaged_bytes_are_refused(damaged: bytes) -> None:
    with pytest.raises(SnapshotError, match="ranker: expected"):
        Ranker.from_bytes(damaged)
