"""The Redis contract: keys never meet, values come back, broken values name their key."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state import entries
from state.entries import CATALOGUE, OVERLAY, SESSION, USER_PROFILE, StateDecodeError
from state.records import CleanEvent, Item, UserProfile, Watermark

odd_ids = st.text(min_size=1, max_size=20) | st.sampled_from(
    ["{id}", "a:profile", "u:overlay", "{", "a:b", "v1:user:x"]
)


@given(odd_ids, odd_ids)
def test_keys_of_different_entities_never_meet(one: str, other: str) -> None:
    keys = {entry.key(entity) for entry in (USER_PROFILE, SESSION, OVERLAY) for entity in {one, other}}
    assert len(keys) == 3 * len({one, other})
    assert all(one in entry.key(one) for entry in (USER_PROFILE, SESSION, OVERLAY))


@given(odd_ids)
def test_a_row_always_has_the_same_bucket(item_id: str) -> None:
    assert 0 <= CATALOGUE.bucket(item_id) < CATALOGUE.n_buckets
    assert CATALOGUE.bucket(item_id) == CATALOGUE.bucket(item_id)


def test_a_value_comes_back_as_it_was() -> None:
    event = CleanEvent("e", "rating", "u", "i", 2**53, value=4.5, context={"n": 3, "x": None})
    assert OVERLAY.codec.decode("k", OVERLAY.codec.encode(event)) == event
    item = Item(item_id="i", price=2.5, genres=["a"], attributes={"on": True})
    assert CATALOGUE.codec.decode("k", CATALOGUE.codec.encode(item)) == item


def test_a_row_of_an_older_layout_gets_the_defaults_of_new_fields() -> None:
    assert USER_PROFILE.codec.decode("k", msgspec.msgpack.encode([])) == UserProfile()


@pytest.mark.parametrize(
    "value", [b"", b"\xc1", b"\x92", b"\xa1\xff", msgspec.msgpack.encode(["e", 1]), b"\x91\xa1\xff"]
)
def test_a_broken_value_names_its_key(value: bytes) -> None:
    with pytest.raises(StateDecodeError, match="v1:user:7:overlay: expected CleanEvent"):
        OVERLAY.codec.decode(OVERLAY.key("7"), value)


def test_watermarks_come_back_by_topic_and_partition() -> None:
    mark = Watermark(next_offset=2**62, stream_ts=1, applied_ts=2)
    fields = {entries.watermark_field("freshet.a:b.clean", 3).encode(): entries.encode_watermark(mark)}
    assert entries.decode_watermarks("features", fields) == {("freshet.a:b.clean", 3): mark}


@pytest.mark.parametrize(
    "fields", [{b"clean": b"\x90"}, {b"clean:x": b"\x90"}, {b"clean:\xff": b"\x90"}, {b"clean:1": b"\x90"}]
)
def test_a_broken_watermark_names_its_key(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(StateDecodeError, match="v1:watermark:features"):
        entries.decode_watermarks("features", fields)


def test_feed_entries_come_back() -> None:
    changed = {"catalogue": ["a", "{id}"], "item_activity": []}
    assert entries.decode_feed_entry(entries.encode_feed_entry(changed)) == changed
