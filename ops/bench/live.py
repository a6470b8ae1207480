"""Live lists: many open connections on one worker, and how long a change takes to reach its user's."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec
import psutil

from ops.bench.api import BenchError
from ops.bench.report import Figure, Report, percentiles
from ops.http_client import Client, authorization

_OPEN_S = 60.0
_PUSH_S = 10.0
_AT_ONCE = 50
_LIMIT = 2**20


@dataclass
class _Connection:
    """One user's stream."""

    user_id: str
    writer: asyncio.StreamWriter
    arrived_at: float = 0.0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    reading: asyncio.Task[None] | None = None


async def measure(base_url: str, pid: int, n_connections: int, n_changes: int, rate: float, run_id: str) -> Report:
    """Open the connections, then post feedback of random ones at a rate. Raise `BenchError` when one fails."""
    process = psutil.Process(pid)
    memory = _memory(process)
    started = time.perf_counter()
    opening = asyncio.Semaphore(_AT_ONCE)

    async def opened(n: int) -> _Connection:
        async with opening:
            return await _open(base_url, f"live-{run_id}-{n}")

    connections = await asyncio.gather(*(opened(n) for n in range(n_connections)))
    opened_s = time.perf_counter() - started
    per_connection = (_memory(process) - memory) / n_connections / 1024
    try:
        took, late = await _changes(base_url, connections, n_changes, rate)
        still = sum(c.reading is not None and not c.reading.done() for c in connections)
    finally:
        for connection in connections:
            connection.writer.close()
            if connection.reading is not None:
                connection.reading.cancel()
        await asyncio.gather(*(c.reading for c in connections if c.reading is not None), return_exceptions=True)
    return Report(
        f"Live lists: {n_connections:,} connections, one worker",
        [
            Figure("until all have their first list", opened_s, "s"),
            Figure("memory of a connection", per_connection, "KiB"),
            *percentiles("feedback until the list", took, {99: 1000.0}),
            Figure("lists that did not come", late, f"of {n_changes:,}", target=0),
            Figure("connections open at the end", still, f"of {n_connections:,}", target=n_connections, at_most=False),
        ],
    )


async def _changes(
    base_url: str, connections: list[_Connection], n_changes: int, rate: float
) -> tuple[list[float], int]:
    chance = random.Random(0)  # noqa: S311 - no secret
    took: list[float] = []
    n_late = 0
    begin = time.perf_counter()
    pending = []
    for n, connection in enumerate(chance.sample(connections, min(n_changes, len(connections)))):
        await asyncio.sleep(max(0.0, begin + n / rate - time.perf_counter()))
        pending.append(asyncio.create_task(_change(base_url, connection, n)))
    for seconds in await asyncio.gather(*pending):
        if seconds is None:
            n_late += 1
        else:
            took.append(seconds)
    return took, n_late


async def _change(base_url: str, connection: _Connection, n: int) -> float | None:
    """Return the time from before the feedback is posted until the list is there, None when it does not come."""
    connection.arrived.clear()
    started = time.perf_counter()
    async with Client(base_url) as client:
        body = msgspec.json.encode({"type": "save", "item_id": str(n)})
        answer = await client.post(f"/v1/users/{connection.user_id}/feedback", body)
        if answer.status != 202:
            raise BenchError(f"feedback: {answer.status} {answer.body[:200]!r}")
    try:
        async with asyncio.timeout(_PUSH_S):
            await connection.arrived.wait()
    except TimeoutError:
        return None
    return connection.arrived_at - started  # it may have come before the answer, which waits for Kafka


async def _open(base_url: str, user_id: str) -> _Connection:
    """Connect and wait for the first list."""
    parts = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=_LIMIT)
    head = "".join(f"{name}: {value}\r\n" for name, value in authorization().items())
    path = f"/v1/users/{user_id}/recommendations/live?limit=20"
    writer.write(f"GET {path} HTTP/1.1\r\nhost: {parts.netloc}\r\n{head}\r\n".encode())
    connection = _Connection(user_id, writer)
    connection.reading = asyncio.create_task(_read(reader, connection))
    try:
        async with asyncio.timeout(_OPEN_S):
            await connection.arrived.wait()
    except TimeoutError as error:
        raise BenchError(f"no list came for {user_id} within {_OPEN_S:.0f} s") from error
    return connection


async def _read(reader: asyncio.StreamReader, connection: _Connection) -> None:
    status = await reader.readline()
    if b" 200 " not in status:
        raise BenchError(f"live list of {connection.user_id}: {status!r}")
    while line := await reader.readline():
        if line.startswith(b"data:"):
            connection.arrived_at = time.perf_counter()
            connection.arrived.set()


def _memory(process: psutil.Process) -> int:
    """Return bytes of the server and its workers."""
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])
