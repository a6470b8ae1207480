"""The test run's Kafka and Redis are real ones."""

from collections.abc import Callable

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import ConfigResource, ResourceType
from redis import Redis

from ops.stack import kafka
from state import topics
from state.settings import Settings


def test_topics_are_created_as_the_contract_says(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(partitions=3)
    kafka.create_topics(settings)  # again: changes nothing
    client = kafka.admin(settings.kafka_brokers)
    metadata = client.list_topics(timeout=10).topics
    counts = {topic.name: len(metadata[topic.full_name(settings)].partitions) for topic in topics.ALL}
    assert counts == {topic.name: 3 for topic in topics.ALL} | {"metrics": 1}
    resources = [ConfigResource(ResourceType.TOPIC, topic.full_name(settings)) for topic in topics.ALL]
    for topic, answer in zip(topics.ALL, client.describe_configs(resources).values(), strict=True):
        config = {name: entry.value for name, entry in answer.result().items()}
        assert config["cleanup.policy"] == ("compact" if topic.compacted else "delete")
        assert config["message.timestamp.type"] == ("LogAppendTime" if topic.arrival_time else "CreateTime")
        assert int(config["retention.ms"]) == topic.retention.total_seconds() * 1000


def test_a_transaction_is_visible_after_its_commit_only(settings: Settings) -> None:
    topic = topics.CLEAN.full_name(settings)
    producer = Producer({"bootstrap.servers": settings.kafka_brokers, "transactional.id": settings.namespace})
    producer.init_transactions(30)
    for value, end in ((b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, key=b"u", value=value)
        producer.flush(10)
        end(30)
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka_brokers, "group.id": settings.namespace, "auto.offset.reset": "earliest"}
    )
    try:
        consumer.subscribe([topic])
        message = consumer.poll(20)
        assert message is not None
        assert message.value() == b"committed"
        assert message.timestamp()[0] == 2  # the broker's clock
    finally:
        consumer.close()


def test_redis_speaks_resp3_and_keeps_what_is_written(settings: Settings) -> None:
    with Redis.from_url(settings.redis_url, protocol=3) as redis:
        key = f"{settings.namespace}:test"
        redis.hset(key, "field", "value")
        assert redis.hgetall(key) == {b"field": b"value"}
        assert redis.config_get("appendonly")["appendonly"] == "yes"
        redis.delete(key)
