"""The parts of a running system, in the order in which they start."""

import signal
import sys
from dataclasses import dataclass
from typing import Literal

from state import topics
from state.topics import Topic

Kind = Literal["broker", "state", "flow", "serving", "training", "traffic"]


@dataclass(frozen=True)
class Part:
    """One supervised process."""

    name: str
    kind: Kind
    argv: list[str]
    death_signal: signal.Signals = signal.SIGKILL
    """What it gets when the supervisor dies. All state survives a SIGKILL; serving's master must end its workers."""
    stop_wait_s: int = 10
    start_s: int = 3
    """It counts as started when it has lived so long; one that dies earlier is started again later and later."""
    nice: int = 0
    once: bool = False
    """It may come to its end; it is then not started again."""


_NICE = 5
"""Of all that can wait for `features` and `learn`, which take the longest for an event: each is one process here, and
what lists are made of."""


@dataclass(frozen=True)
class Flow:
    """A dataflow process, `python -m flows.<name>`."""

    name: str
    inputs: tuple[Topic, ...]
    writes_watermark: bool = False
    """How far it is stands in Redis, with its state, and not in Kafka as a consumer group's offsets."""
    has_group: bool = False
    """Its processes divide the partitions among them as members of a consumer group."""
    nice: int = _NICE
    is_awaited: bool = True
    """Lists depend on it: a replay goes on until it has caught up."""

    def part(self) -> Part:
        return Part(self.name, "flow", [sys.executable, "-m", f"flows.{self.name}"], nice=self.nice)


FLOWS = (
    Flow("clean", (topics.EVENTS,), has_group=True),
    Flow("catalogue", (topics.ITEMS,)),
    Flow("attribution", (topics.IMPRESSIONS, topics.CLEAN)),
    Flow(
        "metrics",
        (topics.CLEAN, topics.REJECTED, topics.IMPRESSIONS, topics.EXAMPLES),
        has_group=True,
        nice=2 * _NICE,
        is_awaited=False,
    ),
    Flow("features", (topics.CLEAN,), writes_watermark=True, nice=0),
    Flow(
        "experiments",
        (topics.IMPRESSIONS, topics.EXAMPLES, topics.CLEAN),
        writes_watermark=True,
        nice=2 * _NICE,
        is_awaited=False,
    ),
    Flow(
        "lake",
        (topics.CLEAN, topics.IMPRESSIONS, topics.EXAMPLES, topics.REJECTED, topics.ITEMS),
        has_group=True,
        nice=2 * _NICE,
        is_awaited=False,
    ),
    Flow("learn", (topics.CLEAN, topics.EXAMPLES, topics.ITEMS), writes_watermark=True, nice=0),
)


def broker(argv: list[str]) -> Part:
    """Return Kafka; `argv` starts it."""
    return Part("kafka", "broker", argv, stop_wait_s=20, start_s=1, nice=_NICE)


def redis(argv: list[str]) -> Part:
    """Return Redis; `argv` starts it."""
    return Part("redis", "state", argv, start_s=1)


def serving() -> Part:
    """Return the HTTP API."""
    return Part("serving", "serving", [sys.executable, "-m", "serving"], death_signal=signal.SIGTERM, stop_wait_s=15)


def challenger(on_drift: Literal["nothing", "register", "promote", "take-over"], rest_s: float) -> list[Part]:
    """Return what waits for drift and learns a challenger, then is started again; none where nothing is wanted.

    It gives way to all that is live by itself, see `ops.backfill.commands`.
    """
    if on_drift == "nothing":
        return []
    asked = ["--on-drift", "--rest", f"{rest_s:g}", *([] if on_drift == "register" else [f"--{on_drift}"])]
    return [Part("challenger", "training", [sys.executable, "-m", "ops", "backfill", *asked])]


def traffic(kind: str) -> Part:
    """Return what plays traffic into a detached stack."""
    return Part("traffic", "traffic", [sys.executable, "-m", "ops.traffic.generate", kind], once=True)
