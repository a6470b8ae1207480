"""What readers make of sums (R28): each metric, and that parts merge exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.metrics import (
    BY_NAME,
    FAMILIES,
    MAX_SAMPLED_ITEMS,
    METRICS,
    merged,
    merged_exposure,
    quantile,
    sample_of,
    score_bin,
)

FOUND = {
    "events": {"click": 8, "view": 2},
    "rejected": {"ts": 2},
    "slates": {"slates": 10, "items": 200, "degraded": 1},
    "outcomes": {"click": 20, "watch": 3, "watch_ms": 30_000, "purchase": 5, "hide": 1, "dislike": 1, "save": 4},
    "labels": {"positives": 4, "negatives": 36, "rank_1": 2, "rank_4": 2},
    "exposure": {"a": 1, "b": 1, "c": 2, "d": 4},
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("events", 10),
        ("clicks_all", 8),
        ("reject_rate", 2 / 12),
        ("degraded_share", 0.1),
        ("ctr", 0.1),
        ("clicks_per_list", 2),
        ("engagement_rate", 29 / 200),
        ("conversion", 0.25),
        ("hide_rate", 0.01),
        ("watch_s", 30),
        ("watch_s_per_list", 3),
        ("positive_share", 0.1),
        ("mrr", (2 + 0.5) / 4),
        ("items_shown", 4),
        ("gini", 2 * (1 * 1 + 2 * 1 + 3 * 2 + 4 * 4) / (4 * 8) - 5 / 4),
    ],
)
def test_a_metric_is_its_formula(name: str, value: float) -> None:
    assert BY_NAME[name].formula.value(FOUND) == pytest.approx(value, rel=1e-12)


def test_a_ratio_of_nothing_is_not_defined() -> None:
    assert BY_NAME["ctr"].formula.value({}) is None
    assert BY_NAME["gini"].formula.value({}) is None
    assert BY_NAME["mrr"].formula.value({}) is None
    assert BY_NAME["score_p50"].formula.value({}) is None


def test_every_metric_says_what_it_is() -> None:
    families = {family.name for family in FAMILIES}
    for metric in METRICS:
        assert metric.unit
        assert metric.meaning
        assert str(metric.formula)
        assert set(metric.formula.families) <= families
    assert len(BY_NAME) == len(METRICS)


@given(st.lists(st.floats(1e-6, 1e3), min_size=1), st.floats(0, 1))
def test_a_quantile_is_within_its_error(scores: list[float], q: float) -> None:
    bins: dict[str, int] = {}
    for score in scores:
        bins[score_bin(score)] = bins.get(score_bin(score), 0) + 1
    exact = float(np.quantile(scores, q, method="lower"))
    assert quantile(bins, q) == pytest.approx(exact, rel=0.0201)


def test_scores_that_are_none_are_zero() -> None:
    assert quantile({score_bin(0.0): 3, score_bin(0.5): 1}, 0.5) == 0


def test_partitions_merge_by_adding() -> None:
    parts = [
        ("slates", {"items": 2}),
        ("slates", {"items": 3, "slates": 1}),
        ("exposure", {"a": 1}),
        ("exposure", {"a": 2}),
    ]
    assert merged(parts) == {"slates": {"items": 5, "slates": 1}, "exposure": {"a": 3}}


def test_samples_of_items_merge_to_an_unbiased_sample_with_exact_sums() -> None:
    exposed = [{f"i{number}": 1 + number % 3 for number in range(begin, begin + 6000)} for begin in (0, 3000, 20_000)]
    exact: dict[str, int] = {}
    for part in exposed:
        for item, n in part.items():
            exact[item] = exact.get(item, 0) + n
    both = merged_exposure([sample_of(part, MAX_SAMPLED_ITEMS) for part in exposed])
    assert all(exact[item] == n for item, n in both.items())
    assert BY_NAME["items_shown"].formula.value({"exposure": both}) == pytest.approx(len(exact), rel=0.1)
    gini, of_all = (BY_NAME["gini"].formula.value({"exposure": sums}) for sums in (both, exact))
    assert gini == pytest.approx(of_all, abs=0.03)
