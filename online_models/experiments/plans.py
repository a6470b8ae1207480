"""The life of experiments: what may be put in force, and the documents that each step makes. Pure.

draft -> running (its share of the layer may change) -> stopped, for good: a split that was looked at is not used again.
"""

from collections.abc import Iterator

from msgspec import UNSET
from msgspec.structs import asdict, replace

from online_models.experiments.assignment import allocate
from online_models.experiments.metrics import BY_NAME
from state.experiments import MAX_EXPERIMENTS, Arm, Experiment, Experiments, Plan
from state.validation import InvalidInputError

RESERVED = frozenset({"history", "rollback"})
"""Names that are calls of the API."""


class NotPossibleError(Exception):
    """A step that the experiment's life does not have now."""


class UnknownExperimentError(Exception):
    """There is no experiment of this name."""


def check(experiments: Experiments) -> None:
    """Raise `InvalidInputError`, naming the field, for what cannot be in force together."""
    names: set[str] = set()
    for k, experiment in enumerate(experiments.experiments):
        path = f"experiments[{k}]"
        if experiment.name in names:
            raise InvalidInputError(f"{path}.name", f"{experiment.name!r} is the name of an earlier one, too")
        names.add(experiment.name)
        try:
            check_plan(experiment)
            if experiment.status == "running":
                _refuse_conflicts(experiment, experiments)
        except InvalidInputError as error:
            raise InvalidInputError(f"{path}.{error.field}", error.reason) from error


def check_plan(plan: Plan) -> None:
    """Raise `InvalidInputError` for a plan that contradicts itself."""
    arms = [arm.name for arm in plan.arms]
    for k, name in enumerate(arms):
        if name in arms[:k]:
            raise InvalidInputError(f"arms[{k}].name", f"{name!r} is the name of an earlier arm, too")
        if plan.arms[k].parameters.rotation is UNSET and plan.arms[k].parameters.rotation_time is not UNSET:
            raise InvalidInputError(f"arms[{k}].parameters.rotation_time", "means nothing without rotation")
    for user, name in plan.overrides.items():
        if name not in arms:
            raise InvalidInputError(f"overrides.{user}", f"expected one of the arms {', '.join(arms)}, got {name!r}")
    if plan.start_ms is not None and plan.end_ms is not None and plan.end_ms <= plan.start_ms:
        raise InvalidInputError("end_ms", "is not after start_ms")
    if plan.primary_metric not in BY_NAME:
        raise InvalidInputError("primary_metric", f"expected one of {', '.join(BY_NAME)}")
    for k, rail in enumerate(plan.guardrails):
        if rail.metric not in BY_NAME:
            raise InvalidInputError(f"guardrails[{k}].metric", f"expected one of {', '.join(BY_NAME)}")


def created(experiments: Experiments, plan: Plan) -> Experiments:
    """Return the document with a draft more. Raise `InvalidInputError`, or `NotPossibleError` for a name of another."""
    if plan.name in RESERVED:
        raise InvalidInputError("name", f"{plan.name!r} is a call of the API; choose another name")
    if experiments.get(plan.name) is not None:
        raise NotPossibleError(f"there is an experiment {plan.name!r}; names are not used twice, as logs carry them")
    check_plan(plan)
    kept = list(experiments.experiments)
    if len(kept) >= MAX_EXPERIMENTS:
        oldest = next((found for found in kept if found.status == "stopped"), None)
        if oldest is None:
            raise NotPossibleError(f"there are {MAX_EXPERIMENTS} experiments; stop one first")
        kept.remove(oldest)
    draft = Experiment(**{name: getattr(plan, name) for name in Plan.__struct_fields__})
    return Experiments(experiments=[*kept, draft])


def started(experiments: Experiments, name: str, now_ms: int) -> Experiments:
    """Return the document in which a draft runs, in buckets of its layer that are free.

    Raise `InvalidInputError`, `NotPossibleError`, `LayerFullError` or `UnknownExperimentError`.
    """
    draft = _found(experiments, name)
    if draft.status != "draft":
        raise NotPossibleError(f"{name!r} is {draft.status}; only a draft is started, create another one")
    _refuse_conflicts(draft, experiments)
    buckets = allocate(draft, experiments.experiments, draft.share)
    return _with(experiments, replace(draft, status="running", buckets=buckets, started_ms=now_ms))


def ramped(experiments: Experiments, name: str, share: float) -> Experiments:
    """Return the document in which an experiment has another share of its layer's users.

    Those who are in it keep their arms; of those who leave, none is given another arm when they come back.
    Raise `NotPossibleError`, `LayerFullError` or `UnknownExperimentError`.
    """
    running = _found(experiments, name)
    if running.status == "stopped":
        raise NotPossibleError(f"{name!r} is stopped")
    buckets = allocate(running, experiments.experiments, share) if running.status == "running" else []
    return _with(experiments, replace(running, share=share, buckets=buckets))


def stopped(experiments: Experiments, name: str, reason: str, now_ms: int, arm: str | None = None) -> Experiments:
    """Return the document in which an experiment, or one arm of it, is not given to anybody any more.

    When the arm is the control, or only the control is left, all of it ends.
    Raise `InvalidInputError` for an unknown arm, `NotPossibleError` or `UnknownExperimentError`.
    """
    running = _found(experiments, name)
    if running.status == "stopped":
        raise NotPossibleError(f"{name!r} is stopped already: {running.reason}")
    if arm is not None:
        arms = [known.name for known in running.arms]
        if arm not in arms:
            raise InvalidInputError("arm", f"expected one of {', '.join(arms)}, got {arm!r}")
        if arm in running.stopped_arms:
            raise NotPossibleError(f"arm {arm!r} is stopped already: {running.stopped_arms[arm]}")
        running = replace(running, stopped_arms=running.stopped_arms | {arm: reason})
        left = [known for known in arms if known not in running.stopped_arms]
        if running.control in left and len(left) > 1:
            return _with(experiments, running)
        reason = f"arm {arm}: {reason}"
    return _with(experiments, replace(running, status="stopped", stopped_ms=now_ms, reason=reason))


def differences(before: Experiments, after: Experiments) -> list[str]:
    """Say which experiments are new (`+`), gone (`-`) and changed (`~`), and in what."""
    old = {experiment.name: experiment for experiment in before.experiments}
    new = {experiment.name: experiment for experiment in after.experiments}
    found = [f"+ {name}" for name in new if name not in old]
    found += [f"- {name}" for name in old if name not in new]
    return found + [f"~ {name} {line}" for name in new if name in old for line in _changes(old[name], new[name])]


def changed_parameters(arm: Arm) -> Iterator[str]:
    """Yield the names of what an arm changes; of the rules, each part by itself."""
    for name, value in asdict(arm.parameters).items():
        if name == "rules" and value is not UNSET:
            yield from (f"rules.{part}" for part, given in asdict(value).items() if given is not UNSET)
        elif value is not UNSET:
            yield name


def _changes(before: Experiment, after: Experiment) -> Iterator[str]:
    if before.status != after.status:
        yield after.status + (f": {after.reason}" if after.reason else "")
    for arm, reason in after.stopped_arms.items():
        if arm not in before.stopped_arms and after.status == before.status:
            yield f"arm {arm} stopped: {reason}"
    if before.share != after.share:
        yield f"share {before.share:g} -> {after.share:g}"
    told = {"status", "reason", "stopped_arms", "share", "buckets", "started_ms", "stopped_ms"}
    for field in Experiment.__struct_fields__:
        if field not in told and getattr(before, field) != getattr(after, field):
            yield field


def _refuse_conflicts(experiment: Experiment, experiments: Experiments) -> None:
    """Raise `InvalidInputError` when an experiment of another layer changes the same for the same requests."""
    for other in experiments.experiments:
        apart = bool(experiment.surfaces and other.surfaces) and not set(experiment.surfaces) & set(other.surfaces)
        if other.status != "running" or other.layer == experiment.layer or apart:
            continue
        theirs = {name for arm in other.arms for name in changed_parameters(arm)}
        for k, arm in enumerate(experiment.arms):
            if (both := next((name for name in changed_parameters(arm) if name in theirs), None)) is not None:
                raise InvalidInputError(
                    f"arms[{k}].parameters.{both}",
                    f"{other.name!r} in layer {other.layer!r} changes it, too; share its layer, or leave it out",
                )


def _found(experiments: Experiments, name: str) -> Experiment:
    found = experiments.get(name)
    if found is None:
        raise UnknownExperimentError(f"there is no experiment {name!r}")
    return found


def _with(experiments: Experiments, changed: Experiment) -> Experiments:
    return Experiments(
        experiments=[changed if found.name == changed.name else found for found in experiments.experiments]
    )
