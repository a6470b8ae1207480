"""Confidence sequences: intervals that hold at all times at once, so that anybody may look whenever they like.

An estimate with variance v has gathered the information I = 1 / v. The estimate times I moves like a Brownian motion
in the time I (increments of sums and of ratios of sums are independent, asymptotically), and Robbins' normal mixture
bounds that for all times together:

    P(for some I: |estimate - truth| >= sqrt((I + h) * log((I + h) / (h * alpha**2))) / I) <= alpha

`h` says at which information the interval is tightest. No choice of it makes the statement wrong.

References
----------
Robbins (1970), Statistical methods related to the law of the iterated logarithm.
Jennison, Turnbull (1997), Group-sequential analysis incorporating covariate information.
Howard, Ramdas, McAuliffe, Sekhon (2021), Time-uniform, nonparametric, nonasymptotic confidence sequences.
Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2024), Time-uniform central limit theory and asymptotic confidence
sequences.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]

MIN_USERS = 100
"""Of an arm, before anything is said: a central limit needs some."""


def mixture_for(information: float, alpha: float) -> float:
    """Return the `h` whose interval is the tightest when this much information is there."""
    if not information > 0.0:
        raise ValueError(f"information must be above 0, got {information}")
    return information / (-2.0 * math.log(alpha) + math.log(1.0 - 2.0 * math.log(alpha)))


def radius(variance: ArrayLike, h: float, alpha: float) -> Floats:
    """Return half the width of the interval around an estimate with this variance; shape as `variance`."""
    information = 1.0 / np.asarray(variance, np.float64)
    return np.asarray(np.sqrt((information + h) * np.log((information + h) / (h * alpha**2))) / information)


def p_value(estimate: ArrayLike, variance: ArrayLike, h: float) -> Floats:
    """Return the smallest alpha at which the interval of this moment does not hold 0; always valid, at most 1."""
    information = 1.0 / np.asarray(variance, np.float64)
    moved = np.asarray(estimate, np.float64) * information
    log_evidence = 0.5 * (moved**2 / (information + h) + np.log(h / (information + h)))
    return np.asarray(np.exp(-np.maximum(log_evidence, 0.0)))


def users_needed(user_sd: float, difference: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return how many users two equal arms need together to find a difference with this power, looking all the time.

    `user_sd` is the standard deviation of one user's value (of a ratio: of its influence), the same in both arms.

    Raises
    ------
    ValueError
        For a difference or a deviation that is not above 0.
    """
    if not (user_sd > 0.0 and abs(difference) > 0.0):
        raise ValueError(f"expected a deviation and a difference above 0, got {user_sd} and {difference}")
    beyond = float(stats.norm.ppf(power))

    def spare(log_users: float) -> float:
        variance = 4.0 * user_sd**2 / math.exp(log_users)
        h = mixture_for(1.0 / variance, alpha)
        return abs(difference) - float(radius(variance, h, alpha)) - beyond * math.sqrt(variance)

    return math.ceil(math.exp(optimize.brentq(spare, math.log(2.0), math.log(1e15))))
