from datetime import timedelta

from flows.common.in_step import InStep

A, B, OTHER = ("a", 0), ("b", 0), ("b", 1)
SPAN_MS = 60_000


def in_step() -> InStep:
    return InStep({A, B, OTHER}, timedelta(milliseconds=SPAN_MS))


def test_topic_far_ahead_waits_until_the_other_has_come_near() -> None:
    steps = in_step()
    steps.read(A, 1_000, at_end=False)
    steps.read(B, 1_000 + SPAN_MS + 1, at_end=False)
    assert steps.waiting() == {B}
    steps.read(A, 1_001, at_end=False)
    assert steps.waiting() == set()


def test_nothing_waits_for_a_topic_that_is_read_to_its_end() -> None:
    steps = in_step()
    steps.read(B, 1_000_000, at_end=False)
    assert steps.waiting() == {B}  # nobody knows yet what `a` has
    steps.read(A, None, at_end=True)
    assert steps.waiting() == set()


def test_partitions_do_not_wait_for_each_other() -> None:
    steps = in_step()
    steps.read(A, 1_000, at_end=False)
    steps.read(B, 1_000, at_end=False)
    steps.read(OTHER, 9_000_000, at_end=False)
    assert steps.waiting() == set()
