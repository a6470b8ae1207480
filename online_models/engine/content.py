"""What the catalogue says of items, and how it matches the user's newest steps."""

import math
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from online_models.engine.items import DAY, grown
from online_models.engine.jit import jit
from online_models.engine.prefetch import AHEAD, prefetch
from state.records import Item

N_LABELS = 8
"""Labels kept per item: genres, category, creator, tags, in this order."""

N_BUCKETS = 512
"""Labels are hashed."""

STEPS = 50
SLOW, FAST = 0.95, 0.7
"""Weight per step back of the two tastes."""

OTHER = 0.3
"""Weight of a step that was not positive."""

NO_LIKINGS = np.zeros(N_BUCKETS, np.float32)
"""Of somebody of whom none are known."""

_YEAR = 365.25
_EPOCH = 1970.0


@jit
def taste_of(
    labels: NDArray[np.int16],
    years: NDArray[np.float32],
    history: NDArray[np.int32],
    positive: NDArray[np.bool_],
    taste: NDArray[np.float32],
) -> float:
    """Fill the slow and the fast taste, shape (2, N_BUCKETS), and return the mean release year, 0 if unknown."""
    total = np.zeros(2, np.float32)
    mean_year, year_weight = np.float32(0.0), np.float32(0.0)
    weights = np.ones(2, np.float32)
    for x in range(min(STEPS, history.size)):
        item = history[history.size - 1 - x]
        liked = np.float32(1.0 if positive[history.size - 1 - x] else OTHER)
        for k in range(N_LABELS):
            if labels[item, k] >= 0:
                taste[0, labels[item, k]] += weights[0] * liked
                taste[1, labels[item, k]] += weights[1] * liked
        total[0] += weights[0] * liked
        total[1] += weights[1] * liked
        if years[item] > 0.0:
            mean_year += weights[1] * years[item]
            year_weight += weights[1]
        weights[0] *= np.float32(SLOW)
        weights[1] *= np.float32(FAST)
    if history.size > 0:
        for k in range(N_BUCKETS):
            taste[0, k] /= total[0]
            taste[1, k] /= total[1]
    return float(mean_year / year_weight) if year_weight > 0.0 else 0.0


@jit
def match(
    labels: NDArray[np.int16],
    years: NDArray[np.float32],
    items: NDArray[np.int32],
    year: float,
    tastes: NDArray[np.float32],
    mean_year: float,
    out: NDArray[np.float32],
) -> None:
    """Write slow taste, fast taste, distance in release years and years since release, shape (n, 4).

    A taste is the share of the history's labels, weighted by recency, that an item's labels have; 0 where unknown.
    """
    for m in range(items.size):
        later = items[min(m + AHEAD, items.size - 1)]
        prefetch(labels, (later, 0))
        prefetch(years, (later,))
        item = items[m]
        found = 0
        slow, fast = np.float32(0.0), np.float32(0.0)
        for k in range(N_LABELS):
            label = labels[item, k]
            if label >= 0:
                found += 1
                slow += tastes[0, label]
                fast += tastes[1, label]
        n = np.float32(max(found, 1))
        out[m, 0], out[m, 1], out[m, 2], out[m, 3] = slow / n, fast / n, 0.0, 0.0
        if years[item] > 0.0:
            out[m, 3] = math.log1p(max(year - years[item] + 1.0, 0.0))
            if mean_year > 0.0:
                out[m, 2] = math.log1p(abs(years[item] - mean_year))


@jit
def match_labels(
    labels: NDArray[np.int16], items: NDArray[np.int32], tastes: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Write the sum of the two tastes that `match` writes."""
    taste = tastes[0] + tastes[1]
    for m in range(items.size):
        of_item = labels[items[m]]
        found = 0
        total = np.float32(0.0)
        for k in range(N_LABELS):
            if of_item[k] >= 0:
                found += 1
                total += taste[of_item[k]]
        out[m] = total / np.float32(max(found, 1))


def bucket(label: str) -> int:
    """Return the bucket that a label is hashed to."""
    return zlib.crc32(label.encode()) % N_BUCKETS


class Content:
    """Hashed labels and release years of items by slot."""

    def __init__(self, capacity: int = 1024) -> None:
        self.labels = np.full((capacity, N_LABELS), -1, np.int16)
        self.years = np.zeros(capacity, np.float32)

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`."""
        old = len(self.labels)
        if n_slots > old:
            self.labels = grown(self.labels, max(n_slots, 2 * old))
            self.labels[old:] = -1
            self.years = grown(self.years, len(self.labels))

    def forget(self, slots: NDArray[np.int32]) -> None:
        """Clear the entries."""
        self.labels[slots] = -1
        self.years[slots] = 0.0

    def learn_one(self, slot: int, item: Item) -> None:
        """Take over an item's catalogue entry."""
        names = [f"genre:{genre}" for genre in item.genres]
        names += [
            f"{kind}:{value}" for kind, value in (("category", item.category), ("creator", item.creator)) if value
        ]
        names += [f"tag:{tag}" for tag in item.tags]
        self.labels[slot] = -1
        for k, name in enumerate(dict.fromkeys(names[:N_LABELS])):
            self.labels[slot, k] = bucket(name)
        self.years[slot] = float(item.release_date[:4]) if item.release_date else 0.0

    def likings(self, genres: Mapping[str, float]) -> NDArray[np.float32]:
        """Return the share of each hashed label in liked genres, shape (N_BUCKETS,); dislikes count nothing."""
        if not genres:
            return NO_LIKINGS
        shares = np.zeros(N_BUCKETS, np.float32)
        for genre, weight in genres.items():
            shares[bucket(f"genre:{genre}")] += max(weight, 0.0)
        total = shares.sum()
        return shares / total if total > 0.0 else shares

    def tastes(
        self, history: NDArray[np.int32], positive: NDArray[np.bool_], likings: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float]:
        """Return a user's slow and fast taste, shape (2, N_BUCKETS), and mean release year, 0 if unknown.

        `likings` are added to the tastes.
        """
        tastes = np.zeros((2, N_BUCKETS), np.float32)
        mean_year = taste_of(self.labels, self.years, history, positive, tastes)
        if likings is not NO_LIKINGS:
            tastes += likings
        return tastes, mean_year

    def match_labels(self, items: NDArray[np.int32], tastes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sum of the slow and the fast taste for each item, shape (n,)."""
        out = np.empty(len(items), np.float32)
        match_labels(self.labels, items, tastes, out)
        return out


def year_of(t: float) -> float:
    """Return the calendar year of an instant (epoch seconds), with its fraction."""
    return _EPOCH + t / DAY / _YEAR
