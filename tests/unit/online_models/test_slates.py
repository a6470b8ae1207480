"""R21: what a list is like."""

import numpy as np
import pytest

from online_models.evaluation import slates
from online_models.evaluation.metrics import diversity


def test_what_hardly_anybody_takes_is_news() -> None:
    assert slates.novelty(np.array([127.5]), 1023.0) == pytest.approx(3.0)  # an eighth of all events
    rare, common = (slates.novelty(np.array([n, n]), 1000.0) for n in (1.0, 100.0))
    assert rare > common > 0
    assert np.isfinite(slates.novelty(np.zeros(3), 0.0))


def test_diversity_is_that_of_the_evaluation() -> None:
    genres = np.array([[0, 1, -1], [1, 2, 3], [4, -1, -1], [0, 1, -1]], np.int32)
    named = {str(k): frozenset(map(str, row[row >= 0])) for k, row in enumerate(genres)}
    assert slates.diversity(genres) == pytest.approx(diversity([list(named)], named))


def test_items_without_genres_say_nothing_of_diversity() -> None:
    assert slates.diversity(np.array([[3, -1], [-1, -1]], np.int32)) is None
    assert slates.diversity(np.array([[3, -1], [-1, -1], [3, -1]], np.int32)) == 0
    assert slates.diversity(np.zeros((0, 4), np.int32)) is None
