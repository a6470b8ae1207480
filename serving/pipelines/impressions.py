"""The log of what was shown: training learns from it, so it holds the very features that scored the list (R13)."""

from math import isfinite

import msgspec
import numpy as np

from online_models.engine.inputs import FEATURE_SET
from online_models.evaluation import slates
from serving import telemetry
from serving.kafka.event_log import Outbox
from serving.pipelines.slate import Slate
from state.records import Impression
from state.topics import IMPRESSIONS


class ImpressionLog:
    """Sends one impression per answered list, after the answer; drops it when the queue is full."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._encode = msgspec.msgpack.Encoder().encode

    def follow_up(self, slate: Slate) -> None:
        if slate.user_id is None or not len(slate.candidates):
            return
        slate.impression = impression_of(slate)
        queued = self._outbox.put(IMPRESSIONS, slate.user_id, self._encode(slate.impression))
        telemetry.impressions("queued" if queued else "dropped").inc()


def impression_of(slate: Slate) -> Impression:
    """Return the record of a finished slate that was shown to a user."""
    assert slate.user_id is not None
    if slate.repeated is not None:
        return msgspec.structs.replace(
            slate.repeated.impression,
            request_id=slate.request_id,
            ts=slate.wall_ms,
            degraded=slate.degraded,
            latency_ms=slate.timing_ms.get("total"),
            features=b"",  # logged once, with the list that was scored by them
        )
    shown = slate.candidates
    features = b""
    matrix = shown.features
    if matrix is not None and slate.list_mean is not None:
        features = np.vstack([matrix, slate.list_mean]).astype("<f4", copy=False).tobytes()
    columns = slate.replica.columns
    n_events, _, _ = slate.replica.exposure(shown.slots)
    return Impression(
        request_id=slate.request_id,
        user_id=slate.user_id,
        ts=slate.wall_ms,
        surface=slate.surface,
        items=slate.replica.item_ids(shown.slots),
        scores=[score if isfinite(score) else 0.0 for score in shown.scores.tolist()],
        sources=[slate.sources_of(bits) for bits in shown.sources.tolist()],
        propensities=[1.0] * len(shown) if shown.propensities is None else shown.propensities.tolist(),
        features=features,
        feature_set=FEATURE_SET,
        model=slate.model[0],
        model_version=slate.model[1],
        experiments=dict(slate.experiments),
        degraded=slate.degraded or None,
        session_id=slate.query.session_id,
        device=slate.query.device,
        reasons=slate.reasons,
        rules_version=slate.rules.version,
        relaxed=slate.relaxed,
        latency_ms=slate.timing_ms.get("total"),
        novelty=slates.novelty(n_events, columns.n_events) if len(shown) else None,
        diversity=slates.diversity(columns.catalogue.genres[shown.slots]),
    )
