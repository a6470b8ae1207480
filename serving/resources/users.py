"""`/v1/users/{id}`: lists, feedback, and what is known."""

import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import falcon.asgi
import msgspec

from online_models.users import activity, profiles
from serving.contract.answers import EraseAnswer, FeedbackAnswer, ListAnswer, UserAnswer
from serving.contract.bodies import read_body, send
from serving.contract.feedback import BODY_LIMIT, parse_feedback, parse_onboarding
from serving.contract.problems import ProblemError
from serving.contract.queries import NoQuery, RecommendationQuery, parse_query, path_identifier
from serving.kafka.event_log import Delivery, Outbox
from serving.memory.mirror import Mirror
from serving.memory.users import KnownUser, Users, clean
from serving.pipelines.lists import Lists
from serving.resources.documents import Documents, caller
from serving.resources.events import deliver
from state.erasure import PLACES
from state.records import Event, UserProfile
from state.store import StoreUnavailableError
from state.topics import EVENTS
from state.validation import ERASE, parse_event

_MAX_REMEMBERED_TIMES = 10_000
_encode = msgspec.json.Encoder(order="deterministic").encode


class Recommendations:
    """Ranked lists of one user."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, user_id: str) -> None:
        query = parse_query(RecommendationQuery, req.params)
        path_identifier("user_id", user_id)
        check_surface(query)
        send(resp, await recommend(self._lists, query, user_id))


def check_surface(query: RecommendationQuery) -> None:
    """Raise `ProblemError` for a parameter of another surface."""
    for name, given, surface in (("item", query.item, "because"), ("window", query.window, "trending")):
        if given is not None and query.surface != surface:
            raise ProblemError(
                400, f"{name}: belongs to surface={surface}", field=name, allowed=[f"with surface={surface}"]
            )


async def recommend(lists: Lists, query: RecommendationQuery, user_id: str) -> ListAnswer:
    """Return the list that a user asks for. Raise `ProblemError`."""
    return await lists.answer(query.surface, query, user_id=user_id, about=query.item, window=query.window or "1h")


class Times:
    """Gives what is said of a user its time where the client does not: times decide what stands."""

    def __init__(self) -> None:
        self._newest: OrderedDict[str, int] = OrderedDict()

    def next(self, user_id: str, now_ms: int) -> int:
        """Return a time after the last one."""
        ts = max(now_ms, self._newest.pop(user_id, 0) + 1)
        self._newest[user_id] = ts
        if len(self._newest) > _MAX_REMEMBERED_TIMES:
            self._newest.popitem(last=False)
        return ts


class UserFeedback:
    """Explicit feedback: in the user's next list, whatever the flows do."""

    def __init__(self, users: Users, outbox: Outbox, times: Times) -> None:
        self._users = users
        self._outbox = outbox
        self._times = times

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, user_id: str) -> None:
        parse_query(NoQuery, req.params)
        path_identifier("user_id", user_id)
        feedback = parse_feedback(await read_body(req, BODY_LIMIT))
        given = {name: value for name, value in msgspec.structs.asdict(feedback).items() if value is not None}
        send(resp, await self._take(user_id, given), 202)

    async def _take(self, user_id: str, given: dict[str, Any]) -> FeedbackAnswer:
        """Make an event of it; it is in the user's next list."""
        now_ms = int(time.time() * 1000)
        given.setdefault("event_id", uuid.uuid4().hex)
        if "ts" not in given:
            given["ts"] = self._times.next(user_id, now_ms)
        raw = _encode(given | {"user_id": user_id})
        event = parse_event(raw, now_ms)
        # The overlay first: an event that the flow has applied before it is in the overlay would never leave it.
        trouble = await self._users.add_feedback(clean(event))
        delivery = await deliver(self._outbox, EVENTS, [(user_id, raw)])
        degraded = _degraded(trouble, delivery)
        return FeedbackAnswer(event_id=event.event_id, pending=delivery.n_pending, degraded=degraded)


class UserOnboarding(UserFeedback):
    """What a new user says of the own taste: in the next list, too."""

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, user_id: str) -> None:
        parse_query(NoQuery, req.params)
        path_identifier("user_id", user_id)
        answers = parse_onboarding(await read_body(req, BODY_LIMIT))
        about = {"event_id": answers.event_id, "ts": answers.ts, "session_id": answers.session_id}
        given = {name: value for name, value in about.items() if value is not None}
        context = {"genres": answers.genres, "items": answers.items}
        send(resp, await self._take(user_id, given | {"type": "onboarding", "context": context}), 202)


def _degraded(trouble: str | None, delivery: Delivery) -> dict[str, str] | None:
    degraded = {} if trouble is None else {"store": trouble}
    if delivery.failed:
        degraded["events"] = f"not taken by Kafka: {delivery.failed[0]}"
    return degraded or None


class OneUser:
    """What is known of a user, and its end."""

    def __init__(
        self, users: Users, mirror: Mirror, outbox: Outbox, times: Times, documents: Sequence[Documents[Any]]
    ) -> None:
        self._users = users
        self._mirror = mirror
        self._documents = documents
        self._outbox = outbox
        self._times = times

    async def on_delete(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, user_id: str) -> None:
        """Send the erasure into the log, behind all that the user did; lists respect it from now on (R27)."""
        parse_query(NoQuery, req.params)
        path_identifier("user_id", user_id)
        ts = self._times.next(user_id, int(time.time() * 1000))
        event = Event(event_id=uuid.uuid4().hex, type=ERASE, user_id=user_id, ts=ts)
        trouble = await self._users.add_feedback(clean(event))
        delivery = await deliver(self._outbox, EVENTS, [(user_id, _encode(event))])
        degraded = _degraded(trouble, delivery) or {}
        for documents in self._documents:
            if (left := await documents.forget(user_id, caller(req))) is not None:
                degraded[documents.held.kind.name] = left
        send(
            resp,
            EraseAnswer(
                user_id=user_id,
                event_id=event.event_id,
                places=PLACES,
                pending=delivery.n_pending,
                degraded=degraded or None,
            ),
            202,
        )

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, user_id: str) -> None:
        parse_query(NoQuery, req.params)
        path_identifier("user_id", user_id)
        degraded = None
        try:
            user = await self._users.read(user_id)
        except StoreUnavailableError as error:
            user = self._users.from_memory(user_id)
            degraded = {"store": str(error)}
        send(resp, describe(user, self._mirror.now_ms, degraded))


def describe(user: KnownUser, now_ms: int, degraded: dict[str, str] | None) -> UserAnswer:
    """Return what is told of a user."""
    profile = user.profile or UserProfile()
    affinity = profiles.affinity_at(profile, max(now_ms, profile.affinity_ts))
    return UserAnswer(
        user_id=user.user_id,
        counts=profile.activity.counts,
        windows=activity.windows(profile.activity, max(now_ms, profile.last_ts)),
        recent=[msgspec.structs.asdict(step) for step in reversed(profile.recent)],
        affinity=dict(sorted(affinity.items(), key=lambda pair: -pair[1])),
        liked=sorted(profiles.liked(profile)),
        disliked=sorted(profiles.disliked(profile)),
        saved=sorted(profiles.saved(profile)),
        hidden=sorted(user.hidden),
        ratings=profile.ratings,
        first_ts=profile.first_ts or None,
        last_ts=profile.last_ts or None,
        pending=user.n_pending,
        degraded=degraded,
    )
