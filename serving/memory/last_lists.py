"""What was last ranked for whom: the list that is left when a user's state cannot be read."""

import time
import weakref
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_models.replica import Replica

MAX_USERS = 20_000
MAX_ITEMS = 100
"""More than are shown: filters and exclusions still apply to them."""
_FRESH_S = 5.0
"""For so long a list is not remembered again."""
_OLD_S = 3600.0
"""A list that is older is of no use; also, a user whom another process erased is forgotten here by then."""


@dataclass(frozen=True, slots=True)
class LastList:
    """The best candidates of a finished list, columns as in `Candidates`."""

    slots: NDArray[np.int32]
    sources: NDArray[np.uint32]
    scores: NDArray[np.float64]
    source_names: tuple[str, ...]
    model: tuple[str, str]
    made_at: float
    """Monotonic, seconds."""
    replica: "weakref.ref[Replica]"

    @property
    def age_ms(self) -> int:
        return int((time.monotonic() - self.made_at) * 1000)


class LastLists:
    """Bounded: the users seen longest ago are forgotten first. About 2 kB each."""

    def __init__(self, max_users: int = MAX_USERS) -> None:
        self._max_users = max_users
        self._lists: OrderedDict[tuple[str, str], LastList] = OrderedDict()

    def wants(self, user_id: str, surface: str) -> bool:
        """Return whether a list of this user is worth remembering now."""
        known = self._lists.get((user_id, surface))
        return known is None or time.monotonic() - known.made_at > _FRESH_S

    def put(
        self,
        user_id: str,
        surface: str,
        replica: Replica,
        slots: NDArray[np.int32],
        sources: NDArray[np.uint32],
        scores: NDArray[np.float64],
        source_names: tuple[str, ...],
        model: tuple[str, str],
    ) -> None:
        """Remember the best `MAX_ITEMS` of scored candidates."""
        best = np.arange(len(slots))
        if len(slots) > MAX_ITEMS:
            best = np.argpartition(scores, -MAX_ITEMS)[-MAX_ITEMS:]
        self._lists[user_id, surface] = LastList(
            slots[best], sources[best], scores[best], source_names, model, time.monotonic(), weakref.ref(replica)
        )
        self._lists.move_to_end((user_id, surface))
        if len(self._lists) > self._max_users:
            self._lists.popitem(last=False)

    def get(self, user_id: str, surface: str, replica: Replica) -> LastList | None:
        """Return the list, None where there is none or slots mean other items by now."""
        known = self._lists.get((user_id, surface))
        if known is None or known.replica() is not replica or time.monotonic() - known.made_at > _OLD_S:
            return None
        return known

    def forget(self, user_id: str) -> None:
        """Forget a user who is erased."""
        for key in [key for key in self._lists if key[0] == user_id]:
            del self._lists[key]
