"""Which slate caused an outcome: the logic of `flows.attribution` for one partition. Knows no engine and no clock.

Everything happens in the order of event time: an outcome waits `settle` for those before it, also of the other topic,
so that examples do not depend on the order in which messages come. What comes later than that is worked on at once,
and corrects what has been said.
"""

import heapq
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

import msgspec

from flows.attribution.said import Said
from flows.attribution.slates import Slate
from flows.attribution.snapshot import LAYOUT, Snapshot
from flows.attribution.stream_clock import StreamClock
from flows.common.batches import KafkaBatch
from flows.common.caches import Newest
from online_models.users.outcomes import is_positive
from state.records import CleanEvent, Example
from state.topics import CLEAN, IMPRESSIONS
from state.validation import ERASE

log = logging.getLogger(__name__)

EXPLICIT_NEGATIVES = frozenset({"dislike", "hide"})

_NEVER = -1
_IDLE = 1000
_OUTCOME, _HELD, _EXPIRY, _END = range(4)  # of what is due at the same time, in this order

_Entry = tuple[int, int, str, int, CleanEvent | None]
"""What is due: when, which kind, of what id, a serial number, and the event. The id, of the event or else of the slate,
makes ties independent of the order of arrival. A slate has one entry: of its expiry, then of its end."""

_decode_event = msgspec.msgpack.Decoder(CleanEvent).decode


@dataclass(frozen=True)
class Rules:
    """How long things wait, in event time, and how much may wait. All bounds are per partition."""

    wait: timedelta = timedelta(minutes=10)
    """A slate without a positive is negative after this."""
    window: timedelta = timedelta(minutes=30)
    """An outcome belongs to a slate at most this much older."""
    settle: timedelta = timedelta(seconds=2)
    """How far messages may come out of order without any effect."""
    hold: timedelta = timedelta(seconds=30)
    """An outcome waits this long for the impression that its request id names."""
    max_slate_bytes: int = 96 * 2**20
    max_slates_per_user: int = 64
    max_held: int = 50_000
    """Outcomes that wait for their time."""
    max_recent: int = 20_000
    """Event ids by which a repeat is known, and request ids of which it is known that their window is over."""

    def __post_init__(self) -> None:
        if not timedelta(0) < self.wait <= self.window:
            raise ValueError(f"a slate cannot wait {self.wait} in a window of {self.window}")


class Attribution:
    """Turns impressions and clean events of one partition into examples.

    `counts` tells what happened to outcomes and slates, by name.
    """

    def __init__(self, rules: Rules) -> None:
        self.counts: Counter[str] = Counter()
        self._rules = rules
        self._wait, self._window, self._settle, self._hold = (
            int(span / timedelta(milliseconds=1)) for span in (rules.wait, rules.window, rules.settle, rules.hold)
        )
        self._clock = StreamClock((IMPRESSIONS.name, CLEAN.name))
        self._next_impression = 0
        self._slates: OrderedDict[str, Slate] = OrderedDict()  # by request id, oldest first
        self._slates_of: dict[str, list[Slate]] = {}  # by user
        self._slate_bytes = 0
        self._ended: Newest[str, None] = Newest(rules.max_recent)  # request ids
        self._agenda: list[_Entry] = []
        self._n_idle = 0  # entries of slates that are gone
        self._serial = count()
        self._held: dict[str, dict[str, CleanEvent]] = {}  # by the request id that is awaited, by event id
        self._n_held = 0
        self._recent: Newest[str, None] = Newest(rules.max_recent)  # event ids
        # User -> time: the other topic may still bring slates of before.
        self._erased: Newest[str, int] = Newest(rules.max_recent)
        self._said = Said(self._hold + self._settle)
        self._examples: list[Example] = []

    # Input

    def apply(self, batch: KafkaBatch, now: int) -> None:
        """Take a stretch of one of the topics; `now` is the wall clock, epoch ms."""
        if batch.topic == IMPRESSIONS.name:
            stream_ts = self._add_impressions(zip(batch.offsets, batch.values, strict=True))
            self._next_impression = max(self._next_impression, batch.next_offset)
        else:
            stream_ts = self._add_events(batch.values)
        self._clock.read(batch.topic, stream_ts, batch.at_end, now)
        if self._said:
            self._said.read(batch, self._clock.watermark(now))

    def _add_impressions(self, messages: Iterable[tuple[int, bytes | None]]) -> int | None:
        stream_ts = None
        for offset, message in messages:
            try:
                slate = Slate(offset, message or b"")
            except msgspec.MsgspecError as error:
                self._count_undecodable(IMPRESSIONS.name, error)
                continue
            stream_ts = max(stream_ts or 0, slate.head.ts)
            self._add_slate(slate)
        return stream_ts

    def _add_slate(self, slate: Slate) -> None:
        request_id, user_id, ts = slate.head.request_id, slate.head.user_id, slate.head.ts
        if request_id in self._slates:
            self.counts["repeated_slates"] += 1
            return
        if ts <= self._erased.get(user_id, _NEVER):
            self.counts["erased_slates"] += 1
            return
        slate.closed = slate.closed or self._said.has_closed(request_id)
        self._slates[request_id] = slate
        of_user = self._slates_of.setdefault(user_id, [])
        of_user.append(slate)
        self._slate_bytes += slate.n_bytes
        self._schedule(ts + self._wait, _EXPIRY, request_id)
        self._release(slate)
        if len(of_user) > self._rules.max_slates_per_user:
            self._evict(of_user[0])
        while self._slate_bytes > self._rules.max_slate_bytes:
            self._evict(next(iter(self._slates.values())))

    def _release(self, slate: Slate) -> None:
        """Work on the outcomes that waited for this slate."""
        held = self._held.pop(slate.head.request_id, {})
        waiting = {event_id: event for event_id, event in held.items() if slate.head.ts > event.ts + self._hold}
        if waiting:
            self._held[slate.head.request_id] = waiting
        for event in held.values():
            if event.event_id not in waiting:
                self._schedule(max(event.ts, slate.head.ts), _OUTCOME, event.event_id, event)

    def _add_events(self, messages: Iterable[bytes | None]) -> int | None:
        stream_ts = None
        for message in messages:
            try:
                event = _decode_event(message or b"")
            except msgspec.MsgspecError as error:
                self._count_undecodable(CLEAN.name, error)
                continue
            if stream_ts is None or event.ts > stream_ts:
                stream_ts = event.ts
            if event.type == ERASE:
                self._erase(event)
                continue
            if event.item_id is not None and (
                event.type in EXPLICIT_NEGATIVES or is_positive(event.type, event.value, event.context)
            ):
                self._add_outcome(event)
        return stream_ts

    def _erase(self, event: CleanEvent) -> None:
        """Tell nothing more of what the user was shown or did before (R27)."""
        user_id = event.user_id
        self._erased.remember(user_id, event.ts)
        for slate in tuple(self._slates_of.get(user_id, ())):
            self._leave_out(slate)
        for request_id, held in tuple(self._held.items()):
            kept = {event_id: event for event_id, event in held.items() if event.user_id != user_id}
            if len(kept) == len(held):
                continue
            self._n_held -= len(held) - len(kept)
            if kept:
                self._held[request_id] = kept
            else:
                del self._held[request_id]
        self._n_held -= self._keep_in_agenda(lambda entry: not _is_outcome_of(user_id, entry))
        self.counts["erased_users"] += 1

    def _add_outcome(self, event: CleanEvent) -> None:
        if event.event_id in self._recent:
            self.counts["repeated_events"] += 1
            return
        self._recent.remember(event.event_id, None)
        self._n_held += 1
        self._schedule(event.ts, _OUTCOME, event.event_id, event)

    def _schedule(self, ts: int, kind: int, name: str, event: CleanEvent | None = None) -> None:
        heapq.heappush(self._agenda, (ts + self._settle, kind, name, next(self._serial), event))

    def _count_undecodable(self, topic: str, error: msgspec.MsgspecError) -> None:
        self.counts["undecodable"] += 1
        log.error("%s: a message is left out: %s", topic, error)

    # Time

    def advance(self, now: int) -> list[Example]:
        """Return the examples that have become certain; `now` is the wall clock, epoch ms."""
        watermark = self._clock.watermark(now)
        agenda = self._agenda
        while agenda and (agenda[0][0] <= watermark or self._n_held > self._rules.max_held):
            due, kind, name, _, event = heapq.heappop(agenda)
            if due > watermark:
                self.counts["hurried"] += 1
            if event is None:
                self._end_wait(name, kind)
            else:
                self._work_on(event, kind, due)
        self._said.advance(watermark)
        examples, self._examples = self._examples, []
        return examples

    def next_due(self, now: int) -> int | None:
        """Return the wall clock at which time alone makes something certain; None: only messages can."""
        if not self._agenda or not self._clock.is_idle:
            return None
        return now + max(0, self._agenda[0][0] - self._clock.watermark(now))

    def _end_wait(self, request_id: str, kind: int) -> None:
        slate = self._slates.get(request_id)
        if slate is None:
            self._n_idle -= 1
        elif kind == _EXPIRY:
            self._emit(slate.expire(slate.head.ts + self._wait), "expired")
            self._schedule(slate.head.ts + self._window, _END, request_id)
        else:
            self._forget(slate)

    def _evict(self, slate: Slate) -> None:
        """Make room: what is not told is told now."""
        self.counts["evicted_slates"] += 1
        self._emit(slate.expire(slate.head.ts + self._wait), "expired")
        self._leave_out(slate)
        if self._n_idle > max(_IDLE, len(self._agenda) // 2):
            self._keep_in_agenda(lambda entry: entry[4] is not None or entry[2] in self._slates)
            self._n_idle = 0

    def _leave_out(self, slate: Slate) -> None:
        """Forget a slate before its end, which stays in the agenda for now."""
        self._forget(slate)
        self._n_idle += 1

    def _keep_in_agenda(self, wanted: Callable[[_Entry], bool]) -> int:
        """Take out the other entries; return how many."""
        n = len(self._agenda)
        self._agenda = [entry for entry in self._agenda if wanted(entry)]
        heapq.heapify(self._agenda)
        return n - len(self._agenda)

    def _forget(self, slate: Slate) -> None:
        del self._slates[slate.head.request_id]
        self._ended.remember(slate.head.request_id, None)
        self._slate_bytes -= slate.n_bytes
        of_user = self._slates_of[slate.head.user_id]
        of_user.remove(slate)
        if not of_user:
            del self._slates_of[slate.head.user_id]

    # Outcomes

    def _work_on(self, event: CleanEvent, kind: int, due: int) -> None:
        if kind == _HELD and not self._stop_holding(event):
            return  # its slate came
        named = self._slates.get(event.request_id or "")
        if named is not None and named.head.ts > event.ts + self._hold:
            named = None  # as if it had not come yet, which depends on the order of arrival
        if kind == _OUTCOME and named is not None and named.head.ts + self._settle > due:
            self._schedule(named.head.ts, _OUTCOME, event.event_id, event)  # a client's clock behind ours
            return
        if kind == _OUTCOME and named is None and event.request_id and event.request_id not in self._ended:
            self._held.setdefault(event.request_id, {})[event.event_id] = event
            self._schedule(event.ts + self._hold, _HELD, event.event_id, event)
            return
        self._n_held -= 1
        slate = named if self._explains(named, event) else self._shown_before(event)
        positive = event.type not in EXPLICIT_NEGATIVES
        if slate is not None:
            self._emit(slate.outcome(event, positive), "attributed", otherwise="nothing_new")
        else:
            self.counts["organic" if positive else "unexplained_negatives"] += 1

    def _stop_holding(self, event: CleanEvent) -> bool:
        held = self._held.get(event.request_id or "", {})
        if held.pop(event.event_id, None) is None:
            return False
        if not held:
            del self._held[event.request_id or ""]
        self.counts["unknown_request"] += 1
        return True

    def _explains(self, named: Slate | None, event: CleanEvent) -> bool:
        if named is None:
            self.counts["after_window"] += event.request_id in self._ended
        elif event.ts - named.head.ts > self._window:
            self.counts["after_window"] += 1
        elif named.head.user_id != event.user_id or event.item_id not in named.items:
            self.counts["not_shown"] += 1
        else:
            return True
        return False

    def _shown_before(self, event: CleanEvent) -> Slate | None:
        """Return the user's latest slate before the event that showed the item, within the window."""
        of_user = self._slates_of.get(event.user_id)
        if of_user is None:  # so it is of a log that is replayed
            return None
        shown = [
            slate for slate in of_user if 0 <= event.ts - slate.head.ts <= self._window and event.item_id in slate.items
        ]
        return max(shown, key=lambda slate: (slate.head.ts, slate.head.request_id), default=None)

    def _emit(self, example: Example | None, name: str, otherwise: str | None = None) -> None:
        if example is not None and example.example_id in self._said:
            self.counts["said_before"] += 1
        elif example is not None:
            self.counts[name] += 1
            self._examples.append(example)
        elif otherwise is not None:
            self.counts[otherwise] += 1

    # Recovery

    def restore(self, snapshot: Snapshot, impressions: Iterable[tuple[int, bytes | None]]) -> None:
        """Become what the snapshot was taken of; `said` comes first.

        `impressions` are (offset, message) from `first_impression` up to `next_impression`.
        """
        self._clock = StreamClock(self._clock.topics, snapshot.watermark, snapshot.times)
        self._next_impression = snapshot.next_impression
        for offset, message in impressions:
            state = snapshot.slates.get(offset)
            if state is not None:
                slate = Slate(offset, message or b"")
                slate.state = state
                self._add_slate(slate)
        for event in snapshot.held:
            self._add_outcome(event)

    def read_back(self, impressions: Iterable[tuple[int, bytes | None]]) -> None:
        """Take slates of before the input begins, when there is no snapshot; they do not move time."""
        self._add_impressions(impressions)

    def said(self, examples: Iterable[Example], since: int, ends: Mapping[str, int]) -> None:
        """Take over what was written before a crash, see `Said.take`."""
        self._said.take(examples, since, ends)

    def snapshot(self, now: int) -> Snapshot:
        held = [event for _, kind, _, _, event in self._agenda if event is not None and kind == _OUTCOME]
        held += [event for events in self._held.values() for event in events.values()]
        return Snapshot(
            version=LAYOUT,
            as_of=self._said.since if self._said else now,
            watermark=self._clock.watermark(now),
            times=self._clock.topics,
            next_impression=self._next_impression,
            slates={slate.offset: slate.state for slate in self._slates.values()},
            held=held,
        )


def _is_outcome_of(user_id: str, entry: _Entry) -> bool:
    _, kind, _, _, event = entry
    return kind == _OUTCOME and event is not None and event.user_id == user_id
