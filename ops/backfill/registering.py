"""From a finished run to an artifact, and from what is live to what it is compared with."""

import time
from datetime import UTC, datetime

from online_models.engine import inputs
from online_models.engine.defaults import default_weights
from online_models.versions.boosting import TreeParameters
from online_models.versions.ranking import Ranking
from ops.backfill.training import Training
from state.artifacts import ONLINE, Artifact, Lineage, Manifest, name_of
from state.control import MODELS
from state.entries import CONTROL, MODEL
from state.registry import Registry
from state.store import Store


def live_ranking(store: Store, registry: Registry) -> Ranking:
    """Return what ranks now. Raise what the store and the registry raise."""
    document = store.get_rows(CONTROL, ["models"]).get("models")
    name = ONLINE if document is None else MODELS.parse(document.body).ranker
    if name != ONLINE:
        return Ranking.of(registry.get(name))
    row = store.get_rows(MODEL, ["ranker"]).get("ranker")
    return Ranking.live(default_weights() if row is None else row.blob)


def artifact_of(training: Training, begins: dict[str, int], note: str = "") -> Artifact:
    """Return what a finished run has learned, with how good it was on what it had not learned yet.

    `begins`: `<topic>/<partition>` -> the first offset that was read.
    """
    plan, held_out = training.plan, training.held_out
    weights, now_ms = training.weights(), int(time.time() * 1000)
    n_items = len(training.learner.items)
    trees = isinstance(plan.parameters, TreeParameters)
    model = "trees" if trees else "ranker"
    given = {name: getattr(plan.parameters, name) for name in plan.parameters.__struct_fields__}
    manifest = Manifest(
        name=name_of(model, now_ms, weights),
        model=model,
        created_ms=now_ms,
        feature_set=inputs.FEATURE_SET,
        code=plan.code,
        n_lists=training.n_lists,
        lineage=Lineage(
            source=plan.source,
            offsets={where: (begins.get(where, 0), end) for where, end in plan.ends.items()},
            since=_iso(plan.since_ms),
            until=_iso(plan.held_out_ms if trees else plan.until_ms),
            began_with="none" if isinstance(plan.parameters, TreeParameters) else plan.parameters.start,
        ),
        parameters=given | {"held_out_from": _iso(plan.held_out_ms)},
        metrics=held_out.metrics(held_out.challenger, n_items),
        beside=held_out.metrics(held_out.live, n_items),
        note=note,
    )
    return Artifact(manifest, weights)


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
