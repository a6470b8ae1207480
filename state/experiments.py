"""The document of an experiment: what all workers, flows and people agree on."""

from functools import cached_property
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from state.records import ShortText

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class Arm(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One way of answering."""

    name: Name
    weight: Annotated[float, Meta(gt=0.0, le=1000.0)] = 1.0
    parameters: dict[ShortText, Any] = {}
    """Request parameters that the arm chooses, such as `{"diversity": 0.3}`; empty: nothing is changed."""


class Guardrail(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What an arm may not do."""

    metric: Name
    max_drop: Share = 0.1
    """Of control's value."""
    alpha: Annotated[float, Meta(gt=0.0, lt=0.5)] = 0.01


class Experiment(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, dict=True):
    """An experiment. The first arm is the control."""

    name: Name
    layer: Name = "default"
    salt: Name
    arms: Annotated[list[Arm], Meta(min_length=2, max_length=16)]
    buckets: list[Annotated[int, Meta(ge=0, lt=1000)]] = []
    """Of the layer's users: who takes part."""
    overrides: dict[ShortText, Name] = {}
    """User -> arm, for testers."""
    surfaces: list[Name] = []
    """Where it changes anything; empty: everywhere."""
    start_ms: int | None = None
    end_ms: int | None = None
    primary_metric: Name = "ctr"
    guardrails: list[Guardrail] = []
    status: Literal["draft", "running", "stopped"] = "draft"
    was_ramped: bool = False
    """Whether weights have changed while it ran: the users' split is then of several plans."""
    reason: str = ""
    """Why it was stopped."""

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
