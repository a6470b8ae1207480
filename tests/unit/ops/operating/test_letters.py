"""Dead letters: read, counted, mended."""

import json

import pytest

from flows.common.kafka_log import LogMessage
from ops.operating.letters import Fix, Letter, letter_of, mended, summarise
from state.settings import Settings
from state.topics import EVENTS, ITEMS
from state.validation import InvalidInputError

NOW = 1_790_000_000_000
SETTINGS = Settings(namespace="shop")


def letter(
    offset: int = 0, source: str = "freshet.shop.events/1/7", reason: str = "too new", **event: object
) -> Letter:
    record = {"event_id": "e1", "type": "click", "user_id": "anna", "item_id": "i1", "ts": NOW} | event
    headers = [("reason", reason.encode()), ("field", b"ts"), ("source", source.encode())]
    return letter_of(LogMessage(offset, NOW + offset, json.dumps(record).encode(), b"anna", headers), 2, SETTINGS)


def test_a_letter_knows_where_it_comes_from() -> None:
    found = letter(5)
    assert (found.topic, found.source, found.field, found.reason, found.id) == (
        EVENTS,
        "freshet.shop.events/1/7",
        "ts",
        "too new",
        "2/5",
    )
    assert letter(source="freshet.shop.items/0/1").topic is ITEMS
    assert letter(source="freshet.other.events/0/1").topic is None


def test_letters_are_counted_by_reason_and_the_newest_are_shown() -> None:
    """R23: with what was fed again before."""
    letters = [letter(n) for n in range(300)] + [letter(1000, source="freshet.shop.items/0/1")]
    found = summarise(letters, {"2/299"}, n_samples=3)
    assert (found.n_letters, found.n_fed_again) == (301, 1)
    assert [(count.topic, count.n, count.first_ts, count.last_ts) for count in found.reasons] == [
        ("events", 300, NOW, NOW + 299),
        ("items", 1, NOW + 1000, NOW + 1000),
    ]
    assert [(sample["letter"], sample["fed_again"]) for sample in found.samples] == [
        ("2/1000", False),
        ("2/299", True),
        ("2/298", False),
    ]


def test_reasons_that_differ_by_a_time_are_one() -> None:
    """R23: a clock that is wrong is one row, however many events it has spoiled."""
    found = summarise([letter(n, reason=f"{NOW + n} is more than 5 minutes ahead") for n in range(3)], set(), 1)
    assert [(count.reason, count.n) for count in found.reasons] == [("... is more than 5 minutes ahead", 3)]
    assert found.samples[0]["reason"] == f"{NOW + 2} is more than 5 minutes ahead"


def test_a_fix_sets_and_drops_fields() -> None:
    """R23"""
    fix = Fix.parse(["value=4.5", "item_id=i 7", "context={}"], ["colour"])
    record = json.loads(fix.apply(letter(colour="red", type="rating").value))
    assert record["value"] == 4.5
    assert record["item_id"] == "i 7"
    assert "colour" not in record


@pytest.mark.parametrize("assignment", ["value", "colour=red"])
def test_a_fix_that_names_no_field_is_refused(assignment: str) -> None:
    with pytest.raises(ValueError, match=assignment.partition("=")[0]):
        Fix.parse([assignment], [])


def test_only_what_is_valid_now_is_sent_to_where_it_came_from() -> None:
    """R23"""
    ahead = letter(ts=NOW + 600_000)
    with pytest.raises(InvalidInputError, match="5 minutes ahead"):
        mended(ahead, Fix(), NOW)
    assert mended(ahead, Fix(), NOW + 600_000) == (EVENTS, "anna", ahead.value)
    item = letter(source="freshet.shop.items/0/1")
    drop = ["event_id", "type", "user_id", "ts"]
    topic, key, value = mended(item, Fix.parse(["title=One"], drop), NOW)
    assert (topic, key, json.loads(value)) == (ITEMS, "i1", {"item_id": "i1", "title": "One"})
    with pytest.raises(InvalidInputError, match="no topic of this namespace"):
        mended(letter(source="elsewhere/0/1"), Fix(), NOW)


@pytest.mark.parametrize("value", [b"{", b"[1]", b""])
def test_what_is_no_object_cannot_be_mended(value: bytes) -> None:
    with pytest.raises(InvalidInputError):
        Fix({"ts": 1}).apply(value)
