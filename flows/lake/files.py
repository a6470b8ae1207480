"""Which files of the lake are to be put together. Pure."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import NamedTuple

TARGET_BYTES = 128 * 2**20
"""A file is not made larger than this by compaction, nor are larger ones touched."""

_MANY = 24
_SETTLED_MS = int(timedelta(minutes=30).total_seconds() * 1000)

Partition = tuple[tuple[str, str], ...]
"""Names and values, such as `(("date", "2026-11-24"), ("type", "click"))`."""


class LakeFile(NamedTuple):
    """One Parquet file that counts."""

    path: str
    n_bytes: int
    n_rows: int
    modified_ms: int
    values: dict[str, str]
    """Of the columns by which files are laid out."""


def to_compact(
    files: Iterable[LakeFile],
    partition_by: Sequence[str],
    closed_before: str = "",
    now_ms: int = 0,
    *,
    all_of_it: bool = False,
) -> list[Partition]:
    """Return partitions worth compacting, those with most small files first.

    A partition is, when it has many small files; or more than one, its date is before `closed_before` (ISO), and
    nothing came for half an hour. With `all_of_it`, each that has more than one is.
    """
    small: dict[Partition, list[LakeFile]] = {}
    for file in files:
        if file.n_bytes < TARGET_BYTES // 2:
            small.setdefault(tuple((name, file.values[name]) for name in partition_by), []).append(file)
    worth = [
        (len(found), partition)
        for partition, found in small.items()
        if len(found) >= _MANY
        or (all_of_it and len(found) > 1)
        or (
            len(found) > 1
            and dict(partition).get("date", closed_before) < closed_before
            and max(file.modified_ms for file in found) < now_ms - _SETTLED_MS
        )
    ]
    return [partition for _, partition in sorted(worth, key=lambda found: (-found[0], found[1]))]
