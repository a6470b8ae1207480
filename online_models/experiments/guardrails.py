"""When an arm is stopped by itself, and when nothing that was measured can be trusted."""

from collections.abc import Mapping
from dataclasses import dataclass

from online_models.experiments.assignment import expected_shares
from online_models.experiments.effects import Effect, Estimate, compare_estimates, sample_ratio
from online_models.experiments.metrics import BY_NAME
from state.experiments import Experiment


@dataclass(frozen=True)
class Stop:
    """Why an arm has to stop."""

    arm: str
    reason: str


def check(experiment: Experiment, arms: Mapping[str, Mapping[str, Estimate]]) -> Stop | None:
    """Look at an experiment as it is now, as often as you like.

    `arms` is metric -> arm -> what its users did. An arm is stopped when its interval, which holds at all times at
    once, is wholly on the wrong side of what the guardrail allows: `max_drop` of control's value.
    """
    control = experiment.control
    for rail in experiment.guardrails:
        of_metric = arms.get(rail.metric, {})
        if control not in of_metric:
            continue
        for name, treatment in of_metric.items():
            if name == control or name in experiment.stopped_arms:
                continue
            alpha = rail.alpha / max(1, len(experiment.arms) - 1)
            effect = compare_estimates(of_metric[control], treatment, alpha)
            allowed = rail.max_drop * abs(effect.control.value)
            if BY_NAME[rail.metric].better == "higher" and effect.high < -allowed:
                return Stop(name, f"{rail.metric} fell by {_share(effect)}; {rail.max_drop:.0%} are allowed")
            if BY_NAME[rail.metric].better == "lower" and effect.low > allowed:
                return Stop(name, f"{rail.metric} rose by {_share(effect)}; {rail.max_drop:.0%} are allowed")
    return None


def mismatch(experiment: Experiment, n_users: Mapping[str, int]) -> str | None:
    """Say how the arms have not the users that they should have; None while they may have."""
    names = [arm.name for arm in experiment.arms if arm.name not in experiment.stopped_arms]
    counts = [n_users.get(name, 0) for name in names]
    shares = expected_shares(experiment, names)
    if len(names) < 2 or not sample_ratio(counts, [share / sum(shares) for share in shares]).is_mismatch():
        return None
    told = ", ".join(f"{name} {n}" for name, n in zip(names, counts, strict=True))
    return f"users are not split as planned ({told}): what was measured cannot be trusted"


def _share(effect: Effect) -> str:
    """Return by how much the arm differs from control, for people."""
    return f"{abs(effect.relative):.0%}" if effect.control.value else f"{abs(effect.difference):.3g}"
