"""Item vectors learned from what users take after what; a user's vector is folded in from the newest items."""

import zlib
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Noise, Slots, grown

_Float = TypeVar("_Float", np.float32, np.float64)
_MIN_NORM = 0.3  # shorter vectors have hardly been trained: their cosines are shrunk


class ContextEmbedding:
    """Continuous bag of items with negative sampling (word2vec's CBOW over a user's history), one event at a time.

    For a user with history h_0, h_1, ... (newest first) who takes item j:

        u = sum_x a_x v(h_x) / sum_x a_x,   a_x = w_x decay^x
        v(i) += lr (y - sigma(u . v(i))) u                  for i = j (y = 1) and n sampled items i (y = 0)
        v(h_x) += lr a_x / sum a  sum_i (y - sigma(u . v(i))) v(i)

    There is no stored user vector: `user_vector` folds it in from the history at the moment of reading, so that a click
    moves it at once, also for a user nobody has seen before. Negatives are drawn from the newest targets (half, so by
    recent popularity) and evenly from all items (half). Memory: 4 `dim` bytes per item.

    Parameters
    ----------
    dim
        Length of the vectors.
    lr
        Learning rate.
    n_negatives
        Negatives per event.
    window
        Newest history items that make the context.
    decay
        Of a context item's weight, per item in between.
    seed
        Of the vectors' initial values and of the negatives.

    References
    ----------
    Mikolov et al.: Distributed representations of words and phrases and their compositionality, NIPS 2013;
    Barkan, Koenigstein: Item2vec, MLSP 2016.
    """

    def __init__(
        self,
        dim: int = 32,
        lr: float = 0.1,
        n_negatives: int = 6,
        window: int = 8,
        decay: float = 0.8,
        seed: int = 7,
    ) -> None:
        self.dim = dim
        self.lr = lr
        self.n_negatives = n_negatives
        self.window = window
        self._seed = seed
        self._discounts = (decay ** np.arange(64)).astype(np.float32)
        self._labels = np.zeros(1 + n_negatives, dtype=np.float32)
        self._labels[0] = 1.0
        self.noise = Noise(seed)
        self.vectors: NDArray[np.float32] = np.zeros((0, dim), dtype=np.float32)
        self.changed: set[int] = set()
        """Slots whose vectors have changed since somebody cleared this."""

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`."""
        self.vectors = grown(self.vectors, n_slots, 0.0)

    def add(self, slot: int, item_id: str) -> None:
        """Give a new item its initial vector, which depends on its id and the seed only."""
        rng = np.random.default_rng([self._seed, zlib.crc32(item_id.encode())])
        self.vectors[slot] = rng.normal(0.0, 0.1 / np.sqrt(self.dim), self.dim)
        self.changed.add(slot)

    def learn_one(
        self, slot: int, history: Slots, weights: NDArray[np.float32], targets: NDArray[np.int32], n_items: int
    ) -> None:
        """Learn that a user took `slot`.

        Parameters
        ----------
        history, weights
            The user's distinct other items, newest first, and their weights.
        targets
            Slots to draw half of the negatives from; may be empty.
        n_items
            The others are drawn from the slots below.
        """
        history = history[: self.window]
        n = len(history)
        if n == 0:
            return
        shares = weights[:n] * self._discounts[:n]
        shares /= shares.sum()
        context = self.vectors[history]
        user = shares @ context
        learned = self._with_negatives(slot, targets, n_items)
        vectors = self.vectors[learned]
        steps = self.lr * (self._labels - 1.0 / (1.0 + np.exp(-(vectors @ user))))
        steps[1:][learned[1:] == slot] = 0.0
        self.vectors[history] = context + shares[:, None] * (steps @ vectors)
        self.vectors[learned] += steps[:, None] * user  # of an item drawn twice, one step counts
        self.changed.update(history.tolist(), learned.tolist())

    def user_vector(self, history: Slots, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fold in a user, history newest first; zero without history. Shape (dim,), not normalised."""
        history = history[: self.window]
        if len(history) == 0:
            return np.zeros(self.dim, dtype=np.float32)
        shares = weights[: len(history)] * self._discounts[: len(history)]
        vector: NDArray[np.float32] = shares @ self.vectors[history] / shares.sum()
        return vector

    def predict_one(self, slot: int, vector: NDArray[np.float32]) -> float:
        """Return the (shrunk) cosine of an item with a vector: v . u / (max(|v|, .3) max(|u|, .3))."""
        item = [float(x) for x in self.vectors[slot]]
        other = [float(x) for x in vector]
        dot = sum(a * b for a, b in zip(item, other, strict=True))
        lengths = [max(_MIN_NORM, sum(x * x for x in v) ** 0.5) for v in (item, other)]
        return float(dot / (lengths[0] * lengths[1]))

    def predict_many(self, slots: Slots, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return `predict_one` for each slot, shape (n,)."""
        return np.asarray(unit(self.vectors[slots].astype(np.float64)) @ unit(vector.astype(np.float64)))

    def row(self, slot: int) -> bytes:
        row: bytes = self.vectors[slot].tobytes()
        return row

    def restore(self, slot: int, row: bytes) -> None:
        self.vectors[slot] = np.frombuffer(row, dtype=np.float32)

    def forget(self, slots: Slots) -> None:
        self.vectors[slots] = 0.0
        self.changed.difference_update(slots.tolist())

    def _with_negatives(self, slot: int, targets: NDArray[np.int32], n_items: int) -> NDArray[np.int32]:
        drawn = self.noise.uniform(self.n_negatives)
        n_targets = self.n_negatives // 2 if len(targets) else 0
        learned = np.empty(1 + self.n_negatives, dtype=np.int32)
        learned[0] = slot
        learned[1 : 1 + n_targets] = targets[(drawn[:n_targets] * len(targets)).astype(np.intp)]
        learned[1 + n_targets :] = drawn[n_targets:] * n_items
        return learned


def unit(vectors: NDArray[_Float]) -> NDArray[_Float]:
    """Return the vectors (last axis) at length 1; shorter than .3 they are divided by .3."""
    norms = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
    return np.asarray(vectors / np.maximum(norms, _MIN_NORM))
