"""`freshet doctor`: which processes of a flow read nothing, and which only say that they do."""

import pytest

from ops.lag import PartitionLag
from ops.operating.groups import Group, Member, judge


def member(name: str, *partitions: int) -> Member:
    return Member(name, "10.0.0.1", frozenset(("events", partition) for partition in partitions))


def looks(*positions: int, seconds: float = 5.0) -> list[PartitionLag]:
    """Return a look at as many partitions of ten messages each."""
    return [PartitionLag("clean", "events", p, at, 10, 10 - at, seconds, None) for p, at in enumerate(positions)]


NOTHING_WAITS = looks(10, 10)
BOTH = [member("a", 0), member("b", 1)]


@pytest.mark.parametrize(
    ("state", "members", "before", "after", "level", "found"),
    [
        ("stable", BOTH, NOTHING_WAITS, NOTHING_WAITS, "ok", "a at 10.0.0.1 (1), b at 10.0.0.1 (1)"),
        ("stable", BOTH, looks(3, 4), looks(4, 5), "ok", "members"),
        ("empty", [], NOTHING_WAITS, NOTHING_WAITS, "failed", "no process takes part"),
        ("dead", [], NOTHING_WAITS, NOTHING_WAITS, "failed", "no process takes part"),
        ("preparing rebalance", BOTH, looks(3, 4), looks(3, 4), "warning", "divided anew (preparing rebalance)"),
        ("stable", BOTH[:1], looks(3, 4), looks(3, 4), "failed", "nobody reads events[1]"),
        (
            "stable",
            [*BOTH, member("c")],
            looks(3, 4),
            looks(4, 5),
            "warning",
            "idle, without a partition: c at 10.0.0.1",
        ),
        ("stable", BOTH, looks(3, 4), looks(4, 4), "failed", "b at 10.0.0.1 takes nothing from events[1]"),
        # It moves on in one of its partitions: late, and no more.
        ("stable", [member("a", 0, 1)], looks(3, 4), looks(4, 4), "ok", "a at 10.0.0.1 (2)"),
        # What came between the two looks has not waited yet.
        ("stable", BOTH, NOTHING_WAITS, looks(9, 9), "ok", "members"),
    ],
)
def test_members_of_a_group_are_judged_one_by_one(
    state: str, members: list[Member], before: list[PartitionLag], after: list[PartitionLag], level: str, found: str
) -> None:
    """R28"""
    finding = judge("clean", Group(state, members), before, after)
    assert finding.level == level
    assert found in finding.found
    assert (finding.remedy is None) == (level == "ok")


def test_a_flow_that_gathers_does_not_hang() -> None:
    """R28"""
    still = looks(3, 4, seconds=20.0)
    assert judge("lake", Group("stable", BOTH), still, still, gathers_s=90).level == "ok"
    assert judge("lake", Group("stable", BOTH), still, still, gathers_s=10).level == "failed"
