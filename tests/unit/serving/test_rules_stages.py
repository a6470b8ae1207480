"""Rules and re-ranking over a small fake replica."""

from typing import Any

import msgspec
import numpy as np
import pytest

from online_models.reranking.rules import ActiveRules
from serving.contract.queries import ListQuery
from serving.pipelines.filters import Permitted
from serving.pipelines.pipeline import Pipeline
from serving.pipelines.slate import Slate
from serving.pipelines.sources import Pinned, Popular, Promoted
from serving.pipelines.stages import Boost, Drop, Rank, Rerank, Retrieve, Select
from state.rules import Rules
from state.validation import InvalidInputError
from tests.unit.serving.fakes import FakeReplica, a_slate, all_candidates, item_ids


def full_slate(replica: FakeReplica, **fields: Any) -> Slate:
    slate = a_slate(replica, **fields)
    slate.candidates = all_candidates(replica)
    return slate


def ruled(**rules: Any) -> ActiveRules:
    return ActiveRules(msgspec.convert(rules, Rules))


def ranked(slate: Slate) -> list[str]:
    for stage in (Drop(Permitted()), Boost(), Rank(), Rerank(), Select()):
        stage.run(slate)
    return item_ids(slate)


def test_blocked_items_and_what_a_policy_denies_are_in_no_list() -> None:
    """R9"""
    rules = ruled(
        blocks=[{"name": "recalled", "items": ["i1"]}, {"name": "no-war", "filter": "genre=War"}],
        policies=[
            {"name": "adults", "deny": "genre=Horror", "users": ["kid"]},
            {"name": "licence", "deny": "genre=Drama", "regions": ["DE"]},
        ],
    )
    replica = FakeReplica([["A"], ["A"], ["War"], ["Horror"], ["Drama"]])

    def shown(user: str, region: str | None) -> list[str]:
        return ranked(full_slate(replica, user_id=user, query=ListQuery(region=region), rules=rules))

    assert shown("anna", "US") == ["i0", "i3", "i4"]
    assert shown("kid", "US") == ["i0", "i4"]
    assert shown("anna", "DE") == ["i0", "i3"]
    assert shown("anna", None) == ["i0", "i3"]  # who does not say where they are


async def test_what_is_blocked_leaves_no_pipeline_even_one_without_filters() -> None:
    """R9, R10: blocks fail closed."""
    slate = a_slate(FakeReplica([["A"]] * 3), rules=ruled(blocks=[{"name": "b", "items": ["i1"]}]))
    await Pipeline("home", Retrieve(Popular()), observe=lambda *_: None).run(slate)
    assert item_ids(slate) == ["i0", "i2"]

    class Unreadable:
        def withheld(self, *_: object) -> None:
            raise ArithmeticError

    slate = a_slate(FakeReplica([["A"]] * 3), rules=Unreadable())
    slate.candidates = all_candidates(slate.replica)
    await Pipeline("home", observe=lambda *_: None).run(slate)
    assert item_ids(slate) == []
    assert slate.degraded == {"rules": "failed: ArithmeticError"}


def test_boosts_multiply_scores() -> None:
    """R9"""
    slate = full_slate(
        FakeReplica([["A"], ["A"], ["B"]], scores=[0.5, 0.4, 0.3]),
        rules=ruled(boosts=[{"name": "b", "filter": "genre=B", "factor": 2}]),
    )
    assert ranked(slate) == ["i2", "i0", "i1"]
    assert slate.candidates.scores[0] == pytest.approx(0.6)


def test_a_pin_has_its_place_and_a_promotion_its_share() -> None:
    """R9"""
    rules = ruled(
        pins=[{"name": "p", "item": "i29", "position": 2}, {"name": "gone", "item": "i99", "position": 0}],
        promotions=[{"name": "new", "filter": "genre=B", "share": 0.2, "among": 10}],
        caps=[],
    )
    replica = FakeReplica([["A"]] * 20 + [["B"]] * 5 + [["C"]] * 5)
    slate = full_slate(replica, rules=rules, query=ListQuery(limit=10))
    assert ranked(slate) == ["i0", "i1", "i29", "i2", "i20", "i3", "i4", "i5", "i6", "i21"]
    other = full_slate(replica, rules=rules, query=ListQuery(limit=10), surface="similar")
    assert ranked(other) == [f"i{n}" for n in range(10)]  # these rules are for `home` by themselves


def test_rules_bring_their_own_candidates() -> None:
    """R9"""
    slate = a_slate(
        FakeReplica([["A"]] * 20 + [["B"]] * 5),
        rules=ruled(
            pins=[{"name": "p", "item": "i19", "position": 0}],
            promotions=[{"name": "new", "filter": "genre=B", "share": 0.5, "among": 2}],
            blocks=[{"name": "b", "items": ["i20"]}],
        ),
    )
    Retrieve(Pinned(), Promoted()).run(slate)
    assert item_ids(slate) == ["i19", "i21", "i22", "i23", "i24"]


def test_near_duplicates_are_shown_together_only_where_nothing_else_is_left() -> None:
    """R9"""
    replica = FakeReplica([[]] * 4)
    replica.unit_vectors[:3] = [[1, 0], [1, 0], [0, 1]]
    slate = full_slate(replica, query=ListQuery(limit=3))
    assert ranked(slate) == ["i0", "i2", "i3"]
    everything = full_slate(replica, query=ListQuery(limit=4))
    assert ranked(everything) == ["i0", "i2", "i3", "i1"]
    assert everything.relaxed == {"near_duplicates": 1}


@pytest.mark.parametrize("n_alike", [0, 55, 75, 110])
def test_the_first_candidates_make_the_list_that_all_make_however_deep_it_reaches(n_alike: int) -> None:
    """R9: what nothing but speed is for changes no list; `explain` looks at all candidates."""
    rng = np.random.default_rng(n_alike)
    drawn = [[f"g{g}" for g in rng.choice(6, rng.integers(0, 3), replace=False)] for _ in range(120 - n_alike)]
    replica = FakeReplica([["War"]] * n_alike + drawn)
    replica.unit_vectors[:] = np.eye(2)[rng.integers(0, 2, 120)] * (rng.random(120) < 0.2)[:, None]
    lists = []
    for explain in (False, True):
        slate = full_slate(replica, query=ListQuery(limit=10, explain=explain))
        lists.append((ranked(slate), slate.relaxed))
    assert lists[0] == lists[1]
    assert len(set(lists[0][0])) == 10


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"blocks": [{"name": "b"}]}, "blocks[0]"),
        ({"boosts": [{"name": "b", "filter": "price<<1", "factor": 2}]}, "boosts[0].filter"),
        (
            {"blocks": [{"name": "x", "items": ["i"]}], "pins": [{"name": "y", "item": "i", "position": 0}]},
            "pins[0].item",
        ),
        ({"blocks": [{"name": "x", "items": ["i"]}, {"name": "x", "items": ["j"]}]}, "blocks[1].name"),
        (
            {"pins": [{"name": "x", "item": "i", "position": 0}, {"name": "y", "item": "j", "position": 0}]},
            "pins[1].position",
        ),
        (
            {"promotions": [{"name": n, "filter": "genre=A", "share": 0.6} for n in ("x", "y")]},
            "promotions[1].share",
        ),
    ],
)
def test_rules_that_nobody_can_mean_are_refused(rules: Any, field: str) -> None:
    """R9"""
    with pytest.raises(InvalidInputError) as refused:
        ruled(**rules)
    assert refused.value.field == field


def test_an_explanation_says_where_an_item_would_be_without_each_rule() -> None:
    """R9"""
    slate = full_slate(
        FakeReplica([["A"]] * 5 + [["B"]] * 5),
        query=ListQuery(limit=6, explain=True),
        rules=ruled(
            pins=[{"name": "pin", "item": "i4", "position": 1}],
            caps=[{"name": "cap", "attribute": "genre", "at_most": 3, "among": 10}],
        ),
    )
    assert ranked(slate) == ["i0", "i4", "i1", "i5", "i6", "i7"]
    told = {item: [(e.rule, e.effect) for e in slate.effects.get(int(item[1:]), [])] for item in item_ids(slate)}
    assert told["i4"] == [("pin", "moved from 7 to 1")]
    assert told["i5"] == [("cap", "moved from 5 to 3")]
    assert told["i0"] == []
    assert slate.ranks[4] == 4
