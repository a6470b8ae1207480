"""`/v1/users/{id}/recommendations/live`: lists as server-sent events, a new one whenever the user's state changes."""

import hashlib
import random
from collections.abc import AsyncIterator
from time import monotonic

import falcon.asgi
import msgspec
from falcon.asgi import SSEvent

from serving import telemetry
from serving.contract.problems import ProblemError
from serving.contract.queries import RecommendationQuery, parse_query, path_identifier
from serving.memory.live_users import Follower, LiveUsers
from serving.memory.users import Users
from serving.pipelines.lists import Lists
from serving.resources.users import check_surface, recommend
from state.store import StoreUnavailableError

MOST_CONNECTIONS = 10_000
"""Of one process."""
APART_S = 1.0
HEARTBEAT_S = 15.0
_RETRY_MS = (500, 2500)
"""Clients come back after a time from here, so that those of a process that ends do not all come at once."""
_json = msgspec.json.Encoder().encode
_packed = msgspec.msgpack.Encoder().encode


class LiveRecommendations:
    """Server-sent events.

    An event is `list`, its data the answer of the same call without `/live`, its id the version of the user's state
    that the list was made from. The first one comes at once, unless `Last-Event-ID` says that the client has it.
    """

    heartbeat_s = HEARTBEAT_S

    def __init__(self, lists: Lists, users: Users, live: LiveUsers, most: int = MOST_CONNECTIONS) -> None:
        self._lists = lists
        self._users = users
        self._live = live
        self._most = most

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, user_id: str) -> None:
        query = parse_query(RecommendationQuery, req.params)
        path_identifier("user_id", user_id)
        if self._live.n_followers >= self._most:
            raise ProblemError(429, f"{self._most} live lists are open here, and no more are taken", retry_after_s=5)
        # Whatever this refuses is refused before the stream begins.
        check_surface(query)
        self._lists.check(query, query.item)
        resp.set_header("x-accel-buffering", "no")  # proxies must not hold events back
        resp.sse = self._events(query, user_id, req.get_header("last-event-id"))

    async def _events(
        self, query: RecommendationQuery, user_id: str, told: str | None
    ) -> AsyncIterator[SSEvent | None]:
        yield SSEvent(retry=random.randint(*_RETRY_MS), comment="lists follow")  # noqa: S311 - no secret
        with self._live.following(user_id) as follower, telemetry.LIVE.track_inprogress():
            pushed_at = float("-inf")
            while not follower.closing:
                if not follower.changed:
                    await follower.wait(self.heartbeat_s)
                    if not follower.changed and not follower.closing:
                        yield SSEvent(comment="still here")
                    continue
                await _until(pushed_at + APART_S, follower)
                if follower.closing:
                    break
                follower.changed = False
                await self._live.watch(user_id)  # before reading: what is written from here on is told
                version = await self._version(user_id)
                if version != told:
                    try:
                        answer = await recommend(self._lists, query, user_id)
                    except ProblemError as error:  # the catalogue has changed: no item has the attribute any more
                        yield SSEvent(event="problem", text=error.detail)
                        return
                    pushed_at = monotonic()
                    told = version
                    yield SSEvent(event="list", event_id=version, data=_json(answer))

    async def _version(self, user_id: str) -> str:
        """Return what stands for the user's state, the same for the same state in every process."""
        try:
            user = await self._users.read(user_id)
        except StoreUnavailableError:
            user = self._users.from_memory(user_id)
        state = _packed((user.profile, sorted(user.hidden)))
        return hashlib.blake2b(state, digest_size=8).hexdigest()


async def _until(time: float, follower: Follower) -> None:
    while not follower.closing and (left := time - monotonic()) > 0:
        await follower.wait(left)
