"""Messages as the flows write them, for tests of the lake."""

from collections.abc import Sequence

import msgspec
import numpy as np

from flows.common.batches import KafkaBatch
from state.records import CleanEvent, Example, Impression

START = 1_790_000_000_000
"""2026-09-21T14:13:20Z, epoch ms."""
N_FEATURES = 3


def batch(records: Sequence[object], topic: str = "clean", partition: int = 0, first: int = 0) -> KafkaBatch:
    """Return consecutive messages."""
    values: list[bytes | None] = [r if isinstance(r, bytes) else msgspec.msgpack.encode(r) for r in records]
    n = len(values)
    return KafkaBatch(
        topic, partition, list(range(first, first + n)), [b"u"] * n, values, [START] * n, first + n, headers=[()] * n
    )


def event(number: int, event_type: str = "click", ts: int = START, user: str = "u1") -> CleanEvent:
    return CleanEvent(f"e{number}", event_type, user, f"i{number}", ts)


def features(n_items: int) -> bytes:
    """Item n's vector is (n, n, n); the mean is (-1, -1, -1)."""
    rows = [[n] * N_FEATURES for n in [*range(n_items), -1]]
    return np.array(rows, dtype="<f4").tobytes()


def impression(number: int, n_items: int = 2, user: str = "u1") -> Impression:
    return Impression(
        request_id=f"r{number}",
        user_id=user,
        ts=START,
        surface="home",
        items=[f"i{n}" for n in range(n_items)],
        scores=[1.0 / (n + 1) for n in range(n_items)],
        sources=[["popular", "cooc"][: n + 1] for n in range(n_items)],
        propensities=[1.0] * n_items,
        features=features(n_items),
        feature_set="f1",
        model="engine",
        model_version="3",
        experiments={"ranking": "b"},
        device="tv",
    )


def example(number: int, labels: Sequence[int] = (1, 0), user: str = "u1") -> Example:
    return Example(
        example_id=f"x{number}",
        request_id=f"r{number}",
        user_id=user,
        ts=START,
        surface="home",
        items=[f"i{n}" for n in range(len(labels))],
        labels=list(labels),
        outcomes=["click" if label == 1 else None for label in labels],
        propensities=[1.0] * len(labels),
        features=features(len(labels)),
        feature_set="f1",
        model_version="3",
    )
