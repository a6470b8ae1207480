"""Models are promoted and taken back while lists are asked for at a steady rate: none fails, all workers follow."""

import asyncio
import itertools
import time
from collections.abc import Iterator

import msgspec

from ops.bench.api import BenchError
from ops.bench.report import Figure, Report, percentiles
from ops.http_client import Client, ConnectionFailedError

_URL = "/v1/admin/models"
_N_CLIENTS = 32
"""Connections: each is some worker's."""
_PAUSE_S = 3.0
_ATTEMPTS = 5


class _Listed(msgspec.Struct):
    model: dict[str, str]
    degraded: dict[str, str] | None = None


class _Promoted(msgspec.Struct):
    ranker: str


_decode_listed = msgspec.json.Decoder(_Listed).decode
_decode_promoted = msgspec.json.Decoder(_Promoted).decode


class _Asked:
    """What came of the requests."""

    def __init__(self) -> None:
        self.n_failed = 0
        self.latencies_s: list[float] = []
        self.answers: list[tuple[float, str]] = []
        """When the list was asked for, and the version that ranked it."""


async def measure(base_url: str, rate: float, n_swaps: int) -> Report:
    """Swap between the live ranker and a snapshot of it. Raise `BenchError` when the API refuses that."""
    asked, done = _Asked(), asyncio.Event()
    due = itertools.count(time.perf_counter(), 1.0 / rate)
    swaps: list[tuple[float, str]] = []
    async with Client(base_url) as admin:
        name = _decode_promoted(await _posted(admin, "/pin")).ranker
        asking = [asyncio.create_task(_ask(base_url, due, asked, done)) for _ in range(_N_CLIENTS)]
        for number in range(n_swaps):
            await asyncio.sleep(_PAUSE_S)
            wanted = name if number % 2 else "online"
            await _posted(admin, f"/{wanted}/promote")
            swaps.append((time.perf_counter(), wanted))
        await asyncio.sleep(_PAUSE_S)
        done.set()
        await asyncio.gather(*asking)
        await _posted(admin, "/online/promote")
    late = [_late_s(asked, name, *swap) for swap in swaps]
    figures = [
        Figure("failed requests", asked.n_failed, f"of {len(asked.latencies_s):,}", target=0),
        Figure("slowest swap of all workers", max(late) * 1000, "ms", target=2000),
        *percentiles("list", asked.latencies_s),
    ]
    return Report(f"Models: {n_swaps} swaps at {rate:g} lists a second", figures)


def _late_s(asked: _Asked, name: str, at: float, wanted: str) -> float:
    """Return how long after a swap was answered a list was asked for that was still ranked by the model before."""
    stale = [
        begun - at
        for begun, version in asked.answers
        if at <= begun < at + _PAUSE_S and (version == name) != (wanted == name)
    ]
    return max(stale, default=0.0)


async def _ask(base_url: str, due: Iterator[float], asked: _Asked, done: asyncio.Event) -> None:
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


async def _posted(client: Client, path: str) -> bytes:
    for _ in range(_ATTEMPTS):
        answer = await client.post(_URL + path, b"{}")
        if answer.status != 503:
            break
        await asyncio.sleep(_PAUSE_S)  # Redis did not answer in time: nothing was changed
    if answer.status != 200:
        raise BenchError(f"{_URL}{path}: {answer.status} {answer.body.decode(errors='replace')}")
    return answer.body
