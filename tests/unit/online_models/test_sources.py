import numpy as np
import pytest

from online_models.sources import Candidates, default_sources, union
from online_models.user_view import UserView
from state.records import Item
from tests.unit.online_models.synthetic import GENRES, System, catalogue, tastes


@pytest.fixture(scope="module")
def system() -> System:
    system = System()
    for item in catalogue():
        system.learner.learn_item(item.item_id, item)
    system.learner.columns.index.changed(range(400))
    system.learn(tastes())
    return system


def retrieve(system: System, user: str, k: int = 100) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    context = system.learner.context(system.learner.histories.of(user), system.now_ms)
    return {source.name: source.retrieve(context, k) for source in default_sources(system.learner)}


def test_every_source_gives_distinct_items_best_first(system: System) -> None:
    """R8: several sources, hundreds of candidates."""
    retrieved = retrieve(system, "u5")
    assert set(retrieved) == {"covisitation", "collaborative", "popular", "trending", "content", "exploration"}
    for name, (slots, scores) in retrieved.items():
        assert len(slots) == len(set(slots.tolist())) == len(scores) > 0, name
        assert slots.dtype == np.int32, name
        if name != "popular":
            assert (np.diff(scores) <= 1e-6).all(), name


def test_a_user_without_history_gets_candidates(system: System) -> None:
    """R15."""
    retrieved = retrieve(system, "nobody")
    assert len(retrieved["popular"][0]) == 100
    assert len(retrieved["covisitation"][0]) == len(retrieved["collaborative"][0]) == 0


def test_the_union_names_every_source_of_an_item_and_keeps_the_best_of_each(system: System) -> None:
    retrieved = retrieve(system, "u2")
    candidates = union(system.learner.columns, retrieved, 60)
    assert len(candidates.slots) == len(set(candidates.slots.tolist())) == 60
    for index, slot in enumerate(candidates.slots.tolist()):
        assert candidates.names(index) == [n for n, (slots, _) in retrieved.items() if slot in slots]
    for name, (slots, _) in retrieved.items():
        assert slots[0] in candidates.slots, name


def test_the_union_leaves_out_what_it_is_told_to(system: System) -> None:
    retrieved = retrieve(system, "u2")
    first = union(system.learner.columns, retrieved, 500)
    assert not np.isin(union(system.learner.columns, retrieved, 500, first.slots[:50]).slots, first.slots[:50]).any()


def test_the_union_of_nothing_is_empty(system: System) -> None:
    assert len(union(system.learner.columns, {}, 10).slots) == 0
    assert isinstance(
        union(system.learner.columns, {"none": (np.empty(0, np.int32), np.empty(0, np.float32))}, 10), Candidates
    )


def test_new_items_of_the_users_taste_are_found_by_content_and_exploration() -> None:
    """R15, R16."""
    system = System()
    for item in catalogue(80):
        system.learner.learn_item(item.item_id, item)
    system.learn(tastes(n_items=80))
    for k in range(8):
        system.learner.learn_item(f"new{k}", Item(item_id=f"new{k}", genres=[GENRES[k]]))
    retrieved = retrieve(system, "u3", k=12)
    own = system.learner.items.get("new3")
    assert own in retrieved["content"][0]
    assert own in retrieved["exploration"][0]


def test_a_view_of_items_stands_for_somebody_who_just_took_them() -> None:
    view = UserView.of_items(("a", "b"), 5)
    assert (view.items, view.times, view.n_events) == (("a", "b"), (5, 5), 2)
