"""From an order by score to the order that is shown: relevance against repetition, under constraints that may give way.

Places are filled one after the other, each with the best candidate that breaks no constraint. Where none is left, it
is the best one of those that break the least important ones, and these are counted: they have given way for this place.

References
----------
Carbonell, Goldstein (1998), The use of MMR, diversity-based reranking for reordering documents and producing summaries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_models.reranking.exploration import N_RATES, Arms
from online_models.reranking.places import compare_all, fill_places

NEVER_DUPLICATE = 2.0
"""A cosine that no two vectors reach: nothing counts as a duplicate."""

MAX_CONSTRAINTS = 60

_RANGE = float(np.log(100.0))
"""A candidate with a hundredth of the best score has relevance 0, the best one 1."""
_LEAST = 1e-6
_NO_VECTORS = np.zeros((0, 0), np.float32)
_NO_LABELS = np.zeros((0, 1), np.int32)
_NO_SCORES = np.zeros(0)
_NO_EXPLORATION = (0.0, np.zeros(0, np.int32), np.zeros((0, N_RATES)), np.zeros((0, 2)))
_NO_BITS = np.zeros(0, np.uint64)
_NOTHING = np.int32(-1)


@dataclass(frozen=True, slots=True)
class LabelCap:
    """At most so many items with one label among some places."""

    labels: NDArray[np.int32]
    """(n, width) labels of each candidate, padded with -1."""
    at_most: int
    among: int
    """Places of a window."""
    every: bool = False
    """Of each window of the list, instead of the first one only."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the first places for some candidates, spread evenly: never the first place unless all are theirs."""

    members: NDArray[np.bool_]
    """(n,)"""
    share: float
    among: int


@dataclass(frozen=True, slots=True)
class Exploration:
    """Places, but never the first one, that are given with a certain probability to an item that is tried out."""

    share: float
    """The probability, 0 to 1."""
    arms: Arms
    uniforms: NDArray[np.float64]
    """(n_places, 2) random numbers in [0, 1): whether to try something, and what."""


@dataclass(frozen=True, slots=True)
class Reranked:
    """A new order."""

    order: NDArray[np.intp]
    """(n,) positions of the candidates in the old order: first those that were chosen, then the others as they were."""
    n_chosen: int
    relaxed: NDArray[np.int64]
    """(1 + n_caps + n_shares,) places at which near duplicates, each cap and each share had to give way."""
    propensities: NDArray[np.float64]
    """(n_chosen,) probability of the candidate to have its place, given those above it."""
    explored: NDArray[np.bool_]
    """(n_chosen,) whether it was tried out."""


def rerank(
    scores: NDArray[np.float64],
    n_wanted: int,
    *,
    caps: Sequence[LabelCap] = (),
    shares: Sequence[Share] = (),
    pins: Sequence[tuple[int, int]] = (),
    diversity: float = 0.0,
    duplicate: float = NEVER_DUPLICATE,
    vectors: NDArray[np.float32] = _NO_VECTORS,
    labels: NDArray[np.int32] = _NO_LABELS,
    exploration: Exploration | None = None,
) -> Reranked:
    """Fill `n_wanted` places from candidates that are sorted by score, best first, shape (n,).

    A place has the candidate with the highest (1 - diversity) * relevance - diversity * similarity, where relevance is
    1 + ln(score / best score) / ln 100, and similarity the highest to a candidate above it: the mean of the cosine of
    the vectors (not below 0) and the Jaccard index of the labels. With `diversity` 0 the order by score stands,
    whatever the scores mean.

    What gives way first: the last share, ..., the first share, the last cap, ..., the first cap, near duplicates. There
    may be `MAX_CONSTRAINTS` caps and shares.

    Parameters
    ----------
    pins
        (candidate, place): has this place, whatever else is asked. Each candidate and each place at most once.
    duplicate
        Candidates whose vectors have a cosine of at least this are near duplicates.
    vectors
        (n, d) of length 1, or 0 where unknown; may be left out when neither duplicates nor diversity matter.
    labels
        (n, width) padded with -1, for similarity: those whose numbers are equal modulo 64 count as one.
    exploration
        A place is tried out only by an arm that breaks nothing there, and pins stand. The candidate i has a place with
        probability share * P(i is the arm drawn) + (1 - share) * [i is the best one], or, where no arm breaks nothing
        or the place is the first one, with [i is the best one]: over all candidates that adds up to 1.
    """
    n = len(scores)
    n_wanted = min(n_wanted, n)
    table, columns = _beside([cap.labels for cap in caps], n)
    of_caps = np.array([(cap.at_most, cap.among, cap.every) for cap in caps], np.int64).reshape(-1, 3)
    members = np.array([share.members for share in shares], np.bool_).reshape(len(shares), n)
    wanted = np.array([(share.share, share.among) for share in shares], np.float64).reshape(-1, 2)
    pinned = np.full(n_wanted, _NOTHING, np.int32)
    reserved = np.zeros(n, np.bool_)
    for candidate, place in pins:
        if place < n_wanted:
            pinned[place] = candidate
            reserved[candidate] = True
    if not len(vectors):
        vectors = np.zeros((n, 1), np.float32)
    order = np.empty(n, np.intp)
    relaxed = np.zeros(1 + len(caps) + len(shares), np.int64)
    relevance = relevance_of(scores) if diversity > 0.0 else _NO_SCORES
    bits = bits_of(labels, n) if diversity > 0.0 else _NO_BITS
    propensities, explored = np.ones(n_wanted), np.zeros(n_wanted, np.bool_)
    share, arms, chances, uniforms = _NO_EXPLORATION
    if exploration is not None and len(exploration.arms.candidates):
        share, uniforms = exploration.share, exploration.uniforms
        arms, chances = exploration.arms.candidates, exploration.arms.chances
    fill_places(
        order, relaxed, propensities, explored, share, arms, chances, uniforms, relevance, diversity, duplicate,
        vectors, bits, table, columns, of_caps, members, wanted, pinned, reserved,
    )  # fmt: skip
    return Reranked(order, n_wanted, relaxed, propensities, explored)


def likeness(vectors: NDArray[np.float32], labels: NDArray[np.int32], n: int) -> NDArray[np.float32]:
    """Return the highest similarity of each of the first n items to one of those behind them, shape (n,), 0 to 1.

    Similarity, `vectors` and `labels` are those of `rerank`.
    """
    bits = bits_of(labels, len(labels))
    closest, alike = np.full(n, -1.0, np.float32), np.zeros(n, np.float32)
    for other in range(n, len(vectors)):
        compare_all(other, vectors, bits, closest, alike)
    return alike


def relevance_of(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 + ln(score / best) / ln 100, of positive scores; others count as a millionth of the best."""
    usable = np.where(np.isfinite(scores), scores, 0.0)
    best = usable.max(initial=0.0)
    if best <= 0.0:
        return np.ones(len(scores))
    return np.asarray(1.0 + np.log(np.maximum(usable / best, _LEAST)) / _RANGE)


def bits_of(labels: NDArray[np.int32], n: int) -> NDArray[np.uint64]:
    """Return label sets as bits, (n, width) -> (n,); none where no labels are given."""
    if not len(labels):
        return np.zeros(n, np.uint64)
    bits = np.left_shift(np.uint64(1), (labels & 63).astype(np.uint64))
    return np.asarray(np.bitwise_or.reduce(np.where(labels >= 0, bits, np.uint64(0)), axis=1), np.uint64)


def _beside(tables: Sequence[NDArray[np.int32]], n: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the tables side by side, and (where it begins, how wide it is) of each."""
    columns = np.empty((len(tables), 2), np.int64)
    start = 0
    for k, table in enumerate(tables):
        columns[k] = start, table.shape[1]
        start += table.shape[1]
    joined = np.concatenate(tables, axis=1) if tables else np.empty((n, 0), np.int32)
    return np.ascontiguousarray(joined, np.int32), columns
