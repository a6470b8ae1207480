"""What work on models costs the lists that are asked for meanwhile: a model in the shadow, and a backfill."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np

from ops.bench.api import BenchError
from ops.bench.report import Figure, Report, percentiles
from ops.bench.steady import MODELS, asking, posted
from ops.http_client import Client
from ops.stack.children import Child, environment, last_lines
from state.settings import Settings

_WARM_UP_S = 1.0
_BEGIN_S = 5.0
"""Until a backfill has loaded its code and learns."""
_TARGETS_MS = {95: 50.0}
_SHARES = (50, 95)


class _Registered(msgspec.Struct):
    name: str


async def measure(settings: Settings, base_url: str, rate: float, seconds: float, folder: Path) -> Report:
    """Ask alone, beside each kind of work, and alone again between them. Raise `BenchError`."""
    alone: list[list[float]] = []
    figures: list[Figure] = []
    async with Client(base_url) as admin:
        name = msgspec.json.decode(await posted(admin, MODELS), type=_Registered).name
        for what, work in (
            ("a model in the shadow", _shadow(admin, name)),
            ("a backfill", _backfill(settings, folder)),
        ):
            alone.append(await _latencies(base_url, rate, seconds, nullcontext()))
            beside = await _latencies(base_url, rate, seconds, work)
            figures += percentiles(f"beside {what}", beside, _TARGETS_MS, shares=_SHARES)
        alone.append(await _latencies(base_url, rate, seconds, nullcontext()))
    together = percentiles("alone", [latency for part in alone for latency in part], _TARGETS_MS, shares=_SHARES)
    noise = ", ".join(f"{np.percentile(part, 95) * 1000:.1f}" for part in alone)
    together[-1].note = f"one after the other {noise} ms: that is the noise"
    n_lists = sum(map(len, alone))
    return Report(f"Lists beside work on models: {rate:g} a second, alone {n_lists:,}", [*together, *figures])


async def _latencies(
    base_url: str, rate: float, seconds: float, work: AbstractAsyncContextManager[None]
) -> list[float]:
    async with work:
        async with asking(base_url, rate):
            await asyncio.sleep(_WARM_UP_S)
        async with asking(base_url, rate) as asked:
            await asyncio.sleep(seconds)
    if asked.n_failed:
        raise BenchError(f"{asked.n_failed} of {len(asked.latencies_s)} requests failed")
    return asked.latencies_s


@asynccontextmanager
async def _shadow(admin: Client, name: str) -> AsyncIterator[None]:
    await posted(admin, f"{MODELS}/{name}/shadow", {"share": 1.0})
    try:
        yield
    finally:
        await posted(admin, f"{MODELS}/{name}/shadow", {"share": 0.0})


@asynccontextmanager
async def _backfill(settings: Settings, folder: Path) -> AsyncIterator[None]:
    """Learn from Kafka as long as the block runs. Raise `BenchError` if that came to its end before."""
    argv = [sys.executable, "-m", "ops", "backfill", "--from", "kafka", "--restart"]
    log = folder / "backfill.log"
    with Child("backfill", argv, log, environment(settings)) as child:
        await asyncio.sleep(_BEGIN_S)
        yield
        if child.returncode is not None:
            raise BenchError(f"the backfill ended with code {child.returncode} before the lists: {last_lines(log)}")
        child.stop(timedelta(seconds=30))
