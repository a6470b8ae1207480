"""Exploration: its probabilities, and that lists come as often as they say."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from online_models.reranking.exploration import N_RATES, Arms, Strategy, draw, posterior, win_chances
from online_models.reranking.rerank import Exploration, LabelCap, rerank


def test_winning_chances_are_those_of_thompson_sampling() -> None:
    """R16: against draws from the posteriors themselves."""
    positives, trials = np.array([0.0, 3.0, 1.0, 20.0]), np.array([0.0, 10.0, 30.0, 60.0])
    out = np.zeros(4)
    win_chances(posterior(positives, trials), np.ones(4, np.bool_), out)
    rng = np.random.default_rng(0)
    draws = rng.beta(1.0 + positives, 9.0 + trials - positives, (200_000, 4))
    won = np.bincount(draws.argmax(axis=1), minlength=4) / len(draws)
    assert out.sum() == pytest.approx(1.0)
    assert out == pytest.approx(won, abs=0.006)


def test_items_that_are_out_never_win() -> None:
    out = np.zeros(3)
    for chances in (posterior(np.zeros(3), np.zeros(3)), np.empty((0, N_RATES))):
        win_chances(chances, np.array([True, False, True]), out)
        assert out[1] == 0.0
        assert out.sum() == pytest.approx(1.0)


def test_more_evidence_of_liking_wins_more_often() -> None:
    """R16"""
    out = np.zeros(3)
    win_chances(posterior(np.array([0.0, 5.0, 0.0]), np.array([50.0, 20.0, 0.0])), np.ones(3, np.bool_), out)
    assert out[1] > out[2] > out[0]


def test_a_number_near_1_draws_the_last_that_is_possible() -> None:
    assert draw(np.array([0.3, 0.7, 0.0]), np.nextafter(1.0, 0.0)) == 1
    assert draw(np.array([0.3, 0.7 - 1e-12, 0.0]), np.nextafter(1.0, 0.0)) == 1


SCORES = np.linspace(1.0, 0.1, 12)
LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 0, 1, 2, 0, 2], np.int32)[:, None]


def a_list(seed: int, strategy: Strategy, share: float = 0.4, n: int = 5) -> Any:
    # The arms hold a candidate that comes without them, too, and one of a label that the cap soon fills up.
    positives, trials = np.array([0.0, 2.0, 0.0, 1.0]), np.array([0.0, 9.0, 4.0, 1.0])
    arms = Arms.of(np.array([3, 7, 10, 11], np.int32), positives, trials, strategy)
    uniforms = np.random.default_rng(seed).random((n, 2))
    return rerank(SCORES, n, caps=[LabelCap(LABELS, 2, 5)], exploration=Exploration(share, arms, uniforms))


@pytest.mark.parametrize("strategy", ["thompson", "uniform"])
def test_lists_come_as_often_as_their_propensities_say(strategy: Strategy) -> None:
    """R16: over many draws, given what is above, each item is shown as often as was logged, and that adds up to 1."""
    n_lists = 20_000
    shown: dict[tuple[int, ...], Counter[int]] = {}
    said: dict[tuple[int, ...], dict[int, float]] = {}
    for seed in range(n_lists):
        done = a_list(seed, strategy)
        order = done.order[:5].tolist()
        for place in range(5):
            above = tuple(order[:place])
            shown.setdefault(above, Counter())[order[place]] += 1
            logged = said.setdefault(above, {}).setdefault(order[place], float(done.propensities[place]))
            assert logged == done.propensities[place]
    often = [above for above, counts in shown.items() if sum(counts.values()) > 1000]
    assert len(often) > 5
    for above in often:
        n = sum(shown[above].values())
        for item, propensity in said[above].items():
            error = 4.5 * np.sqrt(propensity * (1.0 - propensity) / n) + 1e-9
            assert shown[above][item] / n == pytest.approx(propensity, abs=error)
        if len(said[above]) == len(shown[above]) and min(shown[above].values()) > 5:
            assert sum(said[above].values()) == pytest.approx(1.0)


def test_the_first_place_is_never_tried_out_and_the_share_is_controlled() -> None:
    """R16"""
    explored = np.mean([a_list(seed, "thompson", n=4).explored for seed in range(5000)], axis=0)
    assert explored[0] == 0.0
    assert explored[1:] == pytest.approx([0.4] * 3, abs=0.03)


def test_what_is_tried_out_keeps_the_caps() -> None:
    """R9, R16"""
    for seed in range(500):
        labels = LABELS[a_list(seed, "uniform", share=1.0).order[:5], 0]
        assert max(Counter(labels.tolist()).values()) <= 2


def test_nothing_is_drawn_without_a_share_or_arms() -> None:
    """R16"""
    none = Exploration(0.5, Arms.of(np.empty(0, np.int32), np.empty(0), np.empty(0)), np.zeros((5, 2)))
    for done in (a_list(0, "thompson", share=0.0), rerank(SCORES, 5, exploration=none)):
        assert done.propensities.tolist() == [1.0] * 5
        assert not done.explored.any()
