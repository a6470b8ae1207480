"""From a list request to its answer, the same for every surface."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Literal

from msgspec import UNSET
from msgspec.structs import replace

from online_models import fingerprints
from online_models.catalogue.expressions import Boost, Expression, ExpressionError
from online_models.experiments.active import ActiveExperiments, Choice
from online_models.experiments.assignment import Circumstances
from online_models.replica import Replica
from online_models.reranking.rules import NO_RULES, ActiveRules
from online_models.versions.ranking import Ranking
from serving import telemetry
from serving.contract import cursors
from serving.contract.answers import ListAnswer, ListedItem, ModelVersion, StateUsed
from serving.contract.problems import ProblemError
from serving.contract.queries import ListQuery
from serving.contract.wanted import boosts, check_user, filled, not_understood, wanted
from serving.memory.last_answers import Answered
from serving.memory.mirror import Mirror
from serving.memory.models import Models
from serving.memory.users import KnownUser
from serving.pipelines.explaining import explanations
from serving.pipelines.ladder import BUDGET_MS, Rung, most_scored
from serving.pipelines.pipeline import Pipeline
from serving.pipelines.reasons import reasons
from serving.pipelines.request_ids import NOWHERE, new_request_id
from serving.pipelines.slate import Slate
from state.artifacts import ONLINE
from state.partitioner import UserPartitions
from state.records import Item
from state.validation import InvalidInputError

_AT_ONCE = 12
"""Lists in the making at once. A list computes for about a millisecond and cannot be interrupted, so that with many
more of them the answer of Redis would wait for its turn longer than a request waits for Redis; those in the making
share calls to it, so that with fewer of them each would cost more."""

_MAX_RECENT_USERS = 2000


class Lists:
    """Runs the surfaces.

    Parameters
    ----------
    troubles
        Returns part -> what is wrong with it, for parts that no stage of a request touches.
    rules, experiments
        Return those in force.
    models
        What ranks; the online ranker where there are none.
    n_partitions
        Of the topics by user.
    """

    def __init__(
        self,
        mirror: Mirror,
        surfaces: Mapping[str, Pipeline],
        troubles: Callable[[], dict[str, str]],
        rules: Callable[[], ActiveRules] = lambda: NO_RULES,
        experiments: Callable[[], ActiveExperiments] = ActiveExperiments,
        models: Models | None = None,
        n_partitions: int = 1,
        budget_ms: float = BUDGET_MS,
    ) -> None:
        self._budget_ms = budget_ms
        self._rules = rules
        self._experiments = experiments
        self._models = models
        self._partition_of = UserPartitions(n_partitions)
        self._recent_users: deque[str] = deque(maxlen=_MAX_RECENT_USERS)
        self._mirror = mirror
        self._surfaces = surfaces
        self._troubles = troubles
        self._places = asyncio.Semaphore(_AT_ONCE)

    def check(self, query: ListQuery, about: str | None) -> None:
        """Raise `ProblemError` for what no live list can have or be about."""
        if about is not None and self._mirror.current.slot(about) is None:
            raise ProblemError(404, f"item {about!r} is not known", field="item")
        if query.page is not None:
            raise ProblemError(400, "page: a live list has none", field="page")
        _wanted(query, self._mirror.current)

    async def answer(
        self,
        surface: str,
        query: ListQuery,
        *,
        user_id: str | None = None,
        about: str | None = None,
        window: str = "1h",
        text: str = "",
        user: KnownUser | None = None,
    ) -> ListAnswer:
        """Return a list. Raise `ProblemError` for an unknown item or a request that cannot be met by anybody.

        `user` is who the request itself describes, where nobody is to be read.
        """
        started = perf_counter()
        check_user(query, user_id is not None, user_id is not None or user is not None)
        replica = self._mirror.current
        anchor = None
        if about is not None:
            anchor = replica.slot(about)
            if anchor is None:
                field = "item" if surface == "because" else "item_id"
                raise ProblemError(404, f"item {about!r} is not known", field=field)
        wall_ms = int(time.time() * 1000)
        binding = partial(cursors.binding, query, surface, user_id, about, window)
        shown = b"" if query.page is None else cursors.decode(query.page, binding(), wall_ms // 1000, fingerprints.SIZE)
        degraded = self._troubles()
        choice, rules = self._choose(surface, query, user_id, wall_ms, degraded)
        slate = Slate(
            wanted=_wanted(query, replica),
            boosts=_boosts(query, replica),
            request_id=new_request_id(wall_ms, NOWHERE if user_id is None else self._partition_of(user_id)),
            surface=surface,
            query=filled(query, choice.parameters),
            replica=replica,
            now_ms=self._mirror.now_ms,
            wall_ms=wall_ms,
            user_id=user_id,
            experiments=choice.arms,
            ranker=choice.ranker,
            without=choice.without,
            ranking=self._ranking(choice, degraded),
            anchor=anchor,
            window=window,
            text=text,
            user=user,
            degraded=degraded,
            rules=rules,
            arrived=started,
            budget_ms=self._budget_ms,
            rung=Rung.DISK if self._mirror.origin == "disk" else Rung.FULL,
        )
        if shown:
            slate.shown = replica.fingerprints.find(shown)
        async with self._places:
            waited_ms = (perf_counter() - started) * 1000
            slate.timing_ms["queue"] = round(waited_ms, 3)
            slate.waited = waited_ms / self._budget_ms
            slate.max_scored = most_scored(slate.waited)
            await self._surfaces[surface].run(slate)
        if slate.rung:
            telemetry.rungs(surface, slate.rung.told).inc()
        slate.timing_ms["total"] = round((perf_counter() - started) * 1000, 3)
        if user_id is not None:
            self._recent_users.append(user_id)
        state = state_used(slate, self._mirror)
        if slate.repeated is None:
            slate.answer = render(slate, state, _next(slate, binding, shown))
        else:
            slate.answer = again(slate, state, slate.repeated)
        return slate.answer

    def recent_users(self, n: int) -> list[str]:
        """Return some users to whom this process answered lately, newest first."""
        return list(dict.fromkeys(reversed(self._recent_users)))[:n]

    async def compare(
        self, surface: str, query: ListQuery, user_id: str, rules: ActiveRules
    ) -> tuple[list[str], list[str], dict[str, int]]:
        """Return a user's list as it is and as it would be under other rules, and what those would have to relax.

        Nobody is shown these lists, and none is logged. Both are as the user's experiments have them.
        """
        lists: list[list[str]] = []
        replica, now_ms, wall_ms = self._mirror.current, self._mirror.now_ms, int(time.time() * 1000)
        request_id = new_request_id(wall_ms, NOWHERE)
        for under in (self._rules(), rules):
            choice, held = self._choose(surface, query, user_id, wall_ms, {}, under)
            slate = Slate(
                request_id=request_id,
                surface=surface,
                query=filled(query, choice.parameters),
                ranker=choice.ranker,
                without=choice.without,
                ranking=self._ranking(choice, {}),
                replica=replica,
                now_ms=now_ms,
                wall_ms=wall_ms,
                user_id=user_id,
                is_trial=True,
                rules=held,
            )
            async with self._places:
                await self._surfaces[surface].run(slate)
            lists.append(replica.item_ids(slate.candidates.slots))
        return lists[0], lists[1], slate.relaxed

    def _choose(
        self,
        surface: str,
        query: ListQuery,
        user_id: str | None,
        wall_ms: int,
        degraded: dict[str, str],
        rules: ActiveRules | None = None,
    ) -> tuple[Choice, ActiveRules]:
        """Return what experiments do to a request, and the rules for it: those given, else those in force."""
        held, experiments = self._rules() if rules is None else rules, self._experiments()
        choice = experiments.choose(user_id, Circumstances(surface, wall_ms, query.device, query.region))
        if choice.rules:
            try:
                held = experiments.ruled(choice, held)
            except InvalidInputError as error:  # the rules were changed since the experiment was created
                degraded["experiments"] = f"the arm's rules do not go with those in force: {error}"
        return choice, held

    def _ranking(self, choice: Choice, degraded: dict[str, str]) -> Ranking | None:
        """Return the version of the ranker for all of a list, None for the online one."""
        if self._models is None or choice.model == ONLINE:
            return None
        if choice.model is None:
            return self._models.ranking
        found = self._models.find(choice.model)
        if found is None:
            degraded["experiments"] = f"the arm's model {choice.model} is not loaded"
            return self._models.ranking
        return found


def _next(slate: Slate, binding: Callable[[], bytes], shown: bytes) -> str | None:
    """Return the cursor of the page after this one, None when this is the last."""
    if not slate.has_more or len(shown) // fingerprints.SIZE + len(slate.candidates) > cursors.MAX_SHOWN:
        return None
    shown += slate.replica.fingerprints.pack(slate.candidates.slots)
    return cursors.encode(binding(), shown, slate.wall_ms // 1000)


def _wanted(query: ListQuery, replica: Replica) -> Expression | None:
    """Return what the parameters ask for together. Raise `ProblemError` for an attribute that no item has."""
    expression = wanted(query)
    if expression is not None:
        try:
            replica.attributes.check(expression)
        except ExpressionError as error:
            raise not_understood(error) from error
    return expression


def _boosts(query: ListQuery, replica: Replica) -> tuple[Boost, ...]:
    """Return by what scores are multiplied. Raise `ProblemError` for an attribute that no item has."""
    given = boosts(query)
    for boost in given:
        try:
            replica.attributes.check(boost.condition)
        except ExpressionError as error:
            raise not_understood(error, "booster") from error
    return given


def state_used(slate: Slate, mirror: Mirror) -> StateUsed:
    """Return how old what a finished slate was made from is."""
    user = slate.user
    age_ms = mirror.age_ms
    source: Literal["redis", "memory", "last list", "request", "none"] = "none"
    user_ts = None
    if user is not None and slate.user_id is not None:
        source = "request" if slate.user_id is None else "redis" if user.from_redis else "memory"
        if user.profile is not None:
            user_ts = user.profile.last_ts or None
    if slate.last is not None:
        source = "last list"
        age_ms = max(age_ms, slate.last.age_ms)
    if slate.repeated is not None:
        age_ms = max(age_ms, slate.repeated.age_ms)
    return StateUsed(
        age_ms=age_ms,
        user=source,
        user_ts=user_ts,
        pending=0 if user is None else user.n_pending,
        stream_ts=mirror.stream_ms,
    )


def again(slate: Slate, state: StateUsed, repeated: Answered) -> ListAnswer:
    """Return the answer of then, to the request of now."""
    return replace(
        repeated.answer,
        request_id=slate.request_id,
        degraded=slate.degraded,
        state=state,
        timing_ms=slate.timing_ms,
    )


def render(slate: Slate, state: StateUsed, next_page: str | None = None) -> ListAnswer:
    """Return the answer that a finished slate stands for."""
    reason = reasons(slate)
    explanation = explanations(slate) if slate.query.explain else None
    items = []
    replica = slate.replica
    shown = slate.candidates
    columns = zip(shown.slots.tolist(), shown.scores.tolist(), shown.sources.tolist(), strict=True)
    for position, (slot, score, bits) in enumerate(columns):
        item = replica.item(slot) or Item(item_id=replica.item_id(slot))
        sources = slate.sources_of(bits)
        why = UNSET if explanation is None else explanation(position)
        told = reason(item, sources)
        slate.reasons.append(told)
        if slate.query.fields:
            wanted = {name: getattr(item, name) for name in slate.query.fields}
            items.append(ListedItem(item.item_id, score, sources, told, position, explanation=why, **wanted))
            continue
        title, genres, released = item.title, item.genres, item.release_date
        # By position: these are twenty in every answer. NaN becomes null.
        items.append(ListedItem(item.item_id, score, sources, told, position, title, genres, released, why))
    return ListAnswer(
        request_id=slate.request_id,
        user_id=slate.user_id,
        surface=slate.surface,
        about=UNSET if slate.anchor is None else slate.replica.item_id(slate.anchor),
        items=items,
        next=next_page,
        model=ModelVersion(*slate.model),
        experiments=dict(slate.experiments),
        relaxed=slate.relaxed or UNSET,
        degraded=slate.degraded or None,
        state=state,
        timing_ms=slate.timing_ms,
        explain=slate.reports if slate.query.explain else UNSET,
    )
