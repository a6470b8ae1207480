"""R21: what users did in arms, summed from the stream; arms that do harm are stopped."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.attribution.attributing import Attribution, Rules
from flows.common.batches import KafkaBatch
from flows.experiments.arms import ArmState
from flows.experiments.guarding import AUTHOR, Guard
from online_models.experiments import effects
from online_models.experiments.arm_days import MAX_DAYS, by_day
from online_models.experiments.arm_sums import COLUMNS, merged
from online_models.experiments.metrics import METRICS
from state.control import EXPERIMENTS, ControlDocument
from state.entries import CONTROL, CONTROL_HISTORY, EXPERIMENT_ARMS, EXPERIMENT_DAYS, USER_ARMS
from state.experiments import Arm, Experiment, Experiments, Guardrail
from state.memory_store import MemoryStore
from state.records import CleanEvent, Example, Impression
from state.topics import CONTROL as CONTROL_TOPIC
from state.topics import Topic
from tests.unit.flows.lake_input import START, batch

WINDOW = timedelta(minutes=30)
N_ITEMS = 4


DAY = 86_400_000
MIDNIGHT = START - START % DAY + DAY


def shown(
    user: str, request: str, arm: str, degraded: bool = False, ts: int = START, latency_ms: float | None = None
) -> Impression:
    items = [f"i{n}" for n in range(N_ITEMS)]
    return Impression(
        request, user, ts, "home", items, [0.0] * N_ITEMS, [["popular"]] * N_ITEMS, [1.0] * N_ITEMS, b"", "f", "m", "1",
        {"ranking": arm}, {"store": "away"} if degraded else None, latency_ms=latency_ms,
    )  # fmt: skip


def told(
    user: str,
    request: str,
    arm: str,
    labels: Sequence[int],
    outcomes: Sequence[str | None] | None = None,
    ts: int = START,
) -> Example:
    items = [f"i{n}" for n in range(N_ITEMS)]
    known = outcomes or ["click" if label == 1 else None for label in labels]
    return Example(
        f"{request}:{ts}", request, user, ts, "home", items, list(labels), list(known), [1.0] * N_ITEMS, b"", "f", "1",
        {"ranking": arm},
    )  # fmt: skip


class Flow:
    """The logic over a store in memory; offsets as Kafka would give them."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self._offsets: dict[tuple[str, int], int] = {}
        self.restart()

    def restart(self) -> None:
        self.arms = ArmState(self.store, "experiments", [0, 1], WINDOW)

    def read_to_the_end(self) -> None:
        for partition in (0, 1):
            end = self._offsets.get(("impressions", partition), 0)
            self.arms.apply(batch([], "impressions", partition, end)._replace(at_end=True))

    def take(self, *records: object, partition: int = 0, flush: bool = True) -> KafkaBatch | None:
        made = None
        for record in records:
            topic = {Impression: "impressions", Example: "examples", CleanEvent: "clean"}[type(record)]  # type: ignore[index]
            first = self._offsets.get((topic, partition), 0)
            made = batch([record], topic, partition, first)
            self._offsets[topic, partition] = made.next_offset
            self.arms.apply(made)
        if flush:
            self.arms.flush()
        return made

    def sums(self, arm: str) -> dict[str, int]:
        found = merged(row.sums for _, row in self.store.scan_rows(EXPERIMENT_ARMS) if row.arm == arm)
        return {name: n for name, n in found.items() if n}


def test_a_list_and_what_is_told_of_it_is_counted_once() -> None:
    flow = Flow()
    records = [
        shown("u", "r", "a", degraded=True),
        shown("u", "r", "a", degraded=True),
        told("u", "r", "a", [0, 1, 0, -1]),
        told("u", "r", "a", [0, 1, 0, -1]),
        told("u", "r", "a", [-1, -1, -1, 0], [None, None, None, "hide"], START + 1),
        told("u", "r", "a", [-1, -1, 1, -1], [None, None, "save", None], START + 2),
    ]
    flow.take(*records)
    assert {name: n for name, n in flow.sums("a").items() if "*" not in name} == {
        "users": 1, "lists": 1, "degraded": 1, "labelled": 4, "positives": 2, "saves": 1, "hides": 1,
    }  # fmt: skip
    other = Flow()
    other.take(*reversed(records))
    assert other.sums("a") == flow.sums("a")


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_sums_follow_from_the_log_whatever_the_order_and_the_restarts(data: st.DataObject) -> None:
    """R20, R21: permuted, repeated, cut by restarts; equal to a table of all users."""
    users = data.draw(st.integers(1, 6))
    records: list[tuple[int, object]] = []
    later: list[tuple[int, object]] = []
    table: dict[str, list[dict[str, int]]] = {"a": [], "b": []}
    for n in range(users):
        arm = data.draw(st.sampled_from("ab"))
        counts = dict.fromkeys(COLUMNS, 0)
        for k in range(data.draw(st.integers(1, 3))):
            labels = data.draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=N_ITEMS, max_size=N_ITEMS))
            degraded, latency = data.draw(st.booleans()), data.draw(st.none() | st.integers(1, 99))
            outcomes = ["save" if label == 1 else "hide" if label == 0 else None for label in labels]
            records.append((n % 2, shown(f"u{n}", f"r{n}-{k}", arm, degraded, START, latency)))
            records.append((n % 2, told(f"u{n}", f"r{n}-{k}", arm, labels, outcomes)))
            counts["lists"] += 1
            counts["timed"] += latency is not None
            counts["latency"] += 10 * (latency or 0)
            counts["degraded"] += degraded
            counts["labelled"] += sum(label >= 0 for label in labels)
            counts["positives"] += labels.count(1)
            counts["saves"] += labels.count(1)
            counts["hides"] += labels.count(0)
        for k in range(data.draw(st.integers(0, 3))):
            kind, after = data.draw(st.sampled_from(["watch", "purchase", "view"])), data.draw(st.integers(-9, 2 * DAY))
            later.append((n % 2, CleanEvent(f"e{n}-{k}", kind, f"u{n}", "i", START + after, value=2.0)))
            if after >= 0:
                counts["converted"] |= kind == "purchase"
                counts["watch_s"] += 2 * (kind == "watch")
                counts["returned"] |= (START + after) // DAY > START // DAY
        table[arm].append(counts)
    order = data.draw(st.permutations(records + data.draw(st.lists(st.sampled_from(records), max_size=4))))
    flow = Flow()
    flow.read_to_the_end()
    for partition, record in [*order, *data.draw(st.permutations(later))]:
        flow.take(record, partition=partition, flush=data.draw(st.booleans()))
        if data.draw(st.booleans()):
            flow.arms.flush()
            flow.restart()
            flow.read_to_the_end()
    flow.arms.flush()
    for arm, rows in table.items():
        assert flow.sums(arm).get("users", 0) == len(rows)
        for metric in METRICS:
            if rows:
                columns = [
                    np.array([1.0 if name == "one" else row[name] for row in rows])
                    for name in (metric.numerator, metric.denominator)
                ]
                whole = effects.estimate(effects.Arm(metric.unit * columns[0], columns[1]))
                found = effects.estimate_sums(flow.sums(arm), metric)
                assert found.n_users == whole.n_users
                assert found.value == pytest.approx(whole.value, rel=1e-12)
                assert found.variance == pytest.approx(whole.variance, rel=1e-9, abs=1e-12)


def test_events_wait_until_the_lists_before_them_were_read_and_restarts_lose_none() -> None:
    """R20, R21"""
    flow = Flow()
    bought = CleanEvent("e", "purchase", "u", "i", START + 1)
    flow.take(bought)
    assert ("clean", 0) not in flow.store.watermarks("experiments")
    flow.restart()  # is read again, as no position was kept
    flow.arms.apply(batch([bought], "clean")._replace(timestamps=[START + 5]))
    flow.arms.apply(batch([shown("u", "r", "a")], "impressions"))
    assert flow.arms._waiting
    flow.arms.apply(batch([], "impressions", first=1)._replace(at_end=True))
    flow.arms.flush()
    assert flow.sums("a")["converted"] == 1
    assert flow.store.watermarks("experiments")["clean", 0].next_offset == 1


def test_what_follows_a_list_at_once_counts_whichever_is_read_first() -> None:
    """R21: `show` says what `analyze` does, also of users who do not think twice."""
    store, now = MemoryStore(), 100.0
    arms = ArmState(store, "experiments", [0], WINDOW, timedelta(seconds=2), lambda: now)
    arms.apply(batch([shown("v", "before", "a")], "impressions")._replace(at_end=True))
    first = CleanEvent("e", "watch", "u", "i", START + 6, value=9.0)
    arms.apply(batch([first])._replace(timestamps=[START + 9]))
    arms.apply(batch([shown("u", "r", "a", ts=START + 5)], "impressions", first=1)._replace(at_end=True))
    arms.flush()
    assert ("clean", 0) not in store.watermarks("experiments")
    now += 2
    arms.verify()  # nothing else comes
    (row,) = (row for _, row in store.scan_rows(EXPERIMENT_ARMS))
    assert row.sums["watch_s"] == 9
    assert store.watermarks("experiments")["clean", 0].next_offset == 1


def test_each_day_has_its_own_sums_also_of_lists_that_come_behind_their_labels() -> None:
    """R21"""
    flow = Flow()
    flow.take(told("u", "r", "a", [1, 0, -1, -1], ts=START + DAY), shown("u", "r", "a", latency_ms=5.0))
    flow.take(CleanEvent("e", "view", "u", "i", START + DAY), shown("v", "s", "a", ts=START + DAY))
    days = by_day(row for _, row in flow.store.scan_rows(EXPERIMENT_DAYS))
    assert [{name: n for name, n in of_day.sums.items() if n} for of_day in days] == [
        {"users": 1, "active": 1, "new": 1, "lists": 1, "timed": 1, "latency": 50, "labelled": 2, "positives": 1},
        {"users": 1, "active": 2, "new": 1, "lists": 1, "returned": 1},
    ]
    flow.take(CleanEvent("x", "erase", "u", None, START + DAY))
    days = by_day(row for _, row in flow.store.scan_rows(EXPERIMENT_DAYS))
    assert [of_day.sums.get("active", 0) for of_day in days] == [0, 1]
    assert [of_day.shown.n_items for of_day in days] == [0, N_ITEMS]


def test_what_is_told_of_very_many_lists_counts_on_their_days() -> None:
    """R21: more lists of one user than attribution keeps; it tells of them when their day is over."""
    lists = [shown("u", f"r{n}", "a", ts=MIDNIGHT + (n - 100) * 10_000) for n in range(200)]
    attribution = Attribution(Rules())
    attribution.apply(batch(lists, "impressions")._replace(at_end=True), lists[-1].ts)
    attribution.apply(batch([], "clean")._replace(at_end=True), lists[-1].ts)
    examples = attribution.advance(lists[-1].ts + DAY)
    assert attribution.counts["evicted_slates"] == len(lists) - Rules().max_slates_per_user
    flow = Flow()
    flow.take(*lists, *examples)
    days = by_day(row for _, row in flow.store.scan_rows(EXPERIMENT_DAYS))
    assert [(of_day.sums["lists"], of_day.sums["labelled"]) for of_day in days] == [(100, 100 * N_ITEMS)] * 2


def test_days_and_rows_stay_bounded() -> None:
    """R24: a user's days are dropped and their sums stand; an arm's oldest day makes room."""
    flow = Flow()
    for n in range(MAX_DAYS + 5):
        flow.take(shown("u", f"r{n}", "a", ts=START + n * DAY), CleanEvent(f"e{n}", "view", "u", "i", START + n * DAY))
    days = by_day(row for _, row in flow.store.scan_rows(EXPERIMENT_DAYS))
    assert [of_day.day - START // DAY for of_day in days] == list(range(5, MAX_DAYS + 5))
    assert {of_day.sums["active"] for of_day in days} == {1}
    (user,) = flow.store.get_many(USER_ARMS, ["u"])
    assert user is not None
    assert len(user.experiments["ranking"].days) == 31
    assert flow.sums("a")["lists"] == MAX_DAYS + 5


def test_who_is_seen_in_several_arms_is_left_out() -> None:
    flow = Flow()
    flow.take(shown("u", "r1", "a"), told("u", "r1", "a", [1, 0, 0, 0]), shown("v", "r2", "b"))
    flow.take(shown("u", "r3", "b"), told("u", "r3", "b", [1, 0, 0, 0]))
    assert flow.sums("a") == {}
    assert flow.sums("b")["users"] == 1
    assert flow.sums("") == {"users": 1}


def test_an_erased_user_is_gone_and_what_is_left_in_other_topics_does_not_count() -> None:
    """R27"""
    flow = Flow()
    flow.take(shown("u", "r1", "a"), shown("v", "r2", "a"))
    flow.take(CleanEvent("e", "erase", "u", None, START + 10))
    assert flow.store.get_many(USER_ARMS, ["u"]) == [None]
    assert flow.sums("a")["users"] == 1
    flow.take(told("u", "r1", "a", [1, 0, 0, 0], ts=START + 5))
    assert flow.store.get_many(USER_ARMS, ["u"]) == [None]
    flow.take(shown("u", "r3", "a", ts=START + 20))
    assert flow.sums("a")["users"] == 2


def test_what_only_an_erased_user_was_shown_counts_no_more() -> None:
    """R27, R21: also after a restart, and where only a sample of the items is kept."""
    flow = Flow()
    many = [[f"{user}{n}" for n in range(4000)] for user in "uv"]
    both = [f"both{n}" for n in range(2000)]
    for user, items in zip("uv", many, strict=True):
        lists = msgspec.structs.replace(shown(user, user, "a"), items=[*items, *both])
        flow.take(lists, msgspec.structs.replace(lists, request_id="again"))
        flow.restart()
    flow.read_to_the_end()
    assert n_shown(flow) == pytest.approx(10_000, rel=0.1)
    flow.take(CleanEvent("e", "erase", "u", None, START + 10))
    assert n_shown(flow) == pytest.approx(6000, rel=0.1)
    flow.restart()
    flow.read_to_the_end()
    flow.take(CleanEvent("f", "erase", "v", None, START + 10))
    assert n_shown(flow) == pytest.approx(2000, rel=0.1)  # of several: it is not kept who they were


def n_shown(flow: Flow) -> int:
    """Return how many items the stream says that were shown; as it goes on, and as it is read from its rows."""
    (of_day,) = by_day(row for _, row in flow.store.scan_rows(EXPERIMENT_DAYS))
    assert {found.shown.n_items for found in flow.arms._days.values()} == {of_day.shown.n_items}
    return of_day.shown.n_items


def test_what_is_in_no_experiment_leaves_no_row_and_what_is_broken_is_left_out() -> None:
    flow = Flow()
    plain = msgspec.structs.replace(shown("u", "r", "a"), experiments={})
    flow.take(plain)
    flow.arms.apply(batch([b"\xc1", shown("v", "r2", "a")], "impressions", 0, 1))
    flow.arms.flush()
    assert flow.store.get_many(USER_ARMS, ["u"]) == [None]
    assert flow.sums("a")["users"] == 1
    assert flow.store.watermarks("experiments")["impressions", 0].next_offset == 3


class Told(list[tuple[Topic, str, bytes]]):
    """What was sent to Kafka."""

    def __call__(self, topic: Topic, key: str, value: bytes) -> None:
        self.append((topic, key, value))

    def results(self, metric: str) -> list[dict[str, Any]]:
        return [msgspec.json.decode(value) for topic, key, value in self if (topic.name, key) == ("metrics", metric)]


class Guarded(Flow):
    """The logic, the document and a guard with a clock that is moved by hand."""

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        chosen: dict[str, Any] = {"arms": [Arm(name="old"), Arm(name="new")]} | fields
        experiment = Experiment(name="ranking", status="running", buckets=[0], **chosen)
        document = ControlDocument(
            "experiments", 1, EXPERIMENTS.encode(Experiments(experiments=[experiment])), "anna", 1
        )
        assert self.store.replace_document(document, None)
        self.told = Told()
        self.now = START / 1000
        self.guard = Guard(self.store, self.told, lambda: self.now)

    def look(self) -> None:
        self.now += 2
        self.guard.look(self.arms.changed)

    @property
    def document(self) -> ControlDocument:
        return self.store.get_rows(CONTROL, ["experiments"])["experiments"]

    @property
    def experiment(self) -> Experiment:
        return EXPERIMENTS.parse(self.document.body).experiments[0]

    def visit(self, n: int, rates: dict[str, float], seed: int = 0) -> None:
        """Let `n` new users of each arm see a list, of which they like items at a rate."""
        rng = np.random.default_rng(seed)
        for arm, rate in rates.items():
            for k in range(n):
                user = f"{arm}-{seed}-{k}"
                labels = (rng.random(N_ITEMS) < rate).astype(int).tolist()
                self.take(shown(user, user, arm), told(user, user, arm, labels), flush=False)
        self.arms.flush()


def test_an_arm_that_does_harm_is_stopped_and_the_history_says_why() -> None:
    """R21: within a look, which is two seconds; serving follows the document."""
    guarded = Guarded(guardrails=[Guardrail(metric="positives_per_user"), Guardrail(metric="hide_rate")])
    guarded.visit(60, {"old": 0.4, "new": 0.2})
    guarded.look()
    assert guarded.document.version == 1  # too few users say nothing
    for seed in range(1, 10):
        guarded.visit(100, {"old": 0.4, "new": 0.2}, seed)
        guarded.look()
    assert guarded.experiment.status == "stopped"
    assert guarded.experiment.reason.startswith("arm new: positives_per_user fell by ")
    assert guarded.document.version == 2
    assert guarded.document.author == AUTHOR
    assert guarded.document.note == f"stop ranking: {guarded.experiment.reason}"
    assert guarded.store.get_rows(CONTROL_HISTORY, ["experiments/2"])
    ((topic, key, value),) = [sent for sent in guarded.told if sent[0] == CONTROL_TOPIC]
    assert (topic, key) == (CONTROL_TOPIC, "experiments/2")
    assert msgspec.msgpack.decode(value, type=ControlDocument) == guarded.document
    assert {tuple(r["dimensions"].items()): r["sums"] for r in guarded.told.results("alarms")} == {
        (): {"guardrail": 1},
        (("arm", "ranking:new"),): {"guardrail": 1},
    }


def test_of_three_arms_only_the_bad_one_is_stopped() -> None:
    """R21"""
    arms = [Arm(name="old"), Arm(name="new"), Arm(name="third")]
    guarded = Guarded(arms=arms, guardrails=[Guardrail(metric="ctr")])
    for seed in range(9):
        guarded.visit(100, {"old": 0.4, "new": 0.1, "third": 0.4}, seed)
        guarded.look()
    assert guarded.experiment.status == "running"
    assert set(guarded.experiment.stopped_arms) == {"new"}
    assert guarded.document.version == 2


def test_a_broken_split_is_an_alarm_once_a_minute_and_stops_nothing() -> None:
    """R21"""
    guarded = Guarded()
    guarded.visit(700, {"old": 0.3})
    guarded.visit(400, {"new": 0.3})
    for _ in range(5):
        guarded.look()
    alarms = guarded.told.results("alarms")
    assert [alarm["dimensions"] for alarm in alarms] == [{"experiment": "ranking"}, {}]
    assert all(alarm["sums"] == {"sample_ratio": 1} for alarm in alarms)
    guarded.now += 60
    guarded.look()
    assert len(guarded.told.results("alarms")) == 4
    assert guarded.document.version == 1


def test_equal_arms_go_on_and_their_sums_are_told_until_the_end() -> None:
    """R21"""
    guarded = Guarded(guardrails=[Guardrail(metric="ctr")], end_ms=START + 60_000)
    guarded.visit(300, {"old": 0.3, "new": 0.3})
    guarded.look()
    guarded.look()
    results = guarded.told.results("arms")
    assert [(r["dimensions"]["arm"], r["sums"]["users"]) for r in results] == [
        ("ranking:new", 300),
        ("ranking:old", 300),
    ]
    assert guarded.document.version == 1
    guarded.now += 60
    guarded.look()
    assert (guarded.experiment.status, guarded.experiment.reason) == ("stopped", "its end has come")


def test_a_stop_that_somebody_else_was_faster_with_is_left_to_them() -> None:
    """R21: compare-and-set."""
    guarded = Guarded(end_ms=START)
    newer = msgspec.structs.replace(guarded.document, version=2, author="ben")
    lost = guarded.store.replace_document

    def race(document: ControlDocument, before: int | None) -> bool:
        guarded.store.replace_document = lost  # type: ignore[method-assign]
        assert lost(newer, 1)
        return lost(document, before)

    guarded.store.replace_document = race  # type: ignore[method-assign]
    guarded.look()
    assert guarded.document.author == "ben"
    guarded.look()
    assert (guarded.document.version, guarded.experiment.status) == (3, "stopped")
