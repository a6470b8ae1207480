"""Models to compare with that are refitted "every night", with decay of old events.

The user's newest history and recent popularity are live: a stronger opponent than one whose inputs are a day old.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from online_models.evaluation.baselines import DAY, FOREVER, Blended, Constant
from online_models.evaluation.linked_log import gram

_NEWEST = 400
"""Events of one user that a fit reads."""

Matrix = NDArray[np.float32]


class Nightly(Blended):
    """A model of the most active items, fitted when a list is asked for and the last fit is `every` events old."""

    MAX_ITEMS: ClassVar[int] = 2000
    """Items, those with the most decayed events, that are learned; the others are left to popularity.

    A dense solve grows with the cube: at 10 500 items EASE would need a minute for each of fifty fits.
    """

    CONSTANTS = Blended.CONSTANTS | {
        "half_life_days": Constant(60.0, (8.0, 15.0, 30.0, 60.0, 120.0, FOREVER)),
        "n_steps": Constant(50, (10, 20, 50, 100)),
        "fading": Constant(0.9, (0.7, 0.8, 0.9, 0.95, 0.98, 1.0)),
        "dislike": Constant(1.0, (0.3, 1.0)),
    }

    def __init__(self, seed: int = 0, every: int = 1000, constants: Mapping[str, float] | None = None) -> None:
        super().__init__(seed, every, constants)
        self._fitted_at = -every
        self._columns = np.zeros(0, np.int32)
        self._fitted = np.zeros(0, np.int64)

    @abstractmethod
    def fit(self, columns: NDArray[np.int32], n_columns: int, weights: Matrix) -> None:
        """Refit on the log: `weights` of its events, `columns` of the items, -1 for those left out."""

    @abstractmethod
    def predict(self, history: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score of each column, given columns of a user's newest items and their weights."""

    def evidence(self, newest: int, t: float) -> NDArray[np.float64]:
        log = self.log
        if log.n - self._fitted_at >= self.every:
            self._refit(t)
        events = self.newest_events(newest, int(self.constants["n_steps"]))
        weights: NDArray[np.float64] = self.constants["fading"] ** np.arange(len(events), dtype=np.float64)
        weights = weights * np.where(log.positive[events], 1.0, self.constants["dislike"])
        items = log.items[events]
        known = items < len(self._columns)  # later ones came after the fit
        columns, weights = self._columns[items[known]], weights[known]
        found = np.zeros(len(self.names))
        if (columns >= 0).any():
            found[self._fitted] = self.predict(columns[columns >= 0].astype(np.int64), weights[columns >= 0])
        return found

    def _refit(self, t: float) -> None:
        log, n = self.log, len(self.names)
        weights = 2.0 ** (-(t - log.times[: log.n]) / (self.constants["half_life_days"] * DAY))
        weights *= np.where(log.positive[: log.n], 1.0, self.constants["dislike"])
        activity = np.bincount(log.items[: log.n], weights, n)
        self._fitted = np.sort(np.argsort(-activity, kind="stable")[: self.MAX_ITEMS])
        self._columns = np.full(n, -1, np.int32)
        self._columns[self._fitted] = np.arange(len(self._fitted))
        self._fitted_at = log.n
        self.fit(self._columns, len(self._fitted), weights.astype(np.float32))

    def gram(self, columns: NDArray[np.int32], n_columns: int, weights: Matrix) -> Matrix:
        """Return X'X of the weighted events, shape (n_columns, n_columns)."""
        found = np.zeros((n_columns, n_columns), np.float32)
        log = self.log
        gram(log.items, log.before, log.of_user, len(self.users), columns, weights, _NEWEST, found)
        return found


class ItemNeighbours(Nightly):
    """Item-kNN: sum over the history of weight * cosine^sharpness, from decayed co-occurrence.

    Sarwar et al. (2001), Item-based collaborative filtering recommendation algorithms.
    """

    CONSTANTS = Nightly.CONSTANTS | {
        "shrink": Constant(1.0, (0.3, 1.0, 3.0, 10.0)),
        "sharpness": Constant(1.0, (0.7, 1.0, 1.5, 2.0)),
    }

    def fit(self, columns: NDArray[np.int32], n_columns: int, weights: Matrix) -> None:
        shared = self.gram(columns, n_columns, weights)
        norms = np.sqrt(np.diag(shared))
        shared /= np.outer(norms, norms) + np.float32(self.constants["shrink"])
        np.fill_diagonal(shared, 0.0)
        self._similar = shared ** np.float32(self.constants["sharpness"])

    def predict(self, history: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = weights @ self._similar[history]
        return found


class Ease(Nightly):
    """A linear model of items by items with a zero diagonal, in closed form.

    Steck (2019), Embarrassingly shallow autoencoders for sparse data.
    """

    CONSTANTS = Nightly.CONSTANTS | {"penalty": Constant(100.0, (10.0, 30.0, 100.0, 300.0, 1000.0))}

    def fit(self, columns: NDArray[np.int32], n_columns: int, weights: Matrix) -> None:
        inverse = np.linalg.inv(
            self.gram(columns, n_columns, weights)
            + np.float32(self.constants["penalty"]) * np.eye(n_columns, dtype=np.float32)
        )
        self._weights = inverse / -np.diag(inverse)
        np.fill_diagonal(self._weights, 0.0)

    def predict(self, history: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = weights @ self._weights[history]
        return found


class Ials(Nightly):
    """Alternating least squares of package `implicit`, with exact fold-in of the user's newest history.

    Hu, Koren, Volinsky (2008), Collaborative filtering for implicit feedback datasets.
    """

    MAX_ITEMS = 100_000
    CONSTANTS = Nightly.CONSTANTS | {
        "alpha": Constant(3.0, (1.0, 3.0, 10.0, 30.0)),
        "penalty": Constant(10.0, (1.0, 3.0, 10.0, 30.0)),
        "factors": Constant(32, (16, 32, 64)),
    }

    def fit(self, columns: NDArray[np.int32], n_columns: int, weights: Matrix) -> None:
        from implicit.cpu.als import AlternatingLeastSquares
        from scipy.sparse import csr_matrix

        log, of = self.log, self.constants
        at = columns[log.items[: log.n]]
        kept = at >= 0
        rows = log.users[: log.n][kept]
        events = csr_matrix((weights[kept], (rows, at[kept])), (len(self.users), n_columns), dtype=np.float32)
        events.sum_duplicates()
        events.data = 1.0 + np.float32(of["alpha"]) * events.data
        model = AlternatingLeastSquares(
            factors=int(of["factors"]),
            regularization=of["penalty"],
            iterations=8,
            num_threads=1,
            random_state=self.seed,
        )
        model.fit(events, show_progress=False)
        self._items = np.asarray(model.item_factors, np.float64)
        self._base = self._items.T @ self._items + of["penalty"] * np.eye(self._items.shape[1])

    def predict(self, history: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        mine, extra = self._items[history], self.constants["alpha"] * weights
        taste = np.linalg.solve(self._base + mine.T @ (extra[:, None] * mine), mine.T @ (1.0 + extra))
        found: NDArray[np.float64] = self._items @ taste
        return found
