"""What all models to compare with share, and those that only count."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.evaluation.linked_log import LinkedLog, doubled
from online_models.evaluation.protocols import Candidates
from state.records import Item

DAY = 86_400.0
_RESCALE = 50.0
FOREVER = 1e5
"""Days: a half-life that is none."""


class Constant(NamedTuple):
    """A constant of a model, and what `tuning` tries in its place."""

    default: float
    choices: tuple[float, ...]


class Baseline(ABC):
    """Ids, the log, masks and the order of equal scores.

    Parameters
    ----------
    seed
        Of the random permutation of the items that orders equal scores.
    every
        Events after which a model that is refitted is refitted.
    constants
        In place of the defaults of `CONSTANTS`.
    """

    CONSTANTS: ClassVar[Mapping[str, Constant]] = {}

    def __init__(self, seed: int = 0, every: int = 1000, constants: Mapping[str, float] | None = None) -> None:
        self.seed, self.every = seed, every
        self.constants = {name: constant.default for name, constant in self.CONSTANTS.items()} | dict(constants or {})
        self._rng = np.random.default_rng(seed)
        self.ids: dict[str, int] = {}
        self.names: list[str] = []
        self.users: dict[str, int] = {}
        self.seen: defaultdict[str, list[int]] = defaultdict(list)
        self.log = LinkedLog()
        self._ties = np.zeros(1024)

    @abstractmethod
    def scores(self, newest: int, t: float) -> NDArray[np.float64]:
        """Score of every item known so far, for the user whose newest event this is; -1: a user without events."""

    def learn(self, item: int, positive: bool, t: float) -> None:  # noqa: B027 - most only read the log
        """Learn an event that is already in the log."""

    def describe(self, item: Item) -> None:  # noqa: B027 - content is of no use to any of them
        """Ignore the catalogue."""

    def observe(self, user: str, item: str, positive: bool, rating: float, t: float) -> None:
        at = self.ids.get(item)
        if at is None:
            at = self.ids[item] = len(self.names)
            self.names.append(item)
            if at == len(self._ties):
                self._ties = doubled(self._ties)
            self._ties[at] = self._rng.random()
        self.log.append(self.users.setdefault(user, len(self.users)), at, positive, t)
        self.learn(at, positive, t)
        self.seen[user].append(at)

    def recommend(self, user: str, n: int, t: float, candidates: Candidates) -> list[str]:
        if not self.names:
            return []
        slot = self.users.get(user)
        scores = self.scores(-1 if slot is None else int(self.log.of_user[slot]), t)
        if candidates == "unseen":
            scores[self.seen.get(user, [])] = -np.inf
        k = min(n, len(scores))
        edge = np.partition(scores, len(scores) - k)[len(scores) - k]
        best = np.flatnonzero(scores >= edge)
        order = np.lexsort((self._ties[best], -scores[best]))
        return [self.names[at] for at in best[order[:k]] if scores[at] > -np.inf]

    def newest_events(self, newest: int, n: int) -> NDArray[np.int64]:
        """Up to `n` events of a user, newest first."""
        found: list[int] = []
        while newest >= 0 and len(found) < n:
            found.append(newest)
            newest = int(self.log.before[newest])
        return np.array(found, np.int64)


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
            self._counts = doubled(self._counts)
        self._counts[item] += amount * 2.0 ** ((t - self._since) / self._half_life)

    def at(self, n: int, t: float) -> NDArray[np.float64]:
        """Counts of the first `n` items at time `t`."""
        while n > len(self._counts):
            self._counts = doubled(self._counts)
        since = t if self._since is None else self._since
        fade: float = 2.0 ** (-(t - since) / self._half_life)
        return self._counts[:n] * fade


class Popularity(Baseline):
    """Positives of all time."""

    def __init__(self, seed: int = 0, every: int = 1000, constants: Mapping[str, float] | None = None) -> None:
        super().__init__(seed, every, constants)
        self.popular = DecayedCounts(self.constants.get("popular_days", FOREVER) * DAY)

    def learn(self, item: int, positive: bool, t: float) -> None:
        if positive:
            self.popular.add(item, t)

    def scores(self, newest: int, t: float) -> NDArray[np.float64]:
        return self.popular.at(len(self.names), t)


class RecentPopularity(Popularity):
    """Positives with decay."""

    CONSTANTS = {"popular_days": Constant(2.0, (0.25, 0.5, 1.0, 2.0, 4.0, 8.0))}


class Blended(Popularity):
    """Evidence for a user, and a share of live recent popularity.

    score = evidence / max evidence + blend * popularity / max popularity
    """

    CONSTANTS = {
        "popular_days": Constant(2.0, (0.5, 1.0, 2.0, 4.0, 8.0)),
        "blend": Constant(0.3, (0.001, 0.03, 0.1, 0.3, 1.0, 3.0)),
    }

    @abstractmethod
    def evidence(self, newest: int, t: float) -> NDArray[np.float64]:
        """What speaks for each item, given a user with events."""

    def scores(self, newest: int, t: float) -> NDArray[np.float64]:
        popular = super().scores(newest, t)
        found: NDArray[np.float64] = self.constants["blend"] * popular / max(float(popular.max()), 1e-12)
        if newest >= 0:
            evidence = self.evidence(newest, t)
            found += evidence / max(float(evidence.max()), 1e-12)
        return found
