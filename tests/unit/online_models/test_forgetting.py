"""What fades is forgotten, and memory is bounded whatever the length of the stream (R14)."""

import numpy as np

from online_models.engine.factors import RANK, Factors
from online_models.engine.history import History
from online_models.engine.items import N_EVENTS, ItemTable
from online_models.engine.neighbours import Neighbours
from online_models.engine.pool import LARGEST, SMALLEST, Pool, allocate, release
from online_models.engine.rings import Rings


def test_blocks_never_overlap() -> None:
    """Allocations and releases in any order, also of a pool that is used up."""
    rng = np.random.default_rng(0)
    pool = Pool(2048)
    held: dict[int, int] = {}
    refused = 0
    for _ in range(5000):
        if held and rng.random() < 0.48:
            start = int(rng.choice(list(held)))
            release(pool.ids, pool.heads, start, held.pop(start))
            continue
        size = SMALLEST << int(rng.integers(0, 6))
        start = allocate(pool.ids, pool.heads, pool.top, size)
        if start < 0:
            refused += 1
            continue
        held[start] = size
        taken = np.concatenate([np.arange(a, a + n) for a, n in held.items()])
        assert len(np.unique(taken)) == len(taken)
        assert taken.max() < 2048
    assert refused > 0
    assert pool.n_free == 2048 - sum(held.values())


def test_a_full_pool_still_begins_new_lists() -> None:
    pool = Pool(4096)
    while allocate(pool.ids, pool.heads, pool.top, LARGEST) >= 0:
        pass
    assert allocate(pool.ids, pool.heads, pool.top, SMALLEST) >= 0


def test_lists_of_a_used_up_pool_replace_their_weakest() -> None:
    lists = Neighbours(max_pairs=512)
    rng = np.random.default_rng(0)
    for k in range(3000):
        history = rng.integers(0, 200, 15).astype(np.int32)
        lists.learn_one(
            history, np.full(15, float(k)), np.ones(15, np.bool_), int(rng.integers(0, 200)), float(k), True
        )
    assert len(lists.ids) == 512
    assert lists.fill > 0.9
    assert (lists.sizes <= lists.rooms).all()


def test_no_pair_points_at_a_forgotten_item() -> None:
    lists = Neighbours()
    rng = np.random.default_rng(0)
    for k in range(2000):
        history = rng.integers(0, 100, 15).astype(np.int32)
        lists.learn_one(
            history, np.full(15, float(k)), np.ones(15, np.bool_), int(rng.integers(0, 100)), float(k), True
        )
    lists.changed.take()
    gone = np.array([3, 50, 99], np.int32)
    before = {slot: lists.pairs(slot)[0].tolist() for slot in range(100)}
    free = lists.pool.n_free
    lists.forget(gone)
    assert lists.pool.n_free == free + 3 * 128  # 99 neighbours each
    for slot in range(100):
        kept = [] if slot in gone else [k for k in before[slot] if k not in gone]
        assert lists.pairs(slot)[0].tolist() == kept
    assert not set(lists.changed.take().tolist()) & set(gone.tolist())


def test_forgotten_users_leave_rings_and_gramian() -> None:
    model = Factors()
    table = ItemTable()
    model.add_item(0, str(0))
    for user in range(300):
        model.append(user, 0, True)
        model.learn_one(user, 0, np.array([0], np.int32), np.array([True]), 1)
    table.learn_one(0, 1.0, True, 0, 0)
    model.forget_users(np.arange(100, 200, dtype=np.int32))
    left = {entry >> 1 for entry in model.rings.of(0).tolist()}
    assert left == set(range(44, 100)) | set(range(200, 300))
    assert model.rings.totals[0] == 300 * 156 // 256
    x = model.users[0].astype(float)
    assert np.allclose(model.gram_users[0], x.T @ x, atol=1e-6)
    model.append(400, 0, False)
    assert model.rings.of(0)[-1] == 800
    model.forget(np.array([0], np.int32), table)
    assert np.allclose(model.gram_items, 0.0, atol=1e-9)


def test_a_ring_keeps_the_newest() -> None:
    rings = Rings(4)
    for k in range(1000):
        rings.append(2, k)
    assert sorted(rings.of(2).tolist()) == list(range(1000 - LARGEST, 1000))
    other = Rings(4)
    other.restore(2, rings.row(2))
    for ring in (rings, other):
        ring.append(2, 1000)
    assert rings.of(2).tolist() == other.of(2).tolist()
    assert sorted(rings.of(2).tolist()) == list(range(1001 - LARGEST, 1001))


def test_a_history_forgets() -> None:
    user = History(0)
    for k in (1, 2, 3, 2, 4):
        user.append(k, float(k), True)
    gone = np.zeros(5, np.bool_)
    gone[2] = True
    user.forget(gone)
    assert user.items.tolist() == [1, 3, 4]
    assert user.seen.tolist() == [1, 3, 4]
    assert user.n == 5
    user.append(2, 9.0, False)
    assert user.times.tolist() == [1.0, 3.0, 4.0, 9.0]


def test_memory_stays_flat_while_items_come_and_go() -> None:
    """Ten times as many items as there are slots: the oldest make room."""
    bound, n_users, length = 400, 50, 8000
    table, lists, model = ItemTable(bound), Neighbours(bound, max_pairs=30_000), Factors(0, bound)
    users = [History(0) for _ in range(n_users)]
    rng = np.random.default_rng(0)
    free, slot_of = list(range(bound)), {}
    n_forgotten = 0
    for k in range(length):
        name = k // 2 + int(rng.integers(-60, 1))
        at, t = int(rng.integers(0, n_users)), 60.0 * k
        if name not in slot_of:
            if not free:
                gone = table.oldest(bound // 20)
                flags = np.zeros(bound, np.bool_)
                flags[gone] = True
                table.forget(gone)
                lists.forget(gone)
                model.forget(gone, table)
                for user in users:
                    user.forget(flags)
                slot_of = {other: slot for other, slot in slot_of.items() if not flags[slot]}
                free = gone.tolist()
                n_forgotten += len(free)
            slot_of[name] = free.pop()
            model.add_item(slot_of[name], str(name))
        item, user = slot_of[name], users[at]
        table.learn_one(item, t, True, user.n, k)
        lists.learn_one(user.items, user.times, user.positive, item, t, True)
        user.append(item, t, True)
        model.append(at, item, True)
        model.learn_one(at, item, user.items, user.positive, user.n)
        model.refresh(np.array([item], np.int32), table)
    assert n_forgotten > 7 * bound
    assert len(table.counts) == len(lists.sizes) == model.items.shape[1] == bound
    assert len(lists.ids) <= 30_000
    known = np.flatnonzero(table.counts[:, N_EVENTS])
    assert len(known) <= bound
    assert set(model.active.tolist()) <= set(known.tolist())
    pointed = {int(other) for slot in range(bound) for other in lists.pairs(slot)[0]}
    assert pointed <= set(known.tolist())
    y = model.items[0].astype(float)
    assert np.allclose(model.gram_items[0], y.T @ y, atol=1e-4)
    assert y.shape == (bound, RANK)
