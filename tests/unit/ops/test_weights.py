"""What a new installation's ranker begins with (R15)."""

import numpy as np
import pytest

from online_models.engine.engine import Engine
from online_models.engine.inputs import N_INPUTS, NAMES
from online_models.engine.listwise import ListwiseRanker
from online_models.evaluation.baselines import Popularity
from online_models.evaluation.protocols import Log, Recommender
from ops.evaluation import weights
from ops.evaluation.simulated import Stream, shares_along, stream_of

_N_EVENTS = 2000
_BEFORE = 250
"""Lists of the first events are much the same, whoever makes them."""


def _mean_attained(model: Recommender, stream: Stream) -> float:
    """Return the mean share of the attainable true relevance that lists of an empty system have, as it fills."""
    where, shares = shares_along(model, stream)
    return float(shares[where >= _BEFORE].mean())


def test_a_new_installation_is_better_than_popularity() -> None:
    """R15: in a world that the shipped weights are not made from, lists are better than popular items at once."""
    stream = stream_of(_N_EVENTS, 2)
    assert _mean_attained(Engine(), stream) > _mean_attained(Popularity(0, _N_EVENTS), stream)


def _log(n: int) -> Log:
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 8, n), rng.integers(0, 30, n)
    return Log(
        [f"u{user}" for user in users],
        [f"i{item}" for item in items],
        np.ones(n),
        np.ones(n, np.bool_),
        np.arange(n, dtype=np.float64) * 60.0,
    )


def test_weights_are_learned_from_streams_that_begin_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """R15: pieces of the log, variants of them and simulated streams, the same ones each time."""
    monkeypatch.setattr(weights, "_PIECE", 60)
    streams = weights.curriculum([_log(200)], seed=3)
    n_real, n_simulated = 4, 2
    assert len(streams) == 2 * (2 * n_real + n_simulated)
    whole = [stream for stream in streams if list(stream.items) == list(_log(200).head(60).items)]
    assert len(whole) >= 2  # in each epoch; a variant may change times only
    again = weights.curriculum([_log(200)], seed=3)
    assert [list(stream.items) for stream in streams] == [list(stream.items) for stream in again]
    done: list[int] = []
    learned = weights.learn(streams, 3, done.append)
    assert learned == weights.learn(again, 3)
    assert sum(done) == sum(map(len, streams))
    assert ListwiseRanker(N_INPUTS).load(learned, NAMES).is_ready
