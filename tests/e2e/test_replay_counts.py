"""A real log through the whole system: nothing lost, nothing counted twice, whatever is repeated, late or killed."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from ops import erasing
from ops.bench import freshness
from ops.bench.api import counts
from ops.bench.systems import own_system, pids
from ops.datasets import Dataset, default_folder, detect
from ops.datasets.simulated import simulated
from ops.http_client import Client
from ops.lag import Progress, wait_until_caught_up
from ops.stack.children import wait_until
from ops.stack.parts import FLOWS
from ops.stack.status import address
from ops.traffic import schedule
from ops.traffic.generate import Simulation, simulate
from ops.traffic.replay import Plan, Summary, now_ms, replay
from ops.traffic.sending import KafkaSender
from ops.traffic.simulator import World, user_id
from ops.traffic.verify import Verdict, compare, expected_counts
from ops.traffic.visits import Tally
from state.records import Event
from state.settings import Settings

N_EVENTS = 20_000
CATCH_UP_S = 120.0


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """MovieTweetings where it is at hand, else a simulated log of the same size."""
    folder = default_folder(Settings())
    if folder is not None:
        return detect(folder)
    return simulated(tmp_path_factory.mktemp("simulated"), n_events=N_EVENTS)


@pytest.fixture(scope="module")
def system() -> Iterator[Settings]:
    """One system for the tests of this file that leave each other's users and items alone."""
    with own_system(Console(quiet=True), request_budget_ms=60_000, lake_delay_s=1.0) as settings:
        yield settings


@pytest.fixture
def other_system() -> Iterator[Settings]:
    """Its test comes first, so that it ends before `system` begins."""
    with own_system(Console(quiet=True), request_budget_ms=60_000, lake_delay_s=1.0) as settings:
        yield settings


def verdict_of(settings: Settings, dataset: Dataset) -> Verdict:
    users, items = expected_counts(dataset, N_EVENTS)
    return asyncio.run(compare(address(settings), users, items))


@pytest.mark.timeout(300)
def test_counts_are_exact_with_duplicates_disorder_and_every_flow_killed_once(
    other_system: Settings, dataset: Dataset
) -> None:
    """R23, R24, R31: 20 % repeated and shuffled within 5 minutes, `kill -9` of each flow midway."""
    n_events = min(N_EVENTS, dataset.n_events)
    shift_ms = now_ms() - dataset.ts_of(n_events - 1)
    events = list(
        schedule.disordered(schedule.shifted(dataset.events(0, n_events), shift_ms), 0.2, timedelta(minutes=5), seed=11)
    )
    assert len(events) > 1.15 * n_events
    killed = tuple(flow.name for flow in FLOWS)
    with KafkaSender(other_system) as sender:
        for item in dataset.items():
            sender.item(item)
        sender.flush()
        parts = _slices(events, len(killed) + 1)
        for flow, part in zip((*killed, None), parts, strict=True):
            half = len(part) // 2
            pid = pids(other_system).get(flow or "")
            for event in part[:half]:
                sender.event(event)
            sender.flush()
            if flow is not None:
                assert pid is not None, f"{flow} does not run"
                os.kill(pid, signal.SIGKILL)
                before = _where(other_system, flow)
            for event in part[half:]:
                sender.event(event)
            sender.flush()
            if flow is not None and flow != "catalogue":  # whose input is complete already
                moved = wait_until(_moved(other_system, flow, before), timedelta(seconds=60), timedelta(seconds=0.2))
                assert moved, f"{flow} did not move again"
    wait_until_caught_up(other_system, CATCH_UP_S)
    verdict = verdict_of(other_system, dataset)
    assert verdict.n_different == 0, verdict.examples


@pytest.mark.timeout(300)
def test_counts_after_a_replay_are_those_of_the_file(system: Settings, dataset: Dataset) -> None:
    """R23: per user and per item."""
    summary = Summary()
    replay(system, dataset, Plan(limit=N_EVENTS), summary, catch_up_s=CATCH_UP_S)
    assert summary.sent == min(N_EVENTS, dataset.n_events)
    verdict = verdict_of(system, dataset)
    assert verdict.n_different == 0, verdict.examples
    assert verdict.n_users > 100
    assert verdict.n_items > 100


def test_a_log_replayed_over_http_counts_the_same(system: Settings, tmp_path: Path) -> None:
    """R22, R23."""
    lines = [f"http-{n % 17},film-{n % 13},{1_700_000_000 + n},{n % 6}" for n in range(1200)]
    (tmp_path / "ratings.csv").write_text("user,item,timestamp,rating\n" + "\n".join(lines) + "\n")
    dataset = detect(tmp_path)
    replay(system, dataset, Plan(http=True), Summary(), catch_up_s=CATCH_UP_S)
    verdict = asyncio.run(compare(address(system), *expected_counts(dataset)))
    assert (verdict.n_different, verdict.n_users, verdict.n_items) == (0, 17, 13), verdict.examples


def test_simulated_users_get_lists_and_their_clicks_count(system: Settings) -> None:
    """R1, R25: each visit asks for lists, and what it clicks comes back as the users' counts."""
    world = World(n_items=300, n_users=20)
    simulate(system, Simulation(n_items=300, n_users=20, n_history=1000, duration_s=0.0), Tally())
    wait_until_caught_up(system, CATCH_UP_S)
    before = asyncio.run(_clicks(address(system), world))
    tally = Tally()
    simulate(system, Simulation(n_items=300, n_users=20, n_history=0, visits_per_s=20.0, duration_s=3.0), tally)
    assert tally.visits >= 20
    assert tally.lists >= tally.visits
    assert tally.shown == 20 * tally.lists
    assert (tally.failures, tally.degraded) == (0, 0)
    wait_until_caught_up(system, CATCH_UP_S)
    assert asyncio.run(_clicks(address(system), world)) == before + tally.clicks


def test_clicks_are_seen_in_features_and_list_within_a_second(system: Settings) -> None:
    """R7, R12; `freshet bench freshness` measures it with more care."""
    samples = asyncio.run(freshness.measure(address(system), 20, load_per_s=20))
    assert samples.lost == 0
    assert len(samples.features) == len(samples.lists) == 20


def test_an_erased_user_is_gone_from_the_state_and_others_stay(system: Settings) -> None:
    """R27: the lake's part is in `tests/contract/flows/test_lake_process.py`."""
    base_url = address(system)
    clicks = [
        {"event_id": f"{user}-{n}", "type": "click", "user_id": user, "item_id": f"erased-{n}", "ts": now_ms()}
        for user in ("leaver", "stayer")
        for n in range(5)
    ]
    httpx.post(f"{base_url}/v1/events", json={"events": clicks}, timeout=60).raise_for_status()
    known = {user: erasing.checks(system, user) for user in ("leaver", "stayer")}
    places = ("profile, sessions, feedback", "models")
    assert wait_until(lambda: all(known[user][place]() for user in known for place in places), timedelta(seconds=60))
    httpx.delete(f"{base_url}/v1/users/leaver", timeout=60).raise_for_status()
    assert httpx.get(f"{base_url}/v1/users/leaver", timeout=60).json()["counts"] == {}
    assert wait_until(lambda: not any(known["leaver"][place]() for place in places), timedelta(seconds=60))
    assert all(known["stayer"][place]() for place in places)
    assert httpx.get(f"{base_url}/v1/users/stayer", timeout=60).json()["counts"] == {"click": 5}


async def _clicks(base_url: str, world: World) -> int:
    async with Client(base_url) as client:
        return sum([(await counts(client, user_id(n))).get("click", 0) for n in range(world.n_users)])


def _slices(events: list[Event], n: int) -> list[list[Event]]:
    size = -(-len(events) // n)
    return [events[start : start + size] for start in range(0, len(events), size)]


def _where(settings: Settings, name: str) -> int:
    """Return the sum of a flow's positions over all its inputs."""
    (flow,) = (flow for flow in FLOWS if flow.name == name)
    progress = Progress(settings)
    try:
        return sum(sum(progress.position(flow, topic).values()) for topic in flow.inputs)
    finally:
        progress.close()


def _moved(settings: Settings, flow: str, before: int) -> Callable[[], bool]:
    return lambda: _where(settings, flow) > before
