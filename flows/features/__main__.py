"""Kafka `clean` -> windows, profiles, sessions and item activity -> Redis.

Runs as any number of processes on disjoint partitions (`FRESHET_FLOW_PARTITIONS`).
"""

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source

from flows.common.batches import KafkaBatch
from flows.common.bytewax_kafka import KafkaSource
from flows.common.bytewax_run import StoreLogic, fold_into_store, run
from flows.common.process import begin, stop_on_signals
from flows.common.traces import flow_traces, traced
from flows.features.feature_state import FeatureState
from state.redis_store import RedisStore
from state.topics import CLEAN

FLOW = "features"


def build_flow(clean: Source[KafkaBatch], state: StoreLogic) -> Dataflow:
    """Wire the flow."""
    flow = Dataflow(FLOW)
    batches = op.input("read_clean", flow, clean)
    # KafkaBatch
    fold_into_store("fold_features", batches, state)
    return flow


def main() -> None:
    """Run until told to stop."""
    settings = begin(FLOW)
    stopping = stop_on_signals()
    partitions = settings.own_partitions
    state = FeatureState(RedisStore(settings), FLOW, CLEAN.name, partitions)
    source = KafkaSource(settings, FLOW, {CLEAN: partitions}, stopping, start=state.start())
    run(build_flow(source, traced(state, flow_traces(settings, FLOW))), settings)


if __name__ == "__main__":
    main()
