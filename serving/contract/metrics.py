"""What `/v1/metrics` is asked and answers: the dashboard's data."""

from typing import Literal

from msgspec import Struct

Range = Literal["1h", "6h", "24h", "7d"]
Dimension = Literal["surface", "device", "model", "arm"]


class MetricsQuery(Struct, forbid_unknown_fields=True, frozen=True):
    """Of when, and which part of the traffic."""

    range: Range = "1h"
    surface: str | None = None
    """Only lists of this surface."""
    by: Dimension = "surface"
    """How `parts` are told apart; of one surface only `arm` is known."""


class MetricText(Struct, frozen=True):
    """What a metric is."""

    unit: str
    meaning: str
    formula: str


class Part(Struct, frozen=True):
    """Metrics of one part of the traffic."""

    name: str
    values: dict[str, list[float | None]]
    """Metric -> its value in each window, null where it is not defined."""


class FlowPlace(Struct, frozen=True):
    """How far a flow has come."""

    name: str
    stream_ts: int
    """Event time of the newest event that it has applied, epoch ms."""
    applied_ts: int
    """Wall clock of its newest write."""


class Timing(Struct, frozen=True):
    """How long something takes in this process, over the last minutes."""

    surface: str
    """Of a stage; the route of a request."""
    stage: str
    """Empty: whole requests."""
    n: int
    p50_ms: float
    p95_ms: float


class ModelPlace(Struct, frozen=True):
    """What the model in this process has learned from."""

    name: str
    version: str
    events: int
    items: int
    fresh: bool
    """It follows Redis."""


class MetricsAnswer(Struct, frozen=True, kw_only=True):
    """Metrics by window of event time, and how the system does at the moment."""

    now: int
    """Epoch ms."""
    width: int
    """Of the windows, ms."""
    starts: list[int]
    """Of the windows, oldest first, epoch ms."""
    early_from: int
    """Windows that begin here or later may still change."""
    total: Part
    parts: list[Part]
    choices: dict[str, list[str]]
    """Dimension -> what occurs."""
    flows: list[FlowPlace]
    timings: list[Timing]
    model: ModelPlace
    metrics: dict[str, MetricText]
    degraded: dict[str, str] | None = None
