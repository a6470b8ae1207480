"""Which Kafka a broker is: by the first question of the protocol, that no client library passes on.

ApiVersions v3, https://kafka.apache.org/protocol#The_Messages_ApiVersions: which requests are taken, in which versions,
and the features of the cluster. Asked without TLS and before any login.
"""

import socket
import struct
from dataclasses import dataclass

JOIN_GROUP, TXN_OFFSET_COMMIT = 11, 28
"""Requests, by their numbers."""
METADATA = "metadata.version"

_API_VERSIONS, _ASKED = 18, 3
_FINALIZED = 2
_RELEASES = {
    1: "3.0",
    2: "3.1",
    3: "3.2",
    4: "3.3",
    8: "3.4",
    9: "3.5",
    12: "3.6",
    15: "3.7",
    20: "3.8",
    21: "3.9",
    22: "4.0",
    26: "4.1",
}
"""First level of `metadata.version` -> the release that brought it, of `server.common.MetadataVersion`."""


@dataclass(frozen=True)
class KafkaVersion:
    """What a broker can do."""

    newest: dict[int, int]
    """Number of a request -> the newest version of it that is taken."""
    features: dict[str, int]
    """Feature of the cluster -> its level."""

    def __str__(self) -> str:
        """Return the release, as far as it shows, and the features."""
        level = self.features.get(METADATA)
        if level is None:
            return "before 3.3, or without KRaft"
        known = max((first for first in _RELEASES if first <= level), default=1)
        later = " or later" if known == max(_RELEASES) else ""
        features = ", ".join(f"{name} {level}" for name, level in sorted(self.features.items()))
        return f"{_RELEASES[known]}{later}: {features}"


def ask(host: str, port: int, timeout_s: float) -> KafkaVersion:
    """Ask a broker. Raise `OSError` when it does not answer, `ValueError` when it does not understand."""
    client = b"freshet"
    body = bytes([len(client) + 1]) + client + bytes([2]) + b"1" + b"\0"
    head = struct.pack(">hhih", _API_VERSIONS, _ASKED, 1, len(client)) + client + b"\0"
    with socket.create_connection((host, port), timeout_s) as connection:
        connection.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        with connection.makefile("rb") as answer:
            size = answer.read(4)
            told = answer.read(struct.unpack(">i", size)[0]) if len(size) == 4 else b""
    return parse(told)


def parse(told: bytes) -> KafkaVersion:
    """Return what an answer says, without its length. Raise `ValueError` for one that is none, or refuses."""
    read = _Reader(told)
    try:
        _, error = read.numbers(">ih")
        if error:
            raise ValueError(f"error {error}: it is older than Kafka 2.4")
        newest = {}
        for _ in range(read.varint() - 1):
            number, _, highest = read.numbers(">hhh")
            newest[number] = highest
            read.skip_tagged()
        read.numbers(">i")
        features = {}
        for _ in range(read.varint()):
            tag, size = read.varint(), read.varint()
            field = _Reader(read.take(size))
            if tag == _FINALIZED:
                for _ in range(field.varint() - 1):
                    name = field.take(field.varint() - 1).decode()
                    features[name], _ = field.numbers(">hh")
                    field.skip_tagged()
    except (struct.error, IndexError) as cut:
        raise ValueError("not an answer of Kafka's") from cut
    return KafkaVersion(newest, features)


class _Reader:
    """Kafka's types, one after the other."""

    def __init__(self, told: bytes) -> None:
        self._told = told
        self._at = 0

    def take(self, n: int) -> bytes:
        taken = self._told[self._at : self._at + n]
        if len(taken) < n:
            raise IndexError(n)
        self._at += n
        return taken

    def numbers(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def skip_tagged(self) -> None:
        for _ in range(self.varint()):
            self.varint()
            self.take(self.varint())
