"""A user's state as serving sees it: one round trip, pending feedback folded in, and what is left without Redis."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from online_models.users import profiles
from serving import telemetry
from serving.memory.breaker import Breaker
from state.entries import StateDecodeError
from state.records import CleanEvent, Event, SessionProfile, UserProfile
from state.store import AsyncStore, StoreUnavailableError
from state.validation import ERASE

_log = logging.getLogger("serving")
_MAX_LOCAL_USERS = 10_000
_MAX_LOCAL_EVENTS = 64
_MAX_HIDDEN_USERS = 50_000

GenresOf = Callable[[str | None], Sequence[str]]
"""Item id -> its genres, empty when unknown."""


@dataclass(slots=True)
class KnownUser:
    """One user at one moment, with the feedback that no flow has applied yet."""

    user_id: str
    profile: UserProfile | None
    """None for somebody of whom nothing is known."""
    hidden: frozenset[str]
    n_pending: int = 0
    from_redis: bool = True
    disliked: Sequence[str] = ()
    """Newest first."""


class Users:
    """Reads users and takes their feedback.

    Without Redis, feedback is kept in this process; feedback that it was given lately it knows anyway. Of each user it
    is remembered which items were hidden when last read: these are never served, whatever else is missing.
    """

    def __init__(self, store: AsyncStore, genres_of: GenresOf) -> None:
        self._store = store
        self._genres_of = genres_of
        self.on_local: Callable[[str], None] = lambda _: None
        """Told of a user whose feedback only this process knows."""
        self.on_erase: Callable[[str], None] = lambda _: None
        """Told of a user whom this process is to forget."""
        self.breaker = Breaker(store.ping, self._write_local)
        self._local: OrderedDict[str, dict[str, CleanEvent]] = OrderedDict()
        """Feedback that is nowhere else yet."""
        self._given: OrderedDict[str, dict[str, CleanEvent]] = OrderedDict()
        """Feedback that was given to this process lately: known also when the user's state cannot be read in time."""
        self._hidden: OrderedDict[str, frozenset[str]] = OrderedDict()

    async def read(self, user_id: str, session_id: str | None = None) -> KnownUser:
        """Raise `StoreUnavailableError`; `from_memory` is what remains then."""
        try:
            state = await self.breaker.call(lambda: self._store.user_state(user_id, session_id))
        except StoreUnavailableError:
            telemetry.user_reads("error").inc()
            raise
        except StateDecodeError as error:
            telemetry.user_reads("error").inc()
            _log.error("a user's state cannot be read: %s", error)
            raise StoreUnavailableError(f"what it holds cannot be read: {error}") from error
        telemetry.user_reads("miss" if state.profile is None else "hit").inc()
        pending = state.pending
        if local := self._local.get(user_id):
            pending = _in_order({event.event_id: event for event in pending} | local)
        profile = state.profile
        if state.session is not None and (profile is None or not profile.recent):
            profile = _with_session(profile or UserProfile(), state.session)
        if profile is None and not pending:
            return KnownUser(user_id, None, frozenset())
        user = self._fold(user_id, profile or UserProfile(), pending)
        self._remember(user_id, user.hidden)
        return user

    def of_session(self, events: Sequence[CleanEvent]) -> KnownUser:
        """Return whoever did these things: nothing is read, nothing is kept."""
        return self._fold("", UserProfile(), events)

    def from_memory(self, user_id: str) -> KnownUser:
        """Return what this process knows by itself."""
        events = self._given.get(user_id, {}) | self._local.get(user_id, {})
        user = self._fold(user_id, UserProfile(), _in_order(events))
        user.from_redis = False
        user.hidden |= self._hidden.get(user_id, frozenset())
        return user

    async def add_feedback(self, *events: CleanEvent) -> str | None:
        """Make feedback part of every later read; return what is wrong when only this process knows it.

        A hide is remembered here, too: it holds when the next read fails or is late.
        """
        for event in events:
            _keep(self._given, event)
            if event.type == ERASE:
                self._given.pop(event.user_id, None)
                self._hidden.pop(event.user_id, None)
                self.on_erase(event.user_id)
            elif event.type == "hide" and event.item_id is not None:
                self._remember(event.user_id, self._hidden.get(event.user_id, frozenset()) | {event.item_id})
        try:
            await self.breaker.call(lambda: self._store.add_overlay(*events))
        except StoreUnavailableError as error:
            for event in events:
                _keep(self._local, event)
                self.on_local(event.user_id)
            return f"kept in this process for now: {error}"
        return None

    def _fold(self, user_id: str, profile: UserProfile, pending: Sequence[CleanEvent]) -> KnownUser:
        for event in pending:
            if event.type == ERASE:  # what is stored is of before: the flow takes it out with the event
                profile = UserProfile()
                continue
            # An event that a client sends twice is applied once, and nothing takes the second out of the overlay.
            if not profiles.contains(profile, event):
                profiles.apply_event(profile, event, self._genres(event))
        hidden, disliked = frozenset(profiles.hidden(profile)), profiles.newest_disliked(profile)
        return KnownUser(user_id, profile, hidden, len(pending), disliked=disliked)

    def _genres(self, event: CleanEvent) -> Sequence[str]:
        if event.type != "onboarding":
            return self._genres_of(event.item_id)
        return [genre for item_id in profiles.onboarding_items(event) for genre in self._genres_of(item_id)]

    def _remember(self, user_id: str, hidden: frozenset[str]) -> None:
        if hidden:
            self._hidden[user_id] = hidden
            self._hidden.move_to_end(user_id)
            if len(self._hidden) > _MAX_HIDDEN_USERS:
                self._hidden.popitem(last=False)
        elif user_id in self._hidden:
            del self._hidden[user_id]

    async def _write_local(self) -> None:
        """Move feedback kept here into the overlay, except what flows have applied meanwhile.

        A user's events are applied in the order they were posted, so a profile that is as new as the event has it.
        """
        for user_id, events in list(self._local.items()):
            profile = (await self._store.user_state(user_id)).profile
            for event in list(events.values()):
                if profile is None or profile.last_ts < event.ts:
                    await self._store.add_overlay(event)
                del events[event.event_id]
            if not events:
                del self._local[user_id]


def clean(event: Event) -> CleanEvent:
    """Return the event as `flows.clean` will pass it on."""
    return CleanEvent(
        event_id=event.event_id,
        type=event.type,
        user_id=event.user_id,
        item_id=event.item_id,
        ts=event.ts,
        session_id=event.session_id,
        request_id=event.request_id,
        position=event.position,
        value=event.value,
        context=event.context,
    )


def _with_session(profile: UserProfile, session: SessionProfile) -> UserProfile:
    """Let a session stand for the history of a user who has none, as of somebody who has just logged in."""
    profile.recent = session.recent
    profile.seen |= {step.item_id: step.ts for step in session.recent}
    profile.last_ts = max(profile.last_ts, session.last_ts)
    profile.activity = session.activity
    return profile


def _keep(kept: OrderedDict[str, dict[str, CleanEvent]], event: CleanEvent) -> None:
    """Add an event to its user's; of too many, the oldest go."""
    events = kept.setdefault(event.user_id, {})
    events[event.event_id] = event
    if len(events) > _MAX_LOCAL_EVENTS:
        del events[next(iter(events))]
    kept.move_to_end(event.user_id)
    if len(kept) > _MAX_LOCAL_USERS:
        kept.popitem(last=False)


def _in_order(events: dict[str, CleanEvent]) -> list[CleanEvent]:
    return sorted(events.values(), key=lambda event: (event.ts, event.event_id))
