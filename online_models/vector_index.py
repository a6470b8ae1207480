"""Nearest items by vector: a usearch index that follows vectors which never stand still."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from online_models.arrays import Slots, grown

_LOOKED_AT = 512
_PUT = 16
"""At once: some 3 ms. Each vector takes 0.15 ms, each call 0.4 ms."""
_OVERFETCH = 2


class VectorIndex:
    """Approximate inner-product search over unit vectors, one per item.

    Vectors drift with every event, and adding one is slow, so an item is added again only when its vector has
    moved by `drift` since, during `maintain`; what a search finds is scored again with the current vectors. After
    `rebuild_share` of the items was moved, a fresh index is built beside the old one, step by step, and takes its
    place. Below `exact_below` items, and while less than half of the items are indexed, a search looks at all of them;
    at all that a filter allows, up to `exact_among`.

    Not thread-safe: maintain and search in one thread.
    """

    def __init__(
        self,
        vectors: Callable[[], NDArray[np.float32]],
        dim: int,
        exact_below: int = 4096,
        exact_among: int = 20_000,
        drift: float = 0.2,
        rebuild_share: float = 0.6,
        expansion: int = 256,
    ) -> None:
        self._vectors = vectors
        self._dim = dim
        self._exact_below = exact_below
        self._exact_among = exact_among
        self._drift = drift
        self._rebuild_share = rebuild_share
        self._expansion = expansion
        self._index = self._new_index()
        self._indexed: NDArray[np.float32] = np.zeros((0, dim), dtype=np.float32)
        """Unit vectors as they are in the index; zero where an item is not."""
        self._n_moved = 0
        self._pending: OrderedDict[int, None] = OrderedDict()
        """Items whose vectors have changed."""
        self._moved: list[int] = []
        """Those of which it is known that they have to be added again."""
        self._live: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._fresh: tuple[Index, deque[int]] | None = None

    def __len__(self) -> int:
        return len(self._index)

    def changed(self, slots: Iterable[int]) -> None:
        """Say that these items have new vectors."""
        slots = list(slots)
        if slots:
            n_slots = max(slots) + 1
            self._live = grown(self._live, n_slots, False)
            self._indexed = grown(self._indexed, n_slots, 0.0)
            self._live[slots] = True
            self._pending.update(dict.fromkeys(slots))

    def forget(self, slots: Iterable[int]) -> None:
        """Take items out."""
        for slot in slots:
            if slot < len(self._live) and self._live[slot]:
                self._live[slot] = False
                self._pending.pop(slot, None)
                if slot in self._index:
                    self._index.remove(slot)
                self._indexed[slot] = 0.0

    def maintain(self, budget_s: float, clock: Callable[[], float] = time.perf_counter) -> bool:
        """Work on what has changed for about `budget_s`; return whether something is left."""
        until = clock() + budget_s
        if int(self._live.sum()) < self._exact_below:
            return False
        while (step := self._next_step()) is not None and clock() < until:
            step()
        return step is not None

    def _next_step(self) -> Callable[[], None] | None:
        if self._moved:
            return self._put_moved
        if self._pending:
            return self._find_moved
        if self._fresh is None and self._n_moved > self._rebuild_share * len(self._index):
            self._fresh = (self._new_index(), deque(np.flatnonzero(self._live).tolist()))
        return None if self._fresh is None else partial(self._rebuild_step, *self._fresh)

    def search(
        self, vector: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Slots, NDArray[np.float32]]:
        """Return up to k items and their (shrunk) cosines with `vector`, best first.

        `allowed`: a mask over all slots. Where few are, each is looked at, else more are fetched by what is left out.
        """
        wanted = self._live
        if allowed is not None:
            n = min(len(allowed), len(wanted))
            wanted = wanted[:n] & allowed[:n]
        n_live, n_wanted = int(self._live.sum()), int(wanted.sum())
        if n_wanted == 0 or k <= 0:
            return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
        query = unit(vector)
        is_narrow = allowed is not None and n_wanted <= self._exact_among
        if is_narrow or n_live < self._exact_below or len(self._index) < n_live // 2:
            found = np.flatnonzero(wanted).astype(np.int32)
        else:
            n_fetched = _OVERFETCH * k * n_live // n_wanted
            found = self._index.search(query, min(n_fetched, len(self._index)), threads=1).keys.astype(np.int32)
            found = found[found < len(wanted)]
            found = found[wanted[found]]
        scores = unit(self._vectors()[found]) @ query
        if len(found) > k:
            best = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
            found, scores = found[best], scores[best]
        order = np.lexsort((found, -scores))
        return found[order], scores[order]

    def _find_moved(self) -> None:
        slots = [self._pending.popitem(last=False)[0] for _ in range(min(_LOOKED_AT, len(self._pending)))]
        distances = np.linalg.norm(unit(self._vectors()[slots]) - self._indexed[slots], axis=1)
        self._moved = [slots[at] for at in np.flatnonzero(distances > self._drift)]

    def _put_moved(self) -> None:
        slots = [slot for slot in self._moved[:_PUT] if self._live[slot]]
        del self._moved[:_PUT]
        self._put(self._index, slots)
        if self._fresh is not None:
            self._fresh[1].extend(slots)

    def _rebuild_step(self, fresh: Index, waiting: deque[int]) -> None:
        slots = dict.fromkeys(waiting.popleft() for _ in range(min(_PUT, len(waiting))))
        self._put(fresh, [slot for slot in slots if self._live[slot]])
        if not waiting:
            self._index, self._fresh, self._n_moved = fresh, None, 0
            for key in np.asarray(fresh.keys, dtype=np.intp)[~self._live[np.asarray(fresh.keys, dtype=np.intp)]]:
                fresh.remove(int(key))

    def _put(self, index: Index, slots: list[int]) -> None:
        if not slots:
            return
        for slot in slots:
            if slot in index:
                index.remove(slot)
                self._n_moved += 1
        vectors = unit(self._vectors()[slots])
        index.add(np.array(slots, dtype=np.uint64), vectors, threads=1)
        self._indexed[slots] = vectors

    def _new_index(self) -> Index:
        return Index(ndim=self._dim, metric="ip", dtype="f32", expansion_search=self._expansion)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors scaled to length 1; one without a length stays as it is."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)
