"""A cluster whose node of a system dies or steps back while it is used: the node's replica takes over."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from redis import Redis

from ops.stack import redis_server
from ops.stack.children import Child, wait_until
from state.entries import CATALOGUE, USER_PROFILE
from state.records import Item
from state.redis_client import prefix
from state.redis_store import RedisStore
from state.settings import Settings
from state.store import Changes, StoreUnavailableError
from tests.conftest import MakeSettings, RunProcess

PATIENCE = timedelta(seconds=60)
N_SLOTS = 16_384
N_PRIMARIES = 3
USERS = [f"u{n}" for n in range(7)]
N_ITEMS = 50
N_CLICKS = 30


class Nodes:
    """Three primaries, and a fourth node that becomes the replica of one."""

    def __init__(self, processes: dict[int, Child]) -> None:
        self._processes = processes
        self._clients = {port: Redis(port=port) for port in processes}
        *self._primaries, self._spare = processes
        redis_server.join(self._primaries)
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in processes)
        self.replica = self._clients[self._spare]

    def replicate(self, settings: Settings) -> None:
        """Give the node that has the system's slot a replica."""
        slot = self.replica.execute_command("CLUSTER KEYSLOT", prefix(settings))
        self._holder = self._primaries[slot * N_PRIMARIES // N_SLOTS]
        holder_id = self._clients[self._holder].execute_command("CLUSTER MYID").decode()
        self.replica.execute_command("CLUSTER MEET", "127.0.0.1", self._holder)
        assert wait_until(lambda: all(map(self._knows_all, self._clients.values())), PATIENCE)
        self.replica.execute_command("CLUSTER REPLICATE", holder_id)
        assert wait_until(self.is_linked, PATIENCE)

    def unlink(self) -> None:
        """Whatever the primary is told from now on, its replica does not hear."""
        self.replica.config_set("masterauth", "wrong")
        self._clients[self._holder].execute_command("CLIENT KILL", "TYPE", "replica")
        assert wait_until(lambda: not self.is_linked(), PATIENCE)

    def fail_over(self) -> None:
        """Have primary and replica change places, as before work at a machine."""
        self.replica.execute_command("CLUSTER FAILOVER")

    def kill_primary(self) -> None:
        self._processes[self._holder].kill()

    def is_linked(self) -> bool:
        return bool(self.replica.info("replication").get("master_link_status") == "up")

    def has_failed_over(self) -> bool:
        return bool(self.replica.info("replication")["role"] == "master")

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _knows_all(self, client: Redis) -> bool:
        return len(client.execute_command("CLUSTER NODES")) == len(self._processes)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with ExitStack() as stack:
        processes = {}
        for port in redis_server.cluster_ports(N_PRIMARIES + 1):
            argv = redis_server.command(tmp_path / str(port), port, cluster=True)
            processes[port] = stack.enter_context(Child("redis", argv, tmp_path / f"{port}.log"))
            processes[port].wait_until(partial(redis_server.answers, f"redis://127.0.0.1:{port}"), PATIENCE)
        found = Nodes(processes)
        stack.callback(found.close)
        yield found


class Supervised:
    """A flow that is started again whenever it has ended, as its supervisor does."""

    def __init__(self, module: str, settings: Settings, run_process: RunProcess, stack: ExitStack) -> None:
        self._start = lambda: stack.enter_context(run_process(module, settings))
        self._process = self._start()
        self.log = self._process.log

    def look_after(self) -> None:
        if self._process.returncode is not None:
            self._process = self._start()


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def reads_redis(client: httpx.Client) -> bool:
    """Return whether a list is made of what Redis has. On a busy machine it may be a repeated one."""
    answer = client.get(f"/v1/users/{USERS[0]}/recommendations").json()
    return bool(answer["state"]["user"] == "redis")


def clicks_in_profiles(settings: Settings) -> int | None:
    try:
        profiles = RedisStore(settings).get_many(USER_PROFILE, USERS)
    except StoreUnavailableError:
        return None
    return sum(profile.activity.counts["click"] for profile in profiles if profile is not None)


class Visitors:
    """They click, look at a list, and may not meet an error."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.n_clicks = 0

    def click(self) -> None:
        number, user = self.n_clicks, USERS[self.n_clicks % len(USERS)]
        event = {"event_id": f"e{number}", "type": "click", "user_id": user, "item_id": f"m{number % N_ITEMS}"}
        assert self._client.post("/v1/events", json=event | {"ts": int(time.time() * 1000)}).status_code == 202
        assert self._client.get(f"/v1/users/{user}/recommendations").status_code == 200
        self.n_clicks += 1

    def click_until(self, condition: Callable[[], bool]) -> None:
        def holds() -> bool:
            self.click()
            return condition()

        assert wait_until(holds, PATIENCE)


@pytest.mark.parametrize("how", ["asked to", "up to date", "behind"])
def test_counts_are_exact_after_a_replica_took_over(
    make_settings: MakeSettings, run_process: RunProcess, nodes: Nodes, how: str
) -> None:
    """R23, R30, R31: no request fails, and what the replica never heard of is read again from Kafka."""
    settings = make_settings(redis_url=nodes.url, partitions=2)
    nodes.replicate(settings)
    changes = Changes()
    for n in range(N_ITEMS):
        changes.upsert(CATALOGUE, f"m{n}", Item(item_id=f"m{n}", genres=[f"G{n % 4}"]))
    RedisStore(settings).commit(changes)
    with ExitStack() as stack:
        serving = stack.enter_context(run_process("serving", settings))
        flows = [Supervised(name, settings, run_process, stack) for name in ("flows.clean", "flows.features")]
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=10))
        serving.wait_until(lambda: is_ready(client), PATIENCE)
        visitors = Visitors(client)

        def click_and_count() -> None:
            for _ in range(N_CLICKS):
                visitors.click()
            assert wait_until(is_counted, PATIENCE), flows[-1].log.read_text()

        def is_counted() -> bool:
            for flow in flows:
                flow.look_after()
            return clicks_in_profiles(settings) == visitors.n_clicks

        click_and_count()
        if how == "behind":
            nodes.unlink()
            click_and_count()
        assert nodes.is_linked() == (how != "behind")
        if how == "asked to":
            nodes.fail_over()
        else:
            nodes.kill_primary()
        visitors.click_until(nodes.has_failed_over)
        click_and_count()
        assert wait_until(lambda: reads_redis(client), PATIENCE)
