"""Histories of all users in shared pools, and what a run of events is ordered by."""

import numpy as np

from online_models.arrays import Noise
from online_models.engine.history import HISTORY, SEEN, Histories, History
from online_models.engine.items import stage
from online_models.engine.learning import place_of, stage_of
from online_models.engine.names import Names, comes_after
from online_models.learning.rings import Ring


def test_users_in_one_pool_do_not_disturb_each_other() -> None:
    """R14: the same steps as in plain lists, in whatever order users come."""
    histories = Histories(4)
    histories.reserve(40)
    rng = np.random.default_rng(0)
    expected: dict[int, list[tuple[int, float, bool]]] = {user: [] for user in range(40)}
    for k in range(30_000):
        user = min(int(rng.exponential(4.0)), 39)
        step = int(rng.integers(0, 3000)), float(k), bool(rng.random() < 0.5)
        histories.of(user).append(*step)
        expected[user].append(step)
    for user, steps in expected.items():
        history = histories.of(user)
        kept = steps[-HISTORY:]
        assert history.items.tolist() == [item for item, _, _ in kept]
        assert history.times.tolist() == [t for _, t, _ in kept]
        assert history.positive.tolist() == [positive for _, _, positive in kept]
        assert history.seen.tolist() == list(dict.fromkeys(item for item, _, _ in steps))
        assert history.n == len(steps)


def test_a_cleared_place_is_used_again() -> None:
    """R14: users come and go, memory does not grow."""
    histories = Histories(2)
    for round_ in range(300):
        for k in range(500):
            histories.of(round_ % 2).append(k, float(k), True)
        histories.clear((round_ + 1) % 2)
    assert len(histories.arrays[0].items) == 1 << 16
    assert len(histories.arrays[1].items) == 1 << 16


def test_a_restored_history_goes_on() -> None:
    one, other = History(), Histories(3)
    for k in range(SEEN + 50):
        one.append(k, float(k), k % 2 == 0)
    other.restore(2, one.items, one.times, one.positive, one.seen, one.n)
    for history in (one, other.of(2)):
        for k in range(200):
            history.append(10 * k, 1e6 + k, True)
    assert other.of(2).items.tolist() == one.items.tolist()
    assert other.of(2).seen.tolist() == one.seen.tolist()
    assert other.of(2).n == one.n


def test_a_late_step_goes_to_its_place_and_names_order_those_of_one_moment() -> None:
    """R24: serving orders the steps of a profile in the same way."""
    names = Names()
    for slot, name in enumerate(("m10", "m2", "m1", "m100", "m", "m\u00e9", "n", "m\U0001f600")):
        names.put(slot, name)
    history = Histories(1)
    for k, t in enumerate((1.0, 5.0, 5.0, 5.0, 9.0)):
        history.of(0).append((3, 4, 2, 0, 6)[k], t, True)
    steps = history.arrays[0]
    assert place_of(steps, names.arrays, 0, 1, 0.5) == 0
    assert place_of(steps, names.arrays, 0, 3, 5.0) == 4  # m, m1, m10, then m100
    assert place_of(steps, names.arrays, 0, 7, 9.0) == 4
    assert place_of(steps, names.arrays, 0, 1, 10.0) == 5


def test_names_are_compared_like_strings() -> None:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("ab\u00e9\u20ac\U0001f600"), int(rng.integers(0, 9)))) for _ in range(200)]
    names = Names(8)
    for _ in range(20):  # named anew again and again: what is left behind is cleared away
        for slot, word in enumerate(words):
            names.put(slot, f"{word}{'x' * 20}")
            names.put(slot, word)
    for one, other in rng.integers(0, 200, (2000, 2)).tolist():
        assert comes_after(names.arrays, one, other) == (words[one] > words[other])
    assert len(names.arrays.letters) <= 1 << 14


def test_a_stage_is_the_same_in_a_kernel() -> None:
    assert [stage_of(n) for n in range(300)] == [stage(n) for n in range(300)]


def test_noise_is_the_same_in_whatever_portions() -> None:
    one, other = Noise(3), Noise(3)
    portions = [1, 4000, 200, 0, 9000, 7]
    drawn = np.concatenate([one.uniform(n) for n in portions])
    singly = np.concatenate([other.uniform(1) for _ in range(sum(portions))])
    assert drawn.tolist() == singly.tolist()
    assert Noise(3, one.drawn).uniform(5).tolist() == one.uniform(5).tolist()


def test_a_ring_knows_the_segments_of_values_written_by_others() -> None:
    ring: Ring[np.int64] = Ring(4, 8, np.int64)
    ring.appended(3)
    assert ring.changed == {0}
    ring.changed.clear()
    ring.appended(6)
    assert ring.changed == {0, 1}
    ring.changed.clear()
    ring.appended(7)
    assert (ring.changed, ring.n_appended) == ({1}, 16)
    ring.changed.clear()
    ring.appended(17)
    assert ring.changed == {2, 3, 0}
    ring.appended(100)
    assert ring.changed == {0, 1, 2, 3}
