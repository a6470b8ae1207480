"""Logs made of a log (R17)."""

import numpy as np
import pytest

from online_models.evaluation.protocols import Log
from online_models.evaluation.variants import VARIANTS, vary, vary_sessions

N = 900
DAY = 86_400.0


@pytest.fixture
def log() -> Log:
    """Items 0 to 49, the lower ones more frequent, and a third of each user's events on one that the user had."""
    rng = np.random.default_rng(3)
    ratings = rng.integers(1, 6, N).astype(float)
    return Log(
        [f"u{user}" for user in rng.integers(0, 60, N)],
        [f"i{item}" for item in (50 * rng.random(N) ** 2).astype(int)],
        ratings,
        ratings >= 4,
        1e9 + np.cumsum(rng.exponential(3600.0, N)),
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_times_do_not_run_backwards_and_a_seed_tells_all(log: Log, name: str) -> None:
    one, other = vary(log, name, 4), vary(log, name, 4)
    assert 0 < len(one) == len(one.items) == len(one.ratings) == len(one.positive) == len(one.times)
    assert (np.diff(one.times) >= 0.0).all()
    assert (one.users, one.items) == (other.users, other.items)
    assert set(one.items) != set(log.items) or len(one) != len(log) or name.endswith("times") or name == "high-bar"


def test_each_variant_is_what_it_says(log: Log) -> None:
    assert vary(log, None) is log
    few = vary(log, "few-users")
    assert len(set(few.users)) == round(len(set(log.users)) / 3)
    assert not set(few.items) & set(log.items)
    assert set(np.unique(vary(log, "coarse-times").times % DAY)) == {0.0}
    span = np.ptp(log.times)
    assert np.ptp(vary(log, "fast-times").times) == pytest.approx(span / 10)
    assert np.ptp(vary(log, "slow-times").times) == pytest.approx(span * 30)
    assert np.ptp(vary(log, "no-times").times) == N - 1
    assert "i0" not in vary(log, "long-tail").items
    assert len(set(vary(log, "dense").items)) == 10
    assert vary(log, "high-bar").positive.tolist() == (log.ratings == 5).tolist()
    once = vary(log, "no-repeats")
    assert len(set(zip(once.users, once.items, strict=True))) == len(once)
    assert len(vary(log, "more-repeats")) == pytest.approx(1.5 * N, rel=0.05)


@pytest.mark.parametrize("name", [None, *VARIANTS])
def test_parts_of_a_session_log_stay_apart(log: Log, name: str | None) -> None:
    """Also where sessions of both have the same name."""
    train, test = vary_sessions(log.head(600), log.where(np.arange(N) >= 600), name)
    assert len(train)
    assert len(test)
    assert name is None or not set(train.users) & set(test.users)
    assert train.times.max() <= test.times.max()
