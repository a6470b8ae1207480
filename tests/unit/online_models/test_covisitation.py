from collections import defaultdict
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.covisitation import NO_ITEM, Covisitation, at

DAY_MS = 86_400_000
NOW = 1_700_000_000_000
HALF_LIFE = timedelta(days=7)
N_ITEMS = 16
steps = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, N_ITEMS - 1), st.integers(NOW - 400 * DAY_MS, NOW)), max_size=50
)
Steps = list[tuple[int, int, int]]


def learned(log: Steps) -> tuple[Covisitation, dict[tuple[int, int], float]]:
    """Return the model, and the reference: (item, neighbour) -> weight at `NOW`."""
    model = Covisitation(half_life=HALF_LIFE)
    model.reserve(N_ITEMS)
    pairs: dict[tuple[int, int], float] = defaultdict(float)
    histories: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for user, item, ts in log:
        others = [(i, t) for i, t in histories[user] if i != item][:10]
        model.learn_one(
            item, ts, np.array([i for i, _ in others], dtype=np.int32), np.array([t for _, t in others], dtype=np.int64)
        )
        for x, (other, time) in enumerate(others):
            weight = 0.8**x * 2.0 ** -((NOW - ts) / (HALF_LIFE / timedelta(milliseconds=1)))
            forward, backward = (1.0, 0.3) if time <= ts else (0.3, 1.0)
            pairs[other, item] += weight * forward
            pairs[item, other] += weight * backward
        known = dict(histories[user])
        known[item] = max(ts, known.get(item, ts))
        histories[user] = sorted(known.items(), key=lambda entry: -entry[1])
    return model, pairs


@given(steps)
@settings(deadline=None)
def test_pair_weights_equal_a_brute_force_count(log: Steps) -> None:
    """Late events included (R24)."""
    model, pairs = learned(log)
    for item in range(N_ITEMS):
        decay = 2.0 ** (model._landmark - NOW / (HALF_LIFE / timedelta(milliseconds=1)))
        found = {
            int(other): float(weight) * decay
            for other, weight in zip(model.neighbours[item], model.weights[item], strict=True)
            if other != NO_ITEM
        }
        expected = {other: weight for (i, other), weight in pairs.items() if i == item}
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-12)


@given(steps, st.lists(st.integers(0, N_ITEMS - 1), unique=True, min_size=1, max_size=10))
@settings(deadline=None)
def test_twins_agree_and_predicting_changes_nothing(log: Steps, history: list[int]) -> None:
    model, _ = learned(log)
    before = model.weights.copy(), model.neighbours.copy()
    slots, scores = model.predict_many(np.array(history, dtype=np.int32), NOW)
    ones = [model.predict_one(item, np.array(history, dtype=np.int32), NOW) for item in range(N_ITEMS)]
    assert at(np.arange(N_ITEMS, dtype=np.int32), slots, scores) == pytest.approx(np.array(ones), rel=1e-12, abs=1e-12)
    assert np.array_equal(model.weights, before[0])
    assert np.array_equal(model.neighbours, before[1])


@given(steps, steps)
@settings(deadline=None)
def test_a_restored_model_learns_on_identically(first: Steps, later: Steps) -> None:
    model, _ = learned(first)
    restored = Covisitation(half_life=HALF_LIFE)
    restored.reserve(N_ITEMS)
    for item in range(N_ITEMS):
        restored.restore(item, *model.row(item))
    for user, item, ts in later:
        history = np.array([i for i in (user, user + 4) if i != item], dtype=np.int32)
        for each in (model, restored):
            each.learn_one(item, ts, history, np.full(len(history), ts - 1, dtype=np.int64))
    assert [model.row(item) for item in range(N_ITEMS)] == [restored.row(item) for item in range(N_ITEMS)]


def test_lists_are_bounded_and_keep_the_strongest() -> None:
    model = Covisitation(capacity=8, window=2)
    model.reserve(200)
    for round_ in range(30):
        history, times = np.array([0], dtype=np.int32), np.array([NOW], dtype=np.int64)
        model.learn_one(1, NOW, history, times)
        model.learn_one(2 + round_, NOW, history, times)
    kept = model.neighbours[0][model.neighbours[0] != NO_ITEM]
    assert len(kept) <= 8
    assert kept[np.argmax(model.weights[0][: len(kept)])] == 1


def test_what_follows_weighs_more_than_what_came_before() -> None:
    model = Covisitation()
    model.reserve(2)
    model.learn_one(1, NOW, np.array([0], dtype=np.int32), np.array([NOW - 1], dtype=np.int64))
    first, second = np.array([0], dtype=np.int32), np.array([1], dtype=np.int32)
    assert model.predict_one(1, first, NOW) > model.predict_one(0, second, NOW) > 0


def test_a_forgotten_item_is_in_no_list() -> None:
    model, _ = learned([(0, item, NOW + item) for item in range(10)])
    model.changed.clear()
    model.forget(np.array([3], dtype=np.int32))
    assert not (model.neighbours == 3).any()
    assert model.row(3)[0] == b""
    assert model.changed == {item for item in range(10) if item != 3}


def test_a_window_that_a_list_cannot_take_is_refused() -> None:
    with pytest.raises(ValueError, match="window: expected 1 to 16"):
        Covisitation(capacity=64, window=17)
