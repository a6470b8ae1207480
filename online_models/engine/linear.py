"""The baseline beside the listwise ranker: River's logistic regression over standardised inputs, and its vectorised
twin."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from river import linear_model, optim, preprocessing

from online_models.engine.inputs import FEATURE_SET, NAMES
from online_models.engine.scorer import SnapshotVersionError

N_NEGATIVES = 10


class _State(msgspec.Struct, array_like=True):
    feature_set: str
    n_lists: int
    counts: list[int]
    means: list[float]
    variances: list[float]
    weights: dict[str, float]
    intercept: float
    n_iterations: int
    rng: bytes


class LinearRanker:
    """P(taken | inputs) by `StandardScaler | LogisticRegression`, learned from the target and ten others of a list.

    p = sigma(b + sum_f w_f (x_f - mean_f) / sd_f)

    Parameters
    ----------
    lr
        Learning rate of the stochastic gradient descent.
    l2
        Weight decay.

    References
    ----------
    Montiel et al.: River: machine learning for streaming data in Python, JMLR 2021.
    """

    name = "river-logistic"

    def __init__(self, lr: float = 0.02, l2: float = 0.0, seed: int = 0) -> None:
        self.scaler: Any = preprocessing.StandardScaler()
        self.regression: Any = linear_model.LogisticRegression(
            optim.SGD(lr), l2=l2, intercept_init=-2.0, intercept_lr=lr
        )
        self.n_lists = 0
        self._rng = np.random.default_rng(seed)
        self._twin: tuple[NDArray[np.float64], float] | None = None

    def learn_many(self, features: NDArray[np.float32], target: int) -> None:
        """Learn that candidate `target` of this list was taken; shape (n, n_inputs)."""
        others = self._rng.permutation(len(features))
        for row in (target, *others[others != target][:N_NEGATIVES]):
            self.learn_one(dict(zip(NAMES, features[row].tolist(), strict=True)), int(row == target))
        self.n_lists += 1

    def learn_one(self, x: dict[str, float], label: int) -> None:
        """Learn one candidate."""
        self.scaler.learn_one(x)
        self.regression.learn_one(self.scaler.transform_one(x), label)
        self._twin = None

    def predict_one(self, x: Mapping[str, float]) -> float:
        """Return River's own probability."""
        return float(self.regression.predict_proba_one(self.scaler.transform_one(x))[True])

    def predict_many(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return `predict_one` for each row of shape (n, n_inputs), to 1e-12."""
        if self._twin is None:
            self._twin = self._folded()
        weights, bias = self._twin
        return np.asarray(1.0 / (1.0 + np.exp(-(features.astype(np.float64) @ weights + bias))))

    def to_bytes(self) -> bytes:
        """Return everything learned."""
        scaler, regression = self.scaler, self.regression
        return msgspec.msgpack.encode(
            _State(
                FEATURE_SET,
                self.n_lists,
                [scaler.counts[name] for name in NAMES],
                [scaler.means[name] for name in NAMES],
                [scaler.vars[name] for name in NAMES],
                dict(regression.weights),
                float(regression.intercept),
                regression.optimizer.n_iterations,
                msgspec.json.encode(self._rng.bit_generator.state),
            )
        )

    @classmethod
    def from_bytes(cls, snapshot: bytes) -> Self:
        """Raise `SnapshotVersionError` if the bytes are damaged or of other inputs."""
        try:
            state = msgspec.msgpack.decode(snapshot, type=_State)
        except msgspec.MsgspecError as error:
            raise SnapshotVersionError(f"linear ranker: {len(snapshot)} bytes are no snapshot: {error}") from error
        if state.feature_set != FEATURE_SET:
            raise SnapshotVersionError(f"linear ranker: expected inputs {FEATURE_SET}, got {state.feature_set}")
        ranker = cls()
        ranker.n_lists = state.n_lists
        ranker.scaler.counts = Counter(dict(zip(NAMES, state.counts, strict=True)))
        ranker.scaler.means.update(zip(NAMES, state.means, strict=True))
        ranker.scaler.vars.update(zip(NAMES, state.variances, strict=True))
        for name, weight in state.weights.items():
            ranker.regression._weights[name] = weight
        ranker.regression.intercept = state.intercept
        ranker.regression.optimizer.n_iterations = state.n_iterations
        ranker._rng.bit_generator.state = msgspec.json.decode(state.rng)
        return ranker

    def _folded(self) -> tuple[NDArray[np.float64], float]:
        """Return weights and bias over raw inputs: scaling folded in, as River leaves out a constant input."""
        weights = self.regression.weights
        means = np.array([self.scaler.means[name] for name in NAMES])
        deviations = np.sqrt(np.array([self.scaler.vars[name] for name in NAMES]))
        scaled = np.divide(
            np.array([weights.get(name, 0.0) for name in NAMES]),
            deviations,
            out=np.zeros(len(NAMES)),
            where=deviations > 0,
        )
        return scaled, float(self.regression.intercept - means @ scaled)
