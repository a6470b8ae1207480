"""Which partition a user belongs to: Kafka's default partitioner, `murmur2`."""

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_REMEMBERED = 200_000


def murmur2(key: bytes) -> int:
    """Return the hash of a key as an unsigned 32-bit integer.

    References
    ----------
    Austin Appleby's MurmurHash2, as in `org.apache.kafka.common.utils.Utils.murmur2`.
    """
    length = len(key)
    h = _SEED ^ length
    whole = length - length % 4
    for i in range(0, whole, 4):
        k = int.from_bytes(key[i : i + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if whole < length:
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


class UserPartitions:
    """`partition_of(user_id)` for a topic of `n_partitions`; remembers users, as the hash is slow in Python."""

    def __init__(self, n_partitions: int) -> None:
        self._n_partitions = n_partitions
        self._partitions: dict[str, int] = {}

    def __call__(self, user_id: str) -> int:
        partition = self._partitions.get(user_id)
        if partition is None:
            if len(self._partitions) >= _REMEMBERED:
                self._partitions.clear()
            partition = (murmur2(user_id.encode()) & 0x7FFFFFFF) % self._n_partitions
            self._partitions[user_id] = partition
        return partition
