"""What a flow's logic is fed: stretches of one topic partition, free of any engine's or client's types."""

from collections.abc import Sequence
from typing import NamedTuple


class KafkaBatch(NamedTuple):
    """Consecutive messages of one partition, as columns of equal length; without any where only the position moved."""

    topic: str
    """The name in `state.topics`, as in watermarks; not the broker's."""
    partition: int
    offsets: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    timestamps: list[int]
    """Epoch ms, as the topic says: the producer's or the broker's."""
    next_offset: int
    """Where to read on. Control records make it larger than the last offset + 1."""
    at_end: bool = False
    """Nothing was left to read."""
    headers: Sequence[Sequence[tuple[str, bytes]]] = ()
    """Of each message, where a flow asks for them."""
