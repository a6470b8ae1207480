"""A bounded memory of the newest entries that is stored piece by piece."""

from typing import Generic, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

_Scalar = TypeVar("_Scalar", bound=np.generic)


class Ring(Generic[_Scalar]):
    """The newest `n_segments * segment` values, oldest overwritten first.

    Rows are segments, so that what has to be written after an append is one small segment.
    """

    def __init__(self, n_segments: int, segment: int, dtype: DTypeLike) -> None:
        self.values: NDArray[_Scalar] = np.zeros(n_segments * segment, dtype=dtype)
        self._segment = segment
        self.n_appended = 0
        self.changed: set[int] = set()
        """Numbers of the segments that have changed since somebody cleared this."""

    def __len__(self) -> int:
        return min(self.n_appended, len(self.values))

    def append(self, value: int) -> int | None:
        """Add a value and return the one it replaces, if any."""
        position = self.n_appended % len(self.values)
        replaced = int(self.values[position]) if self.n_appended >= len(self.values) else None
        self.values[position] = value
        self.n_appended += 1
        self.changed.add(position // self._segment)
        return replaced

    def appended(self, n: int) -> None:
        """Say that n values were written behind the newest, into `values`, the first at `n_appended`."""
        first = self.n_appended // self._segment
        n_segments = len(self.values) // self._segment
        self.n_appended += n
        last = (self.n_appended - 1) // self._segment
        self.changed.update(number % n_segments for number in range(first, min(last + 1, first + n_segments)))

    def row(self, segment: int) -> bytes:
        return self.values[segment * self._segment : (segment + 1) * self._segment].tobytes()

    def restore(self, segment: int, row: bytes) -> None:
        """Take over one segment. `n_appended` is restored by the owner."""
        self.values[segment * self._segment : (segment + 1) * self._segment] = np.frombuffer(
            row, dtype=self.values.dtype
        )


class RecentIds:
    """Recognises ids among the newest `n_segments * segment`, by their 64-bit hashes.

    Two ids among n collide with probability n / 2^64.
    """

    def __init__(self, n_segments: int = 64, segment: int = 512) -> None:
        self.ring: Ring[np.int64] = Ring(n_segments, segment, np.int64)
        self._known: set[int] = set()

    def add(self, hashed: int) -> bool:
        """Remember an id; return False when it is known already."""
        if hashed in self._known:
            return False
        replaced = self.ring.append(hashed)
        if replaced is not None:
            self._known.discard(replaced)
        self._known.add(hashed)
        return True

    def restored(self) -> None:
        """Rebuild the lookup after the ring was restored."""
        self._known = set(self.ring.values[: len(self.ring)].tolist())
