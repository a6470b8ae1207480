"""Reading what a list depends on."""

from collections.abc import Awaitable

from serving.memory.last_lists import LastLists
from serving.memory.rotation import Rotation
from serving.memory.users import Users
from serving.pipelines.ladder import Rung
from serving.pipelines.slate import Slate


class ReadUser:
    """Reads the user's state in one round trip; without Redis, what this process remembers of the user.

    Parameters
    ----------
    lists
        What was last ranked for users, for surfaces that rank for them.
    """

    name = "user"
    deadline_ms = 50.0
    skippable = False

    def __init__(self, users: Users, lists: LastLists | None = None) -> None:
        self._users = users
        self._lists = lists

    def run(self, slate: Slate) -> Awaitable[None] | None:
        if slate.user_id is None:
            return None
        return self._read(slate, slate.user_id)

    async def _read(self, slate: Slate, user_id: str) -> None:
        slate.user = await self._users.read(user_id, slate.query.session_id)
        slate.notes["pending_feedback"] = slate.user.n_pending

    def fallback(self, slate: Slate) -> None:
        if slate.user_id is None:
            return
        slate.user = self._users.from_memory(slate.user_id)
        if self._lists is not None:
            if slate.wanted is None:  # a filter finds little in what was ranked without it
                slate.last = self._lists.get(slate.user_id, slate.surface, slate.replica)
            slate.descend(Rung.POPULARITY if slate.last is None else Rung.CACHED)


class NewestTaken:
    """Makes the list be about the item that the user took last, when the request names none."""

    name = "about"
    deadline_ms = 5.0
    skippable = False

    def run(self, slate: Slate) -> None:
        if slate.anchor is not None or slate.user is None or slate.user.profile is None:
            return
        for step in reversed(slate.user.profile.recent):
            if step.positive and (slot := slate.replica.slot(step.item_id)) is not None:
                slate.anchor = slot
                slate.notes["item_id"] = step.item_id
                return

    def fallback(self, slate: Slate) -> None:
        """The list is about the whole history."""


class ReadShown:
    """Reads what the user was shown lately, for a list that rotates; without Redis, the list does not rotate."""

    name = "rotation"
    deadline_ms = 20.0
    skippable = True

    def __init__(self, rotation: Rotation) -> None:
        self._rotation = rotation

    def run(self, slate: Slate) -> Awaitable[None] | None:
        if not slate.query.rotation or slate.user_id is None:
            return None
        return self._read(slate, slate.user_id)

    async def _read(self, slate: Slate, user_id: str) -> None:
        slate.rotated = await self._rotation.read(user_id)
        slate.notes["shown"] = len(slate.rotated.items)

    def fallback(self, slate: Slate) -> None:
        """Nothing is known to have been shown."""


class RememberShown:
    """Afterwards: what a list that rotates has shown."""

    def __init__(self, rotation: Rotation) -> None:
        self._rotation = rotation

    def follow_up(self, slate: Slate) -> None:
        if slate.rotated is not None and slate.user_id is not None:
            shown = slate.replica.item_ids(slate.candidates.slots)
            self._rotation.add(slate.user_id, slate.rotated, shown, slate.wall_ms)
