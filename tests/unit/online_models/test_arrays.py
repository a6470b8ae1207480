"""Helpers over arrays."""

import numpy as np
import pytest

from online_models.arrays import descending, highest


@pytest.mark.parametrize("n_values", [0, 1, 7, 500])
@pytest.mark.parametrize("n_distinct", [1, 3, 10_000])
def test_descending_keeps_the_order_of_equal_values(n_values: int, n_distinct: int) -> None:
    """R13: the same scores give the same list, wherever it is made."""
    values = np.random.default_rng(n_values).integers(0, n_distinct, n_values) / 3.0
    values[: n_values // 10] = -np.inf
    expected = sorted(range(n_values), key=lambda k: -values[k])
    assert descending(values).tolist() == expected


@pytest.mark.parametrize("k", [0, 1, 20, 1000])
@pytest.mark.parametrize("n_distinct", [1, 3, 10_000])
def test_the_highest_are_the_first_of_all_in_order(k: int, n_distinct: int) -> None:
    """R3: equal values, as of items that nobody took, come in their order."""
    values = np.random.default_rng(k).integers(0, n_distinct, 300) / np.float32(3.0)
    assert highest(values, k).tolist() == sorted(range(300), key=lambda n: -values[n])[:k]
