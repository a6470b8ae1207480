"""No list depends on anything later than the moment it was asked for (R13, R24)."""

import numpy as np
import pytest

from online_models.evaluation.protocols import Log, prequential, sessions
from ops.evaluation.models import NAMES, make
from state.records import Item

N, NOW = 900, 600


def played(seed: int = 0) -> Log:
    """Users who keep to a group of items, some of which come late."""
    rng = np.random.default_rng(seed)
    users = rng.integers(0, 30, N)
    items = (users % 3) * 12 + np.minimum(rng.integers(0, 12, N), 3 + np.arange(N) // 80)
    catalogue = [Item(item_id=f"i{k}", title=f"Title {k}", genres=[f"genre {k // 12}"]) for k in range(36)]
    return Log(
        [f"u{user}" for user in users],
        [f"i{item}" for item in items],
        rng.integers(1, 6, N).astype(float),
        rng.random(N) < 0.7,
        1e9 + np.sort(rng.integers(0, 5_000_000, N)).astype(float),
        catalogue,
    )


def other_future(log: Log) -> Log:
    """The same until `NOW`; then users, items and outcomes are shuffled apart."""
    rng = np.random.default_rng(1)

    def order() -> np.ndarray:
        return np.concatenate([np.arange(NOW), NOW + rng.permutation(N - NOW)])

    of_users, of_items, of_outcomes = order(), order(), order()
    return Log(
        [log.users[k] for k in of_users],
        [log.items[k] for k in of_items],
        log.ratings[of_outcomes],
        log.positive[of_outcomes],
        log.times,
        log.catalogue,
    )


@pytest.mark.parametrize("name", NAMES)
def test_shuffling_the_future_changes_no_list_up_to_now(name: str) -> None:
    """R13: and the lists after it do change, so that the test can see it."""
    log = played()
    real = prequential(make(name, 0, N), log, 0.3)
    shuffled = prequential(make(name, 0, N), other_future(log), 0.3)
    n = sum(position < NOW for position in real.positions)
    assert n > 100
    assert real.lists[:n] == shuffled.lists[:n]
    assert real.lists[n:] != shuffled.lists[n:]


@pytest.mark.parametrize("name", NAMES)
def test_shuffling_the_rest_of_sessions_changes_no_list_up_to_now(name: str) -> None:
    log = played()
    early = np.arange(N) < 300
    real = sessions(make(name, 0, N), log.where(early), log.where(~early))
    shuffled = sessions(make(name, 0, N), log.where(early), other_future(log).where(~early))
    n = sum(position < NOW for position in real.positions)
    assert n > 100
    assert real.lists[:n] == shuffled.lists[:n]
