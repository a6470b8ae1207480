"""How a challenger is judged on held-out lists (R19)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.evaluation.held_out import MIN_LISTS, HeldOut, JudgedList, auc, chances_of, log_loss, ndcg

lists = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=12).filter(
    lambda rows: 0 < sum(label for _, label in rows) < len(rows)
)


def a_list(taken: int = 0, n: int = 20, user: str = "u", **fields: object) -> JudgedList:
    labels = np.zeros(n, np.bool_)
    labels[taken] = True
    known = {"items": [f"i{k}" for k in range(n)], "served": True, "user_events": 7, "item_events": 50}
    return JudgedList(user=user, labels=labels, **known | fields)  # type: ignore[arg-type]


@given(lists)
def test_metrics_are_their_definitions(rows: list[tuple[int, bool]]) -> None:
    """R19: against sums over pairs and places."""
    chances = chances_of(np.array([score for score, _ in rows], np.float32))
    labels = np.array([label for _, label in rows])
    assert chances.sum() == pytest.approx(1.0)
    pairs = [(a > b) + 0.5 * (a == b) for a in chances[labels] for b in chances[~labels]]
    assert auc(chances, labels) == pytest.approx(sum(pairs) / len(pairs))
    assert log_loss(chances, labels) == pytest.approx(sum(-math.log(c) for c in chances[labels]) / labels.sum())
    order = sorted(range(len(rows)), key=lambda k: (-chances[k], k))[:10]
    gain = sum(1 / math.log2(place + 2) for place, k in enumerate(order) if labels[k])
    ideal = sum(1 / math.log2(place + 2) for place in range(min(10, labels.sum())))
    assert ndcg(chances, labels) == pytest.approx(gain / ideal)


def test_calibration_tells_honest_chances_from_boasts() -> None:
    """R19: chances that come true as often as they say, against the same ones made sharper."""
    rng = np.random.default_rng(1)
    judged = HeldOut()
    for _ in range(2000):
        scores = rng.normal(size=20)
        chances = chances_of(scores)
        judged.add(a_list(int(rng.choice(20, p=chances))), chances, chances_of(3 * scores))
    honest = judged.metrics(judged.challenger, 20)["all"]["calibration error"]
    boastful = judged.metrics(judged.live, 20)["all"]["calibration error"]
    assert honest < 0.05 < 0.2 < boastful
    assert judged.metrics(judged.challenger, 40)["all"]["coverage"] == 0.5


def test_segments() -> None:
    """R19: new and heavy users, new items, served and organic lists; what has no list is left out."""
    judged = HeldOut()
    even = np.full(20, 0.05)
    for fields in ({"user_events": 1}, {"user_events": 60, "served": False}, {"item_events": 2}):
        judged.add(a_list(**fields), even, even)
    n = {name: metrics["lists"] for name, metrics in judged.metrics(judged.challenger, 20).items()}
    assert n == {"all": 3, "served": 2, "organic": 1, "new users": 1, "heavy users": 1, "new items": 1}
    few = HeldOut()
    few.add(a_list(), even, even)
    assert set(few.metrics(few.challenger, 20)) == {"all", "served"}


@pytest.mark.parametrize(("skill", "objects"), [(0.0, False), (0.5, False), (-0.5, True)])
def test_the_gate_keeps_out_what_is_worse_beyond_chance(skill: float, objects: bool) -> None:
    """R19"""
    rng = np.random.default_rng(2)
    judged = HeldOut()
    for k in range(500):
        live, noise = rng.normal(size=20), rng.normal(size=20)
        taken = int(rng.choice(20, p=chances_of(live)))
        live_scores = live + 0.3 * noise
        ours = live_scores + 0.3 * rng.normal(size=20)
        ours[taken] += skill
        judged.add(
            a_list(taken, user=f"u{k % 90}"), chances_of(ours), chances_of(live_scores + 0.3 * rng.normal(size=20))
        )
    objection = judged.objection()
    assert (objection is not None) == objects
    assert objection is None or objection.startswith("worse in")


def test_a_few_lists_prove_nothing() -> None:
    """R19"""
    judged = HeldOut()
    for _ in range(MIN_LISTS - 1):
        judged.add(a_list(), chances_of(np.arange(20.0)), chances_of(np.arange(20.0)))
    assert f"only {MIN_LISTS - 1} held-out lists" in (judged.objection() or "")
    judged.add(a_list(), chances_of(np.arange(20.0)), chances_of(np.arange(20.0)))
    assert judged.objection() is None
