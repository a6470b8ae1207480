"""How an arm differs from control, from sums per user.

The user is the unit, as users are what was drawn: what one does is not independent of what the same one did before. A
metric is a ratio of two sums over users (clicks / impressions, or seconds watched / users). Its variance is that of the
delta method, and what users did before the experiment takes away what they would have done anyway (CUPED).

References
----------
Deng, Knoblich, Lu (2018), Applying the delta method in metric analytics.
Deng, Xu, Kohavi, Walker (2013), Improving the sensitivity of online controlled experiments by utilizing pre-experiment
data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from online_models.experiments import sequences
from online_models.experiments.arm_sums import USERS, product
from online_models.experiments.metrics import Metric

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Arm:
    """What the users of one arm did; arrays of shape (n_users,)."""

    numerator: Floats
    denominator: Floats
    before: Floats | None = None
    """The same metric's numerator of the same users before the experiment, 0 where there was nothing."""

    def __post_init__(self) -> None:
        lengths = {len(self.numerator), len(self.denominator), *(() if self.before is None else (len(self.before),))}
        if len(lengths) != 1:
            raise ValueError(f"arrays must be of one length, got {sorted(lengths)}")

    @property
    def n_users(self) -> int:
        return len(self.numerator)


@dataclass(frozen=True)
class Estimate:
    """A ratio and its variance."""

    value: float
    variance: float
    n_users: int


@dataclass(frozen=True)
class Effect:
    """Treatment minus control, with an interval that holds under continuous peeking."""

    control: Estimate
    treatment: Estimate
    difference: float
    low: float
    high: float
    p_value: float
    """Always valid; 1 as long as there are too few users."""
    variance_kept: float
    """Share of the variance that is left by what was known before; 1 without it."""

    @property
    def relative(self) -> float:
        """Difference as a share of control, nan where control is 0."""
        return self.difference / self.control.value if self.control.value else float("nan")

    @property
    def is_significant(self) -> bool:
        return not self.low <= 0.0 <= self.high


def estimate(arm: Arm) -> Estimate:
    """Return the ratio of sums and the variance of the delta method."""
    residuals, mean = _influence(arm)
    n = arm.n_users
    return Estimate(mean, float(residuals.var(ddof=1) / n) if n > 1 else float("inf"), n)


def estimate_sums(sums: Mapping[str, int], metric: Metric) -> Estimate:
    """Return from sums over users what `estimate` says of the users one by one; see `arm_sums`."""
    n, above, below = sums.get(USERS, 0), metric.numerator, metric.denominator
    total = n if below == "one" else sums.get(below, 0)
    if total <= 0:
        return Estimate(0.0, 0.0 if n > 1 else float("inf"), n)
    ratio = sums.get(above, 0) / total
    products = product(sums, above, above) - 2.0 * ratio * product(sums, above, below)
    residuals = products + ratio**2 * product(sums, below, below)
    variance = max(residuals, 0.0) / (n - 1) * n / total**2 if n > 1 else float("inf")
    return Estimate(ratio * metric.unit, variance * metric.unit**2, n)


def compare(control: Arm, treatment: Arm, alpha: float = 0.05, planned_users: int = 20_000) -> Effect:
    """Compare two arms.

    Parameters
    ----------
    alpha
        The interval misses the truth at any time with at most this probability.
    planned_users
        Of both arms, at which the interval is tightest.
    """
    (c_residuals, c_mean), (t_residuals, t_mean) = _influence(control), _influence(treatment)
    plain = _variance(c_residuals) + _variance(t_residuals)
    difference, variance = t_mean - c_mean, plain
    if control.before is not None and treatment.before is not None:
        theta = _slope(control.before, treatment.before, c_residuals, t_residuals)
        shift = treatment.before.mean() - control.before.mean()
        adjusted = _variance(c_residuals - theta * control.before) + _variance(t_residuals - theta * treatment.before)
        if adjusted < plain:
            difference, variance = float(difference - theta * shift), adjusted
    return _effect(estimate(control), estimate(treatment), difference, variance, alpha, planned_users)


def compare_estimates(
    control: Estimate, treatment: Estimate, alpha: float = 0.05, planned_users: int = 20_000
) -> Effect:
    """Compare two arms of which no more is known; see `compare`."""
    difference, variance = treatment.value - control.value, control.variance + treatment.variance
    return _effect(control, treatment, difference, variance, alpha, planned_users)


def _effect(
    control: Estimate, treatment: Estimate, difference: float, variance: float, alpha: float, planned_users: int
) -> Effect:
    plain = control.variance + treatment.variance
    n_users = control.n_users + treatment.n_users
    few = min(control.n_users, treatment.n_users) < sequences.MIN_USERS
    if few or not 0.0 < variance < float("inf"):
        low, high, p = -float("inf"), float("inf"), 1.0
    else:
        h = sequences.mixture_for(planned_users / n_users / variance, alpha)
        half = float(sequences.radius(variance, h, alpha))
        low, high = difference - half, difference + half
        p = float(sequences.p_value(difference, variance, h))
    return Effect(control, treatment, difference, low, high, p, variance / plain if plain > 0.0 else 1.0)


def _influence(arm: Arm) -> tuple[Floats, float]:
    """Return each user's part in the ratio's error, and the ratio."""
    total = float(arm.denominator.sum())
    if total <= 0.0:
        return np.zeros(arm.n_users), 0.0
    ratio = float(arm.numerator.sum()) / total
    return (arm.numerator - ratio * arm.denominator) * (arm.n_users / total), ratio


def _variance(residuals: Floats) -> float:
    return float(residuals.var(ddof=1)) / len(residuals) if len(residuals) > 1 else float("inf")


def _slope(c_before: Floats, t_before: Floats, c_residuals: Floats, t_residuals: Floats) -> float:
    before = np.concatenate([c_before - c_before.mean(), t_before - t_before.mean()])
    spread = float(before @ before)
    return float(before @ np.concatenate([c_residuals, t_residuals])) / spread if spread > 0.0 else 0.0


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values that may be compared with one alpha, however many metrics are looked at.

    References
    ----------
    Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return adjusted


@dataclass(frozen=True)
class SampleRatio:
    """Whether arms have the users that they are to have."""

    p_value: float
    """Of the chi-square test, for one look at the end."""
    always_valid: float
    """For those who look all the time: what the alarm goes by."""

    def is_mismatch(self, alpha: float = 0.001) -> bool:
        return self.always_valid < alpha


def sample_ratio(counts: Sequence[int], shares: Sequence[float]) -> SampleRatio:
    """Test the users per arm against the shares that the arms are to have.

    The always valid p-value is the inverse of the Bayes factor of a Dirichlet prior around the shares.

    References
    ----------
    Lindon, Malek (2022), Anytime-valid inference for multinomial count data.
    """
    n, expected = np.asarray(counts, np.float64), np.asarray(shares, np.float64)
    if n.shape != expected.shape or n.size < 2 or abs(expected.sum() - 1.0) > 1e-9 or (expected <= 0.0).any():
        raise ValueError(f"expected two or more counts with positive shares that add up to 1, got {counts}, {shares}")
    if n.sum() == 0:
        return SampleRatio(1.0, 1.0)
    prior = expected * _PRIOR
    log_factor = (
        special.gammaln(_PRIOR)
        - special.gammaln(_PRIOR + n.sum())
        + (special.gammaln(prior + n) - special.gammaln(prior)).sum()
        - (n * np.log(expected)).sum()
    )
    chi_square = float(stats.chisquare(n, expected * n.sum()).pvalue)
    return SampleRatio(chi_square, float(np.exp(-max(0.0, float(log_factor)))))


_PRIOR = 100.0
"""Weight of the prior, in users."""
