"""What is remembered, and for how long (R23)."""

from hypothesis import given
from hypothesis import strategies as st

from flows.clean.deduplication import RecentIds, fingerprint

HOUR = 3_600_000
START = 1_790_000_000_000


def test_what_was_added_is_known() -> None:
    ids = RecentIds()
    assert ids.known([1, 2]) == [False, False]
    ids.add([1, -5], START, START, START)
    assert ids.known([1, 2, -5, 1]) == [True, False, True, True]
    assert ids.known([]) == []


@given(
    st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), max_size=20),
    st.lists(st.integers(-(2**63), 2**63 - 1)),
)
def test_nothing_is_forgotten_below_the_capacity(batches: list[list[int]], others: list[int]) -> None:
    ids = RecentIds(capacity=400 + 25)  # in generations of 26
    added: set[int] = set()
    for batch in batches:
        ids.add(batch, START, START, START)
        added.update(batch)
    asked = [*added, *others]
    assert ids.known(asked) == [number in added for number in asked]
    assert ids.n_evicted == 0


def test_above_the_capacity_the_oldest_go_and_are_counted() -> None:
    ids = RecentIds(capacity=160)
    for start in range(0, 1000, 10):
        ids.add(range(start, start + 10), START, START, START)
    assert len(ids) <= 160
    assert ids.n_evicted == 1000 - len(ids)
    assert all(ids.known(range(900, 1000)))
    assert not any(ids.known(range(800)))


def test_an_id_is_forgotten_only_when_it_is_old_by_event_time_and_by_arrival() -> None:
    day = 24 * HOUR
    for event_age, arrival_age, kept in (
        (day - 1, 3 * HOUR, True),
        (3 * day, HOUR - 1, True),
        (day + 1, HOUR + 1, False),
    ):
        ids = RecentIds(capacity=160)
        ids.add(range(10), START, START, START)
        ids.add(range(10, 20), START + event_age, START + event_age, START + arrival_age)
        assert all(ids.known(range(10))) is kept


def test_a_late_event_keeps_its_generation_no_shorter() -> None:
    ids = RecentIds(capacity=160)
    ids.add(range(9), START, START, START)
    ids.add([9], START - 100 * HOUR, START, START)
    ids.add(range(10, 20), START + 23 * HOUR, START + 23 * HOUR, START + 23 * HOUR)
    assert all(ids.known(range(20)))


def test_the_same_id_of_two_users_is_two_events() -> None:
    assert fingerprint("u", "1") != fingerprint("v", "1")
    assert fingerprint("u", "1") == fingerprint("u", "1")
