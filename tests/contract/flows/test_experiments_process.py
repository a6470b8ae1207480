"""`flows.experiments` as a process, on a real Kafka and a real Redis."""

from datetime import timedelta

import msgspec
import numpy as np
from confluent_kafka import Producer

from online_models.experiments.arm_sums import merged
from ops.metrics import Tail, until_end
from ops.stack.children import Child, wait_until
from state.control import EXPERIMENTS, ControlDocument
from state.entries import CONTROL, EXPERIMENT_ARMS
from state.experiments import Arm, Experiment, Experiments, Guardrail
from state.records import Example, Impression
from state.redis_store import RedisStore
from state.settings import Settings
from state.topics import EXAMPLES, IMPRESSIONS, PARTITIONER
from tests.conftest import MakeSettings, RunProcess
from tests.unit.flows.test_arms import N_ITEMS, shown, told

PATIENCE = timedelta(seconds=60)
RATES = {"old": 0.5, "new": 0.2}


def produce(settings: Settings, seed: int, n_users: int) -> int:
    """Let new users of each arm see a list, and like some of it; return how many items they liked."""
    rng = np.random.default_rng(seed)
    producer = Producer({"bootstrap.servers": settings.kafka_brokers, "partitioner": PARTITIONER})
    n_liked = 0

    def send(record: Impression | Example) -> None:
        topic = IMPRESSIONS if isinstance(record, Impression) else EXAMPLES
        producer.produce(topic.full_name(settings), msgspec.msgpack.encode(record), record.user_id.encode())

    for arm, rate in RATES.items():
        for n in range(n_users):
            user = f"{arm}-{seed}-{n}"
            labels = (rng.random(N_ITEMS) < rate).astype(int).tolist()
            n_liked += sum(labels)
            send(shown(user, user, arm))
            send(told(user, user, arm, labels))
    producer.flush(30)
    return n_liked


def in_force(store: RedisStore) -> Experiment:
    return EXPERIMENTS.parse(store.get_rows(CONTROL, ["experiments"])["experiments"].body).experiments[0]


def test_an_arm_is_stopped_across_a_kill_and_nothing_is_counted_twice(
    make_settings: MakeSettings, run_process: RunProcess
) -> None:
    """R21, R23: guardrails follow the stream; sums and positions are one commit."""
    settings = make_settings()
    store = RedisStore(settings)
    experiment = Experiment(
        name="ranking",
        arms=[Arm(name="old"), Arm(name="new")],
        guardrails=[Guardrail(metric="positives_per_user")],
        status="running",
    )
    body = EXPERIMENTS.encode(Experiments(experiments=[experiment]))
    assert store.replace_document(ControlDocument("experiments", 1, body, "anna", 1), None)

    def sums() -> dict[str, int]:
        return merged(row.sums for _, row in store.scan_rows(EXPERIMENT_ARMS))

    def counted(n_users: int, process: Child) -> None:
        done = wait_until(lambda: sums().get("users") == n_users or process.returncode is not None, PATIENCE)
        assert done, sums()
        assert process.returncode is None, process.log.read_text()

    n_liked = produce(settings, 1, 45)
    with run_process("flows.experiments", settings) as process:
        counted(90, process)
        n_liked += produce(settings, 2, 45)
        counted(180, process)
        process.kill()
    n_liked += produce(settings, 3, 200)
    with run_process("flows.experiments", settings) as process:
        counted(580, process)
        assert sums()["positives"] == n_liked

        assert wait_until(lambda: in_force(store).status == "stopped", PATIENCE), process.log.read_text()
    tail = Tail(settings, timedelta(hours=1), 60_000)
    tail.begin()
    cuts = {group[2] for groups in until_end(tail) for group in groups}
    tail.close()
    assert "arm=ranking%3Anew" in cuts
