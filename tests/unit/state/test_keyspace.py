"""Every key that is written is known by its name."""

import pytest

from state import entries
from state.entries import ENTRIES, REBUILDING, TABLES, Entry, Table, feed_key, journal_key, watermark_key
from state.keyspace import owner_of


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.pattern)
@pytest.mark.parametrize("name", ["anna", "v1:user:x:profile", "a:b\nc", "ü"])
def test_the_key_of_an_entry_is_known(entry: object, name: str) -> None:
    assert owner_of(entry.key(name)) is entry  # type: ignore[attr-defined]


def test_other_keys_are_known_too() -> None:
    assert all(owner_of(table.key(bucket)) is table for table in TABLES for bucket in range(table.n_buckets))
    assert [owner_of(key) for key in (feed_key("learn"), journal_key("learn"), watermark_key("learn"))] == [
        "feed",
        "journal",
        "watermark",
    ]
    assert owner_of(REBUILDING) == "rebuilding"
    assert owner_of("v0:user:anna:profile") is None
    assert owner_of("v1:table:catalogue:99") is None


def test_everything_that_is_declared_is_known() -> None:
    declared = [value for value in vars(entries).values() if isinstance(value, Entry | Table)]
    assert len(declared) > 15
    assert {id(value) for value in declared} <= {id(known) for known in (*ENTRIES, *TABLES)}
