"""Ending tasks."""

import asyncio

from serving.memory.tasks import stop


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
