"""The models' copy on disk: the same lists again, or a refusal."""

import struct
import zlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from online_models.replica import Replica
from online_models.users.view import UserView
from serving.memory import replica_file
from serving.memory.replica_file import ReplicaFileError
from state.entries import CATALOGUE
from state.records import BlobRow, Item
from tests.unit.online_models.synthetic import System, catalogue, tastes

STREAM_MS = 1_400_000_000_000


def saved(path: Path, replica: Replica) -> None:
    replica_file.complete(replica_file.write(path, STREAM_MS, replica), path)


def small() -> Replica:
    replica = Replica()
    replica.apply({CATALOGUE: {"a": Item(item_id="a"), "b": Item(item_id="b", status="hidden")}})
    return replica


def test_the_last_good_copy_serves_the_same(tmp_path: Path) -> None:
    """R10: and it takes the place of the one before."""
    system = System()
    for item in catalogue():
        system.learner.learn_item(item.item_id, item)
    system.learn(tastes())
    replica = system.replica()
    replica.apply({CATALOGUE: {item.item_id: item for item in catalogue()}})
    path = tmp_path / "home" / "copy.bin"
    saved(path, small())
    saved(path, replica)
    stream_ms, copy = replica_file.read(path)
    view = UserView.of(system.profiles["u3"], system.now_ms)
    items = [f"m{k}" for k in range(400)]
    scores = [r.ranking.score(r.features(r.context(view), r.slots(items))) for r in (replica, copy)]
    assert np.array_equal(*scores)
    assert copy.n_items == replica.n_items == 400
    assert copy.item(copy.slots(["m7"])[0]) == replica.item(replica.slots(["m7"])[0])
    assert stream_ms == STREAM_MS
    assert list(path.parent.iterdir()) == [path]


def test_any_flipped_byte_and_any_missing_end_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "copy.bin"
    saved(path, small())
    content = path.read_bytes()
    for at in range(len(content)):
        flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        for damaged in (content[:at], flipped):
            path.write_bytes(damaged)
            with pytest.raises(ReplicaFileError):
                replica_file.read(path)


@pytest.mark.parametrize(
    "part",
    [
        ("no table", []),
        ("catalogue", [("a", b"no item")]),
        ("item_vector", [("a", msgspec.msgpack.encode(BlobRow(b"no vector")))]),
        ["another layout"],
    ],
    ids=["table", "row", "blob", "part"],
)
def test_another_layout_is_refused(tmp_path: Path, part: object) -> None:
    """R10: as of another version."""
    path = tmp_path / "copy.bin"
    saved(path, Replica())
    body = msgspec.msgpack.encode(part)
    header = path.read_bytes()[: -struct.calcsize("<II")]
    path.write_bytes(header + struct.pack("<II", len(body), zlib.crc32(body)) + body)
    with pytest.raises(ReplicaFileError, match="of another layout"):
        replica_file.read(path)
