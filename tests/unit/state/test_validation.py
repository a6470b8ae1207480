"""R23, R29: what is refused says which field and why; what is valid passes."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.records import EVENT_TYPES, Event
from state.validation import (
    FEEDBACK_TYPES,
    MAX_CLOCK_SKEW_MS,
    MAX_EVENT_BYTES,
    MIN_EVENT_TIME,
    InvalidInputError,
    parse_event,
    parse_item,
)

NOW = 1_790_000_000_000
CLICK = {"event_id": "e1", "type": "click", "user_id": "u1", "item_id": "i1", "ts": NOW}


def encoded(**changed: object) -> bytes:
    """Return a valid click with fields changed, or left out where the value is None."""
    return json.dumps({k: v for k, v in (CLICK | changed).items() if v is not None}).encode()


def refused(raw: bytes) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        parse_event(raw, NOW)
    return caught.value


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_every_type_is_accepted(event_type: str) -> None:
    """R22"""
    assert parse_event(encoded(type=event_type, value=4 if event_type == "rating" else None), NOW).type == event_type


def test_all_fields_arrive() -> None:
    event = parse_event(
        encoded(
            session_id="s",
            request_id="r",
            position=3,
            value=2,
            context={"page": "home", "n": 7, "tags": ["a"], "x": None},
        ),
        NOW,
    )
    assert event == Event(
        event_id="e1",
        type="click",
        user_id="u1",
        item_id="i1",
        ts=NOW,
        session_id="s",
        request_id="r",
        position=3,
        value=2.0,
        context={"page": "home", "n": 7, "tags": ["a"], "x": None},
    )
    assert isinstance(event.value, float)
    assert isinstance((event.context or {})["n"], int)


def test_an_event_inside_of_a_batch_is_parsed_from_its_raw_bytes() -> None:
    (raw,) = msgspec.json.decode(b"[" + encoded() + b"]", type=list[msgspec.Raw])
    assert parse_event(raw, NOW).event_id == "e1"


@pytest.mark.parametrize(
    ("changed", "field", "reason"),
    [
        ({"event_id": None}, "event_id", "missing"),
        ({"type": None}, "type", "missing"),
        ({"user_id": None}, "user_id", "missing"),
        ({"ts": None}, "ts", "missing"),
        ({"item_id": None}, "item_id", "required for type click"),
        ({"type": "clack"}, "type", "one of impression, click"),
        ({"type": 5}, "type", "got `int`"),
        ({"colour": "red"}, "colour", "unknown field"),
        ({"x" * 2000: 1}, "x" * 64 + "...", "unknown field"),
        ({"x - at `$.y`": 1}, "y", "unknown field"),
        ({"event_id": ""}, "event_id", "length >= 1"),
        ({"event_id": "x" * 129}, "event_id", "length <= 128"),
        ({"event_id": 7}, "event_id", "got `int`"),
        ({"user_id": ["u"]}, "user_id", "got `array`"),
        ({"user_id": "a\nb"}, "user_id", "control characters"),
        ({"user_id": "a\x00"}, "user_id", "control characters"),
        ({"user_id": " u"}, "user_id", "outer spaces"),
        ({"item_id": "i\u202e"}, "item_id", "control characters"),
        ({"session_id": "s\t"}, "session_id", "control characters"),
        ({"request_id": "\x7f"}, "request_id", "control characters"),
        ({"session_id": 5}, "session_id", "got `int`"),
        ({"ts": NOW // 1000}, "ts", "milliseconds"),
        ({"ts": -1}, "ts", "before 1990"),
        ({"ts": MIN_EVENT_TIME - 1}, "ts", "before 1990"),
        ({"ts": NOW + MAX_CLOCK_SKEW_MS + 1}, "ts", "5 minutes ahead"),
        ({"ts": 10**40}, "ts", "5 minutes ahead"),
        ({"ts": 10**4200}, "ts", "5 minutes ahead"),
        ({"ts": -(10**40)}, "ts", "before 1990"),
        ({"ts": "1790000000000"}, "ts", "got `str`"),
        ({"ts": NOW + 0.5}, "ts", "got `float`"),
        ({"ts": True}, "ts", "got `bool`"),
        ({"ts": float("nan")}, "ts", "finite"),
        ({"position": -1}, "position", ">= 0"),
        ({"position": 10**30}, "position", "<= 100000"),
        ({"value": float("nan")}, "value", "finite"),
        ({"value": float("-inf")}, "value", "finite"),
        ({"value": 10**400}, "value", "out of range"),
        ({"value": True}, "value", "got `bool`"),
        ({"value": {"stars": 5}}, "value", "got `object`"),
        ({"type": "rating"}, "value", "0 to 100"),
        ({"type": "rating", "value": "5"}, "value", "0 to 100"),
        ({"type": "rating", "value": -0.1}, "value", "0 to 100"),
        ({"type": "watch", "value": -1}, "value", ">= 0"),
        ({"type": "undo", "value": "click"}, "value", "dislike, hide, like, rating, save"),
        ({"type": "undo", "value": 3}, "value", "takes back one of"),
        ({"context": []}, "context", "got `array`"),
        ({"context": {"a": {}}}, "context[...]", "got `object`"),
        ({"context": {"a": 2**63}}, "context[...]", "<= 9223372036854775807"),
        ({"context": {"a": 10**4200}}, "context[...]", "<= 9223372036854775807"),
        ({"context": {"k" * 257: 1}}, "context", "length <= 256"),
        ({"context": {str(i): i for i in range(33)}}, "context", "length <= 32"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_field_is_named_with_its_reason(changed: dict[str, object], field: str, reason: str) -> None:
    """R23"""
    error = refused(encoded(**changed) if None in changed.values() else json.dumps(CLICK | changed).encode())
    assert error.field == field
    assert reason in error.reason
    assert str(error).startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (encoded() + b"x", "not JSON"),
        (encoded().replace(b"u1", b"\xff"), "not JSON"),
        (encoded().replace(b"u1", b"\\ud800"), "not JSON"),
        (b"[]", "got `array`"),
        (b"null", "got `null`"),
        (b'"NaN"', "got `str`"),
        (b"NaN", "not JSON"),
        (b"[" * 60_000, "got `array`"),
        (b'{"value":NaN,"context":' + b"[" * 60_000, "not JSON"),
        (b'{"value":"' + b"x" * 2_000_000 + b'"}', "2000012 bytes, at most 65536"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_event_at_all_is_refused_with_a_reason(raw: bytes, reason: str) -> None:
    error = refused(raw)
    assert error.field == ""
    assert reason in error.reason


@pytest.mark.parametrize("field", [b'"ts":1790000000000', b'"position":1', b'"context":{"a":1}'])
def test_an_integer_too_long_to_convert_is_refused(field: bytes) -> None:
    raw = encoded(position=1, context={"a": 1}).replace(b" ", b"")
    name = field.split(b'"')[1].decode()
    error = refused(raw.replace(field, field.rstrip(b"}") + b"0" * 5000 + b"}" * field.count(b"}")))
    assert error.field.startswith(name)
    assert "out of range" in error.reason


def test_reasons_are_short_whatever_was_sent() -> None:
    for raw in (encoded(**{"y" * 60_000: 1}), encoded(user_id="\n" * 128), encoded(type="z" * 60_000)):
        assert len(str(refused(raw))) < 500


@pytest.mark.parametrize("event_type", sorted(FEEDBACK_TYPES))
def test_an_undo_may_name_what_it_takes_back(event_type: str) -> None:
    """R5"""
    assert parse_event(encoded(type="undo", value=event_type), NOW).value == event_type


def test_a_future_time_is_accepted_up_to_the_allowed_skew() -> None:
    """R24"""
    assert parse_event(encoded(ts=NOW + MAX_CLOCK_SKEW_MS), NOW).ts == NOW + MAX_CLOCK_SKEW_MS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(Event.__struct_fields__)), json_values))
def test_anything_is_either_valid_and_encodable_or_refused(changed: dict[str, object]) -> None:
    raw = json.dumps(CLICK | changed).encode()
    try:
        event = parse_event(raw, NOW)
    except InvalidInputError:
        return
    assert msgspec.msgpack.encode(event)


@given(st.binary(max_size=MAX_EVENT_BYTES // 64))
def test_bytes_never_raise_anything_else(raw: bytes) -> None:
    with pytest.raises(InvalidInputError):
        parse_event(raw, NOW)


def test_an_item_is_accepted_with_its_attributes() -> None:
    item = parse_item(b'{"item_id":"i","genres":["Drama"],"price":1,"attributes":{"n":1,"tags":["x"],"on":true}}')
    assert item.price == 1.0
    assert item.attributes == {"n": 1, "tags": ["x"], "on": True}


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ('"title":"x"', "item_id", "missing"),
        ('"item_id":"i","price":-1', "price", ">= 0"),
        ('"item_id":"i","price":NaN', "price", "finite"),
        ('"item_id":"i","price":1e999', "price", "out of range"),
        ('"item_id":"i","genres":"Drama"', "genres", "got `str`"),
        ('"item_id":"i","release_date":"1.1.2020"', "release_date", "regex"),
        ('"item_id":"i","status":"gone"', "status", "enum"),
        ('"item_id":"i\\n"', "item_id", "control"),
        ('"item_id":"i","attributes":{"n":99999999999999999999}', "attributes[...]", "9223372036854775807"),
        ('"item_id":"i","description":"' + "x" * 2_000_000 + '"', "", "bytes, at most"),
    ],
    ids=lambda value: value[:40],
)
def test_a_bad_item_names_its_field_and_reason(fields: str, field: str, reason: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_item(b"{" + fields.encode() + b"}")
    assert caught.value.field == field
    assert reason in caught.value.reason
