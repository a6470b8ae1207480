"""The ranker: a small network over a list's candidates, learned online from each list that led to a positive."""

from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.engine.layers import descend, learn_statistics, pack, rectify, rectify_back, softmax_back, unpack
from online_models.engine.scorer import HIDDEN, LAYOUT, Scorer, SnapshotVersionError, shapes_of

N_BEFORE = 200
"""Lists that weights learned elsewhere count for: statistics and average follow the own stream soon."""


class _State(msgspec.Struct, array_like=True):
    layout: int
    n_inputs: int
    n_lists: int
    n_steps: int
    n_before: int
    statistics: bytes
    parameters: bytes
    averaged: bytes
    moments: bytes
    n_kept: int
    rng: bytes


class ListwiseRanker(Scorer):
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
        Replayed lists per step, newest lists to draw them from. While there are fewer, as many less are replayed: the
        first lists are not learned more often than later ones, which costs more than it gives.
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
        hidden: tuple[int, int] = HIDDEN,
        n_negatives: int = 40,
        n_replayed: int = 3,
        n_kept: int = 8000,
        learning_rate: float = 0.0015,
        decay: float = 0.01,
        n_averaged: int = 2000,
        n_statistics: int = 2000,
        seed: int = 0,
    ) -> None:
        n_parameters = sum(int(np.prod(shape)) for shape in shapes_of(n_inputs, hidden))
        self._parameters = np.zeros(n_parameters, np.float32)
        self._gradient = np.zeros(n_parameters, np.float32)
        self._moments = np.zeros((2, n_parameters), np.float32)
        super().__init__(n_inputs, hidden)
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
        width, one = 2 * n_inputs, hidden[0]
        w1, _, w2, _, w3, _ = self._views(self._parameters)
        w1[:] = self._rng.normal(0.0, width**-0.5, w1.shape)
        w2[:] = self._rng.normal(0.0, (2.0 / one) ** 0.5, w2.shape)
        w3[:] = self._rng.normal(0.0, 0.1, w3.shape)
        self._averaged[:] = self._parameters
        self._max_kept = n_kept
        self._n_kept = 0
        self._kept: list[NDArray[np.int16]] = []
        self._kept_weights: list[float] = []
        self.kept_changed: set[int] = set()
        """Of `kept_row`, since the caller last cleared it."""

    def _bind(self) -> None:
        super()._bind()
        self._train = self._views(self._parameters)
        self._into = self._views(self._gradient)

    def learn_many(
        self, features: NDArray[np.float32], target: int, mean: NDArray[np.float32] | None = None, weight: float = 1.0
    ) -> None:
        """Learn that candidate `target` of this list was taken; shape (n, n_inputs).

        `mean`: `list_mean` of all candidates, where `features` are only those that were shown. `weight` of the
        list's gradient, such as the inverse of the probability that the target was looked at.
        """
        of_list = self.list_mean(features) if mean is None else mean
        self._learn_statistics(features, of_list)
        others = self._rng.permutation(len(features))
        others = others[others != target][: self.n_negatives]
        chosen = self._normalised(features[np.concatenate([[target], others])], of_list)
        rows = np.empty(chosen.shape, np.int16)
        pack(chosen, rows)
        at = self._n_kept % self._max_kept
        self._keep(at, rows, weight)
        self._n_kept += 1
        self.kept_changed.add(at)
        if self.n_lists > 20:
            drawn = self._rng.integers(0, self._max_kept, self.n_replayed)
            self._step(np.append(drawn[drawn < len(self._kept)], at))

    def _keep(self, at: int, rows: NDArray[np.int16], weight: float) -> None:
        while len(self._kept) <= at:
            self._kept.append(np.zeros((0, 2 * self.n_inputs), np.int16))
            self._kept_weights.append(0.0)
        self._kept[at] = rows
        self._kept_weights[at] = weight

    def _learn_statistics(self, features: NDArray[np.float32], of_list: NDArray[np.float32]) -> None:
        rate = max(1.0 / (self.n_lists + 1), 1.0 / (self.n_statistics + 1))
        learn_statistics(features, of_list, self._statistics, rate)
        self.n_lists += 1

    def _step(self, lists: NDArray[np.int64]) -> None:
        """One Adam step on the mean gradient of some kept lists, whose first row is the target."""
        n_lists, width = len(lists), self.n_negatives + 1
        rows = np.empty((n_lists, width, 2 * self.n_inputs), np.float32)
        sizes = np.zeros(n_lists, np.int64)
        weights = np.zeros(n_lists, np.float32)
        for k, at in enumerate(lists.tolist()):
            kept = self._kept[at]
            sizes[k] = max(len(kept), 1)
            unpack(kept, rows[k])
            weights[k] = self._kept_weights[at]
        x = rows.reshape(n_lists * width, -1)
        w1, b1, w2, b2, w3, skip = self._train
        h1: NDArray[np.float32] = x @ w1
        rectify(h1, b1)
        h2: NDArray[np.float32] = h1 @ w2
        rectify(h2, b2)
        g: NDArray[np.float32] = h2 @ w3 + x @ skip
        softmax_back(g, sizes, weights, width)
        gw1, gb1, gw2, gb2, gw3, gskip = self._into
        np.dot(g, x, out=gskip)
        np.dot(g, h2, out=gw3)
        g2: NDArray[np.float32] = g[:, None] * w3
        rectify_back(g2, h2, gb2)
        np.dot(h1.T, g2, out=gw2)
        g1: NDArray[np.float32] = g2 @ w2.T
        rectify_back(g1, h1, gb1)
        np.dot(x.T, g1, out=gw1)
        self._adam()

    def _adam(self) -> None:
        self.n_steps += 1
        descend(
            self._gradient,
            self._moments,
            self._parameters,
            self._averaged,
            self.learning_rate / (1.0 - 0.9**self.n_steps),
            1.0 / (1.0 - 0.999**self.n_steps),
            self.learning_rate * self.decay,
            max(1.0 / (self.n_steps + self._n_before), 1.0 / self.n_averaged),
        )

    @property
    def is_ready(self) -> bool:
        """Whether its scores mean anything yet."""
        return self.n_steps + self._n_before > 0

    def load(self, weights: bytes, names: tuple[str, ...]) -> Self:
        """Begin with weights learned elsewhere, and go on learning."""
        super().load(weights, names)
        self._parameters[:] = self._averaged
        self.n_lists, self._n_before = N_BEFORE, N_BEFORE
        return self

    def state(self) -> bytes:
        """Everything but the kept lists: with them, the restored ranker predicts and learns on identically."""
        return msgspec.msgpack.encode(
            _State(
                layout=LAYOUT,
                n_inputs=self.n_inputs,
                n_lists=self.n_lists,
                n_steps=self.n_steps,
                n_before=self._n_before,
                statistics=self._statistics.tobytes(),
                parameters=self._parameters.tobytes(),
                averaged=self._averaged.tobytes(),
                moments=self._moments.tobytes(),
                n_kept=self._n_kept,
                rng=msgspec.json.encode(self._rng.bit_generator.state),
            )
        )

    def restore(self, state: bytes) -> Self:
        """Take over the state of a ranker made with the same arguments.

        Raises
        ------
        SnapshotVersionError
            If the layout or the number of inputs is another one.
        """
        was = msgspec.msgpack.decode(state, type=_State)
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
        self._rng.bit_generator.state = msgspec.json.decode(was.rng)
        return self

    def kept_row(self, k: int) -> bytes:
        """One list that is replayed: its weight and normalised inputs, the target first."""
        return np.float32(self._kept_weights[k]).tobytes() + self._kept[k].tobytes()

    def restore_kept(self, k: int, row: bytes) -> None:
        """Take over a kept list."""
        rows = np.frombuffer(row, np.int16, -1, 4).reshape(-1, 2 * self.n_inputs).copy()
        self._keep(k, rows, float(np.frombuffer(row, np.float32, 1)[0]))
