"""When an experiment is stopped by itself: an arm is worse than allowed, or the arms have not the users they should."""

from collections.abc import Mapping
from dataclasses import dataclass

from online_models.experiments.assignment import expected_shares
from online_models.experiments.effects import Arm, compare, sample_ratio
from state.experiments import Experiment


@dataclass(frozen=True)
class Stop:
    """Why an experiment has to stop."""

    arm: str | None
    """None when it is the experiment as a whole."""
    reason: str


def check(experiment: Experiment, arms: Mapping[str, Mapping[str, Arm]]) -> Stop | None:
    """Look at an experiment as it is now, as often as you like.

    `arms` is metric -> arm -> what its users did. An arm is stopped when its interval, which holds at all times at
    once, is wholly below what the guardrail allows: `-max_drop` of control's value.
    """
    control = experiment.control
    for rail in experiment.guardrails:
        of_metric = arms.get(rail.metric, {})
        if control not in of_metric:
            continue
        for name, treatment in of_metric.items():
            if name == control:
                continue
            effect = compare(of_metric[control], treatment, alpha=rail.alpha / max(1, len(experiment.arms) - 1))
            if effect.high < -rail.max_drop * abs(effect.control.value):
                drop = -effect.relative
                return Stop(name, f"{rail.metric} fell by {drop:.0%}, more than {rail.max_drop:.0%} are not allowed")
    users = next(iter(arms.values()), {})
    if len(users) == len(experiment.arms):
        names = list(users)
        ratio = sample_ratio([users[name].n_users for name in names], expected_shares(experiment, names))
        if ratio.is_mismatch():
            counts = ", ".join(f"{name} {users[name].n_users}" for name in names)
            return Stop(None, f"users are not split as planned ({counts}): what was measured cannot be trusted")
    return None
