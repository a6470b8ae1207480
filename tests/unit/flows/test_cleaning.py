"""One partition's events: validated, normalised, deduplicated (R23, R24)."""

import json
from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from flows.clean.cleaning import Cleaned, PartitionCleaner, Progress
from flows.clean.deduplication import RecentIds
from flows.common.batches import KafkaBatch
from state.records import CleanEvent

NOW = 1_790_000_000_000
DAY = 86_400_000


def event(number: int, **fields: object) -> bytes:
    record = {
        "event_id": f"e{number}",
        "type": "rating",
        "user_id": "u",
        "item_id": "i",
        "ts": NOW,
        "value": 4,
    } | fields
    return json.dumps(record).encode()


def batch(values: Sequence[bytes | None], arrived: int = NOW) -> KafkaBatch:
    offsets = list(range(len(values)))
    return KafkaBatch("events", 0, offsets, [b"u"] * len(values), list(values), [arrived] * len(values), len(values))


def cleaner() -> PartitionCleaner:
    return PartitionCleaner(0, lambda user: 1 if user == "elsewhere" else 0, RecentIds(), Progress())


def ids(cleaned: Cleaned) -> list[str]:
    return [msgspec.msgpack.decode(value, type=CleanEvent).event_id for _, value in cleaned.clean]


def test_values_become_floats_and_integers_of_the_context_stay() -> None:
    ((user, value),) = cleaner().clean(batch([event(1, context={"n": 7, "share": 0.5}, position=0)])).clean
    clean = msgspec.msgpack.decode(value, type=CleanEvent)
    assert user == b"u"
    assert clean == CleanEvent("e1", "rating", "u", "i", NOW, position=0, value=4.0, context={"n": 7, "share": 0.5})
    assert isinstance(clean.value, float)
    assert isinstance((clean.context or {})["n"], int)


def test_each_message_gets_its_place() -> None:
    cleaned = cleaner().clean(
        batch([event(1), b"{", event(2, user_id="elsewhere"), None, event(1), event(3, ts=NOW + DAY)])
    )
    assert ids(cleaned) == ["e1"]
    assert [rejected.at for rejected in cleaned.rejected] == [1, 3, 5]
    assert [(misplaced.at, misplaced.user, misplaced.partition) for misplaced in cleaned.misplaced] == [
        (2, b"elsewhere", 1)
    ]
    assert cleaned.n_duplicates == 1


def test_time_is_judged_by_the_arrival() -> None:
    """R24: doing it again later says the same."""
    late = batch([event(1, ts=NOW + DAY)], arrived=NOW)
    assert [rejected.error.field for rejected in cleaner().clean(late).rejected] == ["ts"]
    assert ids(cleaner().clean(batch([event(1, ts=NOW + DAY)], arrived=NOW + DAY))) == ["e1"]


def test_nothing_is_remembered_until_it_is_applied() -> None:
    """R23: what an aborted transaction wrote comes again."""
    one = cleaner()
    for _ in range(2):
        cleaned = one.clean(batch([event(1), event(1)]))
        assert ids(cleaned) == ["e1"]
    one.apply(cleaned)
    assert ids(one.clean(batch([event(1), event(2)]))) == ["e2"]


def test_a_late_event_is_kept_and_does_not_move_stream_time_back() -> None:
    """R24"""
    one = cleaner()
    one.apply(one.clean(batch([event(1)])))
    cleaned = one.clean(batch([event(2, ts=NOW - 100 * DAY)]))
    one.apply(cleaned)
    assert ids(cleaned) == ["e2"]
    assert one.progress == Progress(stream_ts=NOW, arrived=NOW)


@given(st.lists(st.integers(0, 30), max_size=100), st.integers(1, 20))
def test_however_the_log_is_cut_each_event_comes_out_once_in_order_of_its_first_arrival(
    numbers: list[int], size: int
) -> None:
    one = cleaner()
    out: list[str] = []
    for start in range(0, len(numbers), size):
        cleaned = one.clean(batch([event(number) for number in numbers[start : start + size]]))
        one.apply(cleaned)
        out += ids(cleaned)
    assert out == [f"e{number}" for number in dict.fromkeys(numbers)]


@given(st.integers(0, 2**53), st.integers(0, 2**53))
def test_progress_comes_back(stream_ts: int, arrived: int) -> None:
    assert Progress.decode(Progress(stream_ts, arrived).encode()) == Progress(stream_ts, arrived)
    assert Progress.decode("") == Progress.decode(None) == Progress()
