"""Ids of items as bytes that kernels can compare: steps of one moment are ordered by them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.engine.items import grown
from online_models.engine.jit import jit_bare

_FIRST = 1 << 14


class NameArrays(NamedTuple):
    """For kernels: the name at a slot is `sizes` bytes from `starts` on."""

    letters: NDArray[np.uint8]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int32]


@jit_bare
def comes_after(names: NameArrays, one: int, other: int) -> bool:
    """Whether the name at slot `one` is greater than that at `other`; UTF-8 keeps the order of code points."""
    a, b = names.starts[one], names.starts[other]
    for k in range(min(names.sizes[one], names.sizes[other])):
        if names.letters[a + k] != names.letters[b + k]:
            return bool(names.letters[a + k] > names.letters[b + k])
    return bool(names.sizes[one] > names.sizes[other])


class Names:
    """The name of each slot. What replaced names leave behind is at most as much as what is in use."""

    def __init__(self, capacity: int = 1024) -> None:
        self._letters = np.zeros(_FIRST, np.uint8)
        self._starts = np.zeros(capacity, np.int64)
        self._sizes = np.zeros(capacity, np.int32)
        self._end = 0
        self.arrays = NameArrays(self._letters, self._starts, self._sizes)

    def put(self, slot: int, name: str) -> None:
        """Name a slot anew."""
        if slot >= len(self._sizes):
            capacity = max(slot + 1, 2 * len(self._sizes))
            self._starts, self._sizes = grown(self._starts, capacity), grown(self._sizes, capacity)
        letters = name.encode(errors="surrogatepass")
        self._sizes[slot] = 0
        if self._end + len(letters) > len(self._letters):
            self._make_room(len(letters))
        self._letters[self._end : self._end + len(letters)] = np.frombuffer(letters, np.uint8)
        self._starts[slot], self._sizes[slot] = self._end, len(letters)
        self._end += len(letters)
        self.arrays = NameArrays(self._letters, self._starts, self._sizes)

    def _make_room(self, more: int) -> None:
        named = np.flatnonzero(self._sizes)
        in_use = [self._letters[start : start + size] for start, size in zip(*self._places(named), strict=True)]
        ends = np.cumsum(self._sizes[named], dtype=np.int64)
        self._end = int(ends[-1]) if len(ends) else 0
        letters = np.zeros(max(_FIRST, 2 * (self._end + more)), np.uint8)
        if in_use:
            letters[: self._end] = np.concatenate(in_use)
        self._starts[named] = ends - self._sizes[named]
        self._letters = letters

    def _places(self, slots: NDArray[np.int64]) -> tuple[list[int], list[int]]:
        return self._starts[slots].tolist(), self._sizes[slots].tolist()
