"""Registered rankers for tests."""

import numpy as np

from online_models.engine import inputs
from online_models.engine.defaults import default_weights
from online_models.engine.listwise import ListwiseRanker
from state.artifacts import Artifact, Lineage, Manifest, name_of

MADE_MS = 1_795_341_600_000


def an_artifact(seed: int = 0, feature_set: str = inputs.FEATURE_SET, **manifest: object) -> Artifact:
    """Return a ranker that has learned a few random lists, other ones for each seed."""
    ranker = ListwiseRanker(inputs.N_INPUTS, seed=seed).load(default_weights(), inputs.NAMES)
    rng = np.random.default_rng(seed)
    for _ in range(30):
        ranker.learn_many(rng.normal(size=(20, inputs.N_INPUTS)).astype(np.float32), 0)
    weights = ranker.weights(inputs.NAMES)
    fields = {
        "name": name_of("ranker", MADE_MS, weights),
        "created_ms": MADE_MS,
        "feature_set": feature_set,
        "code": "test",
        "n_lists": ranker.n_lists,
        "lineage": Lineage(source="online", offsets={"clean/0": (0, 100)}),
    }
    return Artifact(Manifest(**fields | manifest), weights)  # type: ignore[arg-type]
