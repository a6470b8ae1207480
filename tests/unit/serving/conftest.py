"""Fixtures of the tests of serving."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from falcon import testing

from online_models.warm_up import warm_up
from tests.unit.serving.system import System


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """A server compiles before it is ready: its first request has the time of any other."""
    warm_up()


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    made = System(tmp_path)
    async with testing.ASGIConductor(made.app) as conductor:
        made.client = conductor
        while (await made.call("GET", "/health/ready"))[0] != 200:
            pass
        yield made
