"""`flows.features.feature_state` over the store in memory."""

from collections import Counter
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.common.batches import KafkaBatch
from flows.features.feature_state import FeatureState
from online_models.users import activity
from state.entries import CATALOGUE, ITEM_ACTIVITY, OVERLAY, SESSION, USER_PROFILE, activity_field
from state.memory_store import AsyncMemoryStore, MemoryStore
from state.records import Activity, CleanEvent, Item, Watermark
from state.store import Changes, StateLostError

START = 1_700_000_000_000
HOUR = 3600 * 1000
FLOW, TOPIC = "features", "clean"


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def build(store: MemoryStore, partitions: Iterable[int] = (0, 1), clock: Clock | None = None) -> FeatureState:
    return FeatureState(store, FLOW, TOPIC, tuple(partitions), clock or Clock())


def event(user: str, item: str | None, kind: str = "view", at: int = 0, **more: object) -> CleanEvent:
    return CleanEvent(f"{user}-{item}-{kind}-{at}", kind, user, item, START + at, **more)  # type: ignore[arg-type]


def batch(events: list[CleanEvent], first_offset: int = 0, partition: int = 0) -> KafkaBatch:
    n = len(events)
    return KafkaBatch(
        TOPIC,
        partition,
        list(range(first_offset, first_offset + n)),
        [each.user_id.encode() for each in events],
        [msgspec.msgpack.encode(each) for each in events],
        [each.ts for each in events],
        first_offset + n,
    )


def item_activity(store: MemoryStore) -> dict[str, Activity]:
    parts: dict[str, list[Activity]] = {}
    for name, part in store.scan_rows(ITEM_ACTIVITY):
        parts.setdefault(name.partition(":")[2], []).append(part)
    return {item: activity.merge(found) for item, found in parts.items()}


logs = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", "u3", "u4"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["view", "like", "undo"]),
        st.integers(0, 30 * HOUR),
    ),
    max_size=40,
)


@given(logs, st.lists(st.integers(0, 40), max_size=5), st.sets(st.integers(0, 40), max_size=3))
def test_counts_are_exact_through_crashes_anywhere(
    log: list[tuple[str, str, str, int]], flushes: list[int], crashes: set[int]
) -> None:
    """R23: what was not committed is read again, what was committed is not."""
    store = MemoryStore()
    by_partition = {p: [event(u, i, k, at) for u, i, k, at in log if (u > "u2") == p] for p in (0, 1)}
    state = build(store)
    offsets = {0: 0, 1: 0}
    step = 0
    while left := [p for p, events in by_partition.items() if offsets[p] < len(events)]:
        partition = left[step % len(left)]
        offset = offsets[partition]
        state.apply(batch(by_partition[partition][offset : offset + 1], offset, partition))
        offsets[partition] += 1
        step += 1
        if step in flushes:
            state.flush()
        if step in crashes:
            state = build(store)
            offsets = {p: state.start().get((TOPIC, p), 0) for p in offsets}
    state.flush()
    for item in ("a", "b", "c"):
        expected = Counter(k for _, i, k, _ in log if i == item)
        assert item_activity(store).get(item, Activity()).counts == expected
    for user in ("u1", "u2", "u3", "u4"):
        (profile,) = store.get_many(USER_PROFILE, [user])
        assert (profile.activity.counts if profile else {}) == Counter(k for u, _, k, _ in log if u == user)


def test_a_partition_moves_between_processes_without_a_trace() -> None:
    """R30: one process, two, one."""
    store = MemoryStore()
    one = build(store)
    one.apply(batch([event("u", "a", at=1)]))
    one.apply(batch([event("v", "a", at=2)], partition=1))
    one.flush()
    left, right = build(store, [0]), build(store, [1])
    left.apply(batch([event("u", "a", at=3)], first_offset=1))
    right.apply(batch([event("v", "b", at=4)], first_offset=1, partition=1))
    left.flush()
    right.flush()
    again = build(store)
    assert again.start() == {(TOPIC, 0): 2, (TOPIC, 1): 2}
    again.apply(batch([event("u", "b", at=5)], first_offset=2))
    again.flush()
    assert {item: found.counts for item, found in item_activity(store).items()} == {"a": {"view": 3}, "b": {"view": 2}}


def test_sessions_and_genres_are_folded_into_their_rows() -> None:
    """R7, R11."""
    store = MemoryStore()
    changes = Changes()
    changes.upsert(CATALOGUE, "a", Item(item_id="a", genres=["war"]))
    store.commit(changes)
    state = build(store)
    state.apply(batch([event("u", "a", at=1, session_id="s"), event("u", "b", "click", at=2, session_id="s")]))
    state.flush()
    (profile,) = store.get_many(USER_PROFILE, ["u"])
    (session,) = store.get_many(SESSION, ["s"])
    assert profile is not None
    assert session is not None
    assert list(profile.affinity) == ["war"]
    assert [step.item_id for step in session.recent] == ["a", "b"]
    assert session.user_id == "u"


def test_item_that_enters_the_catalogue_a_moment_later_is_known_a_second_after() -> None:
    store, clock = MemoryStore(), Clock()
    state = build(store, clock=clock)
    state.apply(batch([event("u", "a")]))
    changes = Changes()
    changes.upsert(CATALOGUE, "a", Item(item_id="a", genres=["war"]))
    store.commit(changes)
    clock.now += 1.1
    state.apply(batch([event("v", "a")], first_offset=1))
    state.flush()
    profiles = store.get_many(USER_PROFILE, ["u", "v"])
    assert [list(profile.affinity) for profile in profiles if profile] == [[], ["war"]]


async def test_feedback_leaves_the_overlay_in_the_commit_that_applies_it() -> None:
    """R5."""
    store = MemoryStore()
    serving = AsyncMemoryStore(store)
    hide, later = event("u", "a", "hide", at=1), event("u", "b", "hide", at=2)
    await serving.add_overlay(hide)
    await serving.add_overlay(later)
    state = build(store)
    state.apply(batch([hide]))
    assert len((await serving.user_state("u")).pending) == 2
    state.flush()
    user = await serving.user_state("u")
    assert user.pending == [later]
    assert user.profile is not None
    assert user.profile.feedback == {"a": ["hide"]}
    assert OVERLAY.key("u") != OVERLAY.key("v")


def test_panes_leave_rows_when_time_passes_without_another_event_of_the_item() -> None:
    """R11: also those that were written before a restart."""
    store = MemoryStore()
    state = build(store)
    state.apply(batch([event("u", "old")]))
    state.flush()
    written = item_activity(store)["old"]
    assert len(written.panes) == 1
    state = build(store)
    state.apply(batch([event("u", "new", at=2 * HOUR)], first_offset=1))
    state.flush()
    assert item_activity(store)["old"] == written, "while a window holds it, it need not be written again"
    state.apply(batch([event("u", "new", at=30 * HOUR)], first_offset=2))
    state.flush()
    rows = item_activity(store)
    assert rows["old"].panes == {}
    assert rows["old"].counts == {"view": 1}


def test_many_rows_expire_over_several_commits() -> None:
    store = MemoryStore()
    state = build(store)
    state.apply(batch([event("u", f"i{n}") for n in range(450)]))
    state.flush()
    state.apply(batch([event("u", "new", at=30 * HOUR)], first_offset=450))
    state.flush()
    stale = [sum(bool(found.panes) for found in item_activity(store).values()) - 1]
    while stale[-1]:
        state.verify()
        stale.append(sum(bool(found.panes) for found in item_activity(store).values()) - 1)
    assert stale == [350, 250, 150, 50, 0]


def test_position_alone_moves_the_watermark_and_keeps_stream_time() -> None:
    store = MemoryStore()
    state = build(store)
    state.apply(batch([event("u", "a", at=5)]))
    state.flush()
    state.apply(KafkaBatch(TOPIC, 0, [], [], [], [], 2))
    state.flush()
    mark = store.watermarks(FLOW)[TOPIC, 0]
    assert (mark.next_offset, mark.stream_ts) == (2, START + 5)
    assert (TOPIC, 1) not in store.watermarks(FLOW)


def test_lost_store_is_noticed_when_idle_and_before_anything_is_written() -> None:
    store = MemoryStore()
    state = build(store)
    state.verify()
    state.apply(batch([event("u", "a")]))
    state.flush()
    state.verify()
    store._watermarks.clear()
    with pytest.raises(StateLostError, match=r"features clean\[0\]"):
        state.verify()
    state.apply(batch([event("v", "b")], first_offset=1))
    with pytest.raises(StateLostError):
        state.flush()
    assert store.get_many(USER_PROFILE, ["v"]) == [None]


def test_second_writer_of_a_partition_is_stopped() -> None:
    store = MemoryStore()
    state, zombie = build(store), build(store)
    state.apply(batch([event("u", "a")]))
    state.flush()
    zombie.apply(batch([event("u", "a"), event("u", "b")]))
    with pytest.raises(StateLostError):
        zombie.flush()
    assert store.watermarks(FLOW)[TOPIC, 0] == Watermark(1, START, int(Clock.now * 1000))
    assert store.get_rows(ITEM_ACTIVITY, [activity_field(0, "a")])[activity_field(0, "a")].counts == {"view": 1}


def test_evicted_values_are_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded memory."""
    monkeypatch.setattr("flows.features.feature_state._PROFILES_BYTES", 10_000)
    monkeypatch.setattr("flows.features.feature_state._ITEMS_BYTES", 10_000)
    store = MemoryStore()
    state = build(store)
    for round_ in range(3):
        for n in range(50):
            state.apply(batch([event(f"u{n}", f"i{n}", at=round_)], first_offset=round_ * 50 + n))
            state.flush()
    assert len(state._profiles) < 10
    profiles = store.get_many(USER_PROFILE, [f"u{n}" for n in range(50)])
    assert [profile and profile.activity.counts for profile in profiles] == [{"view": 3}] * 50
    assert {found.counts["view"] for found in item_activity(store).values()} == {3}


def test_a_row_touched_while_its_expiry_waits_behind_others_still_loses_its_panes_later() -> None:
    """R11: the event drops the pane that was planned to go, so the plan finds nothing to do and has to go on."""
    store = MemoryStore()
    state = build(store)
    state.apply(batch([event("u", f"i{n:03}") for n in range(250)] + [event("u", "last")]))
    state.flush()
    state.apply(batch([event("u", "last", at=25 * HOUR)], first_offset=251))
    for _ in range(5):
        state.flush()
    state.apply(batch([event("u", "new", at=60 * HOUR)], first_offset=252))
    for _ in range(5):
        state.flush()
    assert [item for item, found in item_activity(store).items() if found.panes] == ["new"]


def test_an_erasure_deletes_profile_and_sessions_and_leaves_the_items_counts() -> None:
    """R27"""
    store = MemoryStore()
    state = build(store)
    before = [event("u", "a", session_id="s1"), event("u", "b", "like", 1, session_id="s2"), event("v", "a", at=2)]
    erasure = event("u", None, "erase", 3)
    state.apply(batch(before))
    state.flush()
    state.apply(batch([erasure], 3))
    state.flush()
    assert store.get_many(USER_PROFILE, ["u", "v"])[0] is None
    assert store.get_many(SESSION, ["s1", "s2"]) == [None, None]
    assert item_activity(store)["a"].counts == {"view": 2}
    state.apply(batch([event("u", "c", at=4)], 4))
    state.flush()
    (profile,) = store.get_many(USER_PROFILE, ["u"])
    assert profile is not None
    assert profile.activity.counts == {"view": 1}


def test_an_erasure_also_forgets_what_was_not_committed_yet() -> None:
    """R27"""
    store = MemoryStore()
    state = build(store)
    state.apply(batch([event("u", "a", session_id="s1"), event("u", None, "erase", 1)]))
    state.flush()
    assert store.get_many(USER_PROFILE, ["u"]) == [None]
    assert store.get_many(SESSION, ["s1"]) == [None]
