"""Scoring a list with the ranker's published weights: all that serving needs of it."""

from functools import cache
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.engine.layers import normalise, rectify

LAYOUT = 3
"""Of published weights and of the learner's state; another number is refused."""

HIDDEN = (32, 16)
"""Units of the two layers."""


class SnapshotVersionError(ValueError):
    """A snapshot's layout is not the one this code reads."""


class Weights(msgspec.Struct, array_like=True):
    """What scores depend on."""

    layout: int
    names: tuple[str, ...]
    hidden: tuple[int, int]
    is_ready: bool
    statistics: bytes
    averaged: bytes
    n_lists: int = 0
    """That were learned, which tells one version of the weights from another."""


def shapes_of(n_inputs: int, hidden: tuple[int, int]) -> list[tuple[int, ...]]:
    """Return the shapes of all weights: two layers, the output, and the linear part."""
    width = 2 * n_inputs
    one, two = hidden
    return [(width, one), (one,), (one, two), (two,), (two,), (width,)]


@cache
def _shares(n: int) -> NDArray[np.float32]:
    return np.full(n, 1.0 / n, np.float32)


class Scorer:
    """score = w . x + MLP(x), see `ListwiseRanker`. Learns nothing."""

    def __init__(self, n_inputs: int, hidden: tuple[int, int] = HIDDEN) -> None:
        self.n_inputs = n_inputs
        self.hidden = hidden
        self._shapes = shapes_of(n_inputs, hidden)
        self._statistics = np.zeros((3, n_inputs), np.float32)  # mean, variance between lists, within lists
        self._averaged = np.zeros(sum(int(np.prod(shape)) for shape in self._shapes), np.float32)
        self._is_ready = False
        self.n_lists = 0
        self._bind()

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._bind()  # copies of views are views of nothing

    def _bind(self) -> None:
        """Make the views of flat arrays."""
        self._infer = self._views(self._averaged)

    def _views(self, flat: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        views, start = [], 0
        for shape in self._shapes:
            size = int(np.prod(shape))
            views.append(flat[start : start + size].reshape(shape))
            start += size
        return views

    @staticmethod
    def list_mean(features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean of each input over the candidates of a list: to be logged with those that are shown."""
        if not len(features):
            return np.zeros(features.shape[1], np.float32)
        mean: NDArray[np.float32] = np.dot(_shares(len(features)), features)
        return mean

    def _normalised(
        self, features: NDArray[np.float32], mean: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        out = np.empty((len(features), 2 * self.n_inputs), np.float32)
        normalise(features, self.list_mean(features) if mean is None else mean, self._statistics, out)
        return out

    def normalised(self, features: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the network sees of candidates of a list with this `list_mean`, shape (n, 2 * n_inputs)."""
        return self._normalised(features, mean)

    @property
    def layers(self) -> list[NDArray[np.float32]]:
        """Weights and biases of the two hidden layers, the output's, and the linear part's; not to be written to."""
        return self._infer

    def predict_many(
        self, features: NDArray[np.float32], mean: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Score the candidates of one list, shape (n, n_inputs) -> (n,). Changes nothing.

        `mean`: `list_mean` of all candidates, where `features` are only some of them.
        """
        x = self._normalised(features, mean)
        w1, b1, w2, b2, w3, skip = self._infer
        h1: NDArray[np.float32] = x @ w1
        rectify(h1, b1)
        h2: NDArray[np.float32] = h1 @ w2
        rectify(h2, b2)
        scores: NDArray[np.float32] = h2 @ w3 + x @ skip
        return scores

    @property
    def is_ready(self) -> bool:
        """Whether its scores mean anything yet."""
        return self._is_ready

    def weights(self, names: tuple[str, ...]) -> bytes:
        """Return what scoring needs, some 20 KB; `names`: of the inputs. A new ranker can start from it too."""
        statistics, averaged = self._statistics.tobytes(), self._averaged.tobytes()
        return msgspec.msgpack.encode(
            Weights(LAYOUT, names, self.hidden, self.is_ready, statistics, averaged, self.n_lists)
        )

    def load(self, weights: bytes, names: tuple[str, ...]) -> Self:
        """Score by these weights from now on.

        Raises
        ------
        SnapshotVersionError
            If they are for other inputs or another shape.
        """
        was = msgspec.msgpack.decode(weights, type=Weights)
        if (was.layout, was.names, was.hidden) != (LAYOUT, names, self.hidden):
            raise SnapshotVersionError(
                f"ranker weights: expected layout {LAYOUT}, {len(names)} inputs, hidden {self.hidden}, "
                f"got {was.layout}, {len(was.names)}, {was.hidden}"
            )
        self._statistics.ravel()[:] = np.frombuffer(was.statistics, np.float32)
        self._averaged[:] = np.frombuffer(was.averaged, np.float32)
        self._is_ready, self.n_lists = was.is_ready, was.n_lists
        return self
