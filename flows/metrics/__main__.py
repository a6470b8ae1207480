"""Kafka `clean`, `rejected`, `impressions`, `examples` -> sums per window of event time -> Kafka `metrics`, Redis.

Exactly-once state by window. The results of windows that have changed are written at each checkpoint, those of open
ones with `final` false. They are absolute values, so writing one twice (after a crash) does no harm. What is summed is
in `tallies`, how windows open and close in `windowed_sums`, what readers make of it in `state.metrics`.
"""

import logging

from quixstreams import Application

from flows.common.process import begin, collect_garbage_rarely
from flows.common.quix import BatchApplication, application, topic
from flows.metrics.shadowing import Shadow, WithShadow
from flows.metrics.sink import WindowSink, read
from flows.metrics.slate_log import SlateLog
from flows.metrics.tallies import TallyEvents, TallyLabels, TallyRejected, TallySlates
from flows.metrics.windowed_sums import GRACE
from state.metrics import SHADOW_LABELS, SHADOW_SLATES
from state.redis_store import RedisStore
from state.registry import Registry
from state.settings import Settings
from state.topics import CLEAN, EXAMPLES, IMPRESSIONS, REJECTED

FLOW = "metrics"

log = logging.getLogger(__name__)


def build(settings: Settings) -> Application:
    """Wire the flow."""
    app = application(
        settings,
        FLOW,
        commit_interval_s=0.5,
        poll_timeout_s=0.25,
        exactly_once=True,
        kind=BatchApplication,
        fetch_min_bytes=2**18,
    )
    assert isinstance(app, BatchApplication)
    store = RedisStore(settings)
    shadow = Shadow(store, Registry(settings.models_root))
    slates = SlateLog(settings, f"{settings.group_id(FLOW)}-slates-{settings.instance}")
    for source, tally in (
        (CLEAN, TallyEvents(slates, window_ms=round(1000 * settings.attribution_window_s))),
        (REJECTED, TallyRejected()),
        (IMPRESSIONS, WithShadow(TallySlates(), SHADOW_SLATES, shadow)),
        (EXAMPLES, WithShadow(TallyLabels(), SHADOW_LABELS, shadow)),
    ):
        batches = app.dataframe(topic(app, settings, source))
        # KafkaBatch
        with_state = batches.apply(read, stateful=True)
        # metrics_sink.Messages
        sink = WindowSink(settings, FLOW, tally, store)
        with_state.sink(sink)
        app.on_idle[source.full_name(settings)] = sink.tell_rest
    return app


def main() -> None:
    """Run the flow as a process; SIGTERM stops it."""
    settings = begin(FLOW)
    collect_garbage_rarely()
    log.info("windows are closed %s after their end", GRACE)
    build(settings).run()


if __name__ == "__main__":
    main()
