"""The copy of a replica on disk, from which a process starts while it cannot reach Redis.

After eight bytes that name the layout come parts, each with its length and checksum: stream time, some hundred rows
each, and an empty one at the end. Parts are small because the process that writes them answers requests: no call may
keep the interpreter for long.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import msgspec

from online_models.replica import Replica

_MAGIC = b"freshet2"
_PART = struct.Struct("<II")
_PART_ROWS = 256

_Part = tuple[str, list[tuple[str, bytes]]]
"""Name of a table, and rows by field."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Part).decode


class ReplicaFileError(ValueError):
    """A file that is damaged, or of another layout."""


def write(path: Path, stream_ms: int, replica: Replica) -> Path:
    """Write a file beside `path`, which `complete` puts there; return it. Raise `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    with partial.open("wb") as file:
        file.write(_MAGIC)
        for part in chain([_encode(stream_ms)], _parts(replica), [b""]):
            file.write(_PART.pack(len(part), zlib.crc32(part)))
            file.write(part)
    return partial


def complete(partial: Path, path: Path) -> None:
    """Put a file that was written in its place, whole or not at all. Raise `OSError`."""
    with partial.open("r+b") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def read(path: Path) -> tuple[int, Replica]:
    """Return stream time (epoch ms) and replica. Raise `ReplicaFileError`, `OSError`."""
    tables = {table.name: table for table in Replica.TABLES}
    replica = Replica()
    with path.open("rb") as file:
        magic = _exactly(file, len(_MAGIC))
        if magic != _MAGIC:
            raise ReplicaFileError(f"expected {_MAGIC!r}, got {magic!r}")
        try:
            stream_ms = msgspec.msgpack.decode(_read_part(file), type=int)
            while part := _read_part(file):
                name, rows = _decode(part)
                table = tables[name]
                replica.apply({table: {field: table.codec.decode(f"{name} {field}", row) for field, row in rows}})
        except ReplicaFileError:
            raise
        except (msgspec.MsgspecError, ValueError, LookupError) as error:
            raise ReplicaFileError(f"of another layout: {error}") from error
    return stream_ms, replica


def _parts(replica: Replica) -> Iterator[bytes]:
    for table in Replica.TABLES:
        rows = iter(replica.rows(table).items())
        while some := [(field, table.codec.encode(row)) for field, row in islice(rows, _PART_ROWS)]:
            yield _encode((table.name, some))


def _read_part(file: BinaryIO) -> bytes:
    """Return the next part, nothing at the end."""
    length, checksum = _PART.unpack(_exactly(file, _PART.size))
    part = _exactly(file, length)
    if zlib.crc32(part) != checksum:
        raise ReplicaFileError("a checksum is wrong")
    return part


def _exactly(file: BinaryIO, n: int) -> bytes:
    found = file.read(n)
    if len(found) < n:
        raise ReplicaFileError(f"expected {n} bytes more, got {len(found)}")
    return found
