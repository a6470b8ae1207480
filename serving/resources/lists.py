"""Lists that need no user."""

import falcon.asgi

from serving.contract.bodies import send
from serving.contract.queries import SurfaceQuery, TrendingQuery, parse_query, path_identifier
from serving.pipelines.lists import Lists


class Similar:
    """More like this item."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, item_id: str) -> None:
        query = parse_query(SurfaceQuery, req.params)
        path_identifier("item_id", item_id)
        send(resp, await self._lists.answer("similar", query, user_id=query.user_id, about=item_id))


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
