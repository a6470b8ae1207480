"""When a flow is up."""

import os
from contextlib import ExitStack
from datetime import timedelta
from functools import partial

import pytest

from ops.stack.children import wait_until
from ops.stack.parts import FLOWS
from ops.stack.status import says_ready
from tests.conftest import MakeSettings, RunProcess

PATIENCE = timedelta(seconds=180)


@pytest.mark.timeout(600)
def test_each_flow_says_when_it_reads_its_input(make_settings: MakeSettings, run_process: RunProcess) -> None:
    """R32: up means that an event is worked on from now on; what another process said does not count."""
    settings = make_settings()
    for flow in FLOWS:
        file = settings.ready_file(flow.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(os.getpid()))
        assert not says_ready(settings, flow.name, os.getpid() + 1)
    with ExitStack() as stack:
        for flow in FLOWS:
            process = stack.enter_context(run_process(f"flows.{flow.name}", settings))
            ready = wait_until(partial(says_ready, settings, flow.name, process.pid), PATIENCE)
            assert ready, f"{flow.name}: {process.log.read_text()}"
