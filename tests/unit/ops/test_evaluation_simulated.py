"""Drift and new items on the simulator, where the truth is known (R14, R15)."""

import numpy as np
import pytest

from online_models.engine.engine import Engine
from online_models.evaluation.baselines import Popularity, RecentPopularity
from online_models.evaluation.protocols import Candidates
from ops.evaluation.simulated import Stream, _recovery, attained, place_new_items, recover, stream_of
from ops.traffic.simulator import item_id, number
from state.records import Item


class Oracle:
    """Lists by true relevance, of what it was told exists."""

    def __init__(self, stream: Stream) -> None:
        self.world = stream.world
        self.known: set[str] = set()
        self.seen: set[tuple[str, str]] = set()

    def describe(self, item: Item) -> None:
        self.known.add(item.item_id)

    def observe(self, user: str, item: str, positive: bool, rating: float, t: float) -> None:
        assert (user, item) not in self.seen
        self.seen.add((user, item))

    def recommend(self, user: str, n: int, t: float, candidates: Candidates) -> list[str]:
        order = np.argsort(-self.world.relevance(number(user), round(t * 1000)))
        ids = (item_id(int(k)) for k in order)
        return [item for item in ids if item in self.known and (user, item) not in self.seen][:n]


@pytest.fixture(scope="module")
def stream() -> Stream:
    return stream_of(1500, 0, "abrupt")


def test_tastes_change_halfway_and_each_event_is_a_first(stream: Stream) -> None:
    assert len(stream.events) == 1500
    assert 600 < stream.change_at < 900
    assert len({(event.user_id, event.item_id) for event in stream.events}) == 1500
    before, after = (stream.world.relevance(3, stream.events[stream.change_at + step].ts) for step in (-1, 0))
    assert np.abs(before - after).max() > 0.1


def test_a_gradual_change_takes_its_time() -> None:
    stream = stream_of(1500, 0, "gradual")
    before, after = (stream.world.relevance(3, stream.events[stream.change_at + step].ts) for step in (-1, 0))
    assert np.abs(before - after).max() < 0.05


def test_the_best_list_attains_everything(stream: Stream) -> None:
    ts = stream.events[0].ts
    relevance = stream.world.relevance(5, ts)
    best = np.argsort(-relevance)
    listed = [item_id(int(k)) for k in best[2:12]]
    assert attained(stream.world, "sim-u5", listed, set(best[:2].tolist()), ts) == pytest.approx(1.0)
    found = attained(stream.world, "sim-u5", listed, set(), ts)
    assert found == pytest.approx(relevance[best[2:12]].sum() / relevance[best[:10]].sum())


def test_who_knows_the_truth_does_not_notice_drift(stream: Stream) -> None:
    found = recover("oracle", Oracle(stream), stream, "abrupt")
    assert (found.before, found.lowest, found.after) == pytest.approx((1.0, 1.0, 1.0))


def test_recovery_is_counted_from_the_change_to_the_end_of_the_first_good_window() -> None:
    """Full before event 1000, nothing until 1300, full after; windows of 100 events that hold 50 lists."""
    where = np.arange(0, 2000, 2)
    shares = np.where((where < 1000) | (where >= 1300), 1.0, 0.0)
    found = _recovery("m", "abrupt", where, shares, 1000, 2000)
    assert (found.before, found.lowest, found.after, found.since) == pytest.approx((1.0, 0.0, 1.0, 0.7))
    assert found.events_to_recover == 394  # 48 of 50 lists are good: the window ends with that of event 1394
    never = _recovery("m", "abrupt", where, np.where(where < 1000, 1.0, 0.5), 1000, 2000)
    assert never.events_to_recover is None


class Stopped(Engine):
    """Learns nothing from a moment on."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self._at = at

    def observe(self, user: str, item: str, positive: bool, rating: float, t: float) -> None:
        if t < self._at:
            super().observe(user, item, positive, rating, t)


def test_the_engine_recovers_from_a_change_that_one_which_stopped_learning_does_not() -> None:
    """R14: within half of a short stream its lists are nearly as good as before the change."""
    stream = stream_of(2000, 0, "abrupt")
    live = recover("engine", Engine(), stream, "abrupt")
    stopped = recover("stopped", Stopped(stream.events[stream.change_at].ts / 1000), stream, "abrupt")
    assert stopped.before == live.before
    assert live.events_to_recover is not None
    assert live.lowest < 0.9 * live.before
    assert live.since > 1.1 * stopped.since
    assert live.after > 1.1 * stopped.after


def test_the_right_users_are_those_who_truly_like_the_item() -> None:
    """R15: who knows the truth shows a new item at once, and to the right users more often than to others."""
    stream = stream_of(800, 0)
    found = place_new_items("oracle", Oracle(stream), stream, 0, n_new=20)
    assert found.events[0] == 0
    assert np.mean(found.right) > 3 * np.mean(found.others)
    popular = place_new_items("popularity", Popularity(0), stream, 0, n_new=20)
    assert popular.right[0] == popular.others[0] == 0.0


def test_new_items_reach_the_right_users_before_their_tenth_event() -> None:
    """R15: more of them by the engine than by recent popularity, and rather the right users than others."""
    stream = stream_of(2500, 0)
    engine = place_new_items("engine", Engine(), stream, 0)
    popular = place_new_items("recent-popularity", RecentPopularity(0), stream, 0)
    assert engine.found_before_ten > 3 * popular.found_before_ten
    assert sum(engine.right) > sum(engine.others)
