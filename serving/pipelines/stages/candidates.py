"""From a user to candidates."""

from collections.abc import Iterator

import numpy as np

from online_models.arrays import Slots
from online_models.sources import union
from online_models.users.view import UserView
from serving.memory.last_lists import LastLists
from serving.pipelines.ladder import Rung
from serving.pipelines.slate import Candidates, Slate
from serving.pipelines.sources import Source

MAX_RETRIEVED = 4000
"""Distinct candidates before the filters."""
MAX_FALLBACK = 500


class Hydrate:
    """Resolves the user's history, or the item that the list is about, against the models in memory."""

    name = "hydrate"
    deadline_ms = 20.0
    skippable = False

    def run(self, slate: Slate) -> None:
        if slate.last is not None:
            return  # neither sources nor the ranker are asked
        if slate.anchor is not None:
            view = UserView.of_items((slate.replica.item_id(slate.anchor),), slate.now_ms)
        else:
            view = _of_user(slate)
        repeats = slate.query.seen == "show" and slate.replica.repeats
        context = slate.replica.context(view, repeats)
        for slots in _unwanted(slate):
            context.bar(slots)
        if slate.wanted is not None:
            context.bar_all_but(slate.replica.matching(slate.wanted))
        withheld = slate.withheld()
        if withheld is not None:
            context.bar(withheld[1])
        slate.context = context

    def fallback(self, slate: Slate) -> None:
        slate.context = slate.replica.context(UserView(slate.now_ms))


class HydrateUser:
    """After the candidates of an item were found: resolves the user's own history, to score them by it."""

    name = "hydrate_user"
    deadline_ms = 20.0
    skippable = False

    def run(self, slate: Slate) -> None:
        repeats = slate.query.seen == "show" and slate.replica.repeats
        slate.context = slate.replica.context(_of_user(slate), repeats)

    def fallback(self, slate: Slate) -> None:
        slate.context = slate.replica.context(UserView(slate.now_ms))


def _of_user(slate: Slate) -> UserView:
    if slate.user is None or slate.user.profile is None:
        return UserView(slate.now_ms)
    profile = slate.user.profile
    return UserView.of(profile, max(slate.now_ms, profile.last_ts), frozenset(slate.user.disliked))


def _unwanted(slate: Slate) -> Iterator[Slots]:
    """Yield items that sources need not find: filters drop them anyway, but then a list may not be full."""
    if slate.query.exclude:
        yield slate.excluded()
    if len(slate.shown):
        yield slate.shown
    if slate.anchor is not None:
        yield np.array([slate.anchor], np.int32)
    if slate.user is not None:
        yield slate.hidden()
        if slate.user.profile is not None and slate.query.seen == "hide":
            yield slate.consumed()


class Retrieve:
    """Asks every source; one that fails is left out and named. Where it cannot, or where the user's state cannot be
    read, what was last ranked for the user, else popular items.
    """

    name = "retrieve"
    deadline_ms = 20.0

    def __init__(self, *sources: Source, lists: LastLists | None = None) -> None:
        self.sources = sources
        self._lists = lists
        self.skippable = lists is not None  # who searches is not served by what is popular

    def run(self, slate: Slate) -> None:
        if slate.last is not None:
            slate.recall(slate.last)
            return
        retrieved = {}
        for source in self.sources:
            if source.name in slate.without:
                continue
            try:
                found = source.retrieve(slate)
            except Exception as error:
                slate.fail(f"source {source.name}", error)
                continue
            if found is not None:
                retrieved[source.name] = found
                slate.notes[source.name] = len(found)
        merged = union(slate.replica.columns, retrieved, MAX_RETRIEVED)
        slate.source_names = tuple(merged.sources)
        slate.candidates = Candidates(merged.slots, merged.membership, np.full(len(merged.slots), np.nan))

    def fallback(self, slate: Slate) -> None:
        if self._lists is not None:
            last = None
            if slate.user_id is not None and slate.wanted is None:
                last = self._lists.get(slate.user_id, slate.surface, slate.replica)
            if last is not None:
                slate.recall(last)
                return
            slate.descend(Rung.POPULARITY)
        where = None if slate.wanted is None else slate.replica.matching(slate.wanted)
        slots, _ = slate.replica.popular(MAX_FALLBACK, slate.now_ms, where=where)
        slate.source_names = ("popular",)
        slate.candidates = Candidates(slots, np.ones(len(slots), np.uint32), np.full(len(slots), np.nan))
