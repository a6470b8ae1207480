"""What a key in Redis is, from its name: the reverse of `state.entries`."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from state.entries import ENTRIES, REBUILDING, TABLES, Entry, Table, feed_key, journal_key, watermark_key

Owner = Entry[Any] | Table[Any] | Literal["feed", "journal", "rebuilding", "watermark"]

_OTHERS: Mapping[str, Literal["feed", "journal", "rebuilding", "watermark"]] = {
    feed_key(""): "feed",
    journal_key(""): "journal",
    REBUILDING: "rebuilding",
    watermark_key(""): "watermark",
}
_TABLES = {table.key(bucket): table for table in TABLES for bucket in range(table.n_buckets)}
_ENTRIES = [(re.compile(re.escape(entry.key("\0")).replace("\0", "(.+)"), re.DOTALL), entry) for entry in ENTRIES]


def owner_of(key: str) -> Owner | None:
    """Return whose key it is, without its namespace; None when this version of Freshet has no such key."""
    if (table := _TABLES.get(key)) is not None:
        return table
    for prefix, other in _OTHERS.items():
        if key.startswith(prefix):
            return other
    return next((entry for pattern, entry in _ENTRIES if pattern.fullmatch(key)), None)
