import msgspec
import numpy as np
import pytest

from online_models.engine.inputs import FEATURE_SET, N_INPUTS
from online_models.engine.learning import EACH
from online_models.engine.listwise import N_BEFORE
from online_models.learning import rows
from online_models.learning.budget import UNLIMITED, Budget
from online_models.learning.examples import examination_weight
from online_models.learning.learner import Learner
from state.entries import ITEM_MODEL, ITEM_USERS, ITEM_VECTOR, LEARNER, LEARNER_USER, MODEL, NEIGHBOURS, USER_VECTOR
from state.memory_store import MemoryStore
from state.records import CleanEvent, Example, Item
from state.store import Changes
from tests.unit.online_models.synthetic import START_MS, System, catalogue, tastes


def click(user: str, item: str, ts: int = START_MS, request_id: str | None = None) -> CleanEvent:
    return CleanEvent(f"{user}-{item}-{ts}", "click", user, item, ts, request_id=request_id)


def example(number: int, labels: list[int], feature_set: str = FEATURE_SET) -> Example:
    features = np.random.default_rng(number).normal(size=(len(labels) + 1, N_INPUTS)).astype(np.float32)
    return Example(
        example_id=f"x{number}",
        request_id="r",
        user_id="u",
        ts=START_MS,
        surface="home",
        items=[f"m{k}" for k in range(len(labels))],
        labels=labels,
        outcomes=[None] * len(labels),
        propensities=[1.0] * len(labels),
        features=features.tobytes(),
        feature_set=feature_set,
        model_version="1",
    )


def all_rows(system: System) -> dict[str, dict[str, object]]:
    return system.rows() | {
        table.name: dict(system.store.scan_rows(table)) for table in (LEARNER, ITEM_USERS, USER_VECTOR)
    }


def restored(system: System) -> System:
    learner = Learner(organic_share=UNLIMITED, replay_share=UNLIMITED)
    rows.restore(learner, system.store)
    return System(learner, system.store)


@pytest.mark.parametrize("stopped_at", [1, 300, 900])
def test_a_restored_learner_learns_on_identically(stopped_at: int) -> None:
    events = tastes()[:1200]
    through = System()
    through.learn(events)
    system = System()
    system.learn(events[:stopped_at])
    resumed = restored(system)
    users = resumed.learner.missing_users(event.user_id for event in events[stopped_at:])
    stored = dict(zip(users, system.store.get_many(LEARNER_USER, users), strict=True))
    resumed.learner.restore_users(stored)
    resumed.learn(events[stopped_at:])
    assert all_rows(resumed) == all_rows(through)


def test_the_same_events_give_the_same_rows_however_they_are_cut() -> None:
    at_once, piecemeal = System(), System()
    events = tastes()[:600]
    at_once.learn(events)
    for begin in range(0, 600, 37):
        piecemeal.learn(events[begin : begin + 37])
    assert all_rows(piecemeal) == all_rows(at_once)


@pytest.mark.parametrize("bounds", [{}, {"max_items": 60, "max_users": 25}], ids=["roomy", "full"])
def test_a_batch_is_learned_like_its_events_one_by_one(bounds: dict[str, int]) -> None:
    """R14: to the last bit, with late events, events of one moment, served ones, and items and users that must go."""
    rng = np.random.default_rng(5)
    events = [
        msgspec.structs.replace(event, ts=event.ts - 1000 * int(late), request_id="r" if served else None)
        for event, late, served in zip(tastes()[:900], rng.poisson(1.0, 900), rng.random(900) < 0.3, strict=True)
    ]
    single, batch = (System(Learner(organic_share=UNLIMITED, replay_share=UNLIMITED, **bounds)) for _ in range(2))
    for event in events:
        single.learner.learn_event(event)
    batch.learner.learn_events(events)
    for system in (single, batch):
        system.commit()
    assert batch.learner.counts == single.learner.counts
    assert batch.learner.counts.organic_lists > 100
    assert all_rows(batch) == all_rows(single)
    learned = [name for name in {event.user_id for event in events} if name in batch.learner.users]
    assert batch.store.get_many(LEARNER_USER, learned) == single.store.get_many(LEARNER_USER, learned)


def test_an_erased_user_is_in_no_row_and_comes_back_as_a_stranger() -> None:
    """R27"""
    events = [event for event in tastes()[:600] if event.user_id != "gone"]
    erasure = CleanEvent("erasure", "erase", "gone", None, START_MS)
    system = System()
    system.learn([*events[:300], *(click("gone", f"m{k}") for k in range(20))])
    system.learn([erasure, click("gone", "m399")])
    assert system.store.get_many(LEARNER_USER, ["gone"])[0].n_events == 1  # type: ignore[union-attr]
    system.learn([erasure])
    assert system.store.get_many(LEARNER_USER, ["gone"]) == [None]
    assert "gone" not in {row.user_id for _, row in system.store.scan_rows(USER_VECTOR)}
    assert "gone" not in system.learner.users
    assert all_rows(restored(system)) == all_rows(system)
    system.learn(events[300:])  # slots and rings without the user are sound


def test_only_rows_that_changed_are_written() -> None:
    system = System()
    system.learn(tastes()[:600])
    system.learner.learn_event(CleanEvent("last", "rating", "newcomer", "m0", START_MS, value=1.0))
    changes = Changes()
    rows.write(system.learner, changes)
    assert set(changes.rows[ITEM_MODEL]) == {"m0"}
    assert set(changes.rows[NEIGHBOURS]) == {"m0"}  # for its total: a newcomer took nothing before
    assert len(changes.rows[ITEM_VECTOR]) <= 2  # and one that was learned again
    assert {user_id for _, user_id in changes.entries} == {"newcomer"}
    assert set(changes.rows[MODEL]) == {"factors", "progress"}  # no list was learned


def test_an_example_that_comes_again_is_not_learned_again() -> None:
    """R23: the attribution flow may write what it wrote before a crash once more."""
    learner = Learner()
    learner.learn_example(example(1, [1, 0, 0]))
    learner.learn_example(example(2, [0, 1, -1]))
    before = learner.ranker.state()
    learner.learn_example(example(1, [1, 0, 0]))
    assert learner.ranker.state() == before
    assert (learner.counts.lists, learner.counts.repeated_examples) == (2, 1)


def test_a_repeated_example_is_recognised_after_a_restart() -> None:
    """R23."""
    system = System()
    system.learner.learn_example(example(1, [1, 0]))
    system.commit()
    learner = restored(system).learner
    learner.learn_example(example(1, [1, 0]))
    learner.learn_example(example(2, [1, 0]))
    assert (learner.counts.lists, learner.counts.repeated_examples) == (2, 1)


def test_features_of_another_definition_are_not_learned() -> None:
    """R13."""
    learner = Learner()
    before = learner.ranker.state()
    learner.learn_example(example(1, [1, 0], feature_set="older"))
    assert learner.ranker.state() == before
    assert learner.counts.skipped_examples == 1


def test_the_ranker_learns_the_logged_values_of_each_labelled_impression() -> None:
    """R13, R14."""
    learner, alone = Learner(), Learner()
    logged = example(3, [0, 1, 0])
    learner.learn_example(logged)
    values = np.frombuffer(logged.features, np.float32).reshape(4, N_INPUTS)
    alone.ranker.learn_many(values[[1, 0, 2]], 0, mean=values[3], weight=examination_weight(1))
    assert learner.ranker.state() == alone.ranker.state()


def test_vectors_are_not_improved_again_by_a_second_event_of_the_same_step() -> None:
    """A click, then how long it was watched: it counts when the user does something else."""
    once, twice = (Learner(organic_share=0, replay_share=0) for _ in range(2))
    for learner in (once, twice):
        learner.learn_events(tastes()[:300])
        learner.learn_event(click("u1", "m1", START_MS + 10**6))
    watch = msgspec.structs.replace(click("u1", "m1", START_MS + 10**6 + 1), event_id="watched", type="watch", value=60)
    twice.learn_event(watch)
    assert np.array_equal(twice.factors.items, once.factors.items)
    assert np.array_equal(twice.factors.users, once.factors.users)
    for learner in (once, twice):
        learner.learn_event(click("u1", "m9", START_MS + 10**6 + 2))
    assert not np.array_equal(twice.factors.users, once.factors.users)


def test_vectors_of_many_events_are_improved_at_some_of_them() -> None:
    learner = Learner(organic_share=0, replay_share=0)
    learner.learn_events(tastes()[:300])
    factors = learner.factors
    of_item, of_user = [], []
    for n in range(1, 4 * EACH):
        factors.changed.take()
        learner.learn_event(click(f"u{n} of many", "taken by many", START_MS + 10**6 + n))
        of_item.append(learner.items.get("taken by many") in factors.changed.peek())
        factors.users_changed.take()
        learner.learn_event(click("takes many", f"m{n} of many", START_MS + 10**6 + n))
        of_user.append(learner.users.slot("takes many") in factors.users_changed.peek())
    assert of_item == of_user == [n % max(1, n // EACH) == 0 for n in range(1, 4 * EACH)]


def test_a_positive_without_a_request_trains_the_ranker_with_a_list_of_that_moment() -> None:
    learner = Learner(organic_share=UNLIMITED, replay_share=UNLIMITED)
    for event in tastes()[:600]:
        learner.learn_event(event)
    before = learner.counts.organic_lists
    learner.learn_event(click("u1", "m1", START_MS + 10**6))
    learner.learn_event(click("u1", "m9", START_MS + 10**6 + 1, request_id="served"))
    assert learner.counts.organic_lists == before + 1
    assert learner.ranker.n_lists == N_BEFORE + learner.counts.organic_lists


def test_lists_of_organic_positives_take_no_more_than_their_share_of_the_time() -> None:
    now = [0.0]
    budget = Budget(share=0.1, clock=lambda: now[0], burst_s=0.01)
    worked = 0.0
    while now[0] < 10.0:
        started = budget.start()
        if started is None:
            now[0] += 0.001
        else:
            now[0] += 0.004
            worked += 0.004
            budget.stop(started)
    assert worked == pytest.approx(1.0, abs=0.05)


def test_pieces_of_work_are_granted_by_what_the_last_ones_took() -> None:
    now = [0.0]
    budget = Budget(share=0.1, clock=lambda: now[0], burst_s=0.01)
    granted = 0
    for _ in range(1000):
        n = budget.grants(100)
        now[0] += 1e-5 * (100 + n)
        budget.spent(1e-5 * (100 + n), n, 100 + n)
        granted += n
    assert granted * 1e-5 == pytest.approx(0.1 * now[0], rel=0.15)


def test_a_share_of_one_is_no_bound() -> None:
    budget = Budget(share=UNLIMITED, clock=lambda: 0.0)
    budget.spent(100.0, 10, 10)
    assert budget.grants(500) == 500
    assert budget.start() == 0.0


def test_a_share_of_zero_grants_nothing() -> None:
    budget = Budget(share=0.0, clock=lambda: 0.0)
    assert budget.grants(500) == 0
    assert budget.start() is None


def test_items_beyond_the_bound_are_forgotten_oldest_first() -> None:
    system = System(Learner(max_items=40, organic_share=UNLIMITED, replay_share=UNLIMITED))
    system.learn([click(f"u{k % 5}", f"m{k}", START_MS + k) for k in range(200)])
    assert len(system.learner.items) <= 40
    assert set(dict(system.store.scan_rows(ITEM_MODEL))) == {f"m{k}" for k in range(160, 200)}
    known = {name: dict(system.store.scan_rows(table)) for name, table in {"v": ITEM_VECTOR, "n": NEIGHBOURS}.items()}
    assert set(known["v"]) == {f"m{k}" for k in range(160, 200)}
    assert set(known["n"]) <= set(known["v"])
    slots = {row.slot for _, row in system.store.scan_rows(ITEM_MODEL)}
    for slot in slots:
        assert set(system.learner.columns.neighbours.pairs(slot)[0].tolist()) <= slots
    assert all_rows(restored(system)) == all_rows(system)


def test_histories_beyond_the_bound_are_read_back_when_their_users_return() -> None:
    events = [click(f"u{k % 20}", f"m{k % 33}", START_MS + k) for k in range(400)]
    bounded, unbounded = (
        System(Learner(max_users=3, organic_share=0, replay_share=0)),
        System(Learner(organic_share=0, replay_share=0)),
    )
    for event in events:
        _learn_batch(bounded, [event])
        bounded.commit()
        unbounded.learn([event])
        assert len(bounded.learner.users) <= 3
    changed = {NEIGHBOURS.name, ITEM_MODEL.name}
    assert {t: r for t, r in bounded.rows().items() if t in changed} == {
        t: r for t, r in unbounded.rows().items() if t in changed
    }


@pytest.mark.parametrize("batches_per_commit", [1, 3])
def test_users_of_one_batch_keep_their_histories_when_there_are_more_of_them_than_slots(
    batches_per_commit: int,
) -> None:
    """R23: those who came back to memory for a batch take the slots of others who are in it, too."""
    events = [click(f"u{7 * k % 20}", f"m{k % 33}", START_MS + k) for k in range(400)]
    bounded, unbounded = (
        System(Learner(max_users=4, organic_share=0, replay_share=0)),
        System(Learner(organic_share=0, replay_share=0)),
    )
    for number, begin in enumerate(range(0, len(events), 10), 1):
        for system in (bounded, unbounded):
            _learn_batch(system, events[begin : begin + 10])
            if number % batches_per_commit == 0:
                system.commit()
    users = [f"u{k}" for k in range(20)]
    for system in (bounded, unbounded):
        system.commit()
    assert len(bounded.learner.users) <= 4
    assert bounded.store.get_many(LEARNER_USER, users) == unbounded.store.get_many(LEARNER_USER, users)


def test_an_erased_user_does_not_come_back_with_what_was_kept_of_the_slot() -> None:
    """R27: also when the slot was lost since the last commit."""
    system = System(Learner(max_users=1, organic_share=0, replay_share=0))
    system.learner.learn_events([click("u0", "m0", START_MS), click("u1", "m1", START_MS + 1)])
    system.learner.erase_user("u0")
    system.learner.learn_event(click("u0", "m2", START_MS + 2))
    history = system.learner.users.get("u0")
    assert history is not None
    assert history.n == 1


def test_exposure_is_how_often_lists_showed_an_item_and_how_often_it_was_taken_there() -> None:
    """R16: each impression counts once, whatever is told of its list one after the other."""
    system = System()
    system.learn([click("u", f"m{k}", START_MS + k) for k in range(3)])
    told = [("a", [0, 1, 0]), ("b", [-1, -1, 1]), ("a", [0, 1, 0]), ("c", [0, 0, 0]), ("d", [1])]
    for name, labels in told:
        items = [f"m{k}" for k in range(len(labels))]
        shown = msgspec.structs.replace(example(1, [1, 0]), example_id=name, items=items, labels=labels)
        system.learner.learn_example(shown)
    system.commit()
    for replica in (system.replica(), restored(system).replica()):
        _, shown_often, taken = replica.exposure(replica.slots(["m0", "m1", "m2"]))
        assert shown_often.tolist() == [3, 2, 2]
        assert taken.tolist() == [1, 1, 1]


def _learn_batch(system: System, events: list[CleanEvent]) -> None:
    """As the flow does: those who are not in memory are read from the store before their events."""
    missing = system.learner.missing_users(event.user_id for event in events)
    system.learner.restore_users(dict(zip(missing, system.store.get_many(LEARNER_USER, missing), strict=True)))
    system.learner.learn_events(events)


def test_a_deleted_item_is_gone_from_all_rows() -> None:
    system = System()
    for item in catalogue(16):
        system.learner.learn_item(item.item_id, item)
    system.learn([click("u", f"m{k}", START_MS + k) for k in range(16)])
    system.learner.learn_item("m3", None)
    system.commit()
    for table in (ITEM_MODEL, ITEM_VECTOR, NEIGHBOURS, ITEM_USERS):
        assert "m3" not in dict(system.store.scan_rows(table))


def test_an_empty_store_makes_a_new_learner() -> None:
    learner = Learner()
    rows.restore(learner, MemoryStore())
    assert len(learner.items) == 0
    assert learner.ranker.state() == Learner().ranker.state()


def test_a_catalogue_item_has_a_slot_before_its_first_event() -> None:
    system = System()
    system.learner.learn_item("m0", Item(item_id="m0", genres=["War"]))
    system.commit()
    assert "m0" in dict(system.store.scan_rows(ITEM_MODEL))
    assert dict(system.store.scan_rows(MODEL)).keys() >= {"ranker", "progress"}


def test_values_that_are_no_numbers_are_not_learned() -> None:
    learner = Learner()
    logged = example(1, [1, 0])
    broken = np.full(3 * N_INPUTS, np.nan, dtype=np.float32).tobytes()
    learner.learn_example(msgspec.structs.replace(logged, features=broken))
    assert learner.ranker.state() == Learner().ranker.state()
    assert learner.counts.skipped_examples == 1
