import tracemalloc
from datetime import timedelta

import pytest

from flows.attribution.attributing import Attribution, Rules
from flows.attribution.snapshot import Snapshot, SnapshotVersionError
from state.records import CleanEvent, Example
from tests.unit.flows.attribution_input import MINUTE, SETTLE, T0, Partition, S, event, labels, slate


def told(examples: list[Example]) -> list[tuple[str, dict[str, int]]]:
    return [(example.reason, labels(example)) for example in examples]


def test_first_positive_labels_the_whole_slate() -> None:
    """R25: request, position, model version and arm of the cause, and the features as they were logged (R13)."""
    partition = Partition.of()
    shown = slate()
    (example,) = partition.read(shown, event("b")) + partition.idle(SETTLE)
    assert told([example]) == [("outcome", {"a": 0, "b": 1, "c": 0})]
    assert example.outcomes == [None, "click", None]
    assert example.request_id == "r"
    assert example.features == shown.features
    assert (example.model_version, example.feature_set, example.experiments) == ("7", "test", {"layer": "arm"})
    assert example.ts == T0 + S


def test_further_positives_tell_their_item_only() -> None:
    partition = Partition.of()
    examples = partition.read(slate(), event("b"), event("c", T0 + 2 * S), event("b", T0 + 3 * S)) + partition.idle(
        S * 9
    )
    assert told(examples) == [("outcome", {"a": 0, "b": 1, "c": 0}), ("outcome", {"a": -1, "b": -1, "c": 1})]
    assert partition.logic.counts["nothing_new"] == 1


def test_slate_without_positive_is_negative_when_its_time_is_up() -> None:
    partition = Partition.of()
    assert partition.read(slate()) + partition.idle(10 * MINUTE + SETTLE - 1) == []
    (example,) = partition.idle(1)
    assert told([example]) == [("expired", {"a": 0, "b": 0, "c": 0})]
    assert partition.idle(60 * MINUTE) == []


def test_late_positive_corrects_the_negative() -> None:
    """R25."""
    partition = Partition.of()
    partition.read(slate())
    assert len(partition.idle(20 * MINUTE)) == 1
    assert told(partition.read(event("a")) + partition.idle(S)) == [("outcome", {"a": 1, "b": -1, "c": -1})]


def test_stream_time_moves_without_the_wall_clock() -> None:
    """R24: a replay of old events sees their time."""
    partition = Partition.of()
    far = T0 + 11 * MINUTE
    examples = partition.read(slate(), event("z", far, request_id=None), slate("r2", "u2", far))
    assert told(examples) == [("expired", {"a": 0, "b": 0, "c": 0})]


def test_backlog_of_one_topic_does_not_make_the_other_late() -> None:
    partition = Partition.of()
    assert partition.read(slate(), slate("r2", "u2", T0 + 60 * MINUTE)) == []
    assert told(partition.read(event("c"), event("z", T0 + 60 * MINUTE, user_id="u3", request_id=None))) == [
        ("outcome", {"a": 0, "b": 0, "c": 1})
    ]


def test_event_of_the_future_does_not_move_time_beyond_the_wall_clock() -> None:
    """R24."""
    partition = Partition.of()
    partition.now = T0
    partition.read(slate(), event("z", T0 + 30 * MINUTE, user_id="u2", request_id=None))
    assert partition.idle(5 * MINUTE) == []
    assert len(partition.idle(6 * MINUTE)) == 1


def test_event_without_request_id_belongs_to_the_latest_slate_that_showed_the_item() -> None:
    partition = Partition.of()
    partition.read(
        slate("r1"),
        slate("r2", ts=T0 + 10 * S),
        slate("r3", ts=T0 + 20 * S, items=["x"]),
        slate("r4", ts=T0 + 60 * S),
        slate("r5", "other", ts=T0 + 15 * S),
        event("a", T0 + 30 * S, request_id=None),
    )
    (example,) = partition.idle(SETTLE)
    assert example.request_id == "r2"


@pytest.mark.parametrize(
    ("named", "name"),
    [
        (event("x"), "not_shown"),
        (event("a", T0 + 31 * MINUTE), "after_window"),
        (event("a", request_id="gone"), None),
    ],
)
def test_positive_that_the_named_slate_does_not_explain_is_counted(named: object, name: str | None) -> None:
    """R25: another slate that showed the item may explain it; without one it is no example."""
    partition = Partition.of()
    partition.read(slate(), named)  # type: ignore[arg-type]
    examples = [example for example in partition.idle(60 * MINUTE) if example.reason != "expired"]
    if name is None:
        assert partition.logic.counts["unknown_request"] == 1
        assert told(examples) == [("outcome", {"a": 1, "b": 0, "c": 0})]
    else:
        assert examples == []
        assert partition.logic.counts[name] == partition.logic.counts["organic"] == 1


def test_slate_of_another_user_is_not_the_cause() -> None:
    partition = Partition.of()
    assert partition.read(slate(), event("a", user_id="u2")) + partition.idle(SETTLE) == []
    assert partition.logic.counts["organic"] == 1


def test_outcome_waits_for_its_impression() -> None:
    partition = Partition.of()
    assert partition.read(event("a")) + partition.idle(20 * S) == []
    assert told(partition.read(slate()) + partition.idle(0)) == [("outcome", {"a": 1, "b": 0, "c": 0})]


def test_outcome_does_not_wait_for_ever() -> None:
    partition = Partition.of()
    assert partition.read(event("a")) + partition.idle(33 * S) == []
    assert partition.logic.counts["organic"] == partition.logic.counts["unknown_request"] == 1


def test_explicit_negative_is_told_at_once() -> None:
    partition = Partition.of()
    examples = partition.read(slate(), event("a", kind="hide"), event("b", T0 + 2 * S)) + partition.idle(20 * MINUTE)
    assert told(examples) == [("outcome", {"a": 0, "b": -1, "c": -1}), ("outcome", {"a": -1, "b": 1, "c": 0})]
    assert examples[0].outcomes == ["hide", None, None]


def test_explicit_negative_takes_back_a_positive_but_not_a_negative() -> None:
    partition = Partition.of()
    partition.read(slate(), event("a"), event("a", T0 + 2 * S, kind="dislike"), event("b", T0 + 3 * S, kind="dislike"))
    assert told(partition.idle(20 * MINUTE)) == [
        ("outcome", {"a": 1, "b": 0, "c": 0}),
        ("outcome", {"a": 0, "b": -1, "c": -1}),
    ]


def test_other_events_give_no_examples() -> None:
    partition = Partition.of()
    others = [event("x", T0 + i, kind=kind) for i, kind in enumerate(["impression", "undo", "hide"])]
    others.append(event("x", kind="rating", value=1.0))
    assert partition.read(*others) + partition.idle(60 * MINUTE) == []


def test_repeated_events_and_slates_change_nothing() -> None:
    """R23."""
    partition = Partition.of()
    once = partition.read(slate(), slate(), event("a"), event("a"), event("z", request_id=None)) + partition.idle(S * 9)
    assert len(once) == partition.logic.counts["organic"] == 1
    assert partition.read(slate(), event("a"), event("z", request_id=None)) + partition.idle(60 * MINUTE) == []
    assert partition.logic.counts["organic"] == 1


def test_memory_is_bounded_and_what_is_dropped_is_told() -> None:
    partition = Partition.of(Rules(max_slates_per_user=2, max_slate_bytes=9000, max_held=3, max_recent=5))
    examples = partition.read(*[slate(f"r{i}", ts=T0 + i) for i in range(5)])
    assert [example.request_id for example in examples] == ["r0", "r1", "r2"]
    examples = partition.read(*[slate(f"s{i}", f"u{i}", ts=T0 + i) for i in range(50)])
    assert 40 < len(examples) == partition.logic.counts["evicted_slates"] - 3
    partition.read(*[event("z", T0 + i, request_id=None) for i in range(10)])
    assert partition.logic.counts["organic"] == partition.logic.counts["hurried"] == 7


def test_slates_that_were_dropped_leave_nothing_behind() -> None:
    """Those of ten minutes of many lists are more than memory holds."""
    partition = Partition.of(Rules(max_slate_bytes=2**20))
    items = [f"{n}".zfill(120) for n in range(20)]
    tracemalloc.start()
    try:
        for i in range(6000):
            partition.read(slate(f"r{i}", f"u{i}", T0 + i, items))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert partition.logic.counts["evicted_slates"] > 5700
    assert used < 4 * 2**20, "of some 18 MiB in their messages"
    assert partition.idle(60 * MINUTE)
    assert partition.logic.counts["expired"] == 6000


def test_message_that_is_no_record_is_counted_and_left_out() -> None:
    partition = Partition.of()
    broken = partition.batch([slate()])._replace(values=[b"\xc1"])
    partition.logic.apply(broken, partition.now)
    assert partition.logic.counts["undecodable"] == 1


def test_next_due_is_when_time_alone_makes_something_certain() -> None:
    partition = Partition.of()
    partition.read(slate())
    assert partition.logic.next_due(partition.now) is None
    partition.reach_ends()
    assert partition.logic.next_due(partition.now) == partition.now + 10 * MINUTE + SETTLE


def test_snapshot_of_another_layout_is_refused() -> None:
    snapshot = Attribution(Rules()).snapshot(0)
    snapshot.version = 99
    with pytest.raises(SnapshotVersionError, match="expected snapshot layout 1, got 99"):
        Snapshot.decode(snapshot.encode())


def test_slate_cannot_wait_longer_than_the_window() -> None:
    with pytest.raises(ValueError, match="window"):
        Rules(wait=timedelta(hours=1))


def test_nothing_is_told_of_an_erased_user() -> None:
    """R27: neither of slates, nor of outcomes that wait, nor of slates of before that come later."""
    partition = Partition.of()
    partition.read(slate(), event("b"), event("x", request_id="awaited"))
    erasure = CleanEvent("erasure", "erase", "u", None, T0 + 2 * S)
    assert partition.read(erasure) == []
    assert partition.read(slate("late")) == []
    assert partition.idle(60 * MINUTE) == []
    examples = partition.read(slate("new", ts=T0 + 3 * S), event("a", T0 + 4 * S, request_id="new"))
    assert [example.request_id for example in examples + partition.idle(SETTLE)] == ["new"]
