"""What another policy would have got, estimated from what was logged with propensities.

`rewards[k]` was seen for an action that was taken with the probability `logged[k]`; the other policy would have taken
it with `target[k]`. With a model of the reward, the doubly robust estimator is right if either the propensities or the
model are.

References
----------
Horvitz, Thompson (1952); Swaminathan, Joachims (2015), The self-normalized estimator for counterfactual learning;
Dudik, Langford, Li (2011), Doubly robust policy evaluation and learning.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Value:
    """An estimated mean reward with its interval."""

    value: float
    low: float
    high: float
    effective_n: float
    """Of how many samples the weights leave the worth."""


class NoSupportError(ValueError):
    """The other policy does what was never logged: nothing can be said of it."""


def ips(rewards: Floats, logged: Floats, target: Floats, users: NDArray[np.int64], alpha: float = 0.05) -> Value:
    """Inverse propensity scoring: unbiased, of high variance. `users` are the clusters. Raise `NoSupportError`."""
    weights = _weights(logged, target)
    return _mean(weights * rewards, np.ones_like(rewards), weights, users, alpha)


def snips(rewards: Floats, logged: Floats, target: Floats, users: NDArray[np.int64], alpha: float = 0.05) -> Value:
    """Self-normalised: a little biased, and much steadier."""
    weights = _weights(logged, target)
    return _mean(weights * rewards, weights, weights, users, alpha)


def doubly_robust(
    rewards: Floats,
    logged: Floats,
    target: Floats,
    predicted: Floats,
    predicted_of_target: Floats,
    users: NDArray[np.int64],
    alpha: float = 0.05,
) -> Value:
    """Correct a model's prediction by what was seen.

    Parameters
    ----------
    predicted
        The model's reward of the action that was taken, shape (n,).
    predicted_of_target
        Its mean reward of the actions of the other policy, shape (n,).
    """
    weights = _weights(logged, target)
    values = predicted_of_target + weights * (rewards - predicted)
    return _mean(values, np.ones_like(rewards), weights, users, alpha)


def _weights(logged: Floats, target: Floats) -> Floats:
    if ((logged <= 0.0) | (logged > 1.0)).any():
        raise NoSupportError("a logged propensity is not in (0, 1]")
    weights = target / logged
    if not weights.any():
        raise NoSupportError("the other policy takes none of the logged actions")
    return weights


def _mean(numerator: Floats, denominator: Floats, weights: Floats, users: NDArray[np.int64], alpha: float) -> Value:
    """Return a ratio of sums with the interval of the delta method over users."""
    _, cluster = np.unique(users, return_inverse=True)
    n = int(cluster.max()) + 1
    value = float(numerator.sum() / denominator.sum())
    errors = np.bincount(cluster, numerator - value * denominator, n) / (denominator.sum() / n)
    half = float(stats.norm.ppf(1.0 - alpha / 2.0)) * float(errors.std(ddof=1)) / np.sqrt(n) if n > 1 else float("inf")
    return Value(value, value - half, value + half, float(weights.sum() ** 2 / (weights**2).sum()))
