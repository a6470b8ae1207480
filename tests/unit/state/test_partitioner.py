"""The partitioner is Kafka's."""

import pytest

from state.partitioner import UserPartitions, murmur2


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        # From Apache Kafka's UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_hashes_are_those_of_kafka(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32


def test_a_user_keeps_its_partition() -> None:
    partition_of = UserPartitions(4)
    partitions = [partition_of(f"u{n}") for n in range(1000)]
    assert partitions == [partition_of(f"u{n}") for n in range(1000)]
    assert set(partitions) == {0, 1, 2, 3}
