"""The published description against the application: no answer that it does not describe, none of them a 5xx."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, assume, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving.contract import openapi
from tests.unit.serving.system import System

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


LONGEST_QUERY = 20_000
"""Characters: servers refuse longer addresses before the application is asked."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server in this process, over the stores in memory."""
    system = System(tmp_path_factory.mktemp("system"))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(system.app, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


# Streams have no end that a generated request could wait for: tests/unit/serving/test_live.py.
schema = schemathesis.openapi.from_dict(openapi.document()).exclude(path_regex="/live$")


@schema.parametrize()
@settings(
    max_examples=20,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_described(case: Any, address: str) -> None:
    """R29: whatever is sent."""
    assume(len(str(case.query)) < LONGEST_QUERY)
    case.call_and_validate(base_url=address, checks=CHECKS)
