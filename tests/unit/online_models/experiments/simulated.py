"""Users with a taste for clicking, who come back: the truth of an experiment is known here."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from online_models.experiments.effects import Arm

Floats = NDArray[np.float64]


@dataclass
class Visitors:
    """The users of one arm: each clicks at its own rate, and lists come in visits of several."""

    rng: np.random.Generator
    lift: float = 0.0
    rates: Floats = field(default_factory=lambda: np.empty(0))
    clicks: Floats = field(default_factory=lambda: np.empty(0))
    lists: Floats = field(default_factory=lambda: np.empty(0))
    before: Floats = field(default_factory=lambda: np.empty(0))

    def arrive(self, n_users: int) -> None:
        """New users, with what they did before the experiment."""
        rates = self.rng.beta(2.0, 8.0, n_users)
        self.rates = np.concatenate([self.rates, rates])
        self.before = np.concatenate([self.before, self.rng.binomial(20, rates).astype(np.float64)])
        self.clicks = np.concatenate([self.clicks, np.zeros(n_users)])
        self.lists = np.concatenate([self.lists, np.zeros(n_users)])

    def visit(self, share: float = 0.3) -> None:
        """Some of them ask for lists, and click."""
        lists = self.rng.poisson(3.0, len(self.rates)) * (self.rng.random(len(self.rates)) < share)
        self.clicks += self.rng.binomial(lists, self.rates * (1.0 + self.lift))
        self.lists += lists

    def arm(self, with_history: bool = True) -> Arm:
        came = self.lists > 0
        return Arm(self.clicks[came], self.lists[came], self.before[came] if with_history else None)
