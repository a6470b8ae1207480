"""Lists that are asked for at a steady rate, whatever goes on beside them."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import msgspec

from ops.bench.api import BenchError
from ops.http_client import Client, ConnectionFailedError

MODELS = "/v1/admin/models"
_N_CLIENTS = 32
"""Connections: each is some worker's."""
_PAUSE_S = 3.0
_ATTEMPTS = 5


class _Listed(msgspec.Struct):
    model: dict[str, str]
    degraded: dict[str, str] | None = None


_decode_listed = msgspec.json.Decoder(_Listed).decode


class Asked:
    """What came of the requests."""

    def __init__(self) -> None:
        self.n_failed = 0
        self.latencies_s: list[float] = []
        self.answers: list[tuple[float, str]] = []
        """When the list was asked for, and the version that ranked it."""


@asynccontextmanager
async def asking(base_url: str, rate: float) -> AsyncIterator[Asked]:
    """Ask for `rate` lists a second as long as the block runs."""
    asked, done = Asked(), asyncio.Event()
    due = itertools.count(time.perf_counter(), 1.0 / rate)
    tasks = [asyncio.create_task(_ask(base_url, due, asked, done)) for _ in range(_N_CLIENTS)]
    try:
        yield asked
    finally:
        done.set()
        await asyncio.gather(*tasks)


async def posted(client: Client, path: str, body: object = None) -> bytes:
    """Return what an admin call answers. Raise `BenchError` when it is refused."""
    for _ in range(_ATTEMPTS):
        answer = await client.post(path, msgspec.json.encode(body or {}))
        if answer.status != 503:
            break
        await asyncio.sleep(_PAUSE_S)  # Redis did not answer in time: nothing was changed
    if answer.status not in (200, 201):
        raise BenchError(f"{path}: {answer.status} {answer.body.decode(errors='replace')}")
    return answer.body


async def _ask(base_url: str, due: Iterator[float], asked: Asked, done: asyncio.Event) -> None:
    async with Client(base_url) as client:
        for number, at in enumerate(due):
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            if done.is_set():
                return
            begun = time.perf_counter()
            try:
                answer = await client.get(f"/v1/users/bench-{number % 50}/recommendations")
            except (ConnectionFailedError, TimeoutError):
                asked.n_failed += 1
                continue
            asked.latencies_s.append(time.perf_counter() - begun)
            if answer.status == 200:
                listed = _decode_listed(answer.body)
                if listed.degraded is None:  # else it may be the user's list of before, as a whole
                    asked.answers.append((begun, listed.model["version"]))
            else:
                asked.n_failed += 1
