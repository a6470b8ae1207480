"""Which arm a user is in: the same on every worker and every day, by hashing the user.

A layer cuts all users into `N_BUCKETS` buckets by a hash of its own. Each experiment of the layer owns some of them, so
a user is in one experiment of a layer at most, and layers are independent of each other. Within an experiment a second
hash, with the experiment's salt, draws the arm, so that buckets which were used before are mixed anew.

References
----------
Tang, Agarwal, O'Brien, Meyer (2010), Overlapping experiment infrastructure: more, better, faster experimentation.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import NamedTuple

from state.experiments import Experiment, Plan

N_BUCKETS = 1000


def share_of(salt: str, user_id: str) -> float:
    """Return a number in [0, 1) that is uniform over users and independent between salts."""
    digest = blake2b(user_id.encode(), digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest) / 2.0**64


def bucket(layer: str, user_id: str) -> int:
    """Return the user's bucket in a layer."""
    return int(share_of(f"layer:{layer}", user_id) * N_BUCKETS)


def draw(experiment: Experiment, user_id: str) -> str:
    """Return the arm of a user who takes part."""
    at = share_of(f"arm:{experiment.salt or experiment.name}", user_id) * sum(arm.weight for arm in experiment.arms)
    ends = accumulate(arm.weight for arm in experiment.arms)
    return next(
        (arm.name for arm, end in zip(experiment.arms, ends, strict=True) if at < end), experiment.arms[-1].name
    )


class Circumstances(NamedTuple):
    """What a request says of itself."""

    surface: str
    now_ms: int
    device: str | None = None
    region: str | None = None


def drawn(experiments: Iterable[Experiment], user_id: str) -> list[tuple[Experiment, str]]:
    """Return the experiments that the user takes part in while they run, with the arms; testers' overrides come first.

    Nobody is drawn into an arm that was stopped.
    """
    found = []
    buckets: dict[str, int] = {}
    for experiment in experiments:
        arm = experiment.overrides.get(user_id)
        if arm is None:
            own = buckets.get(experiment.layer)
            if own is None:
                own = buckets[experiment.layer] = bucket(experiment.layer, user_id)
            if own not in experiment.taking_part:
                continue
            arm = draw(experiment, user_id)
        if arm not in experiment.stopped_arms:
            found.append((experiment, arm))
    return found


def is_eligible(experiment: Experiment, at: Circumstances) -> bool:
    """Return whether the experiment changes anything for a request like this; one that says less is left alone."""
    return (
        experiment.runs_at(at.now_ms)
        and (not experiment.surfaces or at.surface in experiment.surfaces)
        and (not experiment.devices or at.device in experiment.devices)
        and (not experiment.regions or at.region in experiment.regions)
    )


def assign(experiments: Iterable[Experiment], user_id: str, at: Circumstances) -> dict[str, str]:
    """Return experiment -> arm for those that the user takes part in with this request."""
    return {experiment.name: arm for experiment, arm in drawn(experiments, user_id) if is_eligible(experiment, at)}


def allocate(experiment: Experiment, others: Iterable[Experiment], share: float) -> list[int]:
    """Return the buckets of an experiment that is to have this share of its layer's users.

    It keeps what it has when it grows, so that nobody changes sides, and gives back the last when it shrinks.

    Raises
    ------
    LayerFullError
        When the layer's other experiments leave too few.
    """
    wanted = round(share * N_BUCKETS)
    taken = {n for other in others if _competes(experiment, other) for n in other.buckets}
    own = [n for n in experiment.buckets if n not in taken][:wanted]
    free = (n for n in range(N_BUCKETS) if n not in taken and n not in own)
    own += [n for n, _ in zip(free, range(wanted - len(own)), strict=False)]
    if len(own) < wanted:
        left = (N_BUCKETS - len(taken)) / N_BUCKETS
        raise LayerFullError(f"layer {experiment.layer!r} has {left:.1%} of its users left, {share:.1%} are wanted")
    return own


class LayerFullError(ValueError):
    """The experiments of a layer want more than all users."""


def expected_shares(experiment: Plan, arms: Sequence[str]) -> list[float]:
    """Return the share of the experiment's users that each arm is to have, in the order of `arms`."""
    weights: Mapping[str, float] = {arm.name: arm.weight for arm in experiment.arms}
    total = sum(weights.values())
    return [weights[arm] / total for arm in arms]


def _competes(experiment: Experiment, other: Experiment) -> bool:
    return other.name != experiment.name and other.layer == experiment.layer and other.status == "running"
