"""The circuit breaker."""

import asyncio

import pytest

from serving.memory.breaker import Breaker
from state.store import StoreUnavailableError


class Part:
    def __init__(self) -> None:
        self.alive = False
        self.n_calls = 0

    async def ask(self) -> str:
        self.n_calls += 1
        await asyncio.sleep(0)
        if not self.alive:
            raise StoreUnavailableError("gone")
        return "answer"

    async def probe(self) -> None:
        if not self.alive:
            raise StoreUnavailableError("gone")


async def fail(breaker: Breaker, part: Part, n_times: int = 3) -> None:
    for _ in range(n_times):
        with pytest.raises(StoreUnavailableError):
            await breaker.call(part.ask)


async def test_nobody_waits_for_a_part_that_is_known_to_be_gone() -> None:
    """R10"""
    part = Part()
    breaker = Breaker(part.probe)
    await fail(breaker, part, 10)
    assert part.n_calls == 3
    assert not breaker.closed
    await breaker.aclose()


async def test_calls_go_through_again_once_the_part_is_back() -> None:
    """R10"""
    part = Part()
    written = []

    async def on_close() -> None:
        written.append("kept feedback")

    breaker = Breaker(part.probe, on_close)
    await fail(breaker, part)
    part.alive = True
    async with asyncio.timeout(2):
        while not breaker.closed:
            await asyncio.sleep(0.005)
    assert await breaker.call(part.ask) == "answer"
    assert written == ["kept feedback"]


async def test_a_probe_that_fails_otherwise_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """R10"""
    part = Part()
    failures = [ValueError("a bug"), StoreUnavailableError("gone again")]

    async def on_close() -> None:
        if failures:
            raise failures.pop(0)

    breaker = Breaker(part.probe, on_close)
    await fail(breaker, part)
    part.alive = True
    async with asyncio.timeout(5):
        while not breaker.closed:
            await asyncio.sleep(0.005)
    assert failures == []
    assert [told.levelname for told in caplog.records] == ["WARNING", "ERROR", "WARNING"]


async def test_a_single_failure_is_tolerated() -> None:
    part = Part()
    breaker = Breaker(part.probe)
    with pytest.raises(StoreUnavailableError):
        await breaker.call(part.ask)
    part.alive = True
    assert await breaker.call(part.ask) == "answer"
    assert breaker.closed


async def test_calls_that_wait_together_fail_once() -> None:
    """R10: one pause of the part must not send everybody away."""
    part = Part()
    breaker = Breaker(part.probe)
    answers = await asyncio.gather(*(breaker.call(part.ask) for _ in range(10)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailableError] * 10
    part.alive = True
    assert await breaker.call(part.ask) == "answer"
