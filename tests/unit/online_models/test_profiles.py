import itertools
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.users import profiles
from online_models.users.profiles import apply_event, apply_session_event, disliked, hidden, liked, saved, seen
from online_models.users.view import UserView
from state.records import CleanEvent, ProfileToFold, SessionProfile, UserProfile

START = 1_700_000_000_000
DAY = 24 * 3600 * 1000
GENRES = {"a": ("drama",), "b": ("drama", "war"), "c": ()}

events_of_one_user = st.lists(
    st.builds(
        lambda kind, item, at, stars, undone: CleanEvent(
            "id", kind, "u", item, START + at, value=stars if kind == "rating" else undone if kind == "undo" else None
        ),
        st.sampled_from(["view", "click", "like", "dislike", "save", "hide", "rating", "undo", "impression"]),
        st.sampled_from(sorted(GENRES)),
        st.integers(0, 12),  # narrow: many events at the same time
        st.integers(0, 10),
        st.sampled_from([None, "like", "dislike", "save", "hide", "rating"]),
    ),
    max_size=12,
)


def event(
    kind: str, item: str | None = "a", at: int = 0, value: float | str | None = None, **more: object
) -> CleanEvent:
    return CleanEvent("id", kind, "u", item, START + at, value=value, **more)  # type: ignore[arg-type]


def fold(*events: CleanEvent) -> UserProfile:
    profile = UserProfile()
    for each in events:
        apply_event(profile, each, GENRES.get(each.item_id or "", ()))
    return profile


def without_rounding(profile: UserProfile) -> UserProfile:
    folded = msgspec.structs.replace(
        profile,
        affinity={genre: round(weight, 9) for genre, weight in sorted(profile.affinity.items()) if round(weight, 9)},
    )
    folded.activity.panes = dict(sorted(folded.activity.panes.items()))
    return folded


@given(events_of_one_user, st.randoms(use_true_random=False))
def test_order_of_arrival_does_not_matter(events: list[CleanEvent], random: object) -> None:
    """R24."""
    shuffled = list(events)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = without_rounding(fold(*events)), without_rounding(fold(*shuffled))
    # Evidence is decayed to the newest evidence, which an undo may have been: compare at one time.
    now = START + DAY
    assert profiles.affinity_at(one, now) == pytest.approx(profiles.affinity_at(other, now), abs=1e-6)
    for profile in one, other:
        profile.affinity, profile.affinity_ts = {}, 0
    assert one == other


@given(events_of_one_user, st.integers(0, 12))
def test_a_profile_that_is_read_back_to_be_folded_into_goes_on_alike(events: list[CleanEvent], n_before: int) -> None:
    """Its steps are encoded until an event comes that may belong before them."""
    whole, profile = fold(*events), fold(*events[:n_before])
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(profile), type=ProfileToFold)
    for each in events[n_before:]:
        apply_event(read, each, GENRES.get(each.item_id or "", ()))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(read), type=UserProfile) == whole


def test_sessions_of_steps_that_are_encoded_are_known() -> None:
    """R27: an erasure forgets them."""
    folded = fold(event("click", session_id="s1"), event("view", at=1), event("click", at=2, session_id="s2"))
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(folded), type=ProfileToFold)
    assert profiles.sessions(read) == profiles.sessions(folded) == {"s1", "s2"}


@given(events_of_one_user)
def test_standing_feedback_equals_a_replay_in_event_order(events: list[CleanEvent]) -> None:
    """R5: brute force over the events sorted by time; an undo comes after feedback of the same time."""
    standing: dict[str, set[str]] = {}
    ordered = sorted(events, key=lambda e: (e.ts, e.type == "undo", e.type != "like"))
    for each in ordered:
        kinds = standing.setdefault(each.item_id or "", set())
        if each.type in ("like", "dislike"):
            kinds -= {"like", "dislike"}
        if each.type in ("like", "dislike", "save", "hide"):
            kinds.add(each.type)
        if each.type == "undo":
            kinds -= {"like", "dislike", "save", "hide"} if each.value is None else {str(each.value)}
    profile = fold(*events)
    for kind, found in ("like", liked), ("dislike", disliked), ("save", saved), ("hide", hidden):
        assert found(profile) == {item for item, kinds in standing.items() if kind in kinds}


@given(events_of_one_user)
def test_counts_recents_and_seen_equal_brute_force(events: list[CleanEvent]) -> None:
    """R11."""
    profile = fold(*events)
    assert profile.activity.counts == Counter(each.type for each in events)
    consumed = [each for each in events if each.type in profiles.INTERACTIONS]
    assert [step.ts for step in profile.recent] == sorted(each.ts for each in consumed)
    assert seen(profile) == {each.item_id for each in consumed}
    for item, ts in profile.seen.items():
        assert ts == max(each.ts for each in consumed if each.item_id == item)


def test_like_and_dislike_exclude_each_other_and_the_later_event_stands() -> None:
    """R5, R24."""
    for order in itertools.permutations([event("like", at=1), event("dislike", at=2)]):
        profile = fold(*order)
        assert (liked(profile), disliked(profile)) == (set(), {"a"})


def test_undo_takes_back_one_kind_or_all() -> None:
    """R5."""
    said = [event("like", at=1), event("save", at=2), event("hide", at=3), event("rating", at=4, value=8)]
    one = fold(*said, event("undo", at=5, value="hide"))
    assert (hidden(one), liked(one), saved(one)) == (set(), {"a"}, {"a"})
    assert one.ratings == {"a": 0.8}
    everything = fold(*said, event("undo", at=5))
    assert everything.feedback == everything.ratings == {}


def test_an_undo_older_than_the_feedback_does_nothing() -> None:
    """R5, R24."""
    for order in itertools.permutations([event("undo", at=1, value="hide"), event("hide", at=2)]):
        assert hidden(fold(*order)) == {"a"}


def test_taken_back_feedback_leaves_no_affinity() -> None:
    for order in itertools.permutations([event("like", "b", at=1), event("undo", "b", at=DAY)]):
        profile = fold(*order)
        assert all(abs(weight) < 1e-9 for weight in profile.affinity.values())


def test_affinity_halves_in_its_half_life_and_dislikes_count_against() -> None:
    """R11."""
    profile = fold(event("like", "b"))
    before = profiles.affinity_at(profile, START)
    after = profiles.affinity_at(profile, START + profiles.AFFINITY_HALF_LIFE_MS)
    assert before["drama"] > 0
    assert after == pytest.approx({genre: weight / 2 for genre, weight in before.items()})
    assert fold(event("dislike", "a")).affinity["drama"] < 0
    assert fold(event("rating", "a", value=2)).affinity["drama"] < 0


def test_onboarding_answers_are_affinity_and_history() -> None:
    """R15."""
    profile = UserProfile()
    answers = event("onboarding", None, context={"genres": ["war"], "items": ["a"], "other": 3})
    apply_event(profile, answers, GENRES["a"])
    assert set(profile.affinity) == {"war", "drama"}
    assert [step.item_id for step in profile.recent] == ["a"]
    assert seen(profile) == set()


def test_profile_is_bounded_and_keeps_the_newest() -> None:
    profile = UserProfile()
    n = profiles.MAX_FEEDBACK + 1000
    apply_event(profile, event("hide", "hidden", at=0), ())
    for index in range(n):
        apply_event(profile, event("rating", f"i{index}", at=index + 1, value=3), (f"g{index % 200}",))
    assert len(profile.recent) == profiles.MAX_RECENT
    assert profile.recent[-1].item_id == f"i{n - 1}"
    assert profiles.MAX_SEEN <= len(profile.seen) <= 1.1 * profiles.MAX_SEEN
    assert {f"i{index}" for index in range(n - profiles.MAX_SEEN, n)} <= seen(profile)
    assert len(profile.feedback_ts) <= 1.1 * profiles.MAX_FEEDBACK
    assert len(profile.ratings) <= 1.1 * profiles.MAX_FEEDBACK
    assert hidden(profile) == {"hidden"}
    assert len(profile.affinity) <= 1.1 * profiles.MAX_GENRES


def test_late_step_goes_where_it_belongs_in_a_session() -> None:
    """R7, R24."""
    session = SessionProfile(user_id="u")
    for at, item in (5, "b"), (9, "c"), (1, "a"):
        step = event("click", item, at=at, session_id="s")
        apply_session_event(session, step, profiles.step_of(step))
    assert [step.item_id for step in session.recent] == ["a", "b", "c"]
    assert (session.first_ts, session.last_ts) == (START + 1, START + 9)
    assert session.activity.counts == {"click": 3}


def test_dislikes_stand_newest_first_and_their_items_are_no_steps() -> None:
    """R5: what was disliked tells nothing of what somebody would take next."""
    profile = UserProfile()
    said = [("click", "a"), ("dislike", "b"), ("click", "c"), ("dislike", "c"), ("dislike", "d"), ("undo", "d")]
    for n, (kind, item) in enumerate(said):
        apply_event(profile, CleanEvent(f"e{n}", kind, "u", item, 1000 + n), [])
    assert profiles.newest_disliked(profile) == ["c", "b"]
    assert list(UserView.of(profile, 2000).items) == ["a", "b", "c", "c", "d"]
    view = UserView.of(profile, 2000, disliked(profile))
    assert (list(view.items), view.n_events) == (["a", "d"], 5)
