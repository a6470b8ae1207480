"""The benchmarks of faults, feedback and live lists on a system that runs."""

import asyncio
import uuid

from ops.bench import faults as faults_bench
from ops.bench import feedback as feedback_bench
from ops.bench import live as live_bench
from ops.bench import opinions as opinions_bench
from ops.bench.pausing import LAG_S, frozen, lagging
from ops.bench.report import Figure, Report
from ops.bench.serving import known_users
from ops.bench.systems import flow_pids, pids, running_flows
from ops.lag import wait_until_caught_up
from ops.stack.status import address
from state.settings import Settings

_N_USERS = 500
_N_JUDGES = 200
_CATCH_UP_S = 120.0


def faults(settings: Settings, seconds: float) -> Report:
    """Measure every fault for so long. Raise `BenchError` or `LoadError`."""
    return faults_bench.measure(settings, known_users(settings, _N_USERS), pids(settings)["kafka"], seconds)


def feedback(settings: Settings, n: int) -> Report:
    """Measure `n` pairs of a post and a read with the flows running, late and stopped, and what opinions do to lists.

    Raise `BenchError`.
    """

    def measured(what: str) -> list[Figure]:
        return asyncio.run(feedback_bench.measure(address(settings), n, uuid.uuid4().hex[:8], what))

    moved = asyncio.run(opinions_bench.measure(address(settings), known_users(settings, _N_JUDGES)))
    running = measured("running")
    with lagging(lambda: running_flows(settings).values()):
        late = measured(f"late by up to {LAG_S:.0f} s")
    wait_until_caught_up(settings, _CATCH_UP_S)  # by then, those that Kafka dropped meanwhile are new processes
    with frozen(flow_pids(settings).values()):
        stopped = measured("stopped")
    wait_until_caught_up(settings, _CATCH_UP_S)
    return feedback_bench.report(moved, running, late, stopped)


def live(settings: Settings, connections: int, changes: int, rate: float) -> Report:
    """Hold connections open and change users' states at a rate a second. Raise `BenchError`."""
    run_id, pid = uuid.uuid4().hex[:8], pids(settings)["serving"]
    return asyncio.run(live_bench.measure(address(settings), pid, connections, changes, rate, run_id))
