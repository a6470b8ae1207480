"""Learns trees from lists, by LightGBM: a challenger that is made in one go, to keep the online ranker honest."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.engine.listwise import ListwiseRanker
from online_models.versions.trees import LEAF, columns_of, packed

MIN_LISTS = 100
_VALIDATED = 0.1
"""Of the lists, the newest: more trees are added as long as these are ranked better."""
_PATIENCE = 20
"""Trees without an improvement."""


class MissingLibraryError(RuntimeError):
    """LightGBM cannot be loaded; the message says what to install."""


class TooFewListsError(ValueError):
    """There is not enough to learn from."""


class TreeParameters(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, tag="trees"):
    """What may be chosen of the trees."""

    n_trees: int = 300
    """At most: the newest tenth of the lists says when it is enough."""
    n_leaves: int = 31
    learning_rate: float = 0.1
    min_leaf: int = 100
    """Candidates that a leaf has at least."""
    n_negatives: int = 20
    """Candidates that a list has beside the one that was taken, drawn at random."""
    max_lists: int = 20_000
    """The newest ones, that are learned."""
    seed: int = 0
    organic: bool = True
    """Whether positives that no request explains are learned, each from the list of its moment."""


class CollectedLists(ListwiseRanker):
    """In the place of a learner's ranker: keeps the newest lists with their inputs as they are, and learns nothing."""

    def __init__(self, n_inputs: int, parameters: TreeParameters) -> None:
        super().__init__(
            n_inputs, n_negatives=parameters.n_negatives, n_kept=parameters.max_lists, seed=parameters.seed
        )
        self._lists: list[NDArray[np.float32]] = []
        """Each: the mean over all of the list, what was taken, some others; shape (2 + n_negatives, n_inputs)."""
        self._list_weights: list[float] = []

    def learn_many(
        self, features: NDArray[np.float32], target: int, mean: NDArray[np.float32] | None = None, weight: float = 1.0
    ) -> None:
        of_list = self.list_mean(features) if mean is None else mean
        others = self._rng.permutation(len(features))
        chosen = np.concatenate([[target], others[others != target][: self.n_negatives]])
        at = self._n_kept % self._max_kept
        self._put(at, np.concatenate([of_list[None, :], features[chosen]]), weight)
        self._n_kept += 1
        self.n_lists += 1
        self.kept_changed.add(at)

    def collected(self) -> tuple[list[NDArray[np.float32]], list[float]]:
        """Return lists and their weights, oldest first."""
        newest = self._n_kept % self._max_kept if len(self._lists) == self._max_kept else 0
        return self._lists[newest:] + self._lists[:newest], self._list_weights[newest:] + self._list_weights[:newest]

    def kept_row(self, k: int) -> bytes:
        return np.float32(self._list_weights[k]).tobytes() + self._lists[k].tobytes()

    def restore_kept(self, k: int, row: bytes) -> None:
        values = np.frombuffer(row, np.float32)
        self._put(k, values[1:].reshape(-1, self.n_inputs).copy(), float(values[0]))

    def _put(self, at: int, rows: NDArray[np.float32], weight: float) -> None:
        if at == len(self._lists):
            self._lists.append(rows)
            self._list_weights.append(weight)
        else:
            self._lists[at], self._list_weights[at] = rows, weight


def lightgbm() -> Any:
    """Return the library. Raise `MissingLibraryError`."""
    try:
        import lightgbm as library
    except (ImportError, OSError) as error:
        raise MissingLibraryError(
            f"LightGBM cannot be loaded ({error}); it needs libgomp: apt install libgomp1 (Debian, Ubuntu)"
        ) from error
    return library


def boost(lists: CollectedLists, parameters: TreeParameters) -> Any:
    """Return a `lightgbm.Booster` that has learned the lists: the same from the same, in one thread.

    The loss is that of the online ranker, the cross entropy of what was taken, so that the softmax of a list's scores
    are chances. Raise `MissingLibraryError` or `TooFewListsError`.

    References
    ----------
    Cao et al. (2007), Learning to rank: from pairwise approach to listwise approach (ListNet, top one).
    Ke et al. (2017), LightGBM: a highly efficient gradient boosting decision tree.
    """
    library = lightgbm()
    collected, weights = lists.collected()
    if len(collected) < MIN_LISTS:
        raise TooFewListsError(f"{len(collected)} lists before the held-out part, {MIN_LISTS} are needed")
    n_learned = round(len(collected) * (1.0 - _VALIDATED))
    learned = _Part(collected[:n_learned], weights[:n_learned])
    validated = _Part(collected[n_learned:], weights[n_learned:])
    data = library.Dataset(learned.columns, learned.taken)
    return library.train(
        {
            "objective": lambda scores, of: learned.gradients(scores),
            "num_leaves": parameters.n_leaves,
            "learning_rate": parameters.learning_rate,
            "min_data_in_leaf": parameters.min_leaf,
            "min_sum_hessian_in_leaf": 0.1,
            "lambda_l2": 1.0,
            "metric": "none",
            "seed": parameters.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        },
        data,
        parameters.n_trees,
        valid_sets=[library.Dataset(validated.columns, validated.taken, reference=data)],
        feval=lambda scores, of: ("log loss", validated.loss(scores), False),
        callbacks=[library.early_stopping(_PATIENCE, verbose=False)],
    )


def nodes_of(booster: Any, names: tuple[str, ...], n_lists: int) -> bytes:
    """Return the trees for `TreeScorer`, up to the best one."""
    nodes: list[tuple[int, float, int, int, float]] = []

    def put(found: dict[str, Any]) -> int:
        at = len(nodes)
        if "split_feature" not in found:
            nodes.append((LEAF, 0.0, at, at, float(found["leaf_value"])))
            return at
        nodes.append((LEAF, 0.0, at, at, 0.0))
        left, right = put(found["left_child"]), put(found["right_child"])
        nodes[at] = (
            int(found["split_feature"]), float(found["threshold"]), left, right, float(found["internal_value"]),
        )  # fmt: skip
        return at

    trees = booster.dump_model(num_iteration=booster.best_iteration)["tree_info"]
    roots = [put(tree["tree_structure"]) for tree in trees]
    return packed(names, n_lists, roots, nodes)


class _Part:
    """Some lists as one table; the first row of each was taken."""

    def __init__(self, lists: list[NDArray[np.float32]], weights: list[float]) -> None:
        self.columns = np.concatenate([columns_of(of[1:], of[0]) for of in lists])
        self._sizes = np.array([len(of) - 1 for of in lists])
        self._begins = np.concatenate([[0], np.cumsum(self._sizes)[:-1]])
        self._weights = np.array(weights)
        self.taken = np.zeros(len(self.columns))
        self.taken[self._begins] = 1.0

    def gradients(self, scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return first and second derivatives of the loss by the scores."""
        chances = self._chances(scores)
        weights = np.repeat(self._weights, self._sizes)
        return weights * (chances - self.taken), weights * np.maximum(chances * (1.0 - chances), 1e-6)

    def loss(self, scores: NDArray[np.float64]) -> float:
        """Return the mean log loss of what was taken."""
        chances = self._chances(scores)[self._begins]
        return float(-(self._weights * np.log(np.maximum(chances, 1e-12))).sum() / self._weights.sum())

    def _chances(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        best = np.maximum.reduceat(scores, self._begins)
        exponents = np.exp(scores - np.repeat(best, self._sizes))
        return np.asarray(exponents / np.repeat(np.add.reduceat(exponents, self._begins), self._sizes))
