"""How long until a click is in the user's features, and in the user's list: over HTTP, one at a time and under load."""

import asyncio
import itertools
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from ops.bench.api import counts, popular, post_click, recommended
from ops.bench.report import Figure, Report, percentiles
from ops.http_client import Client

_POLL_S = 0.004
_LOST_S = 10.0
_N_TOP = 5
_TARGETS_MS = {50: 150.0, 99: 400.0}


@dataclass
class Samples:
    """Seconds from the start of the post until the click was seen."""

    features: list[float] = field(default_factory=list)
    lists: list[float] = field(default_factory=list)
    lost: int = 0
    """Not seen within 10 s; they count as 10 s."""


async def measure(base_url: str, n_clicks: int, load_per_s: float) -> Samples:
    """Post `n_clicks` clicks one after the other, each of a new user, with other users' clicks beside them.

    Raises
    ------
    BenchError
        If there are no items, or a click is not accepted.
    """
    samples = Samples()
    async with Client(base_url) as poster, Client(base_url) as by_features, Client(base_url) as by_list:
        items = await popular(by_list, 50)
        noise = asyncio.create_task(_noise(base_url, load_per_s, items))
        try:
            for n in range(n_clicks):
                await _measure_one(poster, by_features, by_list, n % _N_TOP, samples)
        finally:
            noise.cancel()
            with suppress(asyncio.CancelledError):
                await noise
    return samples


def report(alone: Samples, loaded: Samples, load_per_s: float) -> Report:
    """Return both measurements beside the targets."""
    figures: list[Figure] = []
    for name, samples in (("one at a time", alone), (f"under {load_per_s:.0f} events/s", loaded)):
        figures += percentiles(f"features, {name}", samples.features, _TARGETS_MS)
        figures += percentiles(f"list, {name}", samples.lists, _TARGETS_MS)
        figures.append(Figure(f"never seen, {name}", samples.lost, "clicks", target=0))
    return Report("Freshness: from the post of a click until it is seen", figures)


async def _measure_one(poster: Client, by_features: Client, by_list: Client, place: int, samples: Samples) -> None:
    user_id = f"bench-{uuid.uuid4().hex[:16]}"
    clicked = (await recommended(by_list, user_id))[place]
    started = time.perf_counter()
    await post_click(poster, user_id, clicked)

    async def in_features() -> bool:
        return (await counts(by_features, user_id)).get("click", 0) > 0

    async def in_list() -> bool:
        # Exploration may reorder a list at any time, but what was clicked leaves it only because of the click.
        return clicked not in await recommended(by_list, user_id)

    took = await asyncio.gather(_until(in_features, started), _until(in_list, started))
    for times, seconds in zip((samples.features, samples.lists), took, strict=True):
        samples.lost += seconds is None
        times.append(_LOST_S if seconds is None else seconds)


async def _until(seen: Callable[[], Awaitable[bool]], started: float) -> float | None:
    """Return the seconds since `started` when it is first seen, None when it is not within 10 s."""
    while time.perf_counter() - started < _LOST_S:
        if await seen():
            return time.perf_counter() - started
        await asyncio.sleep(_POLL_S)
    return None


async def _noise(base_url: str, per_s: float, items: list[str]) -> None:
    """Clicks of other users, posted evenly until cancelled."""
    if not per_s:
        return
    started = time.perf_counter()
    async with Client(base_url) as client:
        for n in itertools.count():
            await asyncio.sleep(max(0.0, started + n / per_s - time.perf_counter()))
            await post_click(client, f"bench-noise-{n % 997}", items[n % len(items)])
