"""Kafka's jars come from the network once, and only as the lock says."""

import hashlib
import io
from pathlib import Path

import pytest
import requests
from jgo.util import http

from ops.stack import jars
from ops.stack.errors import StackError

JAR = b"a jar" * 1000
LOCK = """
[[dependencies]]
groupId = "org.example"
artifactId = "thing"
version = "1.0"
packaging = "jar"
sha256 = "{sha256}"
"""


class Network:
    """Stands in for Maven Central."""

    def __init__(self) -> None:
        self.body: bytes | None = JAR
        self.asked: list[str] = []

    def get(self, url: str, **options: object) -> requests.Response:
        if self.body is None:
            raise requests.ConnectionError("no route to host")
        answer = requests.Response()
        answer.status_code = 200 if url.endswith(".jar") else 404
        answer.raw = io.BytesIO(self.body)
        self.asked += [url] if url.endswith(".jar") else []
        return answer


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Network:
    lock = tmp_path / "lock.toml"
    lock.write_text(LOCK.format(sha256=hashlib.sha256(JAR).hexdigest()))
    network = Network()
    monkeypatch.setattr(jars, "LOCK", lock)
    monkeypatch.setattr(http, "get", network.get)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return network


def test_a_jar_is_fetched_once(network: Network) -> None:
    seen: list[tuple[int, int]] = []
    (first,) = jars.class_path(lambda done, total: seen.append((done, total)))
    assert first.read_bytes() == JAR
    assert seen == [(1, 1)]
    assert jars.class_path() == [first]
    assert len(network.asked) == 1


def test_a_download_that_was_cut_off_is_repeated(network: Network) -> None:
    (jar,) = jars.class_path()
    jar.write_bytes(JAR[:100])
    assert jars.class_path()[0].read_bytes() == JAR


def test_another_file_than_the_locked_one_is_refused_and_not_kept(network: Network, tmp_path: Path) -> None:
    network.body = b"something else"
    with pytest.raises(StackError, match="another checksum"):
        jars.class_path()
    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_without_a_network_the_remedy_is_named(network: Network) -> None:
    network.body = None
    with pytest.raises(StackError, match=r"no route to host\n.*KAFKA_BROKERS.*freshet play"):
        jars.class_path()


def test_the_lock_is_complete() -> None:
    from jgo.env import LockFile

    locked = {dependency.artifactId: dependency for dependency in LockFile.load(jars.LOCK).dependencies}
    assert locked["kafka-clients"].version == jars.KAFKA_VERSION, "the logging binding must not downgrade it"
    assert locked["log4j-slf4j-impl"].version == locked["log4j-core"].version
    assert all(dependency.sha256 for dependency in locked.values())
