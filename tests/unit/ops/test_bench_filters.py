"""What `freshet bench filters` measures, at a size at which it takes no time."""

from itertools import pairwise

import numpy as np
import pytest

from online_models.catalogue.expressions import parse
from online_models.replica import Replica
from online_models.users.profiles import apply_event
from ops.bench.brute_force import Retrieval, best_by_ranker, nearest, recall
from ops.bench.filters import SHARES, filter_of, labelled, tag_of
from ops.traffic.simulator import World
from state.entries import CATALOGUE
from state.records import CleanEvent, UserProfile
from tests.unit.online_models.synthetic import System

NOW_MS = 1_750_000_000_000
N_ITEMS = 8000


@pytest.fixture(scope="module")
def world() -> World:
    return World(N_ITEMS, 40, seed=1)


@pytest.fixture(scope="module")
def people() -> dict[str, UserProfile]:
    return {}


@pytest.fixture(scope="module")
def replica(world: World, people: dict[str, UserProfile]) -> Replica:
    system = System()
    items = {item.item_id: item for item in labelled(world)}
    events = [
        CleanEvent(event.event_id, event.type, event.user_id, event.item_id, event.ts, value=event.value)
        for event in world.history(2500, NOW_MS)
    ]
    system.learner.learn_events(events)
    for event in events:
        genres = items[event.item_id or ""].genres
        apply_event(people.setdefault(event.user_id, UserProfile()), event, genres)
    system.commit()
    replica = system.replica()
    replica.apply({CATALOGUE: items})
    return replica


def test_a_filter_keeps_its_share_each_within_the_one_before(world: World) -> None:
    kept = [{item.item_id for item in labelled(world) if tag_of(share) in item.tags} for share in SHARES]
    assert [len(of) for of in kept] == [4000, 800, 80, 8, 1]
    assert all(few < many for many, few in pairwise(kept))


@pytest.mark.parametrize("share", SHARES)
def test_what_the_ranker_likes_best_of_all_that_match_is_retrieved(
    replica: Replica, people: dict[str, UserProfile], share: float
) -> None:
    """R3: filtered lists are still personalised: recall@100 against brute force."""
    retrieval, expression = Retrieval(replica, NOW_MS), parse(filter_of(share))
    recalls = []
    for profile in list(people.values())[:10]:
        best = best_by_ranker(replica, profile, expression, NOW_MS, 100)
        recalls.append(recall(retrieval.candidates(profile, expression), best))
    assert np.mean(recalls) >= 0.95


@pytest.mark.parametrize("share", SHARES[:3])
def test_the_nearest_by_vector_of_what_matches_are_found(
    replica: Replica, people: dict[str, UserProfile], share: float
) -> None:
    """R3: filters work inside retrieval."""
    allowed = replica.matching(parse(filter_of(share)))
    for profile in list(people.values())[:10]:
        found, best = nearest(replica, profile.recent[-1].item_id, allowed, NOW_MS, 100)
        assert recall(found.tolist(), best.tolist()) >= 0.95


def test_recall_is_of_the_best_and_whole_where_there_are_none() -> None:
    assert recall(["a", "b", "x"], ["a", "b", "c", "d"]) == 0.5
    assert recall(["a"], []) == 1.0
