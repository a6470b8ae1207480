"""What was answered to whom a moment ago: under load it is answered again, without any work."""

import time
from collections import OrderedDict
from dataclasses import dataclass
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from online_models.replica import Replica
from serving.contract.answers import ListAnswer
from state.records import Impression

MAX_ANSWERS = 4000
KEPT_S = 10.0
"""No list is repeated that is older: as long as `ladder.REPEATED` says, at least."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A finished list."""

    slots: NDArray[np.int32]
    """(n,) of its items, slots of `replica`."""
    replica: ref[Replica]
    answer: ListAnswer
    impression: Impression
    basis: tuple[object, ...]
    """What would have to be the same for a new list to be this one, but for what other users did meanwhile."""
    made_at: float
    """Monotonic, seconds."""

    @property
    def age_ms(self) -> int:
        return int((time.monotonic() - self.made_at) * 1000)


class LastAnswers:
    """Bounded: the lists answered longest ago are forgotten first. About 13 kB each."""

    def __init__(self, max_answers: int = MAX_ANSWERS) -> None:
        self._max_answers = max_answers
        self._answers: OrderedDict[tuple[str, str], Answered] = OrderedDict()
        """User and surface -> the list, the oldest first."""

    def put(self, user_id: str, surface: str, found: Answered) -> None:
        """Remember a list for some seconds."""
        self._answers[user_id, surface] = found
        self._answers.move_to_end((user_id, surface))
        while len(self._answers) > self._max_answers or self._oldest().made_at < found.made_at - KEPT_S:
            self._answers.popitem(last=False)

    def find(
        self, user_id: str, surface: str, replica: Replica, basis: tuple[object, ...], oldest_s: float
    ) -> Answered | None:
        """Return the list that was answered at most so many seconds ago, if it was made of the same."""
        known = self._answers.get((user_id, surface))
        if known is None or time.monotonic() - known.made_at > oldest_s or known.basis != basis:
            return None
        return known if known.replica() is replica else None

    def forget(self, user_id: str) -> None:
        """Forget a user who is erased."""
        for key in [key for key in self._answers if key[0] == user_id]:
            del self._answers[key]

    def _oldest(self) -> Answered:
        return next(iter(self._answers.values()))
