"""The processes of a flow that divide its partitions among them, as Kafka tells them: members of a consumer group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import confluent_kafka
from confluent_kafka.admin import AdminClient, ConsumerGroupDescription, MemberDescription

from ops.lag import PartitionLag
from ops.operating.findings import Finding
from ops.stack.parts import Flow
from state.settings import Settings

Partition = tuple[str, int]
"""Topic, as the contract names it, and number."""

_IN_ORDER = {"stable", "empty", "dead"}
"""Kafka's states of a group that is not being divided anew."""


@dataclass(frozen=True)
class Member:
    """A process that takes part."""

    name: str
    """The instance that it says it is, which it keeps over restarts."""
    host: str
    partitions: frozenset[Partition]

    def __str__(self) -> str:
        return f"{self.name} at {self.host}"


@dataclass(frozen=True)
class Group:
    """What Kafka knows of a group."""

    state: str
    members: Sequence[Member]


def ask(client: AdminClient, settings: Settings, flows: Sequence[Flow], timeout_s: float) -> dict[str, Group]:
    """Return flow -> its group; one that Kafka never heard of has no members. Raise `KafkaException`."""
    flow_of = {settings.group_id(flow.name): flow for flow in flows}
    answers = client.describe_consumer_groups(list(flow_of), request_timeout=timeout_s)
    return {flow_of[name].name: _group(answer.result(), flow_of[name], settings) for name, answer in answers.items()}


def _group(found: ConsumerGroupDescription, flow: Flow, settings: Settings) -> Group:
    name_of = {topic.full_name(settings): topic.name for topic in flow.inputs}
    members = [
        Member(
            member.group_instance_id or member.client_id,
            member.host.lstrip("/"),
            frozenset((name_of[part.topic], part.partition) for part in _assigned(member) if part.topic in name_of),
        )
        for member in found.members
    ]
    return Group(found.state.name.lower().replace("_", " "), sorted(members, key=lambda member: member.name))


def _assigned(member: MemberDescription) -> Sequence[confluent_kafka.TopicPartition]:
    return member.assignment.topic_partitions if member.assignment else []


def judge(
    flow: str, group: Group, before: Sequence[PartitionLag], after: Sequence[PartitionLag], gathers_s: float = 0.0
) -> Finding:
    """Judge a group, with how far its flow was at two looks some seconds apart; it may gather messages for `gathers_s`.

    A member is idle when it has no partition, and hangs when none of its partitions moves though messages wait there.
    """
    check = f"group {flow}"
    if group.state not in _IN_ORDER:
        return Finding(
            check,
            "warning",
            f"its partitions are being divided anew ({group.state})",
            "That takes seconds, after a start or the loss of a process. If it stays so, a process comes and goes: "
            "freshet status counts restarts, its log tells why.",
        )
    if not group.members:
        return Finding(
            check,
            "failed",
            "no process takes part",
            f"Start one: python -m flows.{flow}, or freshet up. If one runs, its log tells what it waits for.",
        )
    taken = {partition for member in group.members for partition in member.partitions}
    left = sorted({(lag.topic, lag.partition) for lag in after} - taken)
    if left:
        return Finding(
            check,
            "failed",
            f"nobody reads {_names(left)}",
            "A process of another version or with other settings takes part: all must read the same topics. "
            f"It has {_all(group.members)}.",
        )
    waiting = _waiting(before, after, gathers_s)
    hanging = [member for member in group.members if _hangs(member, waiting)]
    if hanging:
        return Finding(
            check,
            "failed",
            "; ".join(f"{member} takes nothing from {_names(sorted(member.partitions))}" for member in hanging),
            "It says that it lives, and does not work. Restart that process: nothing is lost, its log tells what it "
            "waited for.",
        )
    idle = [member for member in group.members if not member.partitions]
    if idle:
        return Finding(
            check,
            "warning",
            f"idle, without a partition: {_all(idle)}",
            f"There are more processes than partitions ({_most(after)} of a topic): stop those.",
        )
    shares = ", ".join(f"{member} ({len(member.partitions)})" for member in group.members)
    return Finding(check, "ok", f"members and how many partitions each reads: {shares}")


def _waiting(
    before: Sequence[PartitionLag], after: Sequence[PartitionLag], gathers_s: float
) -> Mapping[Partition, bool]:
    """Return partition -> whether it moved, of those in which messages have waited from one look to the other."""
    then = {(lag.topic, lag.partition): lag for lag in before}
    return {
        (lag.topic, lag.partition): lag.position != then[lag.topic, lag.partition].position
        for lag in after
        if lag.events and then[lag.topic, lag.partition].events and lag.seconds > gathers_s
    }


def _hangs(member: Member, waiting: Mapping[Partition, bool]) -> bool:
    moved = [waiting[partition] for partition in member.partitions if partition in waiting]
    return bool(moved) and not any(moved)


def _all(members: Sequence[Member]) -> str:
    return ", ".join(map(str, members))


def _names(partitions: Sequence[Partition]) -> str:
    """Return `clean[0,1], examples[0]`."""
    topics = dict.fromkeys(topic for topic, _ in partitions)
    return ", ".join(
        f"{topic}[{','.join(str(number) for name, number in partitions if name == topic)}]" for topic in topics
    )


def _most(lags: Sequence[PartitionLag]) -> int:
    return max(lag.partition for lag in lags) + 1
