"""The serving benchmark's ceiling: a bare Falcon endpoint that reads one value from Redis and answers with it."""

import falcon
import falcon.asgi
import redis.asyncio

from state.settings import Settings

KEY = "bench:ceiling"
VALUE = b'{"items":[' + b",".join(b'{"item_id":"%d","score":0.5}' % n for n in range(100)) + b"]}"
"""About as long as a list of 20."""


class OneRead:
    """`GET /`: the value."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._redis = client

    async def on_get(self, request: falcon.asgi.Request, response: falcon.asgi.Response) -> None:
        response.content_type = falcon.MEDIA_JSON
        value = await self._redis.get(KEY)
        assert isinstance(value, bytes)
        response.data = value


def create() -> falcon.asgi.App:  # type: ignore[type-arg]
    """Return the ASGI application, for gunicorn."""
    app = falcon.asgi.App()
    app.add_route("/", OneRead(redis.asyncio.Redis.from_url(Settings().redis_url)))
    return app
