import numpy as np
import pytest

from online_models.arrays import Noise, Slots
from online_models.embeddings import ContextEmbedding

N_ITEMS = 40


def new_model() -> ContextEmbedding:
    model = ContextEmbedding()
    model.reserve(N_ITEMS)
    for slot in range(N_ITEMS):
        model.add(slot, f"i{slot}")
    return model


def learn(model: ContextEmbedding, n: int, seed: int = 1) -> None:
    """Users of one half of the items, and of the other."""
    rng = np.random.default_rng(seed)
    targets = np.arange(N_ITEMS, dtype=np.int32)
    for _ in range(n):
        half = rng.choice(N_ITEMS // 2, size=6, replace=False) + rng.choice([0, N_ITEMS // 2])
        picked: Slots = half.astype(np.int32)
        model.learn_one(int(picked[0]), picked[1:], np.ones(5, dtype=np.float32), targets, N_ITEMS)


def test_items_that_are_taken_together_become_near() -> None:
    model = new_model()
    learn(model, 3000)
    user = model.user_vector(np.array([0, 1, 2], dtype=np.int32), np.ones(3, dtype=np.float32))
    scores = model.predict_many(np.arange(N_ITEMS, dtype=np.int32), user)
    assert scores[: N_ITEMS // 2].mean() > scores[N_ITEMS // 2 :].mean() + 0.3


def test_twins_agree_and_predicting_changes_nothing() -> None:
    model = new_model()
    learn(model, 500)
    before = model.vectors.copy()
    user = model.user_vector(np.array([3, 30], dtype=np.int32), np.array([1.0, 0.3], dtype=np.float32))
    many = model.predict_many(np.arange(N_ITEMS, dtype=np.int32), user)
    assert many == pytest.approx(np.array([model.predict_one(s, user) for s in range(N_ITEMS)]), abs=1e-12)
    assert np.array_equal(model.vectors, before)


def test_a_restored_model_learns_on_identically() -> None:
    model = new_model()
    learn(model, 300)
    restored = ContextEmbedding()
    restored.reserve(N_ITEMS)
    for slot in range(N_ITEMS):
        restored.restore(slot, model.row(slot))
    restored.noise.drawn = model.noise.drawn
    for each in (model, restored):
        learn(each, 300, seed=2)
    assert np.array_equal(model.vectors, restored.vectors)


def test_the_same_events_give_the_same_vectors() -> None:
    models = [new_model(), new_model()]
    for model in models:
        learn(model, 200)
    assert np.array_equal(models[0].vectors, models[1].vectors)


def test_what_changes_is_told() -> None:
    model = new_model()
    learn(model, 50)
    model.changed.clear()
    before = model.vectors.copy()
    learn(model, 1, seed=9)
    assert set(np.flatnonzero((model.vectors != before).any(axis=1)).tolist()) <= model.changed


def test_a_user_without_history_has_no_direction() -> None:
    model = new_model()
    nobody = model.user_vector(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32))
    assert model.predict_many(np.arange(N_ITEMS, dtype=np.int32), nobody).tolist() == [0.0] * N_ITEMS


@pytest.mark.parametrize("drawn", [0, 7, 4090, 4096, 9000])
def test_restored_noise_goes_on_identically(drawn: int) -> None:
    noise = Noise(5)
    while noise.drawn < drawn:
        noise.uniform(1)
    restored = Noise(5, noise.drawn)
    assert [noise.uniform(6).tolist() for _ in range(4)] == [restored.uniform(6).tolist() for _ in range(4)]
