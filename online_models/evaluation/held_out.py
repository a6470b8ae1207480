"""How good a ranker's scores are on lists whose outcome it has not learned yet, and whether it may replace another."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from online_models.evaluation.metrics import Estimate, Values, clustered

K = 10
HEAVY = 50
"""Earlier events from which a user is a heavy one."""
NEW_USER, NEW_ITEM = 5, 10
"""Events below which a user or the item that was taken is new."""
MIN_LISTS = 100
"""Fewer say nothing."""
_BINS = np.array([0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7])
"""Bounds of the chances that are calibrated together."""


@dataclass(frozen=True)
class JudgedList:
    """A list, what came of it, and whom it was for."""

    user: str
    labels: NDArray[np.bool_]
    """(n,) what was taken; some, not all."""
    items: list[str]
    served: bool
    """Shown to a user, and not made for a positive that no request explains."""
    user_events: int
    """The user's before this."""
    item_events: int
    """Of the item that was taken, the first one of several, before this."""


def chances_of(scores: NDArray[np.floating]) -> Values:
    """Return the softmax of a list's scores: the chance of each candidate to be the one that is taken."""
    exponents = np.exp(scores.astype(np.float64) - float(scores.max()))
    return np.asarray(exponents / exponents.sum())


def log_loss(chances: Values, labels: NDArray[np.bool_]) -> float:
    """Return the mean negative logarithm of the chance of what was taken."""
    return float(-np.log(np.maximum(chances[labels], 1e-12)).mean())


def auc(chances: Values, labels: NDArray[np.bool_]) -> float:
    """Return how often a taken candidate scores above another one of the list; ties count one half.

    References
    ----------
    Mann, Whitney (1947): the U statistic over the number of pairs.
    """
    taken, others = chances[labels][:, None], chances[~labels][None, :]
    return float(((taken > others) + 0.5 * (taken == others)).mean())


def ndcg(chances: Values, labels: NDArray[np.bool_], k: int = K) -> float:
    """Return the normalised discounted gain of the first `k` by chance, ties in the order given."""
    gains = labels[np.argsort(-chances, kind="stable")][:k]
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = discounts[: min(int(labels.sum()), k)].sum()
    return float(gains @ discounts[: len(gains)] / ideal)


@dataclass
class Scores:
    """What one model's scores of the judged lists came to, list by list."""

    losses: list[float] = field(default_factory=list)
    aucs: list[float] = field(default_factory=list)
    ndcgs: list[float] = field(default_factory=list)
    expected: list[Values] = field(default_factory=list)
    """By bin of chance: the sum of chances, and the share of what was taken."""
    found: list[Values] = field(default_factory=list)
    shown: list[frozenset[str]] = field(default_factory=list)

    def add(self, chances: Values, judged: JudgedList) -> None:
        """Judge the chances that a model gave."""
        labels = judged.labels
        self.losses.append(log_loss(chances, labels))
        self.aucs.append(auc(chances, labels))
        self.ndcgs.append(ndcg(chances, labels))
        bins = np.digitize(chances, _BINS)
        n = len(_BINS) + 1
        self.expected.append(np.asarray(np.bincount(bins, weights=chances, minlength=n), np.float64))
        self.found.append(np.asarray(np.bincount(bins, weights=labels / labels.sum(), minlength=n), np.float64))
        best = np.argsort(-chances, kind="stable")[:K].tolist()
        self.shown.append(frozenset(judged.items[k] for k in best))

    def of(self, chosen: NDArray[np.bool_], n_items: int) -> dict[str, float]:
        """Return the metrics over some of the lists; none at all where there is no list."""
        picked = np.flatnonzero(chosen).tolist()
        if not picked:
            return {}
        expected = np.sum([self.expected[k] for k in picked], axis=0)
        found = np.sum([self.found[k] for k in picked], axis=0)
        return {
            "lists": float(len(picked)),
            "log loss": float(np.mean([self.losses[k] for k in picked])),
            "AUC": float(np.mean([self.aucs[k] for k in picked])),
            f"NDCG@{K}": float(np.mean([self.ndcgs[k] for k in picked])),
            "calibration error": float(np.abs(expected - found).sum() / (2 * len(picked))),
            "coverage": len(frozenset().union(*(self.shown[k] for k in picked))) / max(n_items, 1),
        }


class HeldOut:
    """Two models on the same lists: a challenger, and what is live."""

    def __init__(self) -> None:
        self.challenger = Scores()
        self.live = Scores()
        self._judged: list[JudgedList] = []

    def __len__(self) -> int:
        return len(self._judged)

    def add(self, judged: JudgedList, challenger: Values, live: Values) -> None:
        """Judge the chances that both gave to the candidates of one list."""
        self._judged.append(judged)
        self.challenger.add(challenger, judged)
        self.live.add(live, judged)

    def segments(self) -> dict[str, NDArray[np.bool_]]:
        """Return which lists belong to each segment."""
        lists = self._judged
        return {
            "all": np.ones(len(lists), np.bool_),
            "served": np.array([of.served for of in lists], np.bool_),
            "organic": np.array([not of.served for of in lists], np.bool_),
            "new users": np.array([of.user_events < NEW_USER for of in lists], np.bool_),
            "heavy users": np.array([of.user_events >= HEAVY for of in lists], np.bool_),
            "new items": np.array([of.item_events < NEW_ITEM for of in lists], np.bool_),
        }

    def metrics(self, scores: Scores, n_items: int) -> dict[str, dict[str, float]]:
        """Return segment -> metric -> value of one of the two; segments without a list are left out."""
        found = {name: scores.of(chosen, n_items) for name, chosen in self.segments().items()}
        return {name: metrics for name, metrics in found.items() if metrics}

    def difference(self, of: str) -> Estimate:
        """Return the mean difference to the live model, of `losses` or `ndcgs`; lists of a user are one cluster."""
        ours, theirs = np.array(getattr(self.challenger, of)), np.array(getattr(self.live, of))
        return clustered(ours - theirs, [judged.user for judged in self._judged])

    def objection(self) -> str | None:
        """Return why the challenger should not replace the live model, None when nothing speaks against it.

        It does, when it is worse in log loss or NDCG@10 by more than chance explains: the whole 95 % interval of the
        paired difference is on the wrong side of zero.
        """
        if len(self) < MIN_LISTS:
            return f"only {len(self)} held-out lists, {MIN_LISTS} are needed to tell"
        for name, of, sign in (("log loss", "losses", 1.0), (f"NDCG@{K}", "ndcgs", -1.0)):
            difference = self.difference(of)
            low, high = difference.interval
            worse = sign * (low if sign > 0 else high)
            if math.isfinite(worse) and worse > 0:
                return f"worse in {name} by {abs(difference.mean):.4f} (95 %: {low:+.4f} to {high:+.4f})"
        return None
