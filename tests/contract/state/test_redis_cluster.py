"""A cluster of three nodes: one system in one slot, which moves while it is used."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import httpx
import pytest
from redis import Redis
from redis.exceptions import ResponseError

from ops.stack.children import wait_until
from state.entries import CATALOGUE, USER_PROFILE
from state.records import Item, UserProfile
from state.redis_client import connect, prefix
from state.redis_store import RedisStore
from state.settings import Settings
from state.store import Changes, StoreUnavailableError
from tests.conftest import MakeSettings, RunProcess

PATIENCE = timedelta(seconds=60)


class Cluster:
    """What an operator does with one."""

    def __init__(self, url: str) -> None:
        self.nodes = [Redis(port=int(node.rpartition(":")[2])) for node in url.partition("//")[2].split(",")]

    def ids(self) -> list[str]:
        return [node.execute_command("CLUSTER MYID").decode() for node in self.nodes]

    def holder(self, slot: int) -> int:
        """Return which node has a slot, by what it says itself."""
        for number, node in enumerate(self.nodes):
            try:
                node.execute_command("CLUSTER COUNTKEYSINSLOT", slot)
                mine = cast("dict[str, dict[str, Any]]", node.execute_command("CLUSTER NODES"))
            except ResponseError:
                continue
            own = next(told for told in mine.values() if "myself" in told["flags"])
            if any(int(first) <= slot <= int(last) for first, last in ((s[0], s[-1]) for s in own["slots"])):
                return number
        raise AssertionError(f"nobody has slot {slot}")

    def move(self, slot: int) -> int:
        """Give a slot, with its keys, to the next node, while it is used; return which one that is."""
        source = self.holder(slot)
        target = (source + 1) % len(self.nodes)
        there = self.ids()[target]
        self.nodes[source].execute_command("CLUSTER MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", there)
        assert wait_until(lambda: self.holder(slot) == target, PATIENCE)
        return target


@pytest.fixture
def cluster(redis_cluster: str) -> Iterator[Cluster]:
    found = Cluster(redis_cluster)
    yield found
    for node in found.nodes:
        node.close()


def slot_of(settings: Settings, cluster: Cluster) -> int:
    return int(cluster.nodes[0].execute_command("CLUSTER KEYSLOT", prefix(settings)))


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_systems_are_in_different_slots_and_each_in_one(redis_cluster: str, cluster: Cluster) -> None:
    """R30: a cluster spreads systems over its nodes."""
    slots = set()
    for namespace in ("north", "south", "east", ""):
        settings = Settings(redis_url=redis_cluster, namespace=namespace)
        changes = Changes()
        for user in ("a", "{b}", "c"):
            changes.put(USER_PROFILE, user, UserProfile(last_ts=len(namespace)))
        RedisStore(settings).commit(changes)
        slots.add(slot_of(settings, cluster))
        with connect(settings) as client:
            assert len(list(client.scan_iter(f"{prefix(settings)}*"))) == 3
    assert len(slots) == 4
    assert len({cluster.holder(slot) for slot in slots}) > 1


def test_an_address_without_nodes_is_refused() -> None:
    """R30: with what is expected."""
    with pytest.raises(ValueError, match=r"expected redis\+cluster://host:port"):
        connect(Settings(redis_url="redis+cluster:///3"))


def test_a_cluster_that_is_gone_is_unavailable() -> None:
    """R10: as one node that is gone."""
    store = RedisStore(Settings(redis_url="redis+cluster://127.0.0.1:1,127.0.0.1:2"))
    with pytest.raises(StoreUnavailableError, match="no node of the cluster"):
        store.get_many(USER_PROFILE, ["u"])


def test_events_become_lists_while_the_slot_moves(
    make_settings: MakeSettings, run_process: RunProcess, redis_cluster: str, cluster: Cluster
) -> None:
    """R23, R30: from the API through the flows to the API; counts are exact, and no request fails."""
    settings = make_settings(redis_url=redis_cluster, partitions=2)
    changes = Changes()
    for n in range(50):
        changes.upsert(CATALOGUE, f"m{n}", Item(item_id=f"m{n}", genres=[f"G{n % 4}"]))
    RedisStore(settings).commit(changes)
    slot = slot_of(settings, cluster)
    with (
        run_process("serving", settings) as serving,
        run_process("flows.clean", settings),
        run_process("flows.features", settings) as features,
        httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=10) as client,
    ):
        serving.wait_until(lambda: is_ready(client), PATIENCE)

        def click(number: int) -> None:
            event = {
                "event_id": f"e{number}",
                "type": "click",
                "user_id": f"u{number % 7}",
                "item_id": f"m{number % 50}",
                "ts": int(time.time() * 1000),
            }
            assert client.post("/v1/events", json=event).status_code == 202
            assert client.get(f"/v1/users/u{number % 7}/recommendations").status_code == 200

        def counted() -> int:
            told = [client.get(f"/v1/users/u{n}").json() for n in range(7)]
            return sum(user.get("counts", {}).get("click", 0) for user in told)

        for number in range(30):
            click(number)
        assert wait_until(lambda: counted() == 30, PATIENCE), features.log.read_text()
        cluster.move(slot)
        for number in range(30, 60):
            click(number)
        # The flow may be started again by who supervises it; here nobody does, so it must go on by itself.
        assert wait_until(lambda: counted() == 60, PATIENCE), features.log.read_text()
        answer = client.get("/v1/users/u1/recommendations", params={"limit": 50}).json()
        assert answer["state"]["user"] == "redis"
        assert not {f"m{n}" for n in range(1, 50, 7)} & {item["item_id"] for item in answer["items"]}
