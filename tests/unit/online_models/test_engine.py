"""The engine learns from each event, causally and in bounded space (R7, R14, R15)."""

import math

import numpy as np
import pytest

from online_models.engine import factors, neighbours, pairs
from online_models.engine.als import RANK
from online_models.engine.content import Content, match, year_of
from online_models.engine.engine import Engine
from online_models.engine.history import HISTORY, SEEN, History
from online_models.engine.inputs import N_INPUTS, NAMES, tastes, write_log_ranks
from online_models.engine.items import CLOCK_FIRST, DAY, N_COUNTS, N_EVENTS, POP_SLOW, TOTAL, ItemTable, stage
from online_models.engine.liking import REGULARISATION, learn_liking
from online_models.engine.retrieval import Workspace
from online_models.learning.learner import Slate
from state.records import Item

GROUPS, SIZE = 6, 12


def play(engine: Engine, n_events: int, seed: int = 0, start: float = 1e9) -> None:
    """Users stay in a group of items."""
    rng = np.random.default_rng(seed)
    for k in range(n_events):
        user = int(rng.integers(0, 80))
        item = (user % GROUPS) * SIZE + int(rng.integers(0, SIZE))
        engine.observe(f"u{user}", f"i{item}", True, 1.0, start + 60.0 * k)


@pytest.fixture(scope="module")
def played() -> Engine:
    engine = Engine()
    play(engine, 1500)
    return engine


def test_lists_follow_the_last_clicks(played: Engine) -> None:
    """R7: one click of an unknown user is enough."""
    played.observe("fresh", "i13", True, 1.0, 1e9 + 1e5)
    found = played.recommend("fresh", 5, 1e9 + 1e5 + 1)
    assert sum(12 <= int(item[1:]) < 24 for item in found) >= 4
    assert "i13" not in found


def test_repeats_only_where_asked(played: Engine) -> None:
    seen = set(played.recommend("u1", 200, 2e9, "all")) - set(played.recommend("u1", 200, 2e9))
    assert seen
    assert all((int(item[1:]) // SIZE) == 1 for item in seen)


def test_an_unknown_user_gets_popular_items(played: Engine) -> None:
    """R15."""
    assert len(played.recommend("nobody", 10, 2e9)) == 10


def test_events_of_one_second_keep_the_order_in_which_they_come() -> None:
    """R13: whatever the items are called, also after a later event that was shown first."""
    engine = Engine()
    for item in "cab":
        engine.observe("u", item, True, 1.0, 1000.0)
    engine.observe("u", "d", True, 1.0, 1001.0)
    engine.observe("u", "e", True, 1.0, 999.0)
    history = engine.learner.users.of("u")
    assert [engine.learner.items.item_id(slot) for slot in history.items.tolist()] == ["e", "c", "a", "b", "d"]
    assert history.times.tolist() == [999.0, 1000.0, 1000.001, 1000.002, 1001.0]


def test_a_list_of_a_second_comes_after_the_users_events_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """R13: the list that is asked for is the one that is learned from."""
    engine = Engine()
    moments: list[float] = []
    slate = engine.learner.slate

    def noted(history: History, t: float, repeats: bool) -> Slate:
        moments.append(t)
        return slate(history, t, repeats)

    monkeypatch.setattr(engine.learner, "slate", noted)
    for item in "ab":
        engine.observe("u", item, False, 1.0, 1000.0)
    engine.recommend("u", 5, 1000.0)
    engine.recommend("v", 5, 1000.0)
    assert moments == [1000.002, 1000.0]


def test_nothing_known_gives_an_empty_list() -> None:
    assert Engine().recommend("u", 10, 0.0) == []


def test_asking_changes_nothing() -> None:
    """Two engines, one of them asked all the time, answer alike."""
    quiet, asked = Engine(), Engine()
    for k in range(6):
        play(quiet, 60, seed=k, start=1e9 + 1e4 * k)
        play(asked, 60, seed=k, start=1e9 + 1e4 * k)
        asked.recommend("nobody", 10, 1e9 + 1e4 * (k + 1))
        asked.recommend("u2", 10, 1e9 + 1e4 * (k + 1), "all")
    assert quiet.recommend("u1", 20, 2e9) == asked.recommend("u1", 20, 2e9)


def test_the_same_seed_gives_the_same_lists() -> None:
    one, other = Engine(3), Engine(3)
    play(one, 200)
    play(other, 200)
    assert one.recommend("u1", 20, 2e9) == other.recommend("u1", 20, 2e9)


def test_inputs_are_finite_whatever_the_order_of_times() -> None:
    """R24: late events and requests before the newest event."""
    engine = Engine()
    rng = np.random.default_rng(0)
    for k in range(300):
        engine.observe(f"u{k % 7}", f"i{k % 50}", k % 3 > 0, 1.0, 1e9 + float(rng.normal(0, 30 * DAY)))
    slate = engine.learner.slate(engine.learner.users.of("u1"), 1e9 - 90 * DAY, repeats=True)
    assert slate.inputs.shape == (len(slate.slots), N_INPUTS)
    assert np.isfinite(slate.inputs).all()


def test_catalogues_larger_than_the_first_capacity() -> None:
    engine = Engine()
    for k in range(2600):
        engine.observe(f"u{k // 3}", f"i{k}", True, 1.0, 1e9 + k)
    assert len(engine) == 2600
    assert len(engine.recommend("u1", 20, 1e9 + 3000)) == 20


def test_popularity_is_the_decayed_count() -> None:
    table = ItemTable()
    times = [0.0, 0.05 * DAY, 3 * DAY, 1 * DAY]  # the last one is late
    for k, t in enumerate(times):
        table.learn_one(0, t, True, 0, k)
    now = max(times)
    expected = [sum(2.0 ** (-(now - t) / DAY / half_life) for t in times) for half_life in (0.1, 0.5, 2, 8, 30)]
    assert table.counts[0, :5].tolist() == pytest.approx(expected, rel=1e-5)
    assert table.counts[0, 5] == 4
    assert table.clocks[0, CLOCK_FIRST] == 0.0


def test_the_top_lists_are_exact() -> None:
    rng = np.random.default_rng(0)
    table = ItemTable(2048)
    for k in range(6000):
        table.learn_one(min(int(rng.pareto(0.7) * 10), 2047), 60.0 * k, True, 0, k)
    now = 60.0 * 6000
    values = table.counts[:, 1] * 2.0 ** (-(now - table.clocks[:, 0]) / (0.5 * DAY))
    assert set(table.fast.ids[:50].tolist()) == set(np.argsort(-values)[:50].tolist())


def test_stage_counts_doublings() -> None:
    assert [stage(n) for n in (0, 1, 2, 3, 6, 7, 126, 127, 10_000)] == [0, 1, 1, 2, 2, 3, 6, 7, 7]


def test_pairs_have_direction_and_distance() -> None:
    lists = neighbours.Neighbours()
    history, times = np.array([3, 5], np.int32), np.array([0.0, 10.0])
    lists.learn_one(history, times, np.array([True, False]), 7, 10.0, True)
    of_5, of_3, of_7 = (dict(zip(ids.tolist(), values, strict=True)) for ids, values in map(lists.pairs, (5, 3, 7)))
    assert of_5[7][pairs.FORWARD] == 1.0
    assert of_5[7][pairs.NEXT] == 1.0
    assert of_5[7][pairs.BACKWARD] == 0.0
    assert of_3[7][pairs.FORWARD] == pytest.approx(1 / math.sqrt(2))
    assert of_7[5][pairs.BACKWARD] == 1.0
    assert of_7[5][pairs.LIKED] == 0.0
    assert of_7[3][pairs.LIKED] == pytest.approx(1 / math.sqrt(2))


def test_a_full_list_drops_the_weakest() -> None:
    lists = neighbours.Neighbours(largest=8)
    one, at, yes = np.array([0], np.int32), np.zeros(1), np.ones(1, np.bool_)
    for item in (1, 1, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 7, 8, 8, 9):
        lists.learn_one(one, at, yes, item, 0.0, True)
    assert set(lists.pairs(0)[0].tolist()) == {1, 2, 4, 6, 7, 8, 9} | {5}


def test_fold_in_solves_the_normal_equations() -> None:
    model = factors.Factors(0)
    for item in range(40):
        model.add_item(item, str(item))
    y = model.items[0, :40].astype(float)
    assert np.allclose(model.gram_items[0], y.T @ y, atol=1e-6)
    history = np.array([3, 8, 2, 8], np.int32)
    positive = np.array([True, True, False, True])
    weights = 3.0 * 0.8 ** np.arange(4) * np.array([1, 0.3, 1, 1])
    rows = y[history[::-1]]
    a = y.T @ y + 20 * np.eye(RANK) + (rows.T * np.maximum(weights - 1, 0)) @ rows
    assert model.fold_in(history, positive)[0] == pytest.approx(np.linalg.solve(a, weights @ rows), abs=1e-5)


def test_each_event_brings_vectors_nearer_to_their_solutions() -> None:
    """R13: a user's vector solves the normal equations of its events, each with its share of those no longer kept."""
    model = factors.Factors(0)
    for item in range(40):
        model.add_item(item, str(item))
    for user in range(5):
        model.append(user, 3, True)
    history, positive = np.array([3, 8, 2], np.int32), np.array([True, True, False])
    left = []
    for _ in range(12):
        y = model.items[0, :40].astype(float)
        weights = 2.0 * 3.0 * np.array([1, 1, 0.3])  # six events, of which three are known
        rows = y[history]
        a = model.gram_items[0] + 20 * np.eye(RANK) + (rows.T * np.maximum(weights - 2.0, 0)) @ rows
        model.learn_one(0, 3, history, positive, 6)
        left.append(float(np.linalg.norm(model.users[0, 0] - np.linalg.solve(a, weights @ rows))))
    assert left[0] < 1e-2
    assert left[-1] < 1e-5
    assert model.gram_users[0] == pytest.approx(model.users[0].T.astype(float) @ model.users[0], abs=1e-6)


def test_liking_is_a_ridge_regression_on_directions() -> None:
    rng = np.random.default_rng(4)
    vectors = rng.normal(0.0, 0.3, (6, RANK)).astype(np.float32)
    counts = np.zeros((6, N_COUNTS), np.float32)
    counts[:, N_EVENTS] = rng.integers(2, 9, 6)
    counts[:, TOTAL] = counts[:, N_EVENTS] - 1.0
    history, positive = np.array([3, 0, 1, 3, 5], np.int32), np.array([True, False, True, True, False])
    found = np.zeros(RANK, np.float32)
    learn_liking(vectors, counts, history, positive, found)
    x = vectors[history] / np.linalg.norm(vectors[history], axis=1, keepdims=True)
    y = positive - (counts[history, TOTAL] + 1.0) / (counts[history, N_EVENTS] + 1.5)
    y -= y.sum() / (len(y) + REGULARISATION)
    expected = np.linalg.solve(x.T @ x + REGULARISATION * np.eye(RANK), x.T @ y)
    assert found == pytest.approx(expected, abs=1e-4)


def test_evidence_counts_the_steps_that_speak_for_an_item() -> None:
    """R13: c came after both steps of v, d after one."""
    engine = Engine()
    for k, (user, item) in enumerate(
        [*(("u", i) for i in "abc"), *(("w", i) for i in "bcd"), *(("v", i) for i in "ab")]
    ):
        engine.observe(user, item, True, 1.0, 1000.0 + 10 * k)
    learner = engine.learner
    slate = learner.slate(learner.users.of("v"), 2000.0, False)
    hits = {learner.items.item_id(slot): slate.inputs[m, NAMES.index("hits")] for m, slot in enumerate(slate.slots)}
    assert np.expm1(hits["c"]) == pytest.approx(2.0)
    assert np.expm1(hits["d"]) == pytest.approx(1.0)


def test_gramians_follow_the_vectors(played: Engine) -> None:
    for m in (0, 1):
        y = played.learner.factors.items[m].astype(float)
        x = played.learner.factors.users[m].astype(float)
        assert np.allclose(played.learner.factors.gram_items[m], y.T @ y, atol=1e-3)
        assert np.allclose(played.learner.factors.gram_users[m], x.T @ x, atol=1e-3)


def test_the_best_are_exact_and_in_order() -> None:
    scores = np.random.default_rng(1).random(500).astype(np.float32)
    items = np.arange(500, dtype=np.int32)
    work = Workspace()
    work.reserve(500)
    for slot in range(500):
        work.admit(slot, slot != np.argmax(scores))
    work.begin()
    expected = np.argsort(-scores)[1:21]
    assert work.best(scores, items, 500, 20).tolist() == expected.tolist()
    assert len(work.best(scores, items, 500, 1000)) == 499
    assert (
        work.first(items[::-1], 3).tolist() == [slot for slot in (499, 498, 497, 496) if work.allows(items[slot])][:3]
    )


def test_the_best_are_exact_where_the_best_of_all_are_kept_out() -> None:
    """R11: however many of the highest scores are of items that a request may not get."""
    scores = np.random.default_rng(1).random(500).astype(np.float32)
    items = np.arange(500, dtype=np.int32)
    order = np.argsort(-scores).astype(np.int32)
    for barred, hidden, filtered in ((400, 0, 0), (0, 400, 0), (0, 0, 400), (30, 30, 400)):
        work = Workspace()
        work.reserve(500)
        for slot in range(500):
            work.admit(slot, slot not in order[:hidden])
        work.begin()
        work.bar(order[:barred])
        work.bar_all_but(~np.isin(items, order[:filtered]))
        n_out = max(barred, hidden, filtered)
        assert work.best(scores, items, 500, 20).tolist() == order[n_out : n_out + 20].tolist()


def test_a_union_knows_who_gave_what() -> None:
    work = Workspace()
    work.reserve(9)
    for _ in range(2):  # nothing is left of the first
        items, membership = work.union([np.array([3, 1], np.int32), np.array([1, 7, 3, 8], np.int32)], 3)
        assert items.tolist() == [3, 1, 7]
        assert membership.tolist() == [0b11, 0b11, 0b10]


def test_log_ranks() -> None:
    scores = np.array([0.1, 0.9, -0.5, 0.5, -2.0, 0.0, 0.5], np.float32)
    values = np.stack([scores, np.zeros(7, np.float32), -scores, np.zeros(7, np.float32)], 1)
    write_log_ranks(values, np.array([2, 0]), np.array([1, 3]))
    assert np.exp(values[:, 3]) == pytest.approx(np.array([4, 1, 6, 2, 7, 5, 3]))
    assert np.exp(values[:, 1]) == pytest.approx(np.array([4, 7, 2, 5, 1, 3, 6]))
    assert values[:, 0].tolist() == scores.tolist()


def test_history_is_bounded_and_newest_last() -> None:
    user = History(0)
    for k in range(3 * SEEN):
        user.append(k, float(k), True)
    assert user.n == 3 * SEEN
    assert user.items.tolist() == list(range(3 * SEEN - HISTORY, 3 * SEEN))
    assert user.times[-1] == 3 * SEEN - 1
    assert len(user.seen) <= SEEN
    assert user.has_seen(3 * SEEN - 1)


def test_tastes_are_weighted_means_of_the_history() -> None:
    table = ItemTable()
    for k in range(4):
        table.learn_one(k, k * DAY, True, 0, k)
    history, times = np.array([0, 1, 0, 3], np.int32), np.array([1.0, 2.0, 5.0, 8.0]) * DAY
    now = 9 * DAY
    age, pop, n_repeats = tastes(history, times, now, table.counts, table.clocks, table.rates[POP_SLOW])
    weights = 0.9 ** np.arange(4)[::-1]
    pops = np.log(2.0 ** (-(9 - history) / 8) + 0.05)
    assert age == pytest.approx(np.average(np.log1p([1, 1, 5, 5]), weights=weights))
    assert pop == pytest.approx(np.average(pops, weights=weights), rel=1e-6)
    assert n_repeats == 1


def test_content_matches_the_taste() -> None:
    """R15: an item's labels and year are compared with those of the newest steps."""
    content = Content()
    for slot, genre, year in ((0, "drama", "1990"), (1, "drama", "1991"), (2, "comedy", "2010")):
        content.learn_one(slot, Item(item_id=str(slot), genres=[genre], release_date=year))
    out = np.zeros((2, 4), np.float32)
    tastes, mean_year = content.tastes(np.array([0], np.int32), np.array([True]), content.likings({}))
    items = np.array([1, 2], np.int32)
    match(content.labels, content.years, items, year_of(40 * 365.25 * DAY), tastes, mean_year, out)
    assert out[:, 0].tolist() == [1.0, 0.0]
    assert out[0, 2] < out[1, 2]
    assert out[0, 3] > out[1, 3]


def test_likings_stand_in_for_a_taste() -> None:
    """R15: what a new user said of genres."""
    content = Content()
    for slot, genre in enumerate(("drama", "comedy")):
        content.learn_one(slot, Item(item_id=str(slot), genres=[genre]))
    nothing = np.empty(0, np.int32), np.empty(0, np.bool_)
    likings = content.likings({"comedy": 2.0, "drama": -1.0})
    tastes, mean_year = content.tastes(*nothing, likings)
    assert mean_year == 0.0
    assert content.match_labels(np.array([0, 1], np.int32), tastes).tolist() == [0.0, 2.0]


def test_names_are_unique() -> None:
    assert len(set(NAMES)) == N_INPUTS
