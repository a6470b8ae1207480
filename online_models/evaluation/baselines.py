"""Simple models that learn from each event, to compare with."""

from abc import ABC, abstractmethod
from collections import defaultdict, deque

import numpy as np
from numpy.typing import NDArray

from online_models.evaluation.protocols import Candidates
from state.records import Item

DAY = 86_400.0
_RESCALE = 50.0


class Baseline(ABC):
    """Ids, histories, masks and the order of equal scores: what all baselines share.

    Parameters
    ----------
    seed
        Of the random permutation of the items that orders equal scores.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self.ids: dict[str, int] = {}
        self.names: list[str] = []
        self.history: defaultdict[str, list[int]] = defaultdict(list)
        self.times: defaultdict[str, list[float]] = defaultdict(list)
        self.ties = np.zeros(1024)

    @abstractmethod
    def learn(self, user: str, item: int, positive: bool, t: float) -> None:
        """Learn an event, before it is appended to the user's history."""

    @abstractmethod
    def scores(self, user: str, t: float) -> NDArray[np.float64]:
        """Score of every item known so far."""

    def describe(self, item: Item) -> None:  # noqa: B027 - content is of no use to any of them
        """Ignore the catalogue."""

    def observe(self, user: str, item: str, positive: bool, rating: float, t: float) -> None:
        at = self.ids.get(item)
        if at is None:
            at = self.ids[item] = len(self.names)
            self.names.append(item)
            if at == len(self.ties):
                self.ties = np.concatenate([self.ties, np.zeros_like(self.ties)])
            self.ties[at] = self._rng.random()
        self.learn(user, at, positive, t)
        self.history[user].append(at)
        self.times[user].append(t)

    def recommend(self, user: str, n: int, t: float, candidates: Candidates) -> list[str]:
        if not self.names:
            return []
        scores = self.scores(user, t)
        if candidates == "unseen":
            scores[self.history.get(user, [])] = -np.inf
        k = min(n, len(scores))
        edge = np.partition(scores, len(scores) - k)[len(scores) - k]
        best = np.flatnonzero(scores >= edge)
        order = np.lexsort((self.ties[best], -scores[best]))
        return [self.names[at] for at in best[order[:k]] if scores[at] > -np.inf]


class DecayedCounts:
    """A growing array of counts that halve every `half_life` seconds."""

    def __init__(self, half_life: float) -> None:
        self._half_life = half_life
        self._since: float | None = None
        self._counts = np.zeros(1024)

    def add(self, item: int, t: float, amount: float = 1.0) -> None:
        if self._since is None:
            self._since = t
        if t - self._since > _RESCALE * self._half_life:
            self._counts *= 2.0 ** (-(t - self._since) / self._half_life)
            self._since = t
        while item >= len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._counts[item] += amount * 2.0 ** ((t - self._since) / self._half_life)

    def at(self, n: int, t: float) -> NDArray[np.float64]:
        """Counts of the first `n` items at time `t`."""
        while n > len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        since = t if self._since is None else self._since
        fade: float = 2.0 ** (-(t - since) / self._half_life)
        return self._counts[:n] * fade


class Popularity(Baseline):
    """Positives of all time."""

    half_life = 1e5 * DAY

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._counts = DecayedCounts(self.half_life)

    def learn(self, user: str, item: int, positive: bool, t: float) -> None:
        if positive:
            self._counts.add(item, t)

    def scores(self, user: str, t: float) -> NDArray[np.float64]:
        return self._counts.at(len(self.names), t)


class RecentPopularity(Popularity):
    """Positives, halved every two days."""

    half_life = 2.0 * DAY


class Markov(Baseline):
    """What came next after the user's newest item, then recent popularity."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._next: defaultdict[int, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
        self._popular = DecayedCounts(2.0 * DAY)

    def learn(self, user: str, item: int, positive: bool, t: float) -> None:
        if self.history[user]:
            self._next[self.history[user][-1]][item] += 1.0
        if positive:
            self._popular.add(item, t)

    def scores(self, user: str, t: float) -> NDArray[np.float64]:
        popular = self._popular.at(len(self.names), t)
        found: NDArray[np.float64] = 1e-6 * popular / max(popular.max(), 1e-12)
        for item, count in self._next[self.history[user][-1]].items() if self.history.get(user) else ():
            found[item] += count
        return found


class Covisitation(Baseline):
    """Directed, distance-decayed, time-decayed co-occurrence with the user's newest items, and some recent popularity.

    score(j) = sum_x f^x sum_{d} c(h_x, j, d) 2^-(age / half life) / (n(h_x) + 1)^.7 / (n(j) + 1)^.3
    """

    reach = 15
    backward = 0.5
    fading = 0.8
    steps = 20
    half_life = 16.0 * DAY
    popularity = 0.3

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._pairs: defaultdict[int, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
        self._since: float | None = None
        self._n = np.zeros(1024)
        self._popular = DecayedCounts(2.0 * DAY)

    def learn(self, user: str, item: int, positive: bool, t: float) -> None:
        if self._since is None:
            self._since = t
        grow = 2.0 ** min((t - self._since) / self.half_life, 900.0)
        for d, before in enumerate(reversed(self.history[user][-self.reach :])):
            share = grow / (d + 1) ** 0.5
            self._pairs[before][item] += share
            self._pairs[item][before] += self.backward * share
        if item >= len(self._n):
            self._n = np.concatenate([self._n, np.zeros_like(self._n)])
        self._n[item] += 1.0
        if positive:
            self._popular.add(item, t)

    def scores(self, user: str, t: float) -> NDArray[np.float64]:
        n = len(self.names)
        found = np.zeros(n)
        fade = 2.0 ** -min((t - (self._since or t)) / self.half_life, 900.0)
        for x, item in enumerate(reversed(self.history.get(user, [])[-self.steps :])):
            weight = fade * self.fading**x / (self._n[item] + 1.0) ** 0.7
            pairs = self._pairs[item]
            at = np.fromiter(pairs.keys(), np.int64, len(pairs))
            found[at] += weight * np.fromiter(pairs.values(), np.float64, len(pairs))
        found /= (self._n[:n] + 1.0) ** 0.3
        popular = self._popular.at(n, t)
        best = found.max()
        blend = self.popularity * best if best > 0 else 1.0
        found += blend * popular / max(popular.max(), 1e-12)
        return found


class SessionNeighbours(Baseline):
    """VMIS-kNN: items of the sessions (users) that share the newest items.

    Kersbergen, Sprangers, Schelter (2022), Serenade: low-latency session-based recommendation in e-commerce at scale.
    """

    n_recent, n_neighbours, n_items = 500, 100, 100

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._visitors: defaultdict[int, deque[str]] = defaultdict(lambda: deque(maxlen=self.n_recent))
        self._n = np.zeros(1024)

    def learn(self, user: str, item: int, positive: bool, t: float) -> None:
        if item >= len(self._n):
            self._n = np.concatenate([self._n, np.zeros_like(self._n)])
        self._n[item] += 1.0
        if item not in self.history[user]:
            self._visitors[item].append(user)

    def scores(self, user: str, t: float) -> NDArray[np.float64]:
        n = len(self.names)
        found: NDArray[np.float64] = 1e-9 * self._n[:n] / max(self._n.max(), 1.0)
        steps = list(dict.fromkeys(reversed(self.history.get(user, [])[-20:])))
        similar: defaultdict[str, float] = defaultdict(float)
        newest: dict[str, int] = {}
        for x, item in enumerate(steps):
            for other in self._visitors[item]:
                if other != user:
                    similar[other] += 1.0 - x / max(len(steps), 10)
                    newest.setdefault(other, x)
        nearest = sorted(similar, key=lambda other: (similar[other], self.times[other][-1]), reverse=True)
        log_share = np.log1p(self._n.sum() / np.maximum(self._n[:n], 1.0))
        for other in nearest[: self.n_neighbours]:
            weight = similar[other] * (1.0 - newest[other] / 10.0 if newest[other] < 10 else 0.0)
            items = list(dict.fromkeys(self.history[other][-self.n_items :]))
            found[items] += weight * log_share[items]
        return found
