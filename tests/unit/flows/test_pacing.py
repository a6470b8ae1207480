from hypothesis import given
from hypothesis import strategies as st

from flows.common.pacing import Pacer


def test_nothing_dirty_is_never_due() -> None:
    pacer = Pacer()
    assert pacer.due_at is None
    assert not pacer.is_due(1e9)


def test_first_change_is_flushed_after_the_delay_however_many_follow() -> None:
    """R12."""
    pacer = Pacer(delay=0.02)
    pacer.touch(10.0)
    pacer.touch(10.015)
    assert not pacer.is_due(10.019)
    assert pacer.is_due(10.0201)


def test_costly_flush_is_followed_by_rest_but_not_beyond_the_limit() -> None:
    pacer = Pacer(delay=0.02, share=0.2, at_most=1.0)
    pacer.touch(0.0)
    pacer.flushed(0.02, 0.12)
    pacer.touch(0.13)
    pacer.touch(0.5)
    assert pacer.due_at == 0.12 + 0.1 * 4
    pacer.flushed(0.6, 2.6)
    pacer.touch(2.7)
    assert pacer.due_at == 2.7 + 1.0


@given(st.floats(0.0001, 0.2))
def test_flushing_takes_at_most_its_share_of_the_time(cost: float) -> None:
    pacer = Pacer(delay=0.02, share=0.2, at_most=1.0)
    now = spent = 0.0
    for _ in range(100):
        pacer.touch(now)
        while not pacer.is_due(now):
            now += 0.01
            pacer.touch(now)
        pacer.flushed(now, now + cost)
        now += cost
        spent += cost
    assert spent <= 0.21 * now + cost


def test_what_is_written_when_changes_pause_takes_time_from_none() -> None:
    pacer = Pacer(share=0.1, at_most=8.0, quiet=0.1)
    pacer.touch(0.0)
    pacer.flushed(0.02, 0.52)
    pacer.touch(0.6)
    pacer.touch(0.9)
    assert pacer.due_at == 0.9 + 0.5
    pacer.flushed(1.4, 1.41)
    pacer.touch(1.42)
    assert pacer.due_at == 1.41 + 0.01 * 9, "earlier than a pause would be noticed"


def test_behind_the_log_a_flush_waits_for_more_changes() -> None:
    pacer = Pacer(delay=0.02, at_most=3.0, quiet=0.1)
    pacer.flushed(-1.0, -1.0)
    for n in range(100):
        pacer.touch(n / 20, behind=60.0)
        assert pacer.is_due(n / 20) == (n / 20 >= 3.0)
    pacer.flushed(5.0, 5.0)
    pacer.touch(6.0, behind=60.0)
    assert pacer.due_at == 6.0 + 0.1, "nothing came for a while"


def test_far_behind_it_waits_for_as_long_as_it_is_behind() -> None:
    """R11: what is written then is not fresh, and is soon written again."""
    pacer = Pacer(delay=0.02, late=1.0, at_most=6.0, quiet=10.0)
    pacer.flushed(-1.0, -1.0)
    pacer.touch(0.0, behind=0.8)
    assert pacer.due_at == 0.4
    pacer.touch(0.1, behind=2.0)
    assert pacer.due_at == 2.0


def test_the_first_flush_after_a_restart_is_soon_however_far_behind() -> None:
    """R23: the output moves again."""
    pacer = Pacer(delay=0.02)
    pacer.touch(0.0, behind=60.0)
    assert pacer.due_at == 0.02


def test_a_little_behind_it_waits_a_little() -> None:
    """R12."""
    pacer = Pacer(delay=0.02)
    pacer.flushed(-1.0, -1.0)
    pacer.touch(0.0, behind=0.1)
    assert pacer.due_at == 0.05
    pacer.touch(0.04, behind=0.01)
    assert pacer.due_at == 0.02, "it has caught up"
