"""Kafka `clean`, `examples`, `items` -> online models -> Redis; drift -> `metrics`.

One process: a model has one writer.
"""

import logging
from functools import partial
from typing import TYPE_CHECKING

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source

from flows.common.batches import KafkaBatch
from flows.common.bytewax_kafka import KafkaSource
from flows.common.bytewax_run import StoreLogic, fold_into_store, run
from flows.common.pacing import Pacer
from flows.common.process import begin, stop_on_signals
from flows.common.telling import KafkaTeller
from flows.common.traces import flow_traces, traced
from flows.learn.learning import LearningState
from online_models.learning.learner import Learner
from online_models.warm_up import warm_up
from state import kept_runs
from state.redis_store import RedisStore
from state.settings import Settings
from state.topics import CLEAN, EXAMPLES, ITEMS

if TYPE_CHECKING:
    from flows.learn.drifting import Drifting

FLOW = "learn"
_AT_MOST_S = 12.0
"""Between two commits under load. What a user has just done is in the profile that `features` commits, and feedback in
lists at once."""

log = logging.getLogger(__name__)


def build_flow(topics: Source[KafkaBatch], state: StoreLogic) -> Dataflow:
    """Wire the flow."""
    flow = Dataflow(FLOW)
    batches = op.input("read_topics", flow, topics)
    # KafkaBatch
    fold_into_store("learn_batches", batches, state, Pacer(at_most=_AT_MOST_S))
    return flow


def main() -> None:
    """Run until told to stop."""
    settings = begin(FLOW)
    stopping = stop_on_signals()
    log.info("kernels are ready after %.1f s", warm_up())
    learner = Learner(organic_share=settings.learn_organic_share, replay_share=settings.learn_replay_share)
    store, teller = RedisStore(settings), KafkaTeller(settings, FLOW)
    erase_kept_runs = partial(kept_runs.erase, kept_runs.folder_of(settings))
    state = LearningState(store, FLOW, learner, drifting=_drifting(settings, store, teller), on_erase=erase_kept_runs)
    source = KafkaSource(settings, FLOW, {ITEMS: None, CLEAN: None, EXAMPLES: None}, stopping, start=state.start())
    try:
        run(build_flow(source, traced(state, flow_traces(settings, FLOW))), settings)
    finally:
        teller.close()


def _drifting(settings: Settings, store: RedisStore, teller: KafkaTeller) -> "Drifting | None":
    if not settings.drift_share:
        return None
    # Here, since River's detectors take some 60 MB.
    from flows.learn.drifting import Drifting

    store.recover(FLOW)
    return Drifting(store, settings.drift_share, teller)


if __name__ == "__main__":
    main()
