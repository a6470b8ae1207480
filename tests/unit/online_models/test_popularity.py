from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.popularity import DecayedPopularity
from online_models.top_lists import TopLists

DAY_MS = 86_400_000
NOW = 1_700_000_000_000
HALF_LIVES = (timedelta(hours=1), timedelta(days=2), None)
events = st.lists(st.tuples(st.integers(0, 9), st.integers(NOW - 20 * DAY_MS, NOW)), max_size=60)


def learned(log: list[tuple[int, int]]) -> DecayedPopularity:
    model = DecayedPopularity(HALF_LIVES)
    model.reserve(10)
    for slot, ts in log:
        model.learn_one(slot, ts)
    return model


@given(events)
def test_counts_are_the_sums_of_decayed_events(log: list[tuple[int, int]]) -> None:
    model = learned(log)
    for slot in range(10):
        ages = [NOW - ts for s, ts in log if s == slot]
        for count, half_life in zip(model.predict_one(slot, NOW), HALF_LIVES, strict=True):
            rate = 0.0 if half_life is None else 1 / (half_life / timedelta(milliseconds=1))
            assert count == pytest.approx(sum(2.0 ** -(age * rate) for age in ages), rel=1e-6)


@given(events, st.randoms(use_true_random=False))
def test_late_events_count_as_if_they_had_been_on_time(log: list[tuple[int, int]], random: object) -> None:
    """R24."""
    shuffled = list(log)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    slots = np.arange(10, dtype=np.int32)
    assert learned(shuffled).predict_many(slots, NOW) == pytest.approx(learned(log).predict_many(slots, NOW), rel=1e-9)


@given(events)
def test_twins_agree_and_predicting_changes_nothing(log: list[tuple[int, int]]) -> None:
    model = learned(log)
    before = model.keys.copy()
    many = model.predict_many(np.arange(10, dtype=np.int32), NOW)
    assert many == pytest.approx(np.array([model.predict_one(slot, NOW) for slot in range(10)]), rel=1e-12, abs=1e-12)
    assert np.array_equal(model.keys, before)


@given(events, events)
def test_top_lists_are_exact_after_every_event(first: list[tuple[int, int]], later: list[tuple[int, int]]) -> None:
    model = learned(first)
    tops = TopLists(model, length=4)
    tops.top(0)
    for slot, ts in later:
        model.learn_one(slot, ts)
        tops.changed([slot])
        for column in range(len(HALF_LIVES)):
            keys = model.keys[:10, column]
            expected = sorted((s for s in range(10) if keys[s] > -np.inf), key=lambda s: (-keys[s], s))[:4]
            best = tops.top(column)
            assert keys[best].tolist() == keys[expected].tolist()


def test_a_forgotten_item_has_no_count() -> None:
    model = learned([(1, NOW), (2, NOW)])
    model.forget(np.array([1], dtype=np.int32))
    assert model.predict_one(1, NOW) == [0.0, 0.0, 0.0]
    assert model.predict_one(2, NOW) == [1.0, 1.0, 1.0]
