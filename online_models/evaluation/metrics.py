"""From the ranks of the targets to metrics, splits and paired intervals."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from online_models.evaluation.protocols import COLD, Outcome

Values = NDArray[np.float64]

_95 = 1.959964
"""Half width of a 95 % interval in standard errors."""


def hits(ranks: NDArray[np.int64], k: int) -> Values:
    """1 for a target among the first `k`; ranks count from 1, 0 is a miss."""
    return ((ranks > 0) & (ranks <= k)).astype(np.float64)


def ndcg(ranks: NDArray[np.int64], k: int = 10) -> Values:
    """1 / log2(rank + 1) of a single target among the first `k`."""
    return hits(ranks, k) / np.log2(np.maximum(ranks, 1) + 1.0)


def reciprocal_rank(ranks: NDArray[np.int64], k: int = 20) -> Values:
    """1 / rank of a target among the first `k`."""
    return hits(ranks, k) / np.maximum(ranks, 1)


PER_QUERY: dict[str, Callable[[NDArray[np.int64]], Values]] = {
    "HR@10": lambda ranks: hits(ranks, 10),
    "NDCG@10": ndcg,
    "HR@20": lambda ranks: hits(ranks, 20),
    "MRR@20": reciprocal_rank,
}


@dataclass(frozen=True)
class Estimate:
    """A mean with the standard error of clustered queries."""

    mean: float
    error: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, normal approximation."""
        return self.mean - _95 * self.error, self.mean + _95 * self.error


def clustered(values: Values, clusters: Sequence[str]) -> Estimate:
    """Mean of `values`, with errors that are independent between clusters only.

    Cameron, Miller (2015), A practitioner's guide to cluster-robust inference, for a constant regressor.
    """
    n = len(values)
    if not n:
        return Estimate(math.nan, math.nan, 0)
    _, which = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(which, weights=values - values.mean())
    if len(sums) < 2:
        return Estimate(float(values.mean()), math.nan, n)
    error = math.sqrt(float(sums @ sums) * len(sums) / (len(sums) - 1)) / n
    return Estimate(float(values.mean()), error, n)


def splits(outcome: Outcome) -> dict[str, NDArray[np.bool_]]:
    """Which queries belong to each split.

    `known`: neither item nor user is new; `cold`: the user has fewer than five earlier events; `young item`: the
    target has fewer than ten.
    """
    of_user, of_item = np.array(outcome.earlier_events), np.array(outcome.item_events)
    return {
        "all": np.ones(len(outcome), np.bool_),
        "known": (of_user > 0) & (of_item > 0),
        "cold": of_user < COLD,
        "young item": (of_item > 0) & (of_item < 10),
    }


def summarise(outcome: Outcome, new_only: bool = False) -> dict[str, dict[str, Estimate]]:
    """Return split -> metric -> estimate. `new_only`: the view without the current item."""
    ranks = np.array(outcome.new_ranks if new_only else outcome.ranks, np.int64)
    clusters = np.array(outcome.clusters)
    found: dict[str, dict[str, Estimate]] = {}
    for split, chosen in splits(outcome).items():
        kept = chosen & (ranks >= 0)
        found[split] = {name: clustered(of(ranks[kept]), clusters[kept].tolist()) for name, of in PER_QUERY.items()}
    return found


USER_EVENTS = (0, 1, 2, 3, 5, 10, 20)
"""Where the classes of a new user's curve begin."""
ITEM_EVENTS = (0, 1, 2, 3, 5, 10, 20)
LISTS = (0, 100, 250, 500, 1000, 2500, 5000, 10_000)


def by_age(values: Values, events: Sequence[int], clusters: Sequence[str], starts: Sequence[int]) -> list[Estimate]:
    """Mean of the queries whose user (or target) had at least `starts[k]` events and fewer than the next."""
    of = np.digitize(np.asarray(events), starts) - 1
    names = np.asarray(clusters)
    return [clustered(values[of == k], names[of == k].tolist()) for k in range(len(starts))]


def classes(starts: Sequence[int]) -> list[str]:
    """Names of the classes of `by_age`, as in 3-4; the last one is open."""
    ends = [str(after - 1) for after in starts[1:]]
    closed = [f"{at}" if end == str(at) else f"{at}-{end}" for at, end in zip(starts, ends, strict=False)]
    return [*closed, f"{starts[-1]}+"]


def paired(outcome: Outcome, baseline: Outcome, metric: str, new_only: bool = False) -> Estimate:
    """Difference of a metric to a baseline on the same queries.

    Raises
    ------
    ValueError
        If the two were not asked the same queries.
    """
    if outcome.clusters != baseline.clusters or outcome.positions != baseline.positions:
        raise ValueError(f"paired: {len(outcome)} and {len(baseline)} queries that are not the same")
    ours = np.array(outcome.new_ranks if new_only else outcome.ranks, np.int64)
    theirs = np.array(baseline.new_ranks if new_only else baseline.ranks, np.int64)
    kept = ours >= 0
    of = PER_QUERY[metric]
    return clustered(of(ours[kept]) - of(theirs[kept]), np.array(outcome.clusters)[kept].tolist())


def over_stream(values: Values, positions: Sequence[int], n_parts: int = 20) -> tuple[Values, Values]:
    """Mean position and mean value of equal shares of the queries, in the order of the stream."""
    parts = [part for part in np.array_split(np.arange(len(values)), n_parts) if len(part)]
    where = np.asarray(positions, np.float64)
    return np.array([where[part].mean() for part in parts]), np.array([values[part].mean() for part in parts])


def coverage(lists: Iterable[Sequence[str]], n_items: int, k: int = 10) -> float:
    """Share of the catalogue that the first `k` places ever showed."""
    return len({item for listed in lists for item in listed[:k]}) / max(n_items, 1)


def gini(lists: Iterable[Sequence[str]], n_items: int, k: int = 10) -> float:
    """Inequality of the exposure of items in the first `k` places: 0 even, 1 a single item."""
    shown: dict[str, int] = {}
    for listed in lists:
        for item in listed[:k]:
            shown[item] = shown.get(item, 0) + 1
    if not shown:
        return math.nan
    n = max(n_items, len(shown))
    counts = np.zeros(n)
    counts[n - len(shown) :] = np.sort(list(shown.values()))
    return float((2.0 * np.arange(1, n + 1) - n - 1.0) @ counts / (n * counts.sum()))


def diversity(lists: Iterable[Sequence[str]], genres: dict[str, frozenset[str]], k: int = 10) -> float:
    """Mean over lists of the mean Jaccard distance of genres between two of the first `k`; NaN without genres."""
    means = []
    for listed in lists:
        labels = [genres[item] for item in listed[:k] if item in genres]
        if len(labels) > 1:
            means.append(np.mean([1.0 - len(a & b) / (len(a | b) or 1) for a, b in combinations(labels, 2)]))
    return float(np.mean(means)) if means else math.nan


def microseconds(seconds: Sequence[float]) -> tuple[float, float]:
    """Median and 99th percentile, in microseconds."""
    if not seconds:
        return math.nan, math.nan
    median, high = np.percentile(seconds, [50, 99]) * 1e6
    return float(median), float(high)
