"""Models to compare with compute what they say, so that differences to them mean something (R17)."""

import math
from collections.abc import Mapping

import numpy as np
import pytest

from online_models.evaluation import baselines, live, nightly
from online_models.evaluation.baselines import DAY, Baseline, Constant
from online_models.evaluation.tuning import tune
from ops.evaluation.models import BASELINES

WHOLE: Mapping[str, float] = {"fading": 0.5, "blend": 0.0, "dislike": 0.5}


def scores(model: Baseline, user: str, t: float) -> dict[str, float]:
    """Evidence alone, by item."""
    assert isinstance(model, baselines.Blended)
    return dict(zip(model.names, model.evidence(int(model.log.of_user[model.users[user]]), t), strict=True))


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_finds_what_follows(name: str) -> None:
    found = BASELINES[name](seed=1, every=10)
    for k in range(40):
        for step, item in enumerate(("a", "b", "c")):
            found.observe(f"u{k}", item, True, 1.0, 100.0 * k + step)
    for k in range(20):
        found.observe(f"v{k}", "d", True, 1.0, 4000.0 + 25 * k)
    found.observe("new", "a", True, 1.0, 5000.0)
    listed = found.recommend("new", 3, 5001.0, "unseen")
    assert set(listed[:2]) == {"b", "c"}
    assert listed[2] == "d"
    assert set(found.recommend("new", 4, 5001.0, "all")) == {"a", "b", "c", "d"}


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_answers_users_and_items_that_it_does_not_know(name: str) -> None:
    model = BASELINES[name](seed=1, every=1000)
    assert model.recommend("nobody", 5, 0.0, "unseen") == []
    model.observe("u", "a", False, 1.0, 0.0)
    assert model.recommend("u", 5, 1.0, "unseen") == []
    assert model.recommend("nobody", 5, 1.0, "unseen") == ["a"]
    for k in range(3000):
        model.observe(f"u{k}", f"i{k}", True, 1.0, float(k))
    assert len(model.recommend("u0", 20, 4000.0, "unseen")) == 20


def test_equal_scores_are_ordered_by_a_permutation() -> None:
    """Neither by arrival nor by name."""
    orders = set()
    for seed in range(5):
        model = baselines.Popularity(seed)
        for item in "abcdef":
            model.observe("u", item, True, 1.0, 0.0)
        orders.add("".join(model.recommend("v", 6, 1.0, "unseen")))
    assert len(orders) > 1


def test_popularity_halves() -> None:
    model = baselines.RecentPopularity(constants={"popular_days": 1.0})
    model.observe("u", "old", True, 1.0, 0.0)
    model.observe("u", "new", True, 1.0, 2 * DAY)
    model.observe("u", "bad", False, 1.0, 2 * DAY)
    assert model.scores(-1, 3 * DAY) == pytest.approx([1 / 8, 1 / 2, 0.0])


def test_cooccurrence_by_hand() -> None:
    """Two others had the user's item; direction, distance, decay and normalisation each show."""
    of = {"half_life_days": 1.0, "power": 0.7, "distance": 1.0, "reach": 2, "backward": 0.5, "item_power": 0.3}
    model = live.Cooccurrence(constants=dict(live.Cooccurrence(constants=WHOLE).constants) | of)
    for user, item, t, positive in (
        ("v", "p", 0.0, True),
        ("v", "h", 0.0, True),
        ("v", "a", 0.0, True),
        ("v", "b", 0.0, False),
        ("v", "c", 0.0, True),  # out of reach
        ("w", "h", DAY, True),
        ("w", "a", DAY, True),
        ("u", "h", DAY, True),
    ):
        model.observe(user, item, positive, 1.0, t)
    found = scores(model, "u", 2 * DAY)
    decay_v, decay_w = 0.25, 0.5
    norm = (decay_v + decay_w + 1.0) ** 0.7
    assert found == pytest.approx(
        {
            "p": 0.5 * decay_v / norm / 2**0.3,
            "h": 0.0,
            "a": (decay_v + decay_w) / norm / 3**0.3,
            "b": 0.5 * decay_v / 2 / norm / 2**0.3,
            "c": 0.0,
        }
    )


def test_markov_counts_what_came_next() -> None:
    model = live.Markov()
    for user in "vw":
        for item in ("h", "a", "b"):
            model.observe(user, item, True, 1.0, 0.0)
    model.observe("x", "h", True, 1.0, 0.0)
    model.observe("x", "b", True, 1.0, 0.0)
    model.observe("u", "h", True, 1.0, 0.0)
    assert scores(model, "u", 0.0) == pytest.approx({"h": 0.0, "a": 2.0, "b": 1.0})


def test_session_neighbours_by_hand() -> None:
    """The session that shares both items is the nearest, and with one neighbour the only one that votes."""
    of = {"n_neighbours": 1, "distance": 0.5, "rarity": 1.0, "length_power": 0.5}
    model = live.SessionNeighbours(constants=dict(live.SessionNeighbours(constants=WHOLE).constants) | of)
    for user, items in (("v", "ghxa"), ("w", "hb"), ("u", "gh")):
        for item in items:
            model.observe(user, item, True, 1.0, 0.0)
    found = scores(model, "u", 0.0)
    similarity = (1.0 + 0.5) / math.sqrt(4)
    assert found["b"] == 0.0
    assert found["x"] == pytest.approx(similarity * 0.5 * math.log1p(3 / 1))
    assert found["a"] == pytest.approx(similarity * 0.25 * math.log1p(3 / 1))
    assert found["h"] == pytest.approx(similarity * math.log1p(3 / 3))
    assert (model._counted == -1).all()


def history(model: Baseline) -> None:
    rng = np.random.default_rng(0)
    for k in range(400):
        model.observe(f"u{k % 40}", f"i{rng.integers(0, 12)}", True, 1.0, float(k))


def matrix(model: Baseline) -> np.ndarray:
    found = np.zeros((len(model.users), len(model.names)))
    for event in range(model.log.n):
        found[model.log.users[event], model.log.items[event]] += 1.0
    return found


def test_ease_solves_its_normal_equations() -> None:
    model = nightly.Ease(every=1000, constants=dict(nightly.Ease().constants) | {"half_life_days": 1e9, "penalty": 5.0})
    history(model)
    model.evidence(0, 400.0)
    x = matrix(model)
    inverse = np.linalg.inv(x.T @ x + 5.0 * np.eye(x.shape[1]))
    expected = inverse / -np.diag(inverse)
    np.fill_diagonal(expected, 0.0)
    assert model._weights == pytest.approx(expected, abs=1e-4)


def test_item_neighbours_are_cosines() -> None:
    of = {"half_life_days": 1e9, "shrink": 0.0, "sharpness": 1.0}
    model = nightly.ItemNeighbours(every=1000, constants=dict(nightly.ItemNeighbours().constants) | of)
    history(model)
    model.evidence(0, 400.0)
    x = matrix(model)
    expected = (x.T @ x) / np.outer(np.linalg.norm(x, axis=0), np.linalg.norm(x, axis=0))
    np.fill_diagonal(expected, 0.0)
    assert model._similar == pytest.approx(expected, abs=1e-5)


def test_fold_in_is_the_exact_solution() -> None:
    """The gradient of the weighted least squares is zero at the folded-in vector."""
    model = nightly.Ials(every=1000)
    history(model)
    model.evidence(0, 400.0)
    items, of = model._items, model.constants
    at, weights = np.array([1, 3]), np.array([1.0, 0.5])
    found = model.predict(at, weights)
    taste = np.linalg.lstsq(items, found, rcond=None)[0]
    confidence, wanted = np.ones(len(items)), np.zeros(len(items))
    confidence[at] += of["alpha"] * weights
    wanted[at] = 1.0
    gradient = items.T @ (confidence * (items @ taste - wanted)) + of["penalty"] * taste
    assert np.abs(gradient).max() < 1e-6


def test_nightly_models_are_refitted_by_the_night_and_see_live_histories() -> None:
    model = nightly.ItemNeighbours(every=100)
    fits = []
    fit = model.fit
    model.fit = lambda *of: (fits.append(model.log.n), fit(*of))[1]  # type: ignore[method-assign]
    for k in range(250):
        model.observe(f"u{k % 9}", f"i{k % 7}", True, 1.0, float(k))
        if k >= 20:
            model.recommend("u1", 5, float(k), "unseen")
    assert fits == [21, 121, 221]
    before = scores(model, "u1", 300.0)
    model.observe("u1", "i0", True, 1.0, 300.0)
    assert scores(model, "u1", 300.0) != before


def test_only_the_most_active_items_are_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nightly.Nightly, "MAX_ITEMS", 2)
    model = nightly.Ease(every=1000)
    for k in range(60):
        model.observe(f"u{k % 10}", "abbccc"[k % 6], True, 1.0, float(k))
    model.evidence(0, 60.0)
    assert {model.names[at] for at in model._fitted} == {"b", "c"}


def test_tuning_walks_while_it_gets_better() -> None:
    constants = {"x": Constant(0.0, (-1.0, 1.0, 2.0, 3.0, 9.0)), "y": Constant(5.0, (4.0, 6.0)), "z": Constant(1.0, ())}
    tried: list[float] = []

    class Point(baselines.Popularity):
        CONSTANTS = constants

    def judge(model: Baseline) -> float:
        return -((model.constants["x"] - 2.0) ** 2) - (model.constants["y"] - 4.0) ** 2

    found = tune(lambda of: Point(0, 1, of), constants, judge, tried.append)
    assert found == {"x": 2.0, "y": 4.0, "z": 1.0}
    assert len(tried) == 1 + 4 + 2  # the start; 1, 2, 3 and -1; 6 and 4
