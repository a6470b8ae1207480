from hypothesis import given
from hypothesis import strategies as st

from flows.pacing import Pacer


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
        assert pacer.due_at is not None
        now = pacer.due_at
        pacer.flushed(now, now + cost)
        now += cost
        spent += cost
    assert spent <= 0.21 * now + cost
