"""R19: drift is told on the topic `metrics`, once, also across restarts of the learner."""

from typing import Any

import msgspec

from flows.common.batches import KafkaBatch
from flows.learn.drifting import Drifting
from flows.learn.learning import LearningState
from online_models.engine import inputs
from online_models.learning.learner import Learner
from online_models.versions.drift import PER_MEAN
from state.memory_store import MemoryStore
from state.records import Example
from state.topics import Topic
from tests.unit.online_models.test_drift import lists

AT = inputs.NAMES.index("liking")


def batch(examples: list[Example], begin: int) -> KafkaBatch:
    n = len(examples)
    return KafkaBatch(
        topic="examples",
        partition=0,
        offsets=list(range(begin, begin + n)),
        timestamps=[0] * n,
        keys=[None] * n,
        values=[msgspec.msgpack.encode(example) for example in examples],
        next_offset=begin + n,
    )


def test_drift_is_told_once_whatever_is_restarted() -> None:
    """R19: the detectors' state is committed with the learner's, and goes on from there."""
    told: list[dict[str, Any]] = []

    def tell(topic: Topic, key: str, value: bytes) -> None:
        assert (topic.name, key) == ("metrics", "drift")
        told.append(msgspec.json.decode(value))

    n_before, n_after = 40 * PER_MEAN, 20 * PER_MEAN
    examples = [*lists(0, 0, n_before, {}), *lists(0, n_before, n_after, {AT: 3.0})]
    store = MemoryStore()
    for begin in range(0, len(examples), 150):
        state = LearningState(store, "learn", Learner(), drifting=Drifting(store, 1.0, tell))
        assert state.start().get(("examples", 0), 0) == begin
        state.apply(batch(examples[begin : begin + 150], begin))
        state.flush()
    about = [result["dimensions"] for result in told if result["dimensions"]]
    assert about.count({"signal": "input_liking"}) == 1
    assert next(result for result in told if not result["dimensions"])["sums"] == {"alarms": 1}
    assert all(result["start"] <= examples[-1].ts < result["end"] for result in told)
