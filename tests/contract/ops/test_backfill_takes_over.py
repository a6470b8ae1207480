"""`freshet backfill --take-over` under a live learner, on a real Kafka and a real Redis."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import msgspec
from confluent_kafka import Producer

from flows.learn.learning import LearningState
from online_models.learning.budget import UNLIMITED
from online_models.learning.learner import Learner
from ops.stack.children import Child, environment, wait_until
from state.memory_store import MemoryStore
from state.redis_store import RedisStore
from state.settings import Settings
from state.topics import CLEAN
from tests.contract.ops.test_backfill import fill
from tests.unit.ops.backfill.test_taking_over import clean_only, learn_rest

RunProcess = Callable[..., AbstractContextManager[Child]]
MakeSettings = Callable[..., Settings]
_WAIT = timedelta(seconds=120)


def position(settings: Settings) -> int:
    """Return the offset that the learner goes on with."""
    mark = RedisStore(settings).watermarks("learn").get((CLEAN.name, 0))
    return 0 if mark is None else mark.next_offset


def test_the_learner_goes_on_from_it(make_settings: MakeSettings, run_process: RunProcess) -> None:
    """R19: the running learner ends; started again it learns what came since, each event once."""
    settings = make_settings(partitions=1, learn_organic_share=UNLIMITED, learn_replay_share=UNLIMITED, drift_share=0)
    whole, part = clean_only(200), clean_only(150)
    fill(settings, part)
    with run_process("flows.learn", settings) as process:
        process.wait_until(lambda: position(settings) >= 150, _WAIT)
        argv = [sys.executable, "-m", "ops", "backfill", "--full-speed", "--from", "kafka", "--take-over", "--force"]
        done = subprocess.run(argv, env=environment(settings), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "the live learner goes on from it" in done.stderr
        assert wait_until(lambda: process.returncode is not None, _WAIT)
    producer = Producer({"bootstrap.servers": settings.kafka_brokers})
    for event in list(whole.records["clean", 0].values())[150:]:
        producer.produce(CLEAN.full_name(settings), msgspec.msgpack.encode(event), b"u", partition=0)
    assert producer.flush(30) == 0
    with run_process("flows.learn", settings) as process:
        process.wait_until(lambda: position(settings) >= 201, _WAIT)
        assert process.stop() == 0
    once = LearningState(MemoryStore(), "learn", Learner(organic_share=UNLIMITED, replay_share=UNLIMITED))
    learn_rest(once, whole)
    resumed = LearningState(RedisStore(settings), "learn", Learner())
    assert resumed.learner.counts == once.learner.counts
    assert resumed.learner.ranker.n_steps == once.learner.ranker.n_steps
