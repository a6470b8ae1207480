"""The ranker: a small network over a list's candidates, learned online from each list that led to a positive."""

from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

LAYOUT = 1
"""Of `to_bytes`; another number is refused."""

N_BEFORE = 200
"""Lists that weights learned elsewhere count for: statistics and average follow the own stream soon."""

_LEAK = np.float32(0.05)
_CLIP = np.float32(4.0)


class SnapshotVersionError(ValueError):
    """A snapshot's layout is not the one this code reads."""


class _Weights(msgspec.Struct, array_like=True):
    layout: int
    names: tuple[str, ...]
    hidden: tuple[int, int]
    statistics: bytes
    averaged: bytes


class _Snapshot(msgspec.Struct, array_like=True):
    layout: int
    n_inputs: int
    n_lists: int
    n_steps: int
    n_before: int
    statistics: bytes
    parameters: bytes
    averaged: bytes
    moments: bytes
    kept: bytes
    kept_sizes: bytes
    n_kept: int
    rng: bytes


class ListwiseRanker:
    """Softmax regression over lists with two small hidden layers beside a linear part.

    score = w . x + MLP(x), where x holds each input twice: against its mean over all lists, which tells the kind of
    list, and against its mean in this list, which tells the candidate apart. The loss is the cross entropy of the
    chosen candidate; each step takes the newest list and some replayed ones. Scores come from averaged weights.

    Parameters
    ----------
    n_inputs
        Inputs per candidate.
    hidden
        Units of the two layers.
    n_negatives
        Candidates a list keeps for learning beside the target.
    n_replayed, n_kept
        Replayed lists per step, newest lists to draw them from.
    learning_rate, decay
        Of Adam, and its decoupled weight decay.
    n_averaged
        Steps the average of the weights looks back on.

    References
    ----------
    Kingma, Ba (2015), Adam. Loshchilov, Hutter (2019), Decoupled weight decay regularization.
    Polyak, Juditsky (1992), Acceleration of stochastic approximation by averaging.
    """

    def __init__(
        self,
        n_inputs: int,
        hidden: tuple[int, int] = (32, 16),
        n_negatives: int = 40,
        n_replayed: int = 3,
        n_kept: int = 8000,
        learning_rate: float = 0.0015,
        decay: float = 0.01,
        n_averaged: int = 2000,
        n_statistics: int = 2000,
        seed: int = 0,
    ) -> None:
        self.n_inputs = n_inputs
        self.hidden = hidden
        self.n_negatives = n_negatives
        self.n_replayed = n_replayed
        self.learning_rate = learning_rate
        self.decay = decay
        self.n_averaged = n_averaged
        self.n_statistics = n_statistics
        self.n_lists = 0
        self.n_steps = 0
        self._n_before = 0
        self._rng = np.random.default_rng(seed)
        self._statistics = np.zeros((3, n_inputs), np.float32)  # mean, variance between lists, within lists
        width = 2 * n_inputs
        one, two = hidden
        shapes = [(width, one), (one,), (one, two), (two,), (two,), (width,)]
        self._shapes = shapes
        self._parameters = np.zeros(sum(int(np.prod(shape)) for shape in shapes), np.float32)
        w1, _, w2, _, w3, _ = self._views(self._parameters)
        w1[:] = self._rng.normal(0.0, width**-0.5, w1.shape)
        w2[:] = self._rng.normal(0.0, (2.0 / one) ** 0.5, w2.shape)
        w3[:] = self._rng.normal(0.0, 0.1, w3.shape)
        self._averaged = self._parameters.copy()
        self._moments = np.zeros((2, self._parameters.size), np.float32)
        self._gradient = np.zeros_like(self._parameters)
        self._kept = np.zeros((n_kept, n_negatives + 1, width), np.float16)
        self._kept_sizes = np.zeros(n_kept, np.int32)
        self._n_kept = 0
        self._infer = self._views(self._averaged)
        self._train = self._views(self._parameters)
        self._into = self._views(self._gradient)

    def _views(self, flat: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        views, start = [], 0
        for shape in self._shapes:
            size = int(np.prod(shape))
            views.append(flat[start : start + size].reshape(shape))
            start += size
        return views

    def _normalised(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Each input against all lists and against this list, shape (n, 2 * n_inputs)."""
        mean, between, within = self._statistics
        n = self.n_inputs
        out = np.empty((len(features), 2 * n), np.float32)
        np.subtract(features, mean, out=out[:, :n])
        out[:, :n] *= 1.0 / np.sqrt(within + between + np.float32(1e-12))
        np.subtract(features, features.mean(0), out=out[:, n:])
        out[:, n:] *= np.where(within > 1e-10, 1.0 / np.sqrt(within + np.float32(1e-12)), 0.0).astype(np.float32)
        return np.clip(out, -_CLIP, _CLIP, out=out)

    def predict_many(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score the candidates of one list, shape (n, n_inputs) -> (n,). Changes nothing."""
        x = self._normalised(features)
        w1, b1, w2, b2, w3, skip = self._infer
        h1 = x @ w1
        h1 += b1
        np.maximum(h1, _LEAK * h1, out=h1)
        h2 = h1 @ w2
        h2 += b2
        np.maximum(h2, _LEAK * h2, out=h2)
        return h2 @ w3 + x @ skip

    def learn_many(self, features: NDArray[np.float32], target: int) -> None:
        """Learn that candidate `target` of this list was taken; shape (n, n_inputs)."""
        self._learn_statistics(features)
        others = self._rng.permutation(len(features))
        others = others[others != target][: self.n_negatives]
        rows = self._normalised(features)[np.concatenate([[target], others])]
        at = self._n_kept % len(self._kept)
        self._kept[at, : len(rows)] = rows
        self._kept_sizes[at] = len(rows)
        self._n_kept += 1
        if self.n_lists > 20:
            n = min(self._n_kept, len(self._kept))
            self._step(np.append(self._rng.integers(0, n, self.n_replayed), at))

    def _learn_statistics(self, features: NDArray[np.float32]) -> None:
        rate = max(1.0 / (self.n_lists + 1), 1.0 / (self.n_statistics + 1))
        mean, between, within = self._statistics
        of_list = features.mean(0)
        off = of_list - mean
        mean += np.float32(rate) * off
        between += np.float32(rate) * (np.square(off) - between)
        within += np.float32(rate) * (features.var(0) - within)
        self.n_lists += 1

    def _step(self, lists: NDArray[np.int64]) -> None:
        """One Adam step on the mean gradient of some kept lists, whose first row is the target."""
        n_lists, width = len(lists), self.n_negatives + 1
        x = self._kept[lists].reshape(n_lists * width, -1).astype(np.float32)
        w1, b1, w2, b2, w3, skip = self._train
        h1 = x @ w1
        h1 += b1
        np.maximum(h1, _LEAK * h1, out=h1)
        h2 = h1 @ w2
        h2 += b2
        np.maximum(h2, _LEAK * h2, out=h2)
        scores = (h2 @ w3 + x @ skip).reshape(n_lists, width)
        scores[np.arange(width) >= self._kept_sizes[lists][:, None]] = -np.inf
        scores -= scores.max(1, keepdims=True)
        share = np.exp(scores)
        share /= share.sum(1, keepdims=True)
        share[:, 0] -= 1.0
        g = (share / np.float32(n_lists)).ravel()
        gw1, gb1, gw2, gb2, gw3, gskip = self._into
        np.dot(g, x, out=gskip)
        np.dot(g, h2, out=gw3)
        g2 = g[:, None] * w3
        g2[h2 < 0] *= _LEAK
        np.dot(h1.T, g2, out=gw2)
        g2.sum(0, out=gb2)
        g1 = g2 @ w2.T
        g1[h1 < 0] *= _LEAK
        np.dot(x.T, g1, out=gw1)
        g1.sum(0, out=gb1)
        self._adam()

    def _adam(self) -> None:
        self.n_steps += 1
        first, second = self._moments
        g, p = self._gradient, self._parameters
        first += np.float32(0.1) * (g - first)
        second += np.float32(0.001) * (g * g - second)
        correct_1 = np.float32(1.0 / (1.0 - 0.9**self.n_steps))
        correct_2 = np.float32(1.0 / (1.0 - 0.999**self.n_steps))
        move = first * correct_1
        move /= np.sqrt(second * correct_2) + np.float32(1e-7)
        move += np.float32(self.decay) * p
        p -= np.float32(self.learning_rate) * move
        rate = max(1.0 / (self.n_steps + self._n_before), 1.0 / self.n_averaged)
        self._averaged += np.float32(rate) * (p - self._averaged)

    def weights(self, names: tuple[str, ...]) -> bytes:
        """Return what a new ranker can start from, without replayed lists: some 20 KB. `names`: of the inputs."""
        weights = _Weights(LAYOUT, names, self.hidden, self._statistics.tobytes(), self._averaged.tobytes())
        return msgspec.msgpack.encode(weights)

    def start_from(self, weights: bytes, names: tuple[str, ...]) -> Self:
        """Begin with weights learned elsewhere, and go on learning.

        Raises
        ------
        SnapshotVersionError
            If they are for other inputs or another shape.
        """
        was = msgspec.msgpack.decode(weights, type=_Weights)
        if (was.layout, was.names, was.hidden) != (LAYOUT, names, self.hidden):
            raise SnapshotVersionError(
                f"ranker weights: expected layout {LAYOUT}, {len(names)} inputs, hidden {self.hidden}, "
                f"got {was.layout}, {len(was.names)}, {was.hidden}"
            )
        self._statistics.ravel()[:] = np.frombuffer(was.statistics, np.float32)
        self._averaged[:] = np.frombuffer(was.averaged, np.float32)
        self._parameters[:] = self._averaged
        self.n_lists, self._n_before = N_BEFORE, N_BEFORE
        return self

    @property
    def is_ready(self) -> bool:
        """Whether its scores mean anything yet."""
        return self.n_steps + self._n_before > 0

    def to_bytes(self) -> bytes:
        """Everything, so that the restored ranker predicts and learns on identically."""
        n = min(self._n_kept, len(self._kept))
        return msgspec.msgpack.encode(
            _Snapshot(
                layout=LAYOUT,
                n_inputs=self.n_inputs,
                n_lists=self.n_lists,
                n_steps=self.n_steps,
                n_before=self._n_before,
                statistics=self._statistics.tobytes(),
                parameters=self._parameters.tobytes(),
                averaged=self._averaged.tobytes(),
                moments=self._moments.tobytes(),
                kept=self._kept[:n].tobytes(),
                kept_sizes=self._kept_sizes[:n].tobytes(),
                n_kept=self._n_kept,
                rng=msgspec.json.encode(self._rng.bit_generator.state),
            )
        )

    def restore(self, snapshot: bytes) -> Self:
        """Take over a snapshot of a ranker made with the same arguments.

        Raises
        ------
        SnapshotVersionError
            If the layout or the number of inputs is another one.
        """
        was = msgspec.msgpack.decode(snapshot, type=_Snapshot)
        expected = (LAYOUT, self.n_inputs, self._parameters.nbytes)
        got = (was.layout, was.n_inputs, len(was.parameters))
        if got != expected:
            raise SnapshotVersionError(f"ranker: expected layout, inputs, bytes {expected}, got {got}")
        self.n_lists, self.n_steps, self._n_kept = was.n_lists, was.n_steps, was.n_kept
        self._n_before = was.n_before
        for array, stored in (
            (self._statistics, was.statistics),
            (self._parameters, was.parameters),
            (self._averaged, was.averaged),
            (self._moments, was.moments),
        ):
            array.ravel()[:] = np.frombuffer(stored, np.float32)
        sizes = np.frombuffer(was.kept_sizes, np.int32)
        self._kept_sizes[: len(sizes)] = sizes
        self._kept[: len(sizes)] = np.frombuffer(was.kept, np.float16).reshape(len(sizes), *self._kept.shape[1:])
        self._rng.bit_generator.state = msgspec.json.decode(was.rng)
        return self
