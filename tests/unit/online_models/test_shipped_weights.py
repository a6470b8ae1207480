"""The weights that ship, and the engine without parts of it (R13, R15)."""

import numpy as np
import pytest

from online_models.engine.defaults import default_weights
from online_models.engine.inputs import N_INPUTS, NAMES
from online_models.engine.listwise import ListwiseRanker
from online_models.engine.scorer import SnapshotVersionError
from online_models.evaluation.ablation import GROUPS, INPUT_GROUPS, ablated

REMAKE = "inputs have changed: freshet weights --data movietweetings-100k --out online_models/engine/default.weights"


def test_shipped_weights_fit_the_declared_inputs() -> None:
    """R15: a new installation begins with weights that score the inputs as they are declared now."""
    ranker = ListwiseRanker(N_INPUTS)
    try:
        ranker.load(default_weights(), NAMES)
    except SnapshotVersionError as error:
        pytest.fail(f"{error}; {REMAKE}")
    assert ranker.is_ready


def test_each_input_is_in_one_group() -> None:
    """R13: an ablation by groups leaves no input out."""
    grouped = [name for names in INPUT_GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(NAMES)


@pytest.mark.parametrize("without", GROUPS)
def test_engine_lacks_what_is_left_out(without: str) -> None:
    """R15: lists are learned and ranked without the group, and still come."""
    engine = ablated(without)
    for k in range(60):
        engine.observe(f"u{k % 7}", f"i{k * k % 11}", True, 1.0, float(k))
    slate = engine.learner.slate(engine.learner.users.of("u1"), 60.0, True)
    zero = [NAMES.index(name) for name in INPUT_GROUPS.get(without, ())]
    assert len(slate.slots)
    assert not np.any(slate.inputs[:, zero])
    assert engine.recommend("u1", 5, 60.0, "all")
