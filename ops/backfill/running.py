"""A run from the log's beginning to its end, over interruptions."""

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct

from online_models.versions.boosting import TreeParameters
from online_models.versions.ranking import Ranking
from ops.backfill.sources import Log, Where, merged
from ops.backfill.training import Parameters, Plan, Training, store_of
from state import kept_runs
from state.memory_store import MemoryStore

_KEEP_EVERY_S = 20.0
_LOOK_EVERY = 256
"""Messages between two looks at the clock and the signals."""


class NothingToLearnError(Exception):
    """There is no event in the time that was asked for."""


class KeptRunError(Exception):
    """What an interrupted run has kept cannot be read."""


class InterruptedRunError(Exception):
    """A signal came; what was learned is kept."""


class Request(Struct, frozen=True, kw_only=True):
    """What was asked for. The same request goes on with what an interrupted one has kept."""

    source: str
    since_ms: int | None
    until_ms: int | None
    held_out: float
    """Share of the time, the last."""
    parameters: Parameters | TreeParameters
    code: str

    def path(self, folder: Path) -> Path:
        """Return where a run of this request keeps its state."""
        return folder / f"{sha256(msgspec.json.encode(self)).hexdigest()[:16]}{kept_runs.SUFFIX}"


class _Kept(Struct, array_like=True, frozen=True):
    plan: Plan
    begins: dict[str, int]
    n_messages: int
    store: bytes


def planned(request: Request, log: Log) -> Plan:
    """Return the plan of a new run: the log as it is now. Raise `NothingToLearnError`."""
    span = log.span()
    if span is None:
        raise NothingToLearnError(f"there is no event in {request.source}")
    since_ms = max(span[0], request.since_ms or 0)
    until_ms = min(span[1] + 1, request.until_ms or span[1] + 1)
    if since_ms >= until_ms:
        first, last = (datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds") for ms in span)
        raise NothingToLearnError(f"{request.source} has events from {first} to {last}, none as asked")
    return Plan(
        source="lake" if request.source == "lake" else "kafka",
        since_ms=since_ms,
        until_ms=until_ms,
        held_out_ms=until_ms - round(request.held_out * (until_ms - since_ms)),
        ends={_text(where): end for where, (_, end) in log.bounds().items()},
        parameters=request.parameters,
        code=request.code,
    )


def run(
    request: Request,
    log: Log,
    live: Ranking,
    folder: Path,
    stop: threading.Event,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Training:
    """Return a training that has learned the whole log.

    Raise `NothingToLearnError`, `InterruptedRunError` or `KeptRunError`.

    What an interrupted run of the same request has kept in `folder` is gone on with.
    """
    path = request.path(folder)
    folder.mkdir(parents=True, exist_ok=True)  # it is there before anything is kept: an erasure looks for it
    mark = kept_runs.mark(folder)
    bounds = {where: begin for where, (begin, _) in log.bounds().items()}
    kept = _read(path)
    if kept is None:
        plan = planned(request, log)
        begins, n_messages, store = bounds, 0, store_of(log.catalogue())
    else:
        plan, n_messages, store = kept.plan, kept.n_messages, MemoryStore.of(kept.store)
        begins = bounds | {_where(text): begin for text, begin in kept.begins.items()}
    ends = {_where(text): end for text, end in plan.ends.items()}
    n_left = sum(max(0, end - begins.get(where, 0)) for where, end in ends.items())
    total = n_messages + n_left
    training = Training(plan, live, store)
    kept_at = time.monotonic()
    for message in merged(log, begins, ends):
        if n_messages % _LOOK_EVERY == 0:
            progress(n_messages, total)
            due = time.monotonic() - kept_at > _KEEP_EVERY_S
            if training.may_pause(message) and (due or stop.is_set()):
                positions = {_text(where): at for where, at in begins.items()}
                _keep(path, _Kept(plan, positions, n_messages, training.dump()), mark)
                kept_at = time.monotonic()
            if stop.is_set():
                raise InterruptedRunError(f"after {n_messages} of {total} messages")
        training.take(message)
        begins[message.where] = message.offset + 1
        n_messages += 1
    training.finish()
    progress(total, total)
    return training


def forget(request: Request, folder: Path) -> None:
    """Remove what a run has kept: it is done, or is to begin again."""
    request.path(folder).unlink(missing_ok=True)


def _read(path: Path) -> _Kept | None:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=_Kept)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise KeptRunError(f"{path} is damaged ({error}); --restart begins again") from error


def _keep(path: Path, kept: _Kept, mark: int) -> None:
    """Write, unless somebody was erased since `mark`: then only a run that begins anew may keep anything."""
    if kept_runs.mark(path.parent) != mark:
        return
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_bytes(msgspec.msgpack.encode(kept))
    partial.replace(path)
    if kept_runs.mark(path.parent) != mark:
        path.unlink(missing_ok=True)


def _text(where: Where) -> str:
    return f"{where[0]}/{where[1]}"


def _where(text: str) -> Where:
    topic, _, partition = text.partition("/")
    return topic, int(partition)
