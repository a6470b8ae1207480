"""Short numbers for item ids, the same in every process: what remembers many items in few bytes."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots, grown

SIZE: Final = 5
"""Bytes. Of 1000 items against a catalogue of a million, one pair is taken for the same once in a thousand times."""

_LOW_BITS = 0xFFFF


def fingerprint(item_id: str) -> int:
    """Return the item's fingerprint, below 256 ** `SIZE`."""
    return int.from_bytes(blake2b(item_id.encode(), digest_size=SIZE).digest(), "little")


class Fingerprints:
    """Those of the items at all slots."""

    def __init__(self) -> None:
        self._by_slot: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._packed: NDArray[np.uint8] = np.zeros((0, SIZE), np.uint8)
        """The same, as every answered list wants them."""
        self._n_slots = 0

    def put(self, slot: int, item_id: str) -> None:
        """Remember which item has the slot."""
        self._by_slot = grown(self._by_slot, slot + 1, 0)
        self._packed = grown(self._packed, slot + 1, 0)
        self._by_slot[slot] = number = fingerprint(item_id)
        self._packed[slot] = memoryview(number.to_bytes(SIZE, "little"))
        self._n_slots = max(self._n_slots, slot + 1)

    def pack(self, slots: Slots) -> bytes:
        """Return the fingerprints of some items, `SIZE` bytes each."""
        return self._packed.take(slots, axis=0).tobytes()

    def find(self, packed: bytes) -> Slots:
        """Return the slots of the items that `pack` was given, in whichever process; unknown ones are left out."""
        wanted = unpack(packed)
        # Sorted out by their low bits first: to look for each of all items would take ten times as long.
        candidates = np.zeros(_LOW_BITS + 1, np.bool_)
        candidates[wanted & np.uint64(_LOW_BITS)] = True
        known = self._by_slot[: self._n_slots]
        maybe = np.flatnonzero(candidates[known & np.uint64(_LOW_BITS)])
        return maybe[np.isin(known[maybe], wanted)].astype(np.int32)


def pack_ids(item_ids: Iterable[str]) -> bytes:
    """Return what `Fingerprints.pack` returns for the items' slots."""
    return b"".join(fingerprint(item_id).to_bytes(SIZE, "little") for item_id in item_ids)


def unpack(packed: bytes) -> NDArray[np.uint64]:
    """Return the fingerprints, shape (n,)."""
    padded = np.zeros((len(packed) // SIZE, 8), np.uint8)
    padded[:, :SIZE] = np.frombuffer(packed, np.uint8).reshape(-1, SIZE)
    return padded.view("<u8").ravel()
