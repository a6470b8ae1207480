"""Stages, sources and filters over a small fake replica."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from online_models.users import profiles
from serving.contract.queries import ListQuery
from serving.memory.users import KnownUser
from serving.pipelines.filters import Excluded, HiddenByUser, Seen, Servable, Wanted
from serving.pipelines.impressions import impression_of
from serving.pipelines.reasons import reasons
from serving.pipelines.slate import Slate
from serving.pipelines.sources import Consumed, Matching, Model, Popular, TextMatch, Trending
from serving.pipelines.stages import (
    MAX_SCORED,
    BlendText,
    Drop,
    Hydrate,
    Rank,
    Rerank,
    Retrieve,
    Score,
    ScoreBy,
    Select,
)
from state.records import CleanEvent, UserProfile
from tests.unit.serving.fakes import BrokenSource, FakeReplica, FakeSource, a_slate, all_candidates, item_ids


def a_user(hidden: Sequence[str] = (), seen: Sequence[str] = ()) -> KnownUser:
    profile = UserProfile()
    for n, (item, kind) in enumerate([(i, "hide") for i in hidden] + [(i, "click") for i in seen]):
        profiles.apply_event(profile, CleanEvent(f"e{n}", kind, "u", item, 10**12 + n), [])
    return KnownUser("u", profile, frozenset(hidden))


def full_slate(replica: FakeReplica, **fields: Any) -> Slate:
    slate = a_slate(replica, **fields)
    slate.candidates = all_candidates(replica)
    return slate


def test_at_most_three_of_one_genre_among_the_first_ten() -> None:
    """R9"""
    replica = FakeReplica(
        [["Drama"]] * 20 + [["War"]] * 4 + [["Comedy", "War"]] * 4 + [["Horror"]] * 4 + [["SciFi"]] * 4
    )
    slate = full_slate(replica)
    Rerank().run(slate)
    top = [slate.genres(slot) for slot in slate.candidates.slots[:10].tolist()]
    assert max(sum(genre in of_item for of_item in top) for genre in ("Drama", "War", "Comedy", "Horror")) == 3
    assert item_ids(slate)[:3] == ["i0", "i1", "i2"]
    assert sorted(item_ids(slate)) == sorted(f"i{n}" for n in range(36))
    assert slate.relaxed == {}


def test_a_genre_cap_that_the_candidates_cannot_meet_is_relaxed_and_says_so() -> None:
    """R9"""
    slate = full_slate(FakeReplica([["Drama"]] * 12 + [["War"]]))
    Rerank().run(slate)
    assert item_ids(slate)[:6] == ["i0", "i1", "i2", "i12", "i3", "i4"]
    assert slate.relaxed == {"genres": 6}


def test_items_without_genre_break_no_cap() -> None:
    slate = full_slate(FakeReplica([[]] * 12))
    Rerank().run(slate)
    assert item_ids(slate) == [f"i{n}" for n in range(12)]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_scores_sink(bad: float) -> None:
    slate = full_slate(FakeReplica([[]] * 3, scores=[bad, 0.1, 0.9]))
    Rank().run(slate)
    assert item_ids(slate) == ["i2", "i1", "i0"]


def test_equal_scores_keep_the_order_of_retrieval() -> None:
    slate = full_slate(FakeReplica([[]] * 50, scores=[0.5] * 50))
    Rank().run(slate)
    assert item_ids(slate) == [f"i{n}" for n in range(50)]


def test_filters_count_what_they_dropped() -> None:
    """R3, R5"""
    slate = full_slate(
        FakeReplica([["A"]] * 6 + [["B"]] * 2, hidden={5}),
        query=ListQuery(exclude=["i4", "unknown"], genre=["A"], explain=True),
        user=a_user(hidden=["i0"], seen=["i1", "i2"]),
    )
    Drop(HiddenByUser(), Servable(lambda: ["i3"]), Excluded(), Wanted(), Seen()).run(slate)
    assert item_ids(slate) == []
    assert slate.notes == {"hidden_by_user": 1, "not_servable": 2, "excluded": 1, "not_wanted": 2, "seen": 2}


@pytest.mark.parametrize(("seen", "expected"), [("hide", ["i0"]), ("show", ["i0", "i1"]), ("only", ["i1"])])
def test_seen_items_are_left_out_shown_or_shown_alone(seen: Any, expected: list[str]) -> None:
    """R4"""
    slate = full_slate(FakeReplica([[]] * 2), query=ListQuery(seen=seen), user=a_user(seen=["i1"]))
    Drop(Seen()).run(slate)
    assert item_ids(slate) == expected


class Broken:
    name = "broken"

    def __init__(self, fails_closed: bool) -> None:
        self.fails_closed = fails_closed

    def keep(self, slate: Slate, slots: Any) -> Any:
        raise ArithmeticError


@pytest.mark.parametrize(("fails_closed", "n_left"), [(True, 0), (False, 3)])
def test_a_broken_filter_that_protects_lets_nothing_through(fails_closed: bool, n_left: int) -> None:
    """R5, R10"""
    slate = full_slate(FakeReplica([[]] * 3))
    Drop(Broken(fails_closed)).run(slate)
    assert len(slate.candidates) == n_left
    assert slate.degraded == {"filter broken": "failed: ArithmeticError"}


def test_sources_are_merged_in_their_order_and_every_item_knows_its_sources() -> None:
    """R1, R8"""
    slate = a_slate(FakeReplica([[]] * 6))
    Hydrate().run(slate)
    Retrieve(Model(FakeSource("one", [0, 1, 2])), Model(FakeSource("two", [2, 3]))).run(slate)
    assert item_ids(slate) == ["i0", "i1", "i2", "i3"]
    named = {
        slate.replica.item_id(s): slate.sources_of(b)
        for s, b in zip(slate.candidates.slots.tolist(), slate.candidates.sources.tolist(), strict=True)
    }
    assert named == {"i0": ["one"], "i1": ["one"], "i2": ["one", "two"], "i3": ["two"]}
    assert slate.notes == {"one": 3, "two": 2}


def test_a_source_that_fails_is_left_out_and_named() -> None:
    """R10"""
    slate = a_slate(FakeReplica([[]] * 6))
    Hydrate().run(slate)
    Retrieve(Model(FakeSource("one", [0])), Model(BrokenSource("missing", []))).run(slate)
    assert item_ids(slate) == ["i0"]
    assert slate.degraded == {"source missing": "failed: ArithmeticError"}


def test_a_narrow_filter_gets_all_its_items() -> None:
    """R3"""
    replica = FakeReplica([["Common"]] * 990 + [["Rare"]] * 10)
    slate = a_slate(replica, query=ListQuery(genre=["Rare"], limit=20))
    Hydrate().run(slate)
    Retrieve(Matching(), Model(FakeSource("one", range(300))), Popular()).run(slate)
    Drop(Wanted()).run(slate)
    Score().run(slate)
    assert sorted(item_ids(slate)) == sorted(f"i{n}" for n in range(990, 1000))
    assert not slate.degraded
    assert np.isfinite(slate.candidates.scores).all()


class FakeText:
    """Everything matches, the first items best."""

    n_pending = 0

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items
        self.asked: list[tuple[int, int | None]] = []

    def search(self, text: str, k: int, among: Any = None) -> tuple[list[str], Any]:
        self.asked.append((k, None if among is None else len(among)))
        found = [f"i{n}" for n in range(min(k, self.n_items))] if among is None else list(among)
        return found, np.linspace(1.0, 0.5, len(found), dtype=np.float32)


@pytest.mark.parametrize(
    ("genres", "asked", "n_matching"),
    [
        (["Common", "Rare"] * 3000, [(1604, None)], 802),
        (["Common"] * 2000 + ["Rare"] * 4000, [(1203, None), (5000, None)], 3000),
        (["Common"] * 1500 + ["Rare"] * 2001, [(1403, None), (5000, None)], 2001),
        (["Common"] * 4000 + ["Rare"] * 2000, [(401, 2000)], 2000),
    ],
    ids=["evenly", "against the text", "few hits", "few items"],
)
def test_a_filtered_search_looks_at_as_many_hits_as_it_needs(
    genres: list[str], asked: list[tuple[int, int | None]], n_matching: int
) -> None:
    """R3: enough that match, or all of the first 5000."""
    slate = a_slate(FakeReplica([[genre] for genre in genres]), query=ListQuery(genre=["Rare"]), text="words")
    text = FakeText(len(genres))
    found = TextMatch(text).retrieve(slate)  # type: ignore[arg-type]
    assert text.asked == asked
    assert sum(genres[slot] == "Rare" for slot in found.tolist()) == n_matching
    assert slate.relevance is not None
    assert (np.diff(slate.relevance[found]) < 0).all()


def test_a_list_is_full_for_who_has_consumed_all_popular_items() -> None:
    """R4"""
    replica = FakeReplica([[]] * 1000)
    slate = a_slate(replica, user=a_user(seen=[f"i{n}" for n in range(800)]))
    Hydrate().run(slate)
    Retrieve(Popular(k=200)).run(slate)
    Drop(Seen()).run(slate)
    assert item_ids(slate)[0] == "i800"
    assert len(slate.candidates) == 200


def test_consumed_items_are_candidates_only_when_asked_for() -> None:
    slate = a_slate(FakeReplica([[]] * 9), query=ListQuery(seen="only"), user=a_user(seen=["i3", "i7"]))
    found = Consumed().retrieve(slate)
    assert found is not None
    assert found.tolist() == [7, 3]
    assert Consumed().retrieve(a_slate(FakeReplica([[]] * 9), user=a_user(seen=["i3"]))) is None


def test_one_vectorised_pass_scores_a_bounded_number_of_candidates() -> None:
    """R8, R13"""
    slate = full_slate(FakeReplica([[]] * 700))
    Hydrate().run(slate)
    Score().run(slate)
    assert len(slate.candidates) == MAX_SCORED
    assert slate.candidates.features is not None
    assert slate.candidates.features.shape == (MAX_SCORED, 2)
    assert slate.model == ("fake", "7")


def test_without_the_ranker_popularity_orders() -> None:
    """R10"""
    slate = full_slate(FakeReplica([[]] * 4, scores=[0.1, 0.2, 0.3, 0.4]))
    Score().fallback(slate)
    Rank().run(slate)
    assert item_ids(slate) == ["i0", "i1", "i2", "i3"]
    assert slate.model == ("popular", "1")


def test_what_a_window_does_not_hold_comes_behind_with_nothing() -> None:
    slate = full_slate(FakeReplica([[]] * 5))
    ScoreBy(Trending()).run(slate)
    Rank().run(slate)
    assert item_ids(slate) == ["i2", "i1", "i0", "i3", "i4"]
    assert slate.candidates.scores.tolist()[3:] == [0, 0]


def test_a_history_that_cannot_be_resolved_is_an_unknown_user() -> None:
    slate = full_slate(FakeReplica([[]] * 2), user=a_user(seen=["i1"]))
    Hydrate().fallback(slate)
    assert slate.context is not None


def test_an_impression_holds_the_values_that_scored_the_list() -> None:
    """R13"""
    slate = full_slate(FakeReplica([[]] * 5, scores=[0.1, 0.5, 0.3, 0.2, 0.4]), user_id="u", query=ListQuery(limit=2))
    slate.source_names = ("one",)
    Hydrate().run(slate)
    for stage in (Score(), Rank(), Select()):
        stage.run(slate)
    impression = impression_of(slate)
    assert impression.items == ["i1", "i4"]
    chances = np.exp([0.1, 0.5, 0.3, 0.2, 0.4])
    assert impression.scores == pytest.approx(chances[[1, 4]] / chances.sum())
    logged = np.frombuffer(impression.features, "<f4").reshape(3, 2)
    assert logged == pytest.approx(np.array([[1, 0.5], [4, 0.4], [2, 0.3]]))  # the last: the mean of all five
    assert (impression.sources, impression.propensities) == ([["one"], ["one"]], [1.0, 1.0])
    assert (impression.model, impression.model_version, impression.degraded) == ("fake", "7", None)


def test_a_score_that_is_no_number_is_logged_as_zero() -> None:
    slate = full_slate(FakeReplica([[]] * 1, scores=[float("nan")]), user_id="u")
    assert impression_of(slate).scores == [0.0]


def test_no_candidates_is_an_empty_list() -> None:
    slate = a_slate(FakeReplica([]), user_id="u")
    Hydrate().run(slate)
    for stage in (Retrieve(Popular()), Drop(Seen(), Excluded()), Score(), Rank(), Rerank(), Select()):
        waiting = stage.run(slate)
        assert waiting is None
    assert len(slate.candidates) == 0


def test_taste_orders_what_matches_a_text_alike_and_no_more() -> None:
    """R2"""
    slate = full_slate(FakeReplica([["Drama"]] * 4, scores=[0.1, 0.2, 0.3, 0.9]))
    slate.relevance = np.array([4.0, 4.0, 8.0, 5.0])
    BlendText().run(slate)
    Rank().run(slate)
    assert item_ids(slate) == ["i2", "i3", "i1", "i0"]
    slate = full_slate(FakeReplica([["Drama"]] * 3, scores=[np.nan, 5.0, 1.0]))
    slate.relevance = np.array([1.0, 2.0, 3.0])
    BlendText().fallback(slate)
    assert slate.candidates.scores.tolist() == [1 / 3, 2 / 3, 1.0]


def test_a_list_because_of_an_item_says_so() -> None:
    """R1, R2"""
    replica = FakeReplica([["Drama"]] * 2)
    reason = reasons(a_slate(replica, surface="because", anchor=1))
    assert reason(replica.item(0), ["covisitation", "popular"]) == "Because you took Title 1"
    assert reason(replica.item(0), ["popular"]) == "Popular now"


def test_under_load_a_list_is_still_as_long_as_was_asked_for_and_has_another_page() -> None:
    """R4, R10"""
    slate = full_slate(FakeReplica([["Drama"]] * 90), query=ListQuery(limit=80))
    Hydrate().run(slate)
    slate.max_scored = 60
    Score().run(slate)
    Select().run(slate)
    assert (len(slate.candidates), slate.has_more) == (80, True)
