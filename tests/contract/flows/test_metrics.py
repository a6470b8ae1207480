"""`python -m flows.metrics` on a real Kafka: sums are exact, also when it is killed."""

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from ops.stack.children import Child
from state.entries import METRIC_WINDOWS, metric_window_id
from state.metrics import BY_NAME, WIDTHS, cut_of, dimensions_of, merged, score_bin
from state.records import CleanEvent, Example, Impression
from state.redis_store import RedisStore
from state.settings import Settings
from state.topics import CLEAN, EXAMPLES, IMPRESSIONS, METRICS, PARTITIONER, REJECTED, Topic

RunProcess = Callable[..., AbstractContextManager[Child]]
Found = dict[tuple[str, int, int, str], Counter[str]]
"""(family, width, start, cut) -> sums."""

MINUTE = 60_000
START = 1_380_000_000_000 // 3_600_000 * 3_600_000

_encode = msgspec.msgpack.encode


class Metrics:
    """Writes what is summed, sums it up itself, and reads the results."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer(
            {
                "bootstrap.servers": settings.kafka_brokers,
                "partitioner": PARTITIONER,
                "enable.idempotence": True,  # else messages that are sent again come out of order
            }
        )
        self._consumer = Consumer({"bootstrap.servers": settings.kafka_brokers, "group.id": "test"})
        self._consumer.assign([TopicPartition(METRICS.full_name(settings), 0, 0)])
        self._newest: dict[tuple[object, ...], Counter[str]] = {}
        self.final: set[tuple[str, int, int]] = set()
        self.expected: Found = {}
        self._begun: set[Topic] = set()

    def event(
        self, number: int, kind: str, ts: int, slate: Impression | None = None, value: float | None = None
    ) -> None:
        user = slate.user_id if slate else f"u{number % 50}"
        request = slate.request_id if slate else None
        event = CleanEvent(f"e{number}", kind, user, "i", ts, request_id=request, value=value)
        self._produce(CLEAN, _encode(event), user)
        self._expect("events", ts, [""], {kind: 1})
        if slate:
            sums = {kind: 1} if value is None else {kind: 1, "watch_ms": round(value * 1000)}
            self._expect("outcomes", ts, _cuts(slate), sums)

    def slate(self, number: int, ts: int) -> Impression:
        arm = "ab"[number % 2]
        slate = Impression(
            f"r{number}", f"u{number % 50}", ts, "home" if number % 3 else "search",
            [f"i{number % 7 + at}" for at in range(5)], [0.5, 0.4, 0.1, 0.01, 0.0], [[]] * 5, [1.0] * 5, b"", "f",
            "listwise", "1", {"ranker": arm}, {"score": "late"} if number % 10 == 0 else None, None,
            "tv" if number % 4 else None,
        )  # fmt: skip
        self._produce(IMPRESSIONS, _encode(slate), slate.user_id)
        sums = {"slates": 1, "items": 5} | ({"degraded": 1} if slate.degraded else {})
        self._expect("slates", ts, _cuts(slate), sums)
        by_surface = ["", cut_of(surface=slate.surface)]
        self._expect("exposure", ts, by_surface, Counter(slate.items))
        self._expect("scores", ts, [*by_surface, "model=listwise"], Counter(map(score_bin, slate.scores)))
        return slate

    def example(self, number: int, slate: Impression, ts: int, rank: int | None) -> None:
        labels = [int(at == rank) for at in range(1, 6)]
        example = Example(
            f"x{number}", slate.request_id, slate.user_id, ts, slate.surface, slate.items, labels,
            ["click" if label else None for label in labels], [1.0] * 5, b"", "f", "1", slate.experiments,
        )  # fmt: skip
        self._produce(EXAMPLES, _encode(example), slate.user_id)
        told = {"positives": sum(labels), "negatives": 5 - sum(labels)} | ({f"rank_{rank}": 1} if rank else {})
        self._expect("labels", ts, _cuts(slate)[:4], told)

    def reject(self, field: str) -> None:
        self._produce(REJECTED, b"?", "", headers=[("field", field.encode())])

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    def found(self) -> Found:
        """Return the newest results, partitions added up."""
        for message in self._consumer.consume(5000, 0.2):
            result = json.loads(message.value())
            assert message.key() == result["metric"].encode()
            width = result["end"] - result["start"]
            assert width in WIDTHS
            where = result["metric"], width, result["start"], cut_of(**result["dimensions"])
            self._newest[*where, result["partition"]] = Counter(result["sums"])
            if result["final"]:
                self.final.add((result["metric"], width, result["start"]))
        found: Found = {}
        for (*where, _), sums in self._newest.items():
            found.setdefault(tuple(where), Counter()).update(sums)  # type: ignore[arg-type]
        return found

    def wait_for(self, expected: Found, timeout_s: float = 60.0) -> None:
        begin = time.monotonic()
        while (found := self._comparable(expected)) != expected and time.monotonic() - begin < timeout_s:
            pass
        assert found == expected

    def wait_until_final(self, expected: Found, timeout_s: float = 60.0) -> None:
        """Windows are told again when they close, after what they add up to was told."""
        begin, windows = time.monotonic(), {where[:3] for where in expected}
        while not windows <= self.final and time.monotonic() - begin < timeout_s:
            self.found()
        assert windows <= self.final

    def _comparable(self, expected: Found) -> Found:
        found = self.found()
        return {where: found.get(where, Counter()) for where in expected}

    def _expect(self, family: str, ts: int, cuts: list[str], sums: dict[str, int]) -> None:
        for width in WIDTHS:
            for cut in cuts:
                self.expected.setdefault((family, width, ts - ts % width, cut), Counter()).update(sums)

    def _produce(self, topic: Topic, value: bytes, key: str, headers: list[tuple[str, bytes]] | None = None) -> None:
        self._producer.produce(topic.full_name(self._settings), value, key.encode(), headers=headers)
        if topic not in self._begun:
            self.flush()  # what is sent before a topic's partitions are known can come out of order
            self._begun.add(topic)
        self._producer.poll(0)


def _cuts(slate: Impression) -> list[str]:
    arm = f"ranker:{slate.experiments['ranker']}"
    return [
        "",
        cut_of(surface=slate.surface),
        cut_of(arm=arm),
        cut_of(surface=slate.surface, arm=arm),
        cut_of(device=slate.device or "unknown"),
        cut_of(model=slate.model),
    ]


def play(metrics: Metrics, numbers: range, every_ms: int) -> None:
    """Lists with clicks, watched seconds and labels, in order of time in each partition."""
    for number in numbers:
        ts = START + number * every_ms
        slate = metrics.slate(number, ts)
        metrics.event(number, "click", ts + 1, slate)
        if number % 5 == 0:
            metrics.event(-number - 1, "watch", ts + 2, slate, value=12.5)
        metrics.example(number, slate, ts + 3, rank=number % 5 + 1 if number % 2 else None)


@pytest.fixture
def metrics(settings: Settings) -> Metrics:
    return Metrics(settings)


def narrow(expected: Found) -> Found:
    """The windows of a minute that are told at once: the sums of wider ones, and those of many items, wait."""
    return {
        where: sums for where, sums in expected.items() if where[1] == MINUTE and where[0] not in ("scores", "exposure")
    }


def test_windows_are_what_the_messages_add_up_to(settings: Settings, metrics: Metrics, run_process: RunProcess) -> None:
    """R28: every family, width and cut; all windows close at the end."""
    play(metrics, range(600), every_ms=10_000)
    for field in ("ts", "ts", "", "context[...]", "\x00 made up"):
        metrics.reject(field)
    metrics.flush()
    expected = dict(metrics.expected)
    with run_process("flows.metrics", settings) as process:
        metrics.wait_for(narrow(expected))
        begin = time.monotonic()
        while not (rejected := rejects(metrics)) and time.monotonic() - begin < 30:
            pass
        assert rejected == {"ts": 2, "none": 1, "context[...]": 1, "unknown": 1}
        # Time goes on in every partition, so everything before is final.
        for number in range(10_000, 10_200):
            later = metrics.slate(number, START + 5 * 3_600_000)
            metrics.event(number, "click", START + 5 * 3_600_000, later)
            metrics.example(number, later, START + 5 * 3_600_000, rank=1)
        metrics.flush()
        metrics.wait_for(expected)
        metrics.wait_until_final(expected)
        assert process.stop() == 0
    hour = merged((family, sums) for (family, width, start, cut), sums in expected.items()
                  if (width, start, cut) == (WIDTHS[2], START, ""))  # fmt: skip
    assert BY_NAME["ctr"].formula.value(hour) == pytest.approx(0.2)


def rejects(metrics: Metrics) -> Counter[str] | None:
    rejected = [sums for where, sums in metrics.found().items() if where[0] == "rejected" and where[1] == MINUTE]
    total = sum(rejected, Counter[str]())
    return total if total.total() == 5 else None


def test_sums_are_exact_through_kills(settings: Settings, metrics: Metrics, run_process: RunProcess) -> None:
    """R23, R31; `freshet bench recovery` measures how soon it goes on."""
    for begin in range(0, 9000, 3000):
        play(metrics, range(begin, begin + 3000), every_ms=100)
        metrics.flush()
        with run_process("flows.metrics", settings) as process:
            before = metrics.found()
            waits = time.monotonic()
            while metrics.found() == before and time.monotonic() - waits < 60:
                pass
            process.kill()
    with run_process("flows.metrics", settings):
        metrics.wait_for(narrow(metrics.expected), timeout_s=90.0)


def test_recent_windows_are_in_redis(settings: Settings, metrics: Metrics, run_process: RunProcess) -> None:
    """R28: what the dashboard reads."""
    minute = int(time.time() * 1000) // MINUTE * MINUTE - 2 * MINUTE
    slate = metrics.slate(1, minute)
    metrics.event(1, "click", minute + 5, slate)
    metrics.event(2, "click", minute + 5)
    metrics.flush()
    wanted = {where[0]: sums for where, sums in narrow(metrics.expected).items() if where[3] == "surface=home"}
    store = RedisStore(settings)
    entry = METRIC_WINDOWS[MINUTE]

    def read() -> dict[str, dict[str, int]]:
        found: dict[str, Counter[str]] = {}
        for family in wanted:
            ids = [metric_window_id(family, minute, partition) for partition in range(settings.partitions)]
            for window in store.get_many(entry, ids):
                if window is not None:
                    assert all(cut == cut_of(**dimensions_of(cut)) for cut in window.sums)
                    found.setdefault(family, Counter()).update(window.sums["surface=home"])
        return dict(found)

    with run_process("flows.metrics", settings):
        begin = time.monotonic()
        while read() != wanted and time.monotonic() - begin < 30:
            pass
        assert read() == wanted


def test_an_event_that_names_an_unknown_list_is_told(
    settings: Settings, metrics: Metrics, run_process: RunProcess
) -> None:
    """R8: what a client makes up harms nothing."""
    known = metrics.slate(1, START)
    metrics.event(1, "click", START + 1, known)
    unknown = CleanEvent("e2", "click", known.user_id, "i", START + 2, request_id="made up")
    metrics._produce(CLEAN, _encode(unknown), known.user_id)
    metrics._produce(CLEAN, b"\xc1", known.user_id)
    metrics.flush()
    expected = {("outcomes", MINUTE, START, ""): Counter(click=1, unlinked=1)}
    with run_process("flows.metrics", settings):
        metrics.wait_for(expected)
