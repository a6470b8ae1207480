import pytest

from online_models.warm_up import warm_up


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """A server compiles before it is ready: its first request has the time of any other."""
    warm_up()
