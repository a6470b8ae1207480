"""The simulator's ground truth."""

import numpy as np
import pytest

from ops.traffic.simulator import GENRES, World, examination, item_id, user_id
from state.validation import parse_event, parse_item

NOW_MS = 1_750_000_000_000
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def world() -> World:
    return World(n_items=300, n_users=100, seed=3)


def test_equal_seeds_give_equal_worlds(world: World) -> None:
    same, other = World(300, 100, seed=3), World(300, 100, seed=4)
    assert list(same.items()) == list(world.items())
    assert list(same.history(200, NOW_MS)) == list(world.history(200, NOW_MS))
    assert not np.allclose(other.relevance(5, NOW_MS), world.relevance(5, NOW_MS))


def test_everything_simulated_is_valid_input_and_says_so(world: World) -> None:
    import msgspec

    for item in world.items():
        parse_item(msgspec.json.encode(item))
        assert item.attributes["simulated"] is True
        assert set(item.genres) <= set(GENRES)
    for event in world.history(300, NOW_MS):
        parse_event(msgspec.json.encode(event), NOW_MS)
        assert event.user_id.startswith("sim-")


def test_history_is_in_time_order_and_ends_at_the_given_time(world: World) -> None:
    events = list(world.history(500, NOW_MS, span_ms=DAY_MS))
    times = [event.ts for event in events]
    assert len({event.event_id for event in events}) == len(events) == 500
    assert times == sorted(times)
    assert times[0] >= NOW_MS - DAY_MS
    assert times[-1] <= NOW_MS


def test_click_probability_falls_with_the_position_and_never_leaves_0_to_1(world: World) -> None:
    at = [world.click_probability(user_id(1), item_id(2), position, NOW_MS) for position in range(20)]
    assert at == sorted(at, reverse=True)
    assert 0 < at[-1] < at[0] < 1
    assert at[3] / at[0] == pytest.approx(examination(3))


def test_lists_by_taste_are_clicked_more_than_popular_ones_and_those_more_than_random_ones(world: World) -> None:
    relevance = np.stack([world.relevance(user, NOW_MS) for user in range(world.n_users)])
    by_taste = np.sort(relevance, axis=1)[:, -20:].mean()
    popular = relevance[:, np.argsort(-relevance.mean(axis=0))[:20]].mean()
    assert by_taste > 1.3 * popular > 1.3 * 1.3 * relevance.mean()


def test_observed_clicks_agree_with_the_truth(world: World) -> None:
    draw = np.random.default_rng(0)
    truth = np.array([world.click_probability(user_id(7), item_id(n), 0, NOW_MS) for n in range(300)])
    clicked = draw.random((2000, 300)) < truth
    assert clicked.mean() == pytest.approx(truth.mean(), abs=0.005)


def test_tastes_drift_slowly(world: World) -> None:
    def distance(after_ms: int) -> float:
        return float(np.abs(world.relevance(3, NOW_MS + after_ms) - world.relevance(3, NOW_MS)).mean())

    assert distance(60_000) < 0.001
    assert distance(2 * DAY_MS) > 0.01
