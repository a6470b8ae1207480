"""How far two models agree on a list (R20)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from online_models.evaluation.agreement import distance, kendall, overlap, spearman

pairs = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=25)


@given(pairs)
def test_correlations_are_those_of_scipy(rows: list[tuple[int, int]]) -> None:
    """R20: ties included; where SciPy says that there is none, 0."""
    one, other = np.array(rows, np.float64).T
    for ours, theirs in ((kendall, stats.kendalltau), (spearman, stats.spearmanr)):
        constant = np.ptp(one) == 0 or np.ptp(other) == 0
        expected = 0.0 if constant else float(theirs(one, other).statistic)
        assert ours(one, other) == pytest.approx(expected, abs=1e-12)


def test_overlap_and_distance() -> None:
    """R20"""
    one = np.arange(20.0)
    assert overlap(one, one) == 1.0
    assert overlap(one, -one) == 0.0
    assert overlap(one[:4], -one[:4]) == 1.0
    assert distance(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1.0
    assert distance(np.array([0.5, 0.5]), np.array([0.75, 0.25])) == 0.25
