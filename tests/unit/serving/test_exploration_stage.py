"""Exploration as a request asks for it."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from serving.contract.queries import ListQuery
from serving.pipelines.impressions import impression_of
from serving.pipelines.slate import Slate
from serving.pipelines.stages import Rerank, Select
from tests.unit.serving.fakes import FakeReplica, a_slate, all_candidates, item_ids


def explored(request_id: str, share: float = 0.5, limit: int = 10) -> Slate:
    replica = FakeReplica([[]] * 40)
    replica.n_events[30:] = replica.shown[30:] = 3.0
    query = ListQuery(limit=limit, exploration=share)
    slate = a_slate(replica, user_id="u", request_id=request_id, query=query)
    slate.candidates = all_candidates(replica)
    for stage in (Rerank(), Select()):
        stage.run(slate)
    return slate


def test_only_items_of_little_exposure_are_tried_out_and_each_propensity_is_logged() -> None:
    """R16"""
    n_tried = 0
    for n in range(200):
        slate = explored(f"r{n}")
        logged = impression_of(slate)
        tried = [int(item[1:]) >= 30 for item in logged.items]
        assert not tried[0]
        assert logged.propensities[0] == 1.0
        assert {slot in slate.explored for slot in slate.candidates.slots[tried].tolist()} <= {True}
        for was_tried, propensity in zip(tried[1:], logged.propensities[1:], strict=True):
            assert propensity == pytest.approx(0.5) if not was_tried else 0.0 < propensity <= 0.5
        n_tried += sum(tried)
    assert n_tried / (200 * 9) == pytest.approx(0.5, abs=0.04)


def test_a_request_id_gives_one_list() -> None:
    """R16: deterministic by request id."""
    assert item_ids(explored("r1")) == item_ids(explored("r1"))
    assert len({tuple(item_ids(explored(f"r{n}"))) for n in range(20)}) > 10


def test_without_exploration_everything_is_certain() -> None:
    """R16"""
    slate = explored("r", share=0.0)
    assert impression_of(slate).propensities == [1.0] * 10
    assert item_ids(slate) == [f"i{n}" for n in range(10)]


def test_propensities_follow_their_items() -> None:
    """R16"""
    slate = explored("r1")
    slate.candidates = dataclasses.replace(slate.candidates, propensities=np.linspace(0.1, 1.0, 10))
    kept = slate.candidates.take(np.array([3, 1]))
    assert kept.propensities == pytest.approx([0.4, 0.2])


def tried(replica: FakeReplica) -> Counter[int]:
    """Return how often each item was tried out in 100 lists."""
    counts: Counter[int] = Counter()
    for n in range(100):
        slate = a_slate(replica, user_id="u", request_id=f"r{n}", query=ListQuery(limit=10, exploration=0.5))
        slate.candidates = all_candidates(replica)
        Rerank().run(slate)
        counts.update(slate.explored)
    return counts


def test_what_was_shown_often_and_never_taken_is_hardly_tried_out_any_more() -> None:
    """R16: the evidence is impressions: nobody does anything with an item that nobody wants."""
    replica = FakeReplica([[]] * 40)
    replica.n_events[30:] = 0.0
    replica.shown[30:], replica.shown[30:32], replica.taken[32] = 10.0, 200.0, 9.0
    found = tried(replica)
    assert set(found) <= set(range(30, 40))
    assert found[32] > 1.5 * found[33]
    assert found[30] + found[31] < found[33]
    replica.shown[30:32] = 300.0
    assert not {30, 31} & set(tried(replica))


def test_of_many_the_least_exposed_are_tried_out() -> None:
    """R15: a new item does not wait until all others are known."""
    replica = FakeReplica([[]] * 400)
    replica.n_events[:] = replica.shown[:] = 20.0
    replica.n_events[380:] = replica.shown[380:] = 0.0
    assert set(range(380, 400)) <= set(tried(replica))
