"""A small HTTP/1.1 client for measuring: one keep-alive connection, one request at a time, and hardly any CPU."""

import asyncio
import os
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

import httptools


def authorization() -> dict[str, str]:
    """Return the headers with the key of `FRESHET_API_KEY`, none where that is not set."""
    key = os.environ.get("FRESHET_API_KEY")
    return {"authorization": f"Bearer {key}"} if key else {}


class ConnectionFailedError(Exception):
    """The server is not there, or closed the connection in the middle of an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    status: int
    body: bytes


class _Receiver(asyncio.Protocol):
    """Feeds what arrives to the parser and resolves the one pending answer."""

    def __init__(self) -> None:
        self.pending: asyncio.Future[Answer] | None = None
        self.closed = False
        self._body: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        answer = Answer(self._parser.get_status_code(), b"".join(self._body))
        self._body = []
        self._parser = httptools.HttpResponseParser(self)
        if self.pending is not None and not self.pending.done():
            self.pending.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.pending is not None and not self.pending.done():
            self.pending.set_exception(ConnectionFailedError(str(exc or "closed by the server")))


class Client:
    """One connection to one server; it connects again when the server has closed it between two requests."""

    def __init__(self, base_url: str, timeout_s: float = 30.0) -> None:
        parts = urlsplit(base_url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        head = f" HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
        self._head = head + "".join(f"{name}: {value}\r\n" for name, value in authorization().items())
        self._timeout_s = timeout_s
        self._receiver: _Receiver | None = None
        self._transport: asyncio.Transport | None = None

    async def get(self, path: str) -> Answer:
        """Raise `ConnectionFailedError`, or `TimeoutError`."""
        return await self._request(f"GET {path}{self._head}\r\n".encode())

    async def post(self, path: str, body: bytes) -> Answer:
        """Send JSON. Raise `ConnectionFailedError`, or `TimeoutError`."""
        return await self._send("POST", path, body)

    async def put(self, path: str, body: bytes) -> Answer:
        """Send JSON. Raise `ConnectionFailedError`, or `TimeoutError`."""
        return await self._send("PUT", path, body)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._transport is not None:
            self._transport.close()

    async def _send(self, method: str, path: str, body: bytes) -> Answer:
        head = f"{method} {path}{self._head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        return await self._request(head.encode() + body)

    async def _request(self, raw: bytes) -> Answer:
        if self._receiver is None or self._transport is None or self._receiver.closed:
            self._transport, self._receiver = await self._connect()
        self._receiver.pending = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        async with asyncio.timeout(self._timeout_s):
            return await self._receiver.pending

    async def _connect(self) -> tuple[asyncio.Transport, _Receiver]:
        try:
            return await asyncio.get_running_loop().create_connection(_Receiver, self._host, self._port)
        except OSError as error:
            raise ConnectionFailedError(f"{self._host}:{self._port}: {error}") from error
