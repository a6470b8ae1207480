"""Helpers over arrays."""

import numpy as np
import pytest

from online_models.arrays import descending


@pytest.mark.parametrize("n_values", [0, 1, 7, 500])
@pytest.mark.parametrize("n_distinct", [1, 3, 10_000])
def test_descending_keeps_the_order_of_equal_values(n_values: int, n_distinct: int) -> None:
    """R13: the same scores give the same list, wherever it is made."""
    values = np.random.default_rng(n_values).integers(0, n_distinct, n_values) / 3.0
    values[: n_values // 10] = -np.inf
    expected = sorted(range(n_values), key=lambda k: -values[k])
    assert descending(values).tolist() == expected
