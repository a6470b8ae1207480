"""The spool: order, bounds, and whose file is whose."""

from pathlib import Path

import pytest

from serving.kafka.spool import Spool, Spools, Waiting
from state.settings import Settings


def message(n: int, size: int = 10) -> Waiting:
    return Waiting("impressions", f"u{n % 3}", b"%d" % n + b"x" * size)


def values(spool: Spool) -> list[bytes]:
    return [waiting.value.rstrip(b"x") for _, waiting in spool.first(1000)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.sqlite"


def test_first_in_is_first_out_also_after_a_restart(path: Path) -> None:
    """R10"""
    spool = Spool(path, 10_000)
    assert spool.append([message(n) for n in range(5)]) == 5
    spool.forget(spool.first(2)[-1][0])
    assert values(spool) == [b"2", b"3", b"4"]
    spool.prepend([message(8), message(9)])
    spool.append([message(5)])
    spool.close()
    spool = Spool(path, 10_000)
    assert values(spool) == [b"8", b"9", b"2", b"3", b"4", b"5"]
    assert spool.n_messages == 6
    spool.forget(spool.first(6)[-1][0])
    assert (spool.n_messages, spool.n_bytes, spool.first(1)) == (0, 0, [])
    spool.append([message(1)])
    assert values(spool) == [b"1"]


def test_it_is_bounded_in_bytes_and_room_comes_back(path: Path) -> None:
    """R10"""
    spool = Spool(path, 10 * message(1).n_bytes)
    assert spool.append([message(1) for _ in range(20)]) == 10
    assert spool.append([message(1)]) == 0
    assert spool.room == 0
    spool.forget(spool.first(4)[-1][0])
    assert spool.append([message(1) for _ in range(20)]) == 4
    spool.prepend([message(7)])  # what was taken already is kept
    assert spool.n_messages == 11


def test_each_process_has_its_own_and_takes_over_what_dead_ones_left(tmp_path: Path) -> None:
    """R10"""
    settings = Settings(home=tmp_path)
    first, second = Spools(settings, "impressions"), Spools(settings, "impressions")
    one, two = first.own(), second.own()
    one.append([message(1)])
    two.append([message(2), message(3)])
    for spool, owner in ((one, first), (two, second)):
        spool.close()
        owner.close()
    heir, other = Spools(settings, "impressions"), Spools(settings.model_copy(update={"namespace": "x"}), "impressions")
    inherited = heir.own()
    assert values(inherited) == [b"1", b"2", b"3"]
    assert values(other.own()) == []
    assert len(list((tmp_path / "spool").glob("default-*.sqlite"))) == 1
