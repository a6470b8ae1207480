"""Lists that need no user."""

import time

import falcon.asgi

from serving.contract.bodies import read_body, send
from serving.contract.problems import ProblemError
from serving.contract.queries import ListQuery, SearchQuery, SurfaceQuery, TrendingQuery, parse_query, path_identifier
from serving.contract.sessions import BODY_LIMIT, parse_session
from serving.memory.users import Users
from serving.pipelines.lists import Lists


class Similar:
    """More like this item."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, item_id: str) -> None:
        query = parse_query(SurfaceQuery, req.params)
        path_identifier("item_id", item_id)
        send(resp, await self._lists.answer("similar", query, user_id=query.user_id, about=item_id))


class Search:
    """Items by text."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        query = parse_query(SearchQuery, req.params)
        send(resp, await self._lists.answer("search", query, user_id=query.user_id, text=query.q))


class Session:
    """A list for whom nothing is known and nothing may be stored: by the events of the request alone."""

    def __init__(self, lists: Lists, users: Users) -> None:
        self._lists = lists
        self._users = users

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        query = parse_query(ListQuery, req.params)
        if query.session_id is not None:
            raise ProblemError(
                400, "session_id: nothing is read or stored here, the events are the session", field="session_id"
            )
        now_ms = int(time.time() * 1000)
        steps = parse_session(await read_body(req, BODY_LIMIT), now_ms)
        send(resp, await self._lists.answer("session", query, user=self._users.of_session(steps)))


class Popular:
    """What most people take these days."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        query = parse_query(SurfaceQuery, req.params)
        send(resp, await self._lists.answer("popular", query, user_id=query.user_id))


class Trending:
    """What is taken most at the moment."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        query = parse_query(TrendingQuery, req.params)
        send(resp, await self._lists.answer("trending", query, user_id=query.user_id, window=query.window))
