"""How a bench tells whether similar items rose."""

from math import log

import pytest

from ops.bench.opinions import risen


def test_items_rise_by_their_places_and_from_behind_the_end() -> None:
    assert risen(["a", "b", "c"], ["c", "a", "b"], ["c"]) == pytest.approx(log(3))
    assert risen(["a", "b", "c"], ["c", "a", "b"], ["a", "b"]) == pytest.approx((log(1 / 2) + log(2 / 3)) / 2)
    assert risen(["a", "b"], ["a", "x"], ["x"]) == pytest.approx(log(3) - log(2))
    assert risen(["a", "b"], ["a", "b"], ["nowhere"]) is None
