"""A slate that was served, what has been told about it, and the examples that tell it."""

import msgspec
from msgspec import Struct

from state.records import CleanEvent, Example, Impression

POSITIVE, NEGATIVE = 1, 2  # bits: an example with label 1, or an explicit label 0, was told
_NOT_CLOSED, _CLOSED = b"\0", b"\1"

_decode_impression = msgspec.msgpack.Decoder(Impression).decode


class SlateHead(Struct, array_like=True, frozen=True):
    """The first fields of an `Impression`: all that a slate needs until something happens to it."""

    request_id: str
    user_id: str
    ts: int


class _SlateItems(Struct, array_like=True, frozen=True):
    request_id: str
    user_id: str
    ts: int
    surface: str
    items: list[str]


_decode_head = msgspec.msgpack.Decoder(SlateHead).decode
_decode_items = msgspec.msgpack.Decoder(_SlateItems).decode


class Slate:
    """One impression, kept as the bytes of its message.

    The first positive closes it: its example also labels the other items 0. So does the end of its time without one.
    Afterwards an example tells one item only, the others are -1.
    """

    __slots__ = ("_items", "_told", "closed", "head", "message", "offset")

    OVERHEAD = 900
    """Bytes of memory beside the message, about, with what an `Attribution` knows it by."""

    def __init__(self, offset: int, message: bytes) -> None:
        """Raise `msgspec.MsgspecError` for a message that is no impression."""
        self.offset = offset
        self.message = message
        self.head = _decode_head(message)
        self.closed = False
        self._told: dict[int, int] = {}
        self._items: list[str] | None = None

    @property
    def items(self) -> list[str]:
        if self._items is None:
            self._items = _decode_items(self.message).items
        return self._items

    @property
    def n_bytes(self) -> int:
        """Of memory, about."""
        return len(self.message) + self.OVERHEAD

    def outcome(self, event: CleanEvent, positive: bool) -> Example | None:
        """Return what an event on one of the items teaches, None when that has been told."""
        position = self.items.index(event.item_id or "")
        told = self._told.get(position, 0)
        bit = POSITIVE if positive else NEGATIVE
        if told & bit:
            return None
        labels = self._rest(closing=positive and not self.closed)
        told_zero = self.closed and not told & POSITIVE
        self._told[position] = told | bit
        self.closed = self.closed or positive
        if not positive and told_zero:
            return None
        labels[position] = int(positive)
        outcomes: list[str | None] = [None] * len(labels)
        outcomes[position] = event.type
        return self._example(f"{position}:{int(positive)}", event.ts, labels, outcomes)

    def expire(self, ts: int) -> Example | None:
        """Its time is up at `ts`: return the negatives, None if there are none to tell."""
        if self.closed:
            return None
        labels = self._rest(closing=True)
        self.closed = True
        if 0 not in labels:
            return None
        return self._example("expired", ts, labels, [None] * len(labels))

    @property
    def state(self) -> bytes:
        """What was told, without the slate itself; one byte for most."""
        told = b"".join(position.to_bytes(2) + bytes([bits]) for position, bits in self._told.items())
        return (_CLOSED if self.closed else _NOT_CLOSED) + told

    @state.setter
    def state(self, state: bytes) -> None:
        self.closed = state[:1] == _CLOSED
        self._told = {int.from_bytes(state[i : i + 2]): state[i + 2] for i in range(1, len(state), 3)}

    def _rest(self, closing: bool) -> list[int]:
        return [0 if closing and not self._told.get(position) else -1 for position in range(len(self.items))]

    def _example(self, cause: str, ts: int, labels: list[int], outcomes: list[str | None]) -> Example:
        shown = _decode_impression(self.message)
        return Example(
            example_id=f"{shown.request_id}:{cause}",
            request_id=shown.request_id,
            user_id=shown.user_id,
            ts=ts,
            surface=shown.surface,
            items=shown.items,
            labels=labels,
            outcomes=outcomes,
            propensities=shown.propensities,
            features=shown.features,
            feature_set=shown.feature_set,
            model_version=shown.model_version,
            experiments=shown.experiments,
            reason="expired" if cause == "expired" else "outcome",
        )
