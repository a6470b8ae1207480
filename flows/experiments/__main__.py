"""Kafka `impressions`, `examples`, `clean` -> users and sums by arm -> Redis, `metrics`; arms that do harm are stopped.

A flow of its own, beside `metrics`: what is compared are users, so that it keeps a row of each who was assigned, which
an erasure must reach; windows of traffic have no users. Runs as any number of processes on disjoint partitions
(`FRESHET_FLOW_PARTITIONS`): each looks at the sums of all, and of two that stop an arm one succeeds.
"""

import logging
from datetime import timedelta

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source

from flows.common.batches import KafkaBatch
from flows.common.bytewax_kafka import KafkaSource
from flows.common.bytewax_run import StoreLogic, fold_into_store, run
from flows.common.process import begin, stop_on_signals
from flows.common.telling import KafkaTeller
from flows.common.traces import flow_traces, traced
from flows.experiments.arms import ArmState
from flows.experiments.guarding import Guard, GuardedArms
from state.redis_store import RedisStore
from state.topics import CLEAN, EXAMPLES, IMPRESSIONS

FLOW = "experiments"

_GATHER = timedelta(milliseconds=200)
_IN_STEP = timedelta(minutes=1)
"""Events wait in memory for the lists before them."""
_SETTLE = timedelta(seconds=2)
"""Longer than a fetch takes: what was written later may be fetched first."""

log = logging.getLogger(__name__)


def build_flow(topics: Source[KafkaBatch], state: StoreLogic) -> Dataflow:
    """Wire the flow."""
    flow = Dataflow(FLOW)
    batches = op.input("read_topics", flow, topics)
    # KafkaBatch
    fold_into_store("sum_arms", batches, state)
    return flow


def main() -> None:
    """Run until told to stop."""
    settings = begin(FLOW)
    stopping = stop_on_signals()
    partitions = settings.own_partitions
    store, teller = RedisStore(settings), KafkaTeller(settings, FLOW)
    arms = ArmState(store, FLOW, partitions, timedelta(seconds=settings.attribution_window_s), _SETTLE)
    topics = {IMPRESSIONS: partitions, EXAMPLES: partitions, CLEAN: partitions}
    source = KafkaSource(
        settings, FLOW, topics, stopping, start=arms.start(), tell_ends=True, in_step=_IN_STEP, gather=_GATHER
    )
    try:
        state = GuardedArms(arms, Guard(store, teller))
        run(build_flow(source, traced(state, flow_traces(settings, FLOW))), settings)
    finally:
        teller.close()


if __name__ == "__main__":
    main()
