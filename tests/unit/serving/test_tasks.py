"""Tasks that run beside requests."""

import asyncio

import pytest

from serving.memory.tasks import lasting, stop


async def test_a_task_that_swallows_its_cancellation_is_cancelled_again() -> None:
    swallowed = []

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed.append(True)

    async def failing() -> None:
        raise OSError

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(failing())]
    await asyncio.sleep(0)
    await stop(*tasks)
    assert all(task.done() for task in tasks)
    assert isinstance(tasks[1].exception(), OSError)
    await stop()


async def test_what_fails_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """R10: and tells of it."""
    goes_on = asyncio.Event()

    async def failing_once() -> None:
        if not caplog.records:
            raise ValueError("a bug")
        goes_on.set()
        await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(lasting(failing_once, rest_s=0.0))
    async with asyncio.timeout(5):
        await goes_on.wait()
    await stop(task)
    (told,) = caplog.records
    assert "failing_once failed" in told.message
    assert told.exc_info is not None
