"""What was last ranked for whom: the list that is left when a user's state cannot be read, or there is no time."""

import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from online_models.replica import Replica

MAX_USERS = 20_000
MAX_ITEMS = 100
"""More than are shown: filters and exclusions still apply to them."""
_FRESH_S = 5.0
"""For so long a list that would be made of the same is not remembered again."""
BY_RULE = ("pinned", "promoted")
"""Sources of items that rules give a place, whatever the ranker thinks of them."""
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
    basis: tuple[object, ...] = ()
    """What would have to be the same for a new list to be this one, but for what other users did meanwhile."""

    @property
    def age_ms(self) -> int:
        return int((time.monotonic() - self.made_at) * 1000)


class LastLists:
    """Bounded: the users seen longest ago are forgotten first. About 3 kB each."""

    def __init__(self, max_users: int = MAX_USERS) -> None:
        self._max_users = max_users
        self._lists: OrderedDict[tuple[str, str], tuple[LastList, ref[Replica], list[str]]] = OrderedDict()
        """User and surface -> the list, the replica that its slots are of, and the ids of its items."""

    def wants(self, user_id: str, surface: str, basis: tuple[object, ...]) -> bool:
        """Return whether a list of this user is worth remembering now."""
        known = self._lists.get((user_id, surface))
        return known is None or known[0].basis != basis or time.monotonic() - known[0].made_at > _FRESH_S

    def put(self, user_id: str, surface: str, replica: Replica, found: LastList) -> None:
        """Remember the best `MAX_ITEMS` of scored candidates, those that rules put there among them."""
        slots, sources, scores = found.slots, found.sources, found.scores
        if len(slots) > MAX_ITEMS:
            by_rule = sum(1 << bit for bit, name in enumerate(found.source_names) if name in BY_RULE)
            best = np.argpartition(np.where(sources & by_rule, np.inf, scores), -MAX_ITEMS)[-MAX_ITEMS:]
            slots, sources, scores = slots[best], sources[best], scores[best]
        kept = replace(found, slots=slots, sources=sources, scores=scores)
        self._lists[user_id, surface] = kept, ref(replica), replica.item_ids(slots)
        self._lists.move_to_end((user_id, surface))
        if len(self._lists) > self._max_users:
            self._lists.popitem(last=False)

    def get(self, user_id: str, surface: str, replica: Replica) -> LastList | None:
        """Return the list, as far as the replica knows its items; None where there is none."""
        known = self._lists.get((user_id, surface))
        if known is None or time.monotonic() - known[0].made_at > _OLD_S:
            return None
        kept, made_of, ids = known
        if made_of() is replica:  # which never gives an item's slot to another
            return kept
        # When all is loaded again, as after an outage, slots may mean other items.
        slots = [replica.slot(item_id) for item_id in ids]
        there = np.array([slot is not None for slot in slots], np.bool_)
        found = np.array([slot for slot in slots if slot is not None], np.int32)
        return replace(kept, slots=found, sources=kept.sources[there], scores=kept.scores[there])

    def forget(self, user_id: str) -> None:
        """Forget a user who is erased."""
        for key in [key for key in self._lists if key[0] == user_id]:
            del self._lists[key]
