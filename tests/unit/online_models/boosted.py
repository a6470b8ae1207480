"""Boosted trees for tests."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from online_models.engine import inputs
from online_models.versions.boosting import (
    CollectedLists,
    MissingLibraryError,
    TreeParameters,
    boost,
    lightgbm,
    nodes_of,
)
from state.artifacts import Artifact, Lineage, Manifest, name_of
from tests.unit.online_models.artifacts import MADE_MS

PARAMETERS = TreeParameters(n_trees=12, n_leaves=7, min_leaf=20, max_lists=250)


def needs_lightgbm() -> None:
    """Skip a test where the library cannot be loaded."""
    try:
        lightgbm()
    except MissingLibraryError as error:
        pytest.skip(str(error))


def some_lists(n: int = 300, parameters: TreeParameters = PARAMETERS) -> CollectedLists:
    """Return lists of 30 of which what is high in the first input, and far from 0 in the second, is taken."""
    rng = np.random.default_rng(0)
    lists = CollectedLists(inputs.N_INPUTS, parameters)
    for _ in range(n):
        values = rng.normal(size=(30, inputs.N_INPUTS)).astype(np.float32)
        lists.learn_many(values, int(np.argmax(values[:, 0] + np.abs(values[:, 1]))))
    return lists


@cache
def a_booster() -> tuple[Any, bytes]:
    """Return LightGBM's model of some lists, and what is registered of it."""
    booster = boost(some_lists(), PARAMETERS)
    return booster, nodes_of(booster, inputs.NAMES, 250)


def a_tree_artifact(**fields: object) -> Artifact:
    """Return them as an artifact."""
    _, weights = a_booster()
    known = {
        "name": name_of("trees", MADE_MS, weights),
        "model": "trees",
        "created_ms": MADE_MS,
        "feature_set": inputs.FEATURE_SET,
        "code": "test",
        "n_lists": 250,
        "lineage": Lineage(source="lake", offsets={"clean/0": (0, 100)}),
    }
    return Artifact(Manifest(**known | fields), weights)  # type: ignore[arg-type]
