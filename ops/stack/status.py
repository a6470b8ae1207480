"""What runs, and how far it is: `freshet status`."""

import urllib.request
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Literal

import msgspec
from confluent_kafka import KafkaException

from ops.lag import NotCaughtUpError, lags
from ops.stack import kafka, redis_server
from ops.stack.home import Home
from ops.stack.parts import FLOWS, Flow, Kind
from ops.stack.supervisor import PartProcess, State, Supervisor
from state.settings import Settings
from state.store import StoreUnavailableError

_ANSWER_S = 2.0


class PartStatus(msgspec.Struct):
    """One line of the answer."""

    name: str
    kind: Kind
    pid: int | None
    """None where it does not run, or is not ours."""
    state: State | Literal["external", "unreachable"]
    """`external`: running, and not ours."""
    restarts: int = 0
    lag: int | None = None
    """Records in its inputs that it has not taken in yet; None where that is not known, or means nothing."""
    lag_s: float | None = None
    """For how long the oldest of them has waited, in seconds."""
    last_event_ts: int | None = None
    """Epoch ms, of the newest message taken in; see `ops.lag.PartitionLag`."""


class Status(msgspec.Struct):
    """The answer of `freshet status --json`."""

    ready: bool
    parts: list[PartStatus]


def status(home: Home, settings: Settings) -> Status:
    """Ask the supervisor, the broker and Redis."""
    processes = Supervisor(home).processes()
    kafka_answers = kafka.answers(kafka.admin(settings.kafka_brokers), timedelta(seconds=_ANSWER_S))
    redis_answers = redis_server.answers(settings.redis_url)
    serving = _part("serving", "serving", processes)
    if serving.state in {"running", "starting"}:
        serving.state = "running" if serving_answers(settings) else "starting"
    flows = [_flow(flow, processes, settings) for flow in FLOWS]
    if kafka_answers and redis_answers:
        _add_progress(flows, settings)
    parts = [
        _server("kafka", "broker", processes, answers=kafka_answers),
        _server("redis", "state", processes, answers=redis_answers),
        *flows,
        serving,
    ]
    ready = all(part.state in {"running", "external"} for part in parts)
    if "challenger" in processes:  # lists do not depend on it
        parts.append(_part("challenger", "training", processes))
    return Status(ready=ready, parts=parts)


def _add_progress(flows: Sequence[PartStatus], settings: Settings) -> None:
    try:
        found = lags(settings)
    except (KafkaException, NotCaughtUpError, StoreUnavailableError):
        return  # one of them went away just now: what is not known stays empty
    for flow in flows:
        own = [lag for lag in found if lag.flow == flow.name]
        flow.lag = sum(lag.events for lag in own)
        flow.lag_s = max((lag.seconds for lag in own), default=0.0)
        flow.last_event_ts = max((lag.last_event_ts for lag in own if lag.last_event_ts is not None), default=None)


def says_ready(settings: Settings, flow: str, pid: int | None) -> bool:
    """Return whether this process of a flow has its state and reads its input."""
    try:
        return pid is not None and settings.ready_file(flow).read_text() == str(pid)
    except FileNotFoundError:
        return False


def serving_answers(settings: Settings) -> bool:
    """Return whether serving says that it is ready."""
    try:
        with urllib.request.urlopen(f"{address(settings)}/health/ready", timeout=_ANSWER_S) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def address(settings: Settings) -> str:
    """Return where serving listens, as seen from this machine."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::", ""} else settings.host  # noqa: S104
    return f"http://{host}:{settings.port}"


def _server(name: str, kind: Kind, processes: Mapping[str, PartProcess], *, answers: bool) -> PartStatus:
    if name not in processes and (processes or answers):
        return PartStatus(name, kind, None, "external" if answers else "unreachable")
    part = _part(name, kind, processes)
    if part.state in {"running", "starting"}:
        part.state = "running" if answers else "starting"
    return part


def _flow(flow: Flow, processes: Mapping[str, PartProcess], settings: Settings) -> PartStatus:
    part = _part(flow.name, "flow", processes)
    if part.state in {"running", "starting"}:
        part.state = "running" if says_ready(settings, flow.name, part.pid) else "starting"
    return part


def _part(name: str, kind: Kind, processes: Mapping[str, PartProcess]) -> PartStatus:
    process = processes.get(name)
    if process is None:
        return PartStatus(name, kind, None, "stopped")
    return PartStatus(name, kind, process.pid, process.state, process.restarts)
