"""What of an `Attribution` survives a restart, as compact bytes."""

import msgspec
from msgspec import Struct

from flows.attribution.stream_clock import TopicTime
from state.records import CleanEvent

LAYOUT = 1


class SnapshotVersionError(ValueError):
    """A snapshot of another layout."""


class Snapshot(Struct, array_like=True):
    """All that a restart cannot find in the log: the slates are there, at the offsets in `slates`."""

    version: int
    """`LAYOUT`."""
    as_of: int
    """Wall clock, epoch ms. What was said later is in the log of examples."""
    watermark: int
    times: dict[str, TopicTime]
    next_impression: int
    slates: dict[int, bytes]
    """Offset of the impression -> `Slate.state`."""
    held: list[CleanEvent]

    @property
    def first_impression(self) -> int:
        """Offset of the oldest slate."""
        return min(self.slates, default=self.next_impression)

    def encode(self) -> bytes:
        return _encode(self)

    @classmethod
    def decode(cls, snapshot: bytes) -> "Snapshot":
        """Raise `SnapshotVersionError` for another layout."""
        version = msgspec.msgpack.decode(snapshot, type=_Version).version
        if version != LAYOUT:
            raise SnapshotVersionError(f"attribution: expected snapshot layout {LAYOUT}, got {version}")
        return msgspec.msgpack.decode(snapshot, type=cls)


class _Version(Struct, array_like=True):
    version: int


_encode = msgspec.msgpack.Encoder().encode
