"""How a Bytewax flow is built and run.

    def main() -> None:
        settings = Settings()
        configure_logging(settings)
        stopping = stop_on_signals()
        source = KafkaSource(settings, FLOW, {CLEAN: settings.own_partitions}, stopping, start=...)
        run(build_flow(source, ...), settings)

Two kinds of flows:

- State in Redis (features, learn): a `StoreLogic` folds batches and commits what became dirty together with its
  watermarks; `fold_into_store` runs it, `start` of the source comes from the same watermarks, and Bytewax recovers
  nothing.
- State in the engine (attribution): own stateful steps, `run(..., recovery_name=...)`, `KafkaSink`. The source's
  position is part of the recovered state.

A stop is an end of input: `on_eof` of a step means "flush", never "time has ended".
"""

import logging
import os
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

from flows.common.batches import KafkaBatch
from flows.common.pacing import Pacer
from flows.common.process import collect_garbage_rarely
from state.settings import Settings

log = logging.getLogger(__name__)

_RECOVERY_PARTITIONS = 1  # one worker per process
_VERIFY_EVERY_S = 1.0
_ONLY_KEY = "all"


def run(
    flow: Dataflow,
    settings: Settings,
    recovery_name: str | None = None,
    epoch_interval: timedelta = timedelta(seconds=1),
) -> None:
    """Run until the input ends, in this thread. With `recovery_name`, state is kept in a folder of that name."""
    recovery = None if recovery_name is None else _recovery(settings, recovery_name)
    collect_garbage_rarely()
    log.info("%s starts", flow.flow_id)
    try:
        run_main(flow, epoch_interval=epoch_interval, recovery_config=recovery)  # type: ignore[no-untyped-call]
    except Exception as error:
        log.critical("%s dies: %s", flow.flow_id, _root(error))
        raise
    log.info("%s stopped", flow.flow_id)


def _root(error: BaseException) -> str:
    """Return what is below the engine's own exceptions, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"


def _recovery(settings: Settings, name: str) -> RecoveryConfig:
    folder = settings.home / "recovery" / (f"{settings.namespace}-{name}" if settings.namespace else name)
    if not folder.exists():
        # Renamed when complete: a crash in between must not leave a folder without its partitions.
        fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
        fresh.mkdir(parents=True)
        init_db_dir(fresh, _RECOVERY_PARTITIONS)  # type: ignore[no-untyped-call]
        fresh.rename(folder)
    return RecoveryConfig(folder)  # type: ignore[no-untyped-call]


class StoreLogic(Protocol):
    """Folds batches into state that lives in a `Store`. Knows no engine."""

    def apply(self, batch: KafkaBatch) -> None:
        """Fold one batch in memory."""

    def flush(self) -> None:
        """Commit what changed, with the watermarks."""

    def verify(self) -> None:
        """Raise `state.store.StateLostError` when the store no longer holds what was committed last."""


def fold_into_store(step_id: str, batches: Stream[KafkaBatch], logic: StoreLogic, pacer: Pacer | None = None) -> None:
    """End a flow in one `StoreLogic` for all its batches, flushed by a `Pacer`."""
    keyed = op.key_on(f"{step_id}_key", batches, _only_key)
    # ("all", KafkaBatch)
    nothing = op.stateful_batch(step_id, keyed, lambda resume_state: StoreStep(logic, pacer or Pacer()))
    # never an item
    op.output(f"{step_id}_end", nothing, _NoSink())


def _only_key(batch: KafkaBatch) -> str:
    return _ONLY_KEY


class StoreStep(StatefulBatchLogic[KafkaBatch, None, None]):
    """Runs a `StoreLogic` as a Bytewax step."""

    def __init__(self, logic: StoreLogic, pacer: Pacer) -> None:
        self._logic = logic
        self._pacer = pacer
        self._verify_at = time.time() + _VERIFY_EVERY_S

    def on_batch(self, values: list[KafkaBatch]) -> tuple[list[None], bool]:
        for batch in values:
            self._logic.apply(batch)
        now = time.time()
        self._pacer.touch(
            now, max((now - batch.timestamps[-1] / 1000 for batch in values if batch.timestamps), default=0.0)
        )
        self._flush_if_due()
        return [], StatefulBatchLogic.RETAIN

    def on_notify(self) -> tuple[list[None], bool]:
        if self._pacer.due_at is not None:  # what is about to be flushed is verified by that
            self._flush_if_due()
        elif time.time() >= self._verify_at:
            self._logic.verify()
            self._verify_at = time.time() + _VERIFY_EVERY_S
        return [], StatefulBatchLogic.RETAIN

    def on_eof(self) -> tuple[list[None], bool]:
        self._flush()
        return [], StatefulBatchLogic.RETAIN

    def notify_at(self) -> datetime:
        due_at = self._pacer.due_at
        return datetime.fromtimestamp(self._verify_at if due_at is None else due_at, UTC)

    def snapshot(self) -> None:
        """Nothing: the state is in the store."""

    def _flush_if_due(self) -> None:
        if self._pacer.is_due(time.time()):
            self._flush()

    def _flush(self) -> None:
        started = time.time()
        self._logic.flush()
        ended = time.time()
        self._pacer.flushed(started, ended)
        self._verify_at = ended + _VERIFY_EVERY_S


class _NoSink(DynamicSink[tuple[str, None]]):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_NoSinkPart":
        return _NoSinkPart()


class _NoSinkPart(StatelessSinkPartition[tuple[str, None]]):
    def write_batch(self, items: list[tuple[str, None]]) -> None: ...
