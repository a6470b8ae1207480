"""Kafka topics: the only place where one is spelled."""

from dataclasses import dataclass
from datetime import timedelta

from state.settings import Settings

PARTITIONER = "murmur2"
"""Every producer uses it: Quix Streams does, librdkafka's default is another, and a user must have one partition."""


@dataclass(frozen=True)
class Topic:
    """One topic and how it is created."""

    name: str
    key: str
    """What a message's key is: `user`, `item`, `metric`, `document`, `letter` or `source` (as it came)."""
    compacted: bool = False
    retention: timedelta = timedelta(days=7)
    arrival_time: bool = False
    """Messages carry the broker's append time instead of the producer's clock."""

    def full_name(self, settings: Settings) -> str:
        """The topic's name on the broker: `freshet.events`, or `freshet.<namespace>.events`."""
        return ".".join(part for part in ("freshet", settings.namespace, self.name) if part)


# serving, any producer -> flows.clean: JSON `records.Event`
EVENTS = Topic("events", key="user", arrival_time=True)
# serving, importers -> flows.catalogue, flows.learn: JSON `records.Item`, an empty value deletes
ITEMS = Topic("items", key="item", compacted=True)
# serving -> flows.attribution: msgpack `records.Impression`
IMPRESSIONS = Topic("impressions", key="user")
# flows.clean -> all other flows: msgpack `records.CleanEvent`
CLEAN = Topic("clean", key="user", arrival_time=True)
# flows.clean -> people: the original bytes; the reason is in the headers
REJECTED = Topic("rejected", key="source", retention=timedelta(days=30))
# ops.operating -> itself: `<partition>/<offset>` in `rejected`, of a letter that was fed again; no value
RETRIED = Topic("retried", key="letter", retention=REJECTED.retention + timedelta(days=7))
# flows.attribution -> flows.learn: msgpack `records.Example`
EXAMPLES = Topic("examples", key="user")
# flows.metrics -> people: JSON `records.MetricResult`
METRICS = Topic("metrics", key="metric")

# serving -> flows.catalogue, for an emptied Redis: msgpack `control.ControlDocument`; key: `control.version_field`
CONTROL = Topic("control", key="document", compacted=True)

ALL = (EVENTS, ITEMS, IMPRESSIONS, CLEAN, REJECTED, RETRIED, EXAMPLES, METRICS, CONTROL)
