"""The document of experiments: what all workers, flows and people agree on."""

from functools import cached_property
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from state.artifacts import RankerName
from state.records import Identifier, ShortText
from state.rules import MAX_ORDERED, MAX_RULES, Boost, Cap, Pin, Promotion, Surface, not_naming

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]

MAX_EXPERIMENTS = 200
"""The oldest of those that were stopped make room."""
MAX_EXPERIMENTS_BYTES = 1024 * 1024


SourceName = Literal[
    "covisitation", "session", "collaborative", "trending", "content", "exploration", "taste", "context", "popular"
]
"""Candidate sources that lists can do without; others bring what rules or the request call for."""


class ArmRules(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True):
    """Parts of the rules that an arm has instead of those in force. Blocks and policies hold for everybody."""

    boosts: Annotated[list[Boost], Meta(max_length=MAX_RULES)] | UnsetType = UNSET
    pins: Annotated[list[Pin], Meta(max_length=MAX_RULES)] | UnsetType = UNSET
    promotions: Annotated[list[Promotion], Meta(max_length=MAX_ORDERED)] | UnsetType = UNSET
    caps: Annotated[tuple[Cap, ...], Meta(max_length=MAX_ORDERED)] | UnsetType = UNSET
    near_duplicates: Annotated[float, Meta(ge=0.5, le=1)] | UnsetType | None = UNSET


class ArmParameters(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True):
    """What an arm changes. What a request itself asks for holds; the arm chooses what the request leaves open."""

    diversity: Share | UnsetType = UNSET
    """This and what follows up to `seen`: parameters of a request."""
    exploration: Share | UnsetType = UNSET
    explore_by: Literal["thompson", "uniform"] | UnsetType = UNSET
    min_relevance: Share | UnsetType = UNSET
    rotation: Share | UnsetType = UNSET
    rotation_time: Annotated[int, Meta(ge=1, le=7 * 24 * 3600)] | UnsetType = UNSET
    seen: Literal["hide", "show"] | UnsetType = UNSET
    ranker: Literal["model", "popularity"] | UnsetType = UNSET
    """What orders the candidates."""
    model: RankerName | UnsetType = UNSET
    """The ranker's version: a registered model, or `online`."""
    without: Annotated[list[SourceName], Meta(max_length=16)] | UnsetType = UNSET
    """Candidate sources that are not asked."""
    rules: ArmRules | UnsetType = UNSET


class Arm(Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True, kw_only=True):
    """One way of answering."""

    name: Name
    weight: Annotated[float, Meta(gt=0.0, le=1000.0)] = 1.0
    parameters: ArmParameters = ArmParameters()
    """Empty: nothing is changed."""


class Guardrail(Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True, kw_only=True):
    """What an arm may not do."""

    metric: Name
    max_drop: Share = 0.1
    """By how much it may be worse than control, as a share of control's value."""
    alpha: Annotated[float, Meta(gt=0.0, lt=0.5)] = 0.01
    """How often, at most, an arm that keeps to it is stopped all the same."""


class Plan(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True):
    """What people say of an experiment. The first arm is the control."""

    name: Name
    layer: Name = "default"
    salt: Name | None = None
    """What the arms are drawn with; the name, unless another experiment's split is to be repeated."""
    arms: Annotated[list[Arm], Meta(min_length=2, max_length=16)]
    share: Share = 1.0
    """Of the layer's users, who are to take part."""
    overrides: Annotated[dict[Identifier, Name], Meta(max_length=1000)] = {}
    """User -> arm, for testers."""
    surfaces: list[Surface] = []
    """Where it changes anything; empty: everywhere."""
    devices: list[ShortText] = []
    """For requests from these devices only."""
    regions: list[ShortText] = []
    """For requests from these regions only."""
    start_ms: int | None = None
    end_ms: int | None = None
    primary_metric: Name = "ctr"
    guardrails: Annotated[list[Guardrail], Meta(max_length=16)] = []


class Experiment(Plan, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True, dict=True):
    """A plan and what became of it."""

    buckets: list[Annotated[int, Meta(ge=0, lt=1000)]] = []
    """Of the layer's users: who takes part, while it runs."""
    status: Literal["draft", "running", "stopped"] = "draft"
    started_ms: int | None = None
    stopped_ms: int | None = None
    reason: str = ""
    """Why it was stopped."""
    stopped_arms: dict[Name, str] = {}
    """Arm -> why it is not given any more; its users take no part from then on, so that the others' split stands."""

    @property
    def control(self) -> str:
        return self.arms[0].name

    @cached_property
    def taking_part(self) -> frozenset[int]:
        return frozenset(self.buckets)

    def runs_at(self, now_ms: int) -> bool:
        """Whether users are assigned at this time, epoch ms."""
        started = self.start_ms is None or self.start_ms <= now_ms
        return self.status == "running" and started and (self.end_ms is None or now_ms < self.end_ms)


class Experiments(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True):
    """All experiments, oldest first: one document, since those of a layer share its users."""

    experiments: Annotated[list[Experiment], Meta(max_length=MAX_EXPERIMENTS)] = []

    def get(self, name: str) -> Experiment | None:
        return next((found for found in self.experiments if found.name == name), None)


def without_user(document: Experiments, user_id: str) -> Experiments:
    """Return the experiments without a user's name: nobody's tester, and no pin of an arm for this user."""
    return replace(document, experiments=[_unnamed(experiment, user_id) for experiment in document.experiments])


def _unnamed(experiment: Experiment, user_id: str) -> Experiment:
    overrides = {user: arm for user, arm in experiment.overrides.items() if user != user_id}
    return replace(experiment, overrides=overrides, arms=[_arm_unnamed(arm, user_id) for arm in experiment.arms])


def _arm_unnamed(arm: Arm, user_id: str) -> Arm:
    rules = arm.parameters.rules
    if rules is UNSET or rules.pins is UNSET:
        return arm
    rules = replace(rules, pins=not_naming(rules.pins, user_id))
    return replace(arm, parameters=replace(arm.parameters, rules=rules))
