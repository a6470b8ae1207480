"""Dead letters: what was refused and why, and what becomes of one that is mended. No I/O."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from flows.common.kafka_log import LogMessage
from state.records import Event, Item
from state.settings import Settings
from state.topics import EVENTS, ITEMS, Topic
from state.validation import InvalidInputError, parse_event, parse_item

SOURCES = (EVENTS, ITEMS)
_SHOWN_BYTES = 300

Outcome = Literal["fed again", "fed again before", "still refused", "not whole", "superseded"]
"""`not whole`: too large to be kept; `superseded`: the user was erased, or the item sent again, since."""


@dataclass(frozen=True)
class Letter:
    """A message that was refused."""

    partition: int
    """Of the topic `rejected`, as is `offset`."""
    offset: int
    ts: int
    """When it was refused, epoch ms."""
    topic: Topic | None
    """Where it had been sent; None when that is no topic of this namespace."""
    source: str
    """Its topic, partition and offset there."""
    field: str
    reason: str
    value: bytes
    is_whole: bool

    @property
    def id(self) -> str:
        """Return what it is called in the topic `retried`."""
        return f"{self.partition}/{self.offset}"


def letter_of(message: LogMessage, partition: int, settings: Settings) -> Letter:
    """Read a message of the topic `rejected`."""
    headers = {name: value.decode(errors="replace") for name, value in message.headers}
    source = headers.get("source", "")
    topics = {topic.full_name(settings): topic for topic in SOURCES}
    return Letter(
        partition,
        message.offset,
        message.timestamp,
        topics.get(source.rsplit("/", 2)[0]),
        source,
        headers.get("field", ""),
        headers.get("reason", ""),
        message.value or b"",
        "truncated" not in headers,
    )


@dataclass(frozen=True)
class Fix:
    """What is changed in a letter before it is fed again."""

    set: Mapping[str, Any] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, assignments: Iterable[str], drop: Iterable[str]) -> "Fix":
        """Read `field=value`s; a value is JSON, or else a text. Raise `ValueError` for one that names no field."""
        values = {}
        for assignment in assignments:
            name, found, text = assignment.partition("=")
            if not found:
                raise ValueError(f"expected field=value, got {assignment!r}")
            try:
                values[name] = json.loads(text)
            except ValueError:
                values[name] = text
        dropped = frozenset(drop)
        known = {info.name for record in (Event, Item) for info in msgspec.structs.fields(record)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"neither events nor items have a field {unknown[0]!r}")
        return cls(values, dropped)

    def apply(self, value: bytes) -> bytes:
        """Return the mended message. Raise `InvalidInputError` when there is no JSON object to mend."""
        if not self.set and not self.drop:
            return value
        try:
            record = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError("", f"not JSON: {error}") from error
        if not isinstance(record, dict):
            raise InvalidInputError("", f"expected an object, got {type(record).__name__}")
        kept = {name: found for name, found in record.items() if name not in self.drop}
        return json.dumps({**kept, **self.set}).encode()


def mended(letter: Letter, fix: Fix, now_ms: int) -> tuple[Topic, str, bytes]:
    """Return topic, key and value of what is to be sent. Raise `InvalidInputError` when it would be refused again."""
    value = fix.apply(letter.value)
    if letter.topic is EVENTS:
        return EVENTS, parse_event(value, now_ms).user_id, value
    if letter.topic is ITEMS:
        return ITEMS, parse_item(value).item_id, value
    raise InvalidInputError("", f"it comes from {letter.source or 'nowhere'}, which is no topic of this namespace")


def kind_of(reason: str) -> str:
    """Return a reason without times and other long numbers, by which letters are counted."""
    return re.sub(r"\d{6,}", "...", reason)


class ReasonCount(msgspec.Struct):
    """Letters that were refused for one kind of reason, see `kind_of`."""

    topic: str
    field: str
    reason: str
    n: int = 0
    first_ts: int = 0
    last_ts: int = 0


class Summary(msgspec.Struct):
    """The answer of `freshet rejected`."""

    n_letters: int
    n_fed_again: int
    """Of them, before."""
    reasons: list[ReasonCount]
    samples: list[dict[str, Any]]
    """The newest."""


def summarise(letters: Iterable[Letter], fed_again: set[str], n_samples: int) -> Summary:
    """Count letters by reason, the most frequent first."""
    counts: dict[tuple[str, str, str], ReasonCount] = {}
    samples: list[Letter] = []
    n_letters = n_fed_again = 0
    for letter in letters:
        n_letters += 1
        n_fed_again += letter.id in fed_again
        topic = letter.topic.name if letter.topic else ""
        reason = kind_of(letter.reason)
        count = counts.setdefault(
            (topic, letter.field, reason), ReasonCount(topic, letter.field, reason, first_ts=letter.ts)
        )
        count.n += 1
        count.first_ts, count.last_ts = min(count.first_ts, letter.ts), max(count.last_ts, letter.ts)
        samples.append(letter)
        if len(samples) > 2 * n_samples + 100:
            samples = _newest(samples, n_samples)
    return Summary(
        n_letters,
        n_fed_again,
        sorted(counts.values(), key=lambda count: (-count.n, count.topic, count.field, count.reason)),
        [_sample(letter, letter.id in fed_again) for letter in _newest(samples, n_samples)],
    )


def _newest(letters: Sequence[Letter], at_most: int) -> list[Letter]:
    return sorted(letters, key=lambda letter: (-letter.ts, letter.partition, -letter.offset))[:at_most]


def _sample(letter: Letter, fed_again: bool) -> dict[str, Any]:
    return {
        "letter": letter.id,
        "ts": letter.ts,
        "source": letter.source,
        "field": letter.field,
        "reason": letter.reason,
        "value": letter.value[:_SHOWN_BYTES].decode(errors="replace"),
        "fed_again": fed_again,
    }


class Retried(msgspec.Struct):
    """What became of the letters that were to be fed again."""

    outcomes: Counter[Outcome] = msgspec.field(default_factory=Counter)
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    """Of those that are still refused: field and kind of reason."""
