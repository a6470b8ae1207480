"""The benchmarks that `freshet bench all` shares with their own commands: each measures and returns its report."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from ops.bench.report import Report
    from ops.datasets import Dataset
    from state.settings import Settings

N_USERS = 500
CATCH_UP_S = 120.0


def filters(items: int, events: int, console: "Console") -> "list[Report]":
    """On a system of its own, with a catalogue of its own."""
    from ops.bench import filters as bench
    from ops.bench.systems import own_system

    with own_system(console) as settings:
        return bench.measure(settings, items, events, console)


def recovery(dataset: "Dataset", rounds: int, rate: float, console: "Console") -> "Report":
    """On a system of its own: it has to begin with the data set's first event."""
    from ops.bench import recovery as bench
    from ops.bench.systems import own_system

    with own_system(console, lake_delay_s=1.0) as settings:  # so that each flow's output is seen to move
        return bench.measure(settings, dataset, rounds, rate, console)


def freshness(settings: "Settings", clicks: int, load: float) -> "Report":
    """From a click to features and list, alone and under load."""
    import asyncio

    from ops.bench import freshness as bench
    from ops.stack.status import address

    alone = asyncio.run(bench.measure(address(settings), clicks, 0))
    loaded = asyncio.run(bench.measure(address(settings), clicks, load))
    return bench.report(alone, loaded, load)


def hides(settings: "Settings", n: int) -> "Report":
    """Hidden and asked for, with the flows running and frozen."""
    import asyncio
    import uuid

    from ops.bench import hides as bench
    from ops.bench.pausing import frozen
    from ops.bench.systems import flow_pids
    from ops.lag import wait_until_caught_up
    from ops.stack.status import address

    running = asyncio.run(bench.measure(address(settings), n, uuid.uuid4().hex[:8], "flows running"))
    with frozen(flow_pids(settings).values()):
        stopped = asyncio.run(bench.measure(address(settings), n, uuid.uuid4().hex[:8], "flows stopped"))
    wait_until_caught_up(settings, CATCH_UP_S)
    return bench.report(running, stopped)


def replay(settings: "Settings", dataset: "Dataset", limit: int | None, console: "Console") -> "Report":
    """A data set through all flows."""
    from ops.bench import replaying
    from ops.bench.systems import pids
    from ops.traffic.replay import Plan

    return replaying.measure(settings, dataset, pids(settings), Plan(limit=limit), console)


def serving(settings: "Settings", seconds: float) -> "Report":
    """Lists of one worker beside a bare endpoint."""
    from ops.bench import serving as bench
    from ops.bench.systems import bare_endpoint
    from ops.stack.status import address

    with bare_endpoint(settings) as ceiling_url:
        return bench.measure(address(settings), bench.known_users(settings, N_USERS), ceiling_url, seconds)
