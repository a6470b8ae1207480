"""The ranker: River's logistic regression over standardised features, and its vectorised twin."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from river import linear_model, optim, preprocessing

from online_models.features import DECLARED, FEATURE_SET, FEATURES


class SnapshotError(ValueError):
    """Bytes of a model that are damaged, or of another layout."""


class FeatureSetError(SnapshotError):
    """A ranker of other features than those that are declared now."""


class _State(msgspec.Struct, array_like=True):
    feature_set: str
    n_lists: int
    counts: list[int]
    means: list[float]
    variances: list[float]
    weights: list[float]
    intercept: float
    n_iterations: int


class Ranker:
    """P(positive | features) by `StandardScaler | LogisticRegression`, learned one list at a time.

    p = sigma(b + sum_f w_f (x_f - mean_f) / sd_f)

    Scaler and weights begin at the priors that `online_models.features` declares, worth `prior_rows` rows, so that an
    untrained ranker orders by popularity, covisitation and taste.

    Parameters
    ----------
    lr
        Learning rate of the stochastic gradient descent.
    l2
        Weight decay.
    prior_rows
        How many rows the scaler's prior counts for.

    References
    ----------
    Montiel et al.: River: machine learning for streaming data in Python, JMLR 2021.
    """

    name = "river-logistic"

    def __init__(self, lr: float = 0.02, l2: float = 0.0, prior_rows: int = 200) -> None:
        self.scaler: Any = preprocessing.StandardScaler()
        self.regression: Any = linear_model.LogisticRegression(
            optim.SGD(lr), l2=l2, intercept_init=-2.0, intercept_lr=lr
        )
        for feature in DECLARED:
            self.scaler.counts[feature.name] = prior_rows
            self.scaler.means[feature.name] = feature.mean
            self.scaler.vars[feature.name] = feature.std**2
        self._set_weights([feature.weight for feature in DECLARED])
        self.n_lists = 0
        self._twin: tuple[NDArray[np.float64], float] | None = None

    @property
    def version(self) -> str:
        """Changes when the weights do."""
        return f"{FEATURE_SET}-{self.n_lists}"

    def learn_many(self, features: NDArray[np.float32], labels: Sequence[int]) -> None:
        """Learn one list, shape (n, n_features). Rows whose label is neither 1 nor 0 are left out."""
        for row, label in zip(features.tolist(), labels, strict=True):
            if label in (0, 1):
                self._learn_one(dict(zip(FEATURES, row, strict=True)), label)
        self.n_lists += 1
        self._twin = None

    def _learn_one(self, x: dict[str, float], label: int) -> None:
        self.scaler.learn_one(x)
        self.regression.learn_one(self.scaler.transform_one(x), label)

    def predict_one(self, features: dict[str, float]) -> float:
        """Return River's own probability."""
        return float(self.regression.predict_proba_one(self.scaler.transform_one(features))[True])

    def predict_many(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return `predict_one` for each row of shape (n, n_features), to 1e-12."""
        if self._twin is None:
            self._twin = self._folded()
        weights, bias = self._twin
        return np.asarray(1.0 / (1.0 + np.exp(-(features.astype(np.float64) @ weights + bias))))

    def contributions(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return each feature's part of the log odds, above or below what is usual, shape (n, n_features)."""
        weights, _ = self._folded()
        return np.asarray((features - np.array([self.scaler.means[name] for name in FEATURES])) * weights)

    def to_bytes(self) -> bytes:
        """Return everything learned."""
        scaler, regression = self.scaler, self.regression
        weights = regression.weights
        state = _State(
            FEATURE_SET,
            self.n_lists,
            [scaler.counts[name] for name in FEATURES],
            [scaler.means[name] for name in FEATURES],
            [scaler.vars[name] for name in FEATURES],
            [weights[name] for name in FEATURES],
            float(regression.intercept),
            regression.optimizer.n_iterations,
        )
        return msgspec.msgpack.encode(state)

    @classmethod
    def from_bytes(cls, snapshot: bytes) -> Self:
        """Raise `SnapshotError` if the bytes are damaged, `FeatureSetError` if they are of other features."""
        try:
            state = msgspec.msgpack.decode(snapshot, type=_State)
        except msgspec.MsgspecError as error:
            raise SnapshotError(f"ranker: expected a snapshot, got {len(snapshot)} bytes: {error}") from error
        if state.feature_set != FEATURE_SET:
            raise FeatureSetError(f"ranker: expected feature set {FEATURE_SET}, got {state.feature_set}")
        ranker = cls()
        ranker.n_lists = state.n_lists
        ranker.scaler.counts = Counter(dict(zip(FEATURES, state.counts, strict=True)))
        ranker.scaler.means.update(zip(FEATURES, state.means, strict=True))
        ranker.scaler.vars.update(zip(FEATURES, state.variances, strict=True))
        ranker._set_weights(state.weights)
        ranker.regression.intercept = state.intercept
        ranker.regression.optimizer.n_iterations = state.n_iterations
        return ranker

    def _set_weights(self, weights: Sequence[float]) -> None:
        for name, weight in zip(FEATURES, weights, strict=True):
            self.regression._weights[name] = weight

    def _folded(self) -> tuple[NDArray[np.float64], float]:
        """Return weights and bias over raw features: scaling folded in, as River leaves out a constant feature."""
        weights = self.regression.weights
        means = np.array([self.scaler.means[name] for name in FEATURES])
        deviations = np.sqrt(np.array([self.scaler.vars[name] for name in FEATURES]))
        scaled = np.divide(
            np.array([weights[name] for name in FEATURES]),
            deviations,
            out=np.zeros(len(FEATURES)),
            where=deviations > 0,
        )
        return scaled, float(self.regression.intercept - means @ scaled)
