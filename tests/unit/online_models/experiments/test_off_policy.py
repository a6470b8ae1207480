"""R21: an arm is estimated before it is served, and the interval covers the truth as often as it says."""

import numpy as np
import pytest
from scipy import stats

from online_models.experiments.off_policy import NoSupportError, Value, doubly_robust, ips, snips

N_ACTIONS = 5
VALUES = np.linspace(0.05, 0.45, N_ACTIONS)
LOGGED = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
TARGET = np.array([0.05, 0.05, 0.1, 0.3, 0.5])
TRUTH = float(TARGET @ VALUES)


def estimates(rng: np.random.Generator, n: int = 1500) -> dict[str, Value]:
    """One log of a policy that prefers the bad actions; each user has some rows, and the model is wrong."""
    actions = rng.choice(N_ACTIONS, n, p=LOGGED)
    users = rng.integers(0, n // 3, n)
    rewards = (rng.random(n) < VALUES[actions]).astype(np.float64)
    logged, target = LOGGED[actions], TARGET[actions]
    model = 0.7 * VALUES + 0.05
    of_target = np.full(n, float(TARGET @ model))
    return {
        "ips": ips(rewards, logged, target, users),
        "snips": snips(rewards, logged, target, users),
        "dr": doubly_robust(rewards, logged, target, model[actions], of_target, users),
    }


def test_intervals_cover_the_truth_at_the_stated_rate() -> None:
    rng = np.random.default_rng(0)
    n_runs = 400
    covered = dict.fromkeys(("ips", "snips", "dr"), 0)
    widths = dict.fromkeys(covered, 0.0)
    for _ in range(n_runs):
        for name, value in estimates(rng).items():
            covered[name] += value.low <= TRUTH <= value.high
            widths[name] += value.high - value.low
    for name, n in covered.items():
        assert n >= stats.binom.ppf(0.001, n_runs, 0.95), name
    assert max(widths["dr"], widths["snips"]) < widths["ips"]


def test_the_logging_policy_itself_is_its_plain_mean() -> None:
    rewards, logged, users = np.array([1.0, 0.0, 1.0, 0.0]), np.full(4, 0.3), np.arange(4)
    for value in (ips(rewards, logged, logged, users), snips(rewards, logged, logged, users)):
        assert value.value == pytest.approx(0.5)
        assert value.effective_n == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("logged", "target"), [([0.0, 0.5], [1.0, 1.0]), ([0.5, 1.5], [1.0, 1.0]), ([0.5, 0.5], [0, 0])]
)
def test_what_was_never_logged_cannot_be_estimated(logged: list[float], target: list[float]) -> None:
    with pytest.raises(NoSupportError):
        ips(np.ones(2), np.array(logged), np.array(target, np.float64), np.arange(2))
