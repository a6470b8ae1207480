import numpy as np
import pytest

from online_models.vector_index import VectorIndex, unit

N_ITEMS, DIM = 600, 32


class Vectors:
    dim = DIM

    def __init__(self) -> None:
        self.vectors = np.zeros((N_ITEMS, DIM), np.float32)


def clustered(embedding: Vectors, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(30, embedding.dim))
    embedding.vectors[:N_ITEMS] = centres[rng.integers(30, size=N_ITEMS)] + 0.4 * rng.normal(
        size=(N_ITEMS, embedding.dim)
    )


def new_index(exact_below: int = 0, exact_among: int = 20_000) -> tuple[Vectors, VectorIndex]:
    embedding = Vectors()
    clustered(embedding)
    index = VectorIndex(lambda: embedding.vectors, DIM, exact_below=exact_below, exact_among=exact_among)
    index.changed(range(N_ITEMS))
    return embedding, index


def recall(embedding: Vectors, index: VectorIndex, k: int = 50) -> float:
    hits = 0
    for query in embedding.vectors[:40]:
        exact = np.argsort(-(unit(embedding.vectors[:N_ITEMS]) @ unit(query)))[:k]
        hits += len(set(exact.tolist()) & set(index.search(query, k)[0].tolist()))
    return hits / (40 * k)


def test_the_index_finds_nearly_what_an_exact_search_finds() -> None:
    embedding, index = new_index()
    index.maintain(60.0)
    assert len(index) == N_ITEMS
    assert recall(embedding, index) > 0.95


@pytest.mark.parametrize("exact_among", [0, 20_000], ids=["overfetched", "looked at each"])
@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_a_filtered_search_finds_the_nearest_of_what_is_allowed(share: float, exact_among: int) -> None:
    """R3: as many as there are, however few."""
    embedding, index = new_index(exact_among=exact_among)
    index.maintain(60.0)
    allowed = np.zeros(N_ITEMS + 10, np.bool_)
    allowed[np.random.default_rng(1).permutation(N_ITEMS)[: int(share * N_ITEMS)]] = True
    slots = np.flatnonzero(allowed)
    hits = n_best = 0
    for query in embedding.vectors[:40]:
        best = slots[np.argsort(-(unit(embedding.vectors[slots]) @ unit(query)))[:50]]
        found = index.search(query, 50, allowed)[0]
        assert allowed[found].all()
        hits += len(set(best.tolist()) & set(found.tolist()))
        n_best += len(best)
    assert hits / n_best > 0.95


@pytest.mark.parametrize("maintained", [False, True])
def test_scores_are_those_of_the_current_vectors(maintained: bool) -> None:
    embedding, index = new_index()
    if maintained:
        index.maintain(60.0)
    embedding.vectors += np.float32(0.02)
    query = embedding.vectors[3]
    slots, scores = index.search(query, 20)
    assert slots[0] == 3
    assert scores == pytest.approx(unit(embedding.vectors[slots]) @ unit(query), abs=1e-6)


def test_it_follows_vectors_that_move_and_is_rebuilt() -> None:
    embedding, index = new_index()
    index.maintain(60.0)
    for seed in range(1, 4):
        clustered(embedding, seed)
        index.changed(range(N_ITEMS))
        index.maintain(60.0)
    assert len(index) == N_ITEMS
    assert recall(embedding, index) > 0.95


def test_a_vector_that_hardly_moved_is_not_added_again() -> None:
    embedding, index = new_index()
    index.maintain(60.0)
    embedding.vectors *= np.float32(1.01)
    index.changed(range(N_ITEMS))
    index.maintain(60.0)
    assert index._n_moved == 0


def test_maintenance_keeps_to_its_budget_and_goes_on_later() -> None:
    _, index = new_index()
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    assert index.maintain(2.5, clock)  # by this clock, time for two steps: which have moved, and some of these
    assert 0 < len(index) < N_ITEMS / 10
    assert not index.maintain(60.0)
    assert len(index) == N_ITEMS


def test_an_item_that_is_forgotten_while_it_waits_is_not_added() -> None:
    _, index = new_index()
    now = iter(range(100))
    index.maintain(2.5, lambda: float(next(now)))
    index.forget(range(N_ITEMS))
    assert not index.maintain(60.0)
    assert len(index) == 0


@pytest.mark.parametrize("exact_below", [0, 10_000])
def test_a_forgotten_item_is_not_found(exact_below: int) -> None:
    embedding, index = new_index(exact_below)
    index.maintain(60.0)
    index.forget([7])
    assert 7 not in index.search(embedding.vectors[7], 100)[0]


def test_before_it_is_built_all_items_are_looked_at() -> None:
    embedding, index = new_index()
    assert recall(embedding, index) == 1.0


def test_an_empty_index_finds_nothing() -> None:
    index = VectorIndex(lambda: Vectors().vectors, DIM)
    assert len(index.search(np.ones(32, dtype=np.float32), 10)[0]) == 0
