"""gunicorn's worker and hooks."""

import asyncio
import os
import sys
from typing import Any, ClassVar

from prometheus_client import multiprocess
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

from serving.memory.live_users import CLOSING
from serving.telemetry import MULTIPROCESS_DIR

_SWITCH_S = 0.0005
"""What a thread beside the event loop, as one that copies the models for the disk, may keep it waiting for at a time.
Python's 5 ms, at each of the calls by which a list lets go of the interpreter, made lists take 100 ms meanwhile."""


class JoinedWrites:
    """A transport that sends what is written in one turn of the event loop at once.

    uvloop calls the kernel for every write, and uvicorn writes the head of an answer apart from its body.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._send)
        self._written.append(data)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._written:
            written, self._written = self._written, []
            self._transport.write(b"".join(written))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 over joined writes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(JoinedWrites(transport, self.loop))  # type: ignore[arg-type]

    def shutdown(self) -> None:
        closing = self.app_state.get(CLOSING)
        if closing is not None:
            closing()  # live lists end now, whole, and not when the server has waited long enough
        super().shutdown()


class Worker(UvicornWorker):  # type: ignore[misc]
    """A uvicorn worker on uvloop and httptools."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": Protocol,
        "lifespan": "on",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
    }

    def run(self) -> None:
        sys.setswitchinterval(_SWITCH_S)
        super().run()


def child_exit(server: Any, worker: Any) -> None:
    """Forget the live gauges of a worker that is gone."""
    if MULTIPROCESS_DIR in os.environ:
        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
