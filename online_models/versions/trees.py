"""Gradient-boosted trees as a ranker: scoring needs no library, learning is in `online_models.versions.boosting`."""

from collections.abc import Sequence
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit
from online_models.engine.scorer import Scorer, SnapshotVersionError

LAYOUT = 1
"""Of published trees; another number is refused."""

LEAF = -1


class Nodes(msgspec.Struct, array_like=True):
    """All trees, their nodes one behind another."""

    layout: int
    names: tuple[str, ...]
    """Of the inputs: a candidate's columns are these, and then their differences to the list's mean."""
    n_lists: int
    """That were learned."""
    roots: bytes
    """int32, shape (n_trees,)"""
    columns: bytes
    """int32, shape (n_nodes,): what is asked about, `LEAF` where nothing is."""
    thresholds: bytes
    """float64: up to this it goes on to the left."""
    lefts: bytes
    rights: bytes
    """int32"""
    values: bytes
    """float64: of leaves their part of the score, of others what the leaves below them have on average."""


def packed(
    names: tuple[str, ...], n_lists: int, roots: Sequence[int], nodes: Sequence[tuple[int, float, int, int, float]]
) -> bytes:
    """Return trees for `TreeScorer`; a node is column, threshold, left, right, value."""
    columns, thresholds, lefts, rights, values = zip(*nodes, strict=True)
    starts, columns_, lefts_, rights_ = (np.array(part, np.int32).tobytes() for part in (roots, columns, lefts, rights))
    thresholds_, values_ = (np.array(part, np.float64).tobytes() for part in (thresholds, values))
    return msgspec.msgpack.encode(
        Nodes(LAYOUT, names, n_lists, starts, columns_, thresholds_, lefts_, rights_, values_)
    )


class TreeScorer:
    """score = the sum of the leaves that a candidate reaches, one of each tree."""

    def __init__(self, n_inputs: int) -> None:
        self.n_inputs = n_inputs
        self.n_lists = 0
        self.is_ready = False

    def load(self, weights: bytes, names: tuple[str, ...]) -> Self:
        """Score by these trees from now on. Raise `SnapshotVersionError` if they are of other inputs or damaged."""
        was = msgspec.msgpack.decode(weights, type=Nodes)
        if (was.layout, was.names) != (LAYOUT, names):
            raise SnapshotVersionError(
                f"trees: expected layout {LAYOUT}, {len(names)} inputs, got {was.layout}, {len(was.names)}"
            )
        self._roots, self._columns, self._lefts, self._rights = (
            np.frombuffer(part, np.int32) for part in (was.roots, was.columns, was.lefts, was.rights)
        )
        self._thresholds, self._values = np.frombuffer(was.thresholds), np.frombuffer(was.values)
        n_nodes = len(self._columns)
        if any(len(part) != n_nodes for part in (self._lefts, self._rights, self._thresholds, self._values)):
            raise SnapshotVersionError("trees: their nodes have not as many parts as they should")
        self.n_lists, self.is_ready = was.n_lists, True
        return self

    def predict_many(
        self, features: NDArray[np.float32], mean: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Score the candidates of one list, shape (n, n_inputs) -> (n,). Changes nothing.

        `mean`: over all candidates of the list, where `features` are only some of them.
        """
        return self.raw(features, mean).astype(np.float32)

    def raw(self, features: NDArray[np.float32], mean: NDArray[np.float32] | None = None) -> NDArray[np.float64]:
        """Return the scores as they are summed: to the bit what LightGBM predicts."""
        return self._walked(features, Scorer.list_mean(features) if mean is None else mean, np.zeros((0, 0)))

    def contributions(
        self, features: NDArray[np.float32], mean: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], float]:
        """Return what each input contributes to each score, shape (n, n_inputs), and the baseline.

        On the way from a root to a leaf each node changes what is expected, and the input that it asks about has that.

        References
        ----------
        Saabas (2014), Interpreting random forests.
        """
        parts = np.zeros((len(features), 2 * self.n_inputs))
        self._walked(features, mean, parts)
        return parts[:, : self.n_inputs] + parts[:, self.n_inputs :], float(self._values[self._roots].sum())

    def _walked(
        self, features: NDArray[np.float32], mean: NDArray[np.float32], parts: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the scores; add what each column contributes to `parts`, (n, 2 * n_inputs) or without rows."""
        scores = np.zeros(len(features))
        _walk(
            columns_of(features, mean),
            self._roots, self._columns, self._thresholds, self._lefts, self._rights, self._values, scores, parts,
        )  # fmt: skip
        return scores


def columns_of(features: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what trees see of candidates, shape (n, 2 * n_inputs): the inputs, and how far they are from the mean."""
    return np.hstack([features, features - mean])


@jit
def _walk(
    x: NDArray[np.float32],
    roots: NDArray[np.int32],
    columns: NDArray[np.int32],
    thresholds: NDArray[np.float64],
    lefts: NDArray[np.int32],
    rights: NDArray[np.int32],
    values: NDArray[np.float64],
    scores: NDArray[np.float64],
    parts: NDArray[np.float64],
) -> None:
    explained = len(parts) > 0
    for row in range(len(x)):
        for root in roots:
            node = root
            while columns[node] >= 0:
                column = columns[node]
                below = lefts[node] if x[row, column] <= thresholds[node] else rights[node]
                if explained:
                    parts[row, column] += values[below] - values[node]
                node = below
            scores[row] += values[node]
