import numpy as np
import pytest

from online_models import trends
from online_models.catalogue.expressions import parse
from online_models.engine import inputs
from online_models.learning import rows
from online_models.replica import Replica
from online_models.sources import LEARNED, Content, Exploration, gather
from online_models.users import activity
from online_models.users.view import UserView
from state.entries import CATALOGUE, ITEM_ACTIVITY, MODEL, activity_field
from state.records import Activity, BlobRow, CleanEvent, Item, UserProfile
from state.store import Changes
from tests.unit.online_models.synthetic import START_MS, System, catalogue, tastes


@pytest.fixture(scope="module")
def system() -> System:
    system = System()
    changes = Changes()
    for item in catalogue():
        system.learner.learn_item(item.item_id, item)
        changes.upsert(CATALOGUE, item.item_id, item)
    system.store.commit(changes)
    system.learn(tastes())
    return system


def column(name: str) -> int:
    return inputs.NAMES.index(name)


@pytest.mark.parametrize("repeats", [False, True])
def test_a_replica_makes_the_lists_that_the_learner_makes(system: System, repeats: bool) -> None:
    """R13: rows through the codec, own slots, one code for candidates and inputs: the same values to the last bit."""
    replica, learner = system.replica(), system.learner
    for user, profile in system.profiles.items():
        context = replica.context(UserView.of(profile, system.now_ms), repeats)
        if not repeats:
            context.bar(replica.slots(profile.seen))
        served = gather(context).slots
        slate = learner.slate(learner.users.of(user), system.now_ms / 1000.0, repeats)
        assert [replica.item_id(slot) for slot in served] == [learner.items.item_id(slot) for slot in slate.slots]
        values = replica.features(context, served)
        assert np.array_equal(values, slate.inputs)
        assert np.array_equal(replica.ranking.score(values), learner.ranker.predict_many(slate.inputs))
    assert replica.ranking.version.endswith(f"-{learner.ranker.n_lists}")


def test_a_replica_that_followed_equals_one_that_loaded(system: System) -> None:
    follower, resumed = Replica(), System()
    events = tastes()[:900]
    for begin in range(0, 900, 100):
        for event in events[begin : begin + 100]:
            resumed.learner.learn_event(event)
        changes = Changes()
        rows.write(resumed.learner, changes)
        resumed.store.commit(changes)
        rows.written(resumed.learner)
        follower.apply(changes.rows)
    view = UserView.of_items(("m1", "m9"), START_MS)
    loaded = resumed.replica()
    items = [f"m{k}" for k in range(200)]
    values = [replica.features(replica.context(view), replica.slots(items)) for replica in (follower, loaded)]
    assert np.array_equal(*values)


def test_a_hidden_item_is_in_no_list(system: System) -> None:
    replica = system.replica()
    view = UserView.of(system.profiles["u0"], system.now_ms)
    before = candidates(replica, view)
    target = replica.item_id(int(before[0]))
    item = replica.item(int(before[0]))
    assert item is not None
    replica.apply({CATALOGUE: {target: Item(item_id=target, genres=item.genres, status="hidden")}})
    assert before[0] not in candidates(replica, view)
    assert before[0] not in replica.popular(400, system.now_ms)[0]
    assert not replica.servable(before[:1]).any()
    assert replica.slot(target) == before[0]
    assert replica.n_items == 399


def candidates(replica: Replica, view: UserView) -> np.ndarray:
    return gather(replica.context(view), (*LEARNED, Content(k=200), Exploration(k=200)), 500).slots


def test_items_only_of_the_catalogue_and_items_only_of_events_are_served() -> None:
    replica = Replica()
    replica.apply({CATALOGUE: {"new": Item(item_id="new", genres=["War"])}})
    system = System()
    system.learn([CleanEvent("e", "click", "u", "unlisted", START_MS)])
    replica.apply({table: dict(system.store.scan_rows(table)) for table in Replica.TABLES})
    slots, _ = replica.popular(5, START_MS)
    assert [replica.item_id(slot) for slot in slots] == ["unlisted", "new"]
    assert replica.item(int(slots[0])) is None
    found = candidates(replica, UserView.of(None, START_MS))
    assert {replica.item_id(slot) for slot in found} == {"unlisted", "new"}


def test_a_deleted_item_is_gone_and_comes_back_at_its_slot() -> None:
    replica = Replica()
    entry = {"a": Item(item_id="a", genres=["War"]), "b": Item(item_id="b")}
    replica.apply({CATALOGUE: entry})
    slot = replica.slot("a")
    replica.apply({CATALOGUE: {"a": None}})
    assert (replica.slot("a"), replica.n_items) == (None, 1)
    assert not replica.matching(parse("genre=War")).any()
    replica.apply({CATALOGUE: entry})
    assert (replica.slot("a"), replica.n_items) == (slot, 2)


def test_what_a_complete_load_does_not_hold_is_gone() -> None:
    replica = Replica()
    replica.apply({CATALOGUE: {"a": Item(item_id="a"), "b": Item(item_id="b")}})
    replica.apply({CATALOGUE: {"b": Item(item_id="b")}}, complete=True)
    assert (replica.slot("a"), replica.n_items) == (None, 1)


def test_a_slot_that_the_learner_gave_to_another_item_means_the_other_one() -> None:
    system, replica = System(), Replica()
    clicks = [CleanEvent(f"e{k}", "click", "u", f"m{k}", START_MS + k) for k in range(4)]
    for event in clicks:
        system.learner.learn_event(event)
    for step in range(2):
        changes = Changes()
        rows.write(system.learner, changes)
        rows.written(system.learner)
        replica.apply(changes.rows)
        if step == 0:
            system.learner.learn_item("m1", None)
            system.learner.learn_event(CleanEvent("n", "click", "u", "new", START_MS + 9))
    context = replica.context(UserView.of_items(("m3",), START_MS + 9))
    near = {replica.item_id(int(slot)) for slot in context.covisited(9)}
    assert near == {"m0", "m2", "new"}
    assert replica.slot("m1") is None


def test_inputs_tell_taste_repeats_and_covisitation(system: System) -> None:
    replica = system.replica()
    profile = system.profiles["u1"]
    context = replica.context(UserView.of(profile, system.now_ms), repeats=True)
    own, other = (
        replica.slots([f"m{8 * k + 1}" for k in range(50)]),
        replica.slots([f"m{8 * k + 5}" for k in range(50)]),
    )
    near, far = replica.features(context, own), replica.features(context, other)
    for name in ("taste_slow", "cf", "mf_smooth"):
        assert near[:, column(name)].mean() > far[:, column(name)].mean(), name
    newest = replica.features(context, replica.slots([profile.recent[-1].item_id]))
    assert newest[0, column("is_last")] == 1.0
    assert newest[0, column("repeat_nearness")] == 1.0


def test_an_onboarded_user_has_a_taste_before_the_first_event(system: System) -> None:
    """R15."""
    replica = system.replica()
    profile = UserProfile(affinity={"Horror": 3.0}, affinity_ts=system.now_ms)
    context = replica.context(UserView.of(profile, system.now_ms))
    match = replica.features(context, replica.slots(["m3", "m4"]))[:, column("taste_slow")]
    assert match.tolist() == [0.5, 0.0]  # one of two labels, genre and creator


def test_trending_counts_the_window_only() -> None:
    """R2."""
    replica = Replica()
    minute = 60_000
    now_s = START_MS // 1000 // 3600 * 3600
    old, fresh = (
        {now_s - 1800 + 1: {"click": 9}},
        {now_s - 30: {"click": 1, "impression": 50}, now_s - 300 + 1: {"click": 1}},
    )
    rows = {
        activity_field(0, "old"): Activity({"click": 9}, old),
        activity_field(0, "fresh"): Activity({"click": 1}, fresh),
        activity_field(1, "fresh"): Activity({"view": 1}, {now_s - 60: {"view": 1}}),
    }
    items = {name: Item(item_id=name) for name in ("old", "fresh")}
    replica.apply({CATALOGUE: items, ITEM_ACTIVITY: rows})

    def trending(window: str, now_ms: int) -> dict[str, float]:
        slots, counts = replica.trending(5, window, now_ms)
        return {replica.item_id(slot): float(n) for slot, n in zip(slots, counts, strict=True)}

    assert trending("5m", 1000 * now_s) == {"fresh": 2.0}
    assert trending("1h", 1000 * now_s) == {"old": 9.0, "fresh": 1.0}
    assert trending("5m", 1000 * now_s + 10 * minute) == {}
    assert replica.activity(replica.slots(["fresh"])[0]).counts == {"click": 1, "view": 1}


def test_popular_is_full_whenever_enough_items_match(system: System) -> None:
    """R3."""
    replica = system.replica()
    mask = replica.matching(parse("genre=War"))
    slots, counts = replica.popular(50, system.now_ms, where=mask)
    assert len(slots) == 50
    assert mask[slots].all()
    assert (np.diff(counts) <= 1e-6).all()


def test_trending_equals_a_count_of_all_items() -> None:
    """R2: at any moment, also when panes have ended since the rows were written; with several partitions, items that
    are left out, and rows that come in between or go.
    """
    rng = np.random.default_rng(3)
    parts: dict[str, Activity] = {}
    replica = Replica()
    names = [f"m{n}" for n in range(60)]
    replica.apply({CATALOGUE: {name: Item(item_id=name) for name in names}})
    mask = np.ones(replica.n_slots, dtype=np.bool_)
    mask[::3] = False
    now_ms = START_MS
    for pause_s in (1, 20, 30, 100, 300, 1000, 3600, 7200, 40_000, 86_400, 30, 300, 90_000, 1, 30):
        changed: dict[str, Activity | None] = {}
        for ts in (now_ms + np.sort(rng.integers(0, 1000 * pause_s, 150))).tolist():
            field = activity_field(int(rng.integers(3)), f"m{int(min(rng.exponential(20), 59))}")
            changed[field] = part = parts.setdefault(field, Activity())
            activity.add(part, str(rng.choice(["click", "like", "impression"])), ts, ts)
        now_ms += 1000 * pause_s
        gone = str(rng.choice(list(parts)))
        del parts[gone]
        replica.apply({ITEM_ACTIVITY: changed | {gone: None}})
        for later_ms in (0, 30_000, 1_800_000):
            now_ms += later_ms
            for window in ("1d", "1h", "5m"):
                held = {
                    slot: activity.windows(replica.activity(slot), now_ms)[window]
                    for slot in np.flatnonzero(mask).tolist()
                }
                counts = {slot: of.get("click", 0) + of.get("like", 0) for slot, of in held.items()}
                expected = sorted((slot for slot in counts if counts[slot]), key=lambda slot: (-counts[slot], slot))[:7]
                slots, found = replica.trending(7, window, now_ms, mask)
                assert slots.tolist() == expected
                assert found.tolist() == [counts[slot] for slot in expected]


def test_trending_counts_an_item_again_only_when_it_has_lost_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """R2: lists over many items stay fast."""
    counted: list[int] = []

    def counting(part: Activity, event_types: frozenset[str], stream_ts: int = 0) -> tuple[activity.Standing, ...]:
        counted.append(stream_ts)
        return activity.standings(part, event_types, stream_ts)

    monkeypatch.setattr(trends, "standings", counting)
    minute = START_MS // 60_000 * 60_000
    panes = {"early": {minute // 1000 - 240: {"click": 5}, minute // 1000: {"click": 1}}}
    panes |= {"late": {minute // 1000: {"click": 2}}}
    rows = {activity_field(0, name): Activity({}, of_item) for name, of_item in panes.items()}
    replica = Replica()
    replica.apply({CATALOGUE: {name: Item(item_id=name) for name in panes}, ITEM_ACTIVITY: rows})
    counted.clear()
    for now_ms, n_counted in ((minute, 0), (minute + 59_000, 0), (minute + 60_000, 1), (minute + 61_000, 0)):
        replica.trending(2, "5m", now_ms)
        assert counted == [now_ms] * n_counted
        counted.clear()
    assert not len(replica.trending(2, "5m", minute + 300_000)[0])
    assert not counted


def test_a_ranker_of_other_features_is_not_taken_over(system: System) -> None:
    """R31: while an upgrade rolls, learner and serving may differ."""
    replica = system.replica()
    version, blob = replica.ranking.version, system.learner.ranker.weights(inputs.NAMES)
    replica.apply({MODEL: {"ranker": BlobRow(blob.replace(b"taste_slow", b"taste_late"))}})
    assert replica.ranker_is_foreign
    assert replica.ranking.version == version


@pytest.mark.parametrize("now_ms", [0, START_MS - 400 * 86_400_000, START_MS + 10**12])
def test_values_are_finite_at_any_moment(system: System, now_ms: int) -> None:
    """R10, R24: before stream time is known, and while partitions are years apart."""
    replica = system.replica()
    view = UserView.of(system.profiles["u1"], now_ms)
    slots = candidates(replica, view)
    assert len(slots) > 0
    context = replica.context(view)
    with np.errstate(all="raise", under="ignore"):
        values = replica.features(context, slots)
    assert np.isfinite(values).all()
    assert np.isfinite(replica.ranking.score(values)).all()


def test_values_are_finite_while_the_count_of_events_is_yet_to_come(system: System) -> None:
    """R10: serving takes rows over in slices, and lists are made between two of them."""
    replica = system.replica()
    replica.columns.n_events -= 500
    user, profile = next(iter(system.profiles.items()))
    context = replica.context(UserView.of(profile, system.now_ms), repeats=True)
    values = replica.features(context, gather(context).slots)
    assert np.isfinite(values).all(), user
