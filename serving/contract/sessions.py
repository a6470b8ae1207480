"""What a client tells of a session that is stored nowhere."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from state.records import CleanEvent, Identifier, ShortText
from state.validation import InvalidInputError, check_identifier, decode, parse_event

BODY_LIMIT = 256 * 1024
MAX_EVENTS = 200


class SessionEvent(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One step; events without a time are in the order of the list, the last one now."""

    item_id: Identifier
    type: Literal["click", "view", "watch", "like", "dislike", "save", "hide", "rating", "purchase"] = "click"
    ts: Annotated[int, Meta(description="epoch ms")] | None = None
    value: float | ShortText | None = None
    """Stars of a rating, seconds watched."""


class SessionBody(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The session so far, oldest event first."""

    events: Annotated[list[SessionEvent], Meta(max_length=MAX_EVENTS)] = []


_decoder = msgspec.json.Decoder(SessionBody)
_encode = msgspec.json.Encoder().encode


def parse_session(body: bytes, now_ms: int) -> list[CleanEvent]:
    """Decode and check, as events that are posted are. Raise `InvalidInputError`."""
    given = decode(_decoder, body, BODY_LIMIT).events
    return [_checked(n, event, now_ms - (len(given) - 1 - n), now_ms) for n, event in enumerate(given)]


def _checked(n: int, given: SessionEvent, default_ts: int, now_ms: int) -> CleanEvent:
    check_identifier(f"events[{n}].item_id", given.item_id)
    ts = default_ts if given.ts is None else given.ts
    fields = {"event_id": f"e{n}", "user_id": "session", "ts": ts, "item_id": given.item_id, "type": given.type}
    try:
        event = parse_event(_encode(fields | ({} if given.value is None else {"value": given.value})), now_ms)
    except InvalidInputError as error:
        raise InvalidInputError(f"events[{n}].{error.field}", error.reason) from error
    return CleanEvent(event.event_id, event.type, event.user_id, event.item_id, event.ts, value=event.value)
