"""What is left of more items than can be scored."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from online_models.catalogue.expressions import parse
from online_models.engine import inputs
from online_models.engine.context import Context
from online_models.engine.items import POP_SLOW
from online_models.replica import Replica
from online_models.shortlist import N_SAMPLED, hints, line, shortlist
from online_models.sources import Content
from online_models.users.view import UserView
from state.entries import CATALOGUE
from state.records import Item
from tests.unit.online_models.synthetic import System, catalogue, tastes

N_ITEMS = 6000
N_WANTED = 100


@pytest.fixture(scope="module")
def system() -> System:
    system = System()
    items = catalogue(N_ITEMS)
    for item in items:
        system.learner.learn_item(item.item_id, item)
    system.learn(tastes(n_users=80, n_events=20, n_items=N_ITEMS))
    return system


@pytest.fixture(scope="module")
def replica(system: System) -> Replica:
    replica = system.replica()
    years = {n: str(1950 + n % 70) for n in range(N_ITEMS)}
    items = (Item(item_id=i.item_id, genres=i.genres, release_date=years[n]) for n, i in enumerate(catalogue(N_ITEMS)))
    replica.apply({CATALOGUE: {item.item_id: item for item in items}})
    return replica


@pytest.fixture
def contexts(system: System, replica: Replica) -> Iterator[Context]:
    """Yield one user after the other, with what it has taken kept out."""

    def of_users() -> Iterator[Context]:
        for profile in list(system.profiles.values())[:10]:
            context = replica.context(UserView.of(profile, system.now_ms))
            context.bar(replica.slots(profile.seen))
            yield context

    return of_users()


def column(name: str) -> int:
    return inputs.NAMES.index(name)


def test_what_the_ranker_likes_best_is_kept(replica: Replica, contexts: Iterator[Context]) -> None:
    """R3: recall@100 against brute force, of an eighth of the items."""
    recalls = []
    for context in contexts:
        slots = context.allowed()
        scores = replica.ranking.score(context.inputs(slots))
        best = slots[np.argsort(-scores, kind="stable")[:N_WANTED]]
        found = shortlist(context, replica.ranking.score, slots, len(slots) // 8)
        assert len(set(found.tolist())) == len(found) == len(slots) // 8
        recalls.append(len(np.intersect1d(found, best)) / N_WANTED)
    assert np.mean(recalls) >= 0.9


@pytest.mark.parametrize("name", ["taste_slow", "years_old", "pop_8d"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_it_follows_whatever_the_ranker_looks_at(contexts: Iterator[Context], name: str, sign: float) -> None:
    """R3: another ranker, another choice."""

    def score(features: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(sign * features[:, column(name)], np.float32)

    context = next(contexts)
    slots = context.allowed()
    scores = score(context.inputs(slots))
    found = score(context.inputs(shortlist(context, score, slots, 1000)))
    assert np.quantile(found, 0.1) >= np.quantile(scores, 0.8)
    assert scores.max() in found


def test_few_items_are_left_as_they_are(contexts: Iterator[Context]) -> None:
    def never(features: NDArray[np.float32]) -> NDArray[np.float32]:
        raise AssertionError("nothing needs to be scored")

    context = next(contexts)
    slots = context.allowed()[:N_SAMPLED]
    assert shortlist(context, never, slots, 10) is slots
    assert not len(shortlist(context, never, slots[:0], 10))


def test_what_is_kept_out_is_not_allowed(replica: Replica, contexts: Iterator[Context]) -> None:
    """R3: neither consumed items nor those that a filter leaves out."""
    context = next(contexts)
    before = context.allowed()
    wanted = replica.matching(parse("genre=War"))
    context.bar(before[:3])
    context.bar_all_but(wanted)
    assert context.allowed().tolist() == [slot for slot in before[3:].tolist() if wanted[slot]]
    assert set(Content(k=N_ITEMS).retrieve(context)) <= set(context.allowed())  # type: ignore[arg-type]


def test_hints_are_the_ranker_s_inputs(replica: Replica, contexts: Iterator[Context]) -> None:
    """R13: with 0 instead of no time since an event that there was not."""
    context = next(contexts)
    slots = context.allowed()
    of_ranker = context.inputs(slots)
    known = replica.columns.items.n_events[slots] > 0
    assert 100 < np.count_nonzero(known) < len(slots) - 100
    found = hints(context, slots)
    of_labels = [column(name) for name in ("taste_slow", "taste_fast", "year_distance", "years_old")]
    assert found[:, :4] == pytest.approx(of_ranker[:, of_labels])
    assert (found[:, 4] == known).all()
    assert found[:, 5] == pytest.approx(of_ranker[:, column("pop_8d")], rel=1e-5)
    assert found[:, 6] == pytest.approx(of_ranker[:, column("positive_share")])
    since = np.where(known, of_ranker[:, column("hours_since_item")], 0.0)
    assert found[:, 7] == pytest.approx(since, rel=1e-5, abs=1e-6)


def test_the_line_is_that_of_the_scores_also_where_an_input_says_nothing() -> None:
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(600, 3)).astype(np.float32)
    seen[:, 1] = 7.0
    weights = line(seen, (2.0 * seen[:, 0] - seen[:, 2] + 5.0).astype(np.float32))
    assert weights == pytest.approx([2.0, 0.0, -1.0], rel=0.01)
    assert line(seen, np.ones(600, np.float32)) == pytest.approx([0.0, 0.0, 0.0])


@pytest.mark.parametrize("k", [5, 300, 2000, N_ITEMS + 1])
@pytest.mark.parametrize("half_life", ["12h", "8d"])
def test_popular_items_of_a_filter_are_those_of_a_full_sort(
    system: System, replica: Replica, k: int, half_life: str
) -> None:
    """R3: without events an item comes last, the lowest slot first."""
    where = replica.matching(parse("genre:any(War,Drama,Horror)"))
    slots = np.flatnonzero(where).astype(np.int32)
    table = replica.columns.items
    popularity = table.popularity(slots, POP_SLOW if half_life == "8d" else table.fast.column, system.now_ms / 1000.0)
    expected = slots[np.lexsort((slots, -popularity))][:k]
    found, counts = replica.popular(k, system.now_ms, half_life, where)
    assert counts == pytest.approx(np.sort(popularity)[::-1][:k])
    assert found.tolist() == expected.tolist()
