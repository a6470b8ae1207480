"""Kafka `impressions` and `clean` -> which slate caused which outcome -> Kafka `examples`.

The topics are keyed by user alike, so a partition number is the same users in both, and everything is keyed by it.
Runs as any number of processes on disjoint partitions (`FRESHET_FLOW_PARTITIONS`).
"""

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

import bytewax.operators as op
import msgspec
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import Sink

from flows.attribution.attributing import Attribution, Rules
from flows.attribution.recovery import Recovery
from flows.attribution.tracing import ExampleTraces
from flows.common.batches import KafkaBatch
from flows.common.bytewax_kafka import KafkaSink, KafkaSource, Outgoing
from flows.common.bytewax_run import run
from flows.common.kafka_log import KafkaLog
from flows.common.process import begin, stop_on_signals
from flows.common.traces import FlowTraces, flow_traces
from state.records import Example
from state.topics import CLEAN, EXAMPLES, IMPRESSIONS

log = logging.getLogger(__name__)

FLOW = "attribution"

_REPORT_EVERY_S = 60.0
_IN_STEP = timedelta(minutes=2)  # of a backlog, no more slates than this waits for its events
_GATHER = timedelta(milliseconds=200)
_EPOCH = timedelta(seconds=2)  # a snapshot holds all outcomes that wait for their time

_encode = msgspec.msgpack.Encoder().encode

State = tuple[int, bytes]
"""Partition and its snapshot."""


def build_flow(
    source: Source[KafkaBatch],
    recovery: Recovery,
    examples: Sink[tuple[str, Outgoing]],
    traces: FlowTraces | None = None,
) -> Dataflow:
    """Wire the flow."""
    flow = Dataflow(FLOW)
    batches = op.input("read_slates_and_events", flow, source)
    # KafkaBatch
    by_partition = op.key_on("key_by_partition", batches, lambda batch: str(batch.partition))
    # (partition, KafkaBatch)
    attributed = op.stateful_batch("attribute_outcomes", by_partition, partial(AttributionStep, recovery, traces))
    # (partition, Outgoing)
    op.output("write_examples", attributed, examples)
    return flow


class AttributionStep(StatefulBatchLogic[KafkaBatch, Outgoing, State]):
    """Runs the `Attribution` of one partition as a Bytewax step, with one timer."""

    def __init__(self, recovery: Recovery, traces: FlowTraces | None, state: State | None) -> None:
        self._recovery = recovery
        self._traces = None if traces is None else ExampleTraces(traces)
        self._partition = -1
        self._logic: Attribution | None = None
        if state is not None:
            self._partition, snapshot = state
            self._logic = recovery.resume(self._partition, snapshot)
        self._reported: dict[str, int] = {}
        self._report_at = time.monotonic() + _REPORT_EVERY_S

    def on_batch(self, values: list[KafkaBatch]) -> tuple[list[Outgoing], bool]:
        if self._logic is None:
            self._partition = values[0].partition
            self._logic = self._recovery.begin(self._partition)
        now = _now()
        for batch in values:
            self._logic.apply(batch, now)
            if self._traces is not None:
                self._traces.read(batch)
        return self._advance(now)

    def on_notify(self) -> tuple[list[Outgoing], bool]:
        return self._advance(_now())

    def on_eof(self) -> tuple[list[Outgoing], bool]:
        """A stop is not the end of time: what waits goes on waiting, in the snapshot."""
        return [], StatefulBatchLogic.RETAIN

    def notify_at(self) -> datetime | None:
        due = None if self._logic is None else self._logic.next_due(_now())
        return None if due is None else datetime.fromtimestamp(due / 1000, UTC)

    def snapshot(self) -> State:
        assert self._logic is not None
        self._report(self._logic.counts)
        return self._partition, self._logic.snapshot(_now()).encode()

    def _advance(self, now: int) -> tuple[list[Outgoing], bool]:
        assert self._logic is not None
        examples = self._logic.advance(now)
        headers = _no_headers if self._traces is None else self._traces.headers
        return [
            Outgoing(EXAMPLES, example.user_id.encode(), _encode(example), headers(example)) for example in examples
        ], StatefulBatchLogic.RETAIN

    def _report(self, counts: Mapping[str, int]) -> None:
        if time.monotonic() >= self._report_at and counts != self._reported:
            log.info(
                "partition %d: %s", self._partition, ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))
            )
            self._reported = dict(counts)
            self._report_at = time.monotonic() + _REPORT_EVERY_S


def _no_headers(example: Example) -> None:
    return None


def _now() -> int:
    return time.time_ns() // 1_000_000


def main() -> None:
    """Run until told to stop."""
    settings = begin(FLOW)
    stopping = stop_on_signals()
    partitions = settings.own_partitions
    rules = Rules(
        wait=timedelta(seconds=settings.attribution_wait_s), window=timedelta(seconds=settings.attribution_window_s)
    )
    with KafkaLog(settings, settings.group_id(FLOW)) as kafka:
        recovery = Recovery(kafka, rules, partitions)
        source = KafkaSource(
            settings,
            FLOW,
            {IMPRESSIONS: partitions, CLEAN: partitions},
            stopping,
            start=recovery.start,
            commit=True,
            tell_ends=True,
            in_step=_IN_STEP,
            gather=_GATHER,
        )
        flow = build_flow(source, recovery, KafkaSink(settings, FLOW), flow_traces(settings, FLOW))
        # Another Kafka has other offsets, other partitions are another process.
        own = () if len(partitions) == settings.partitions else partitions
        name = "-".join([FLOW, kafka.cluster_id, *map(str, own)])
        run(flow, settings, recovery_name=name, epoch_interval=_EPOCH)


if __name__ == "__main__":
    main()
