"""Models are promoted and taken back while lists are asked for at a steady rate: none fails, all workers follow."""

import asyncio
import time

import msgspec

from ops.bench.report import Figure, Report, percentiles
from ops.bench.steady import MODELS, Asked, asking, posted
from ops.http_client import Client

_PAUSE_S = 3.0


class _Promoted(msgspec.Struct):
    ranker: str


_decode_promoted = msgspec.json.Decoder(_Promoted).decode


async def measure(base_url: str, rate: float, n_swaps: int) -> Report:
    """Swap between the live ranker and a snapshot of it. Raise `BenchError` when the API refuses that."""
    swaps: list[tuple[float, str]] = []
    async with Client(base_url) as admin:
        name = _decode_promoted(await posted(admin, f"{MODELS}/pin")).ranker
        async with asking(base_url, rate) as asked:
            for number in range(n_swaps):
                await asyncio.sleep(_PAUSE_S)
                wanted = name if number % 2 else "online"
                await posted(admin, f"{MODELS}/{wanted}/promote")
                swaps.append((time.perf_counter(), wanted))
            await asyncio.sleep(_PAUSE_S)
        await posted(admin, f"{MODELS}/online/promote")
    late = [_late_s(asked, name, *swap) for swap in swaps]
    figures = [
        Figure("failed requests", asked.n_failed, f"of {len(asked.latencies_s):,}", target=0),
        Figure("slowest swap of all workers", max(late) * 1000, "ms", target=2000),
        *percentiles("list", asked.latencies_s),
    ]
    return Report(f"Models: {n_swaps} swaps at {rate:g} lists a second", figures)


def _late_s(asked: Asked, name: str, at: float, wanted: str) -> float:
    """Return how long after a swap was answered a list was asked for that was still ranked by the model before."""
    stale = [
        begun - at
        for begun, version in asked.answers
        if at <= begun < at + _PAUSE_S and (version == name) != (wanted == name)
    ]
    return max(stale, default=0.0)
