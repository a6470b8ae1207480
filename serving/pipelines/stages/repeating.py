"""Answering a list again, as people who wait ask again."""

import time
from weakref import ref

from serving.memory.last_answers import Answered, LastAnswers
from serving.pipelines.ladder import Rung, oldest_repeated_s
from serving.pipelines.slate import Slate
from serving.pipelines.stages.dropping import Drop


class Repeat:
    """Under load, the list that was answered a moment ago stands for one that would be made of the same.

    It stands whole or not at all: not where a filter that protects would drop one of its items by now. The others would
    drop what they did then.
    """

    name = "repeat"
    deadline_ms = 5.0
    skippable = False  # the less time is left, the more it helps

    def __init__(self, answers: LastAnswers, drop: Drop) -> None:
        self._answers = answers
        self._drop = drop

    def run(self, slate: Slate) -> None:
        oldest_s = oldest_repeated_s(slate.waited)
        if not oldest_s or slate.user_id is None or not _may_stand(slate):
            return
        found = self._answers.find(slate.user_id, slate.surface, slate.replica, slate.basis, oldest_s)
        if found is None:
            return
        kept = self._drop.kept(slate, found.slots)
        if kept is None or kept.all():
            slate.repeat(found)

    def fallback(self, slate: Slate) -> None:
        """The list is made."""


class RememberAnswer:
    """Afterwards: a list that may stand for the next one."""

    def __init__(self, answers: LastAnswers) -> None:
        self._answers = answers

    def follow_up(self, slate: Slate) -> None:
        if slate.user_id is None or slate.answer is None or slate.impression is None or not _may_stand(slate):
            return
        if slate.repeated is not None or slate.rung is not Rung.FULL or not slate.lacks_nothing:
            return
        slots, replica = slate.candidates.slots.copy(), ref(slate.replica)
        made = Answered(slots, replica, slate.answer, slate.impression, slate.basis, time.monotonic())
        self._answers.put(slate.user_id, slate.surface, made)


def _may_stand(slate: Slate) -> bool:
    """Return whether two lists of such a request are alike: it has no wishes as to items, and leaves none to chance."""
    query = slate.query
    return slate.is_usual and not (query.exploration or query.rotation or query.explain)
