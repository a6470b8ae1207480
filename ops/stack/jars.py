"""Kafka's jars: resolved once by Maven coordinates into `kafka.lock.toml`, then fetched by exact version and checksum.

`python -m ops.stack.jars` writes the lock anew (after a change of `ENDPOINTS`).
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ops.stack.errors import StackError

if TYPE_CHECKING:
    from jgo.env import LockedDependency

KAFKA_VERSION = "4.4.0"
# The logging binding is resolved by itself: in one endpoint with Kafka its parent's version table wins and downgrades
# kafka-clients. Its version is that of the log4j-core which Kafka brings.
ENDPOINTS = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5")

LOCK = Path(__file__).with_name("kafka.lock.toml")
_DOWNLOADS = 8
_TIMEOUT_S = 60


def cache_folder() -> Path:
    """Return the user's cache folder of Freshet; it is shared by all checkouts."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "freshet"


def class_path(progress: Callable[[int, int], None] = lambda done, total: None) -> list[Path]:
    """Return the locked jars, downloading those that are not in the cache. `progress` gets (done, total).

    Raise `StackError` when one cannot be fetched or is not what the lock says.
    """
    from jgo.env import LockFile

    locked = LockFile.load(LOCK).dependencies
    jars: list[Path] = []
    with _one_at_a_time(), ThreadPoolExecutor(_DOWNLOADS) as pool:
        for jar in pool.map(_fetch, locked):
            jars.append(jar)
            progress(len(jars), len(locked))
    return jars


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Keep two starts from writing the same files."""
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        lock = (cache_folder() / "lock").open("w")
    except OSError as error:
        raise StackError(
            f"The cache folder cannot be written: {error}", "Choose another one with XDG_CACHE_HOME."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(locked: "LockedDependency") -> Path:
    import requests
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=cache_folder() / "maven", timeout=_TIMEOUT_S)
    artifact = context.project(locked.groupId, locked.artifactId).at_version(locked.version).artifact()
    try:
        jar = Path(artifact.resolve())
        if _sha256(jar) != locked.sha256:
            # A download that was interrupted leaves a part of the file.
            jar.unlink()
            jar = Path(artifact.resolve())
    except (requests.RequestException, RuntimeError) as error:
        raise StackError(
            f"Kafka's {artifact.filename} could not be downloaded: {error}",
            "The first start needs the network (43 MB from Maven Central, cached afterwards). Check the connection and"
            " the proxy settings (HTTPS_PROXY), or set KAFKA_BROKERS to a running Kafka. To try Freshet without Kafka:"
            " freshet play (make play).",
        ) from error
    except OSError as error:
        raise StackError(
            f"Kafka's {artifact.filename} could not be stored: {error}",
            f"Make room on the disk, or make {cache_folder()} writable (XDG_CACHE_HOME chooses another folder).",
        ) from error
    if _sha256(jar) != locked.sha256:
        jar.unlink()
        raise StackError(
            f"{artifact.filename} has another checksum than {LOCK.name} says.",
            "Something on the way changed the file: check the proxy or mirror, then start again.",
        )
    return jar


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_lock() -> None:
    """Resolve `ENDPOINTS` and write what they come to, with a checksum for each jar."""
    from jgo.env import LockedDependency, LockFile
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=cache_folder() / "maven", timeout=_TIMEOUT_S)
    locked: dict[tuple[str, str], LockedDependency] = {}
    for endpoint in ENDPOINTS:
        direct, transitive = context.resolver.resolve([context.create_dependency(endpoint)])
        for dependency in [*direct, *(d for d in transitive if d.scope in {"compile", "runtime"})]:
            # The first endpoint decides.
            locked.setdefault((dependency.groupId, dependency.artifactId), LockedDependency.from_dependency(dependency))
    LockFile([locked[key] for key in sorted(locked)], environment_name="kafka").save(LOCK)


if __name__ == "__main__":
    write_lock()
