"""What makes public input valid: one definition for serving, which answers at once, and `flows.clean`."""

import json
import math
from typing import Final, TypeVar

import msgspec

from state.records import EVENT_TYPES, Event, Item

MIN_EVENT_TIME = 631_152_000_000  # 1990-01-01: anything older is seconds sent as milliseconds, or a broken clock
MAX_CLOCK_SKEW_MS = 5 * 60 * 1000
MAX_EVENT_BYTES = 64 * 1024
MAX_ITEM_BYTES = 256 * 1024

FEEDBACK_TYPES = frozenset({"like", "dislike", "save", "hide", "rating"})
ERASE: Final = "erase"
"""The event that takes back all of a user's events before it in the log. `DELETE /v1/users/{id}` sends it."""
_WITHOUT_ITEM = frozenset({"search", "onboarding", ERASE})
NUMBER: Final = (float, int)
"""For `isinstance`: as a union it takes four times as long, for every event in five flows."""
_QUOTED_CHARS = 64
_T = TypeVar("_T")

_event_decoder = msgspec.json.Decoder(Event)
_item_decoder = msgspec.json.Decoder(Item)


class InvalidInputError(ValueError):
    """Input that is refused: which field, and why, in words the sender can act on."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = _shorten(field)
        self.reason = _shorten(reason, 4 * _QUOTED_CHARS)
        super().__init__(f"{self.field}: {self.reason}" if field else self.reason)


def parse_event(raw: bytes | msgspec.Raw, now_ms: int) -> Event:
    """Decode and check one event. Raise `InvalidInputError`."""
    event = decode(_event_decoder, raw, MAX_EVENT_BYTES)
    check_identifier("event_id", event.event_id)
    check_identifier("user_id", event.user_id)
    check_identifier("item_id", event.item_id)
    check_identifier("session_id", event.session_id)
    check_identifier("request_id", event.request_id)
    if event.item_id is None and event.type not in _WITHOUT_ITEM:
        raise InvalidInputError("item_id", f"required for type {event.type}")
    check_event_time(event.ts, now_ms)
    _check_value(event)
    return event


def parse_item(raw: bytes | msgspec.Raw) -> Item:
    """Decode and check one catalogue item. Raise `InvalidInputError`."""
    item = decode(_item_decoder, raw, MAX_ITEM_BYTES)
    check_identifier("item_id", item.item_id)
    return item


def check_event_time(ts: int, now_ms: int) -> None:
    """Raise `InvalidInputError` for a time no client can mean."""
    if ts < MIN_EVENT_TIME:
        raise InvalidInputError(
            "ts", f"{_shorten(str(ts))} is before 1990; milliseconds since 1970 are expected, not seconds"
        )
    if ts > now_ms + MAX_CLOCK_SKEW_MS:
        raise InvalidInputError(
            "ts", f"{_shorten(str(ts))} is more than 5 minutes ahead of the server's clock ({now_ms})"
        )


def check_identifier(field: str, value: str | None) -> None:
    """Raise `InvalidInputError` for an id that looks like another one."""
    if value is not None and (not value.isprintable() or value != value.strip()):
        raise InvalidInputError(field, f"control characters or outer spaces in {_shorten(value)!r}")


def _check_value(event: Event) -> None:
    value = event.value
    if event.type == "rating" and not (isinstance(value, NUMBER) and 0 <= value <= 100):
        raise InvalidInputError("value", "a rating needs a number from 0 to 100")
    if event.type == "watch" and not (value is None or (isinstance(value, NUMBER) and value >= 0)):
        raise InvalidInputError("value", "seconds watched must be a number >= 0")
    if event.type == "undo" and not (value is None or value in FEEDBACK_TYPES):
        raise InvalidInputError(
            "value", f"an undo takes back one of {', '.join(sorted(FEEDBACK_TYPES))}, or all when absent"
        )


def decode(decoder: msgspec.json.Decoder[_T], raw: bytes | msgspec.Raw, max_bytes: int) -> _T:
    """Decode and validate one JSON document. Raise `InvalidInputError`."""
    size = memoryview(raw).nbytes
    if size > max_bytes:
        raise InvalidInputError("", f"{size} bytes, at most {max_bytes} are allowed")
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise InvalidInputError(*field_and_reason(str(error))) from error
    except RecursionError as error:
        raise InvalidInputError("", "nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_a_number(bytes(raw)) or InvalidInputError("", f"not JSON: {error}") from error


def field_and_reason(message: str) -> tuple[str, str]:
    """msgspec names the field by a JSON path behind the reason, or in backticks for a missing or an unknown one."""
    reason, found, path = message.rpartition(" - at `$.")
    if path == "type`":
        reason += f", expected one of {', '.join(EVENT_TYPES)}"
    if found:
        return path.rstrip("`"), reason
    reason, found, path = message.rpartition(" - at `key` in `$.")
    if found:
        return path.rstrip("`"), f"a key: {reason}"
    _, found, name = message.partition("field `")
    return (name.rstrip("`") if found else ""), message


def _not_a_number(raw: bytes) -> InvalidInputError | None:
    """NaN and Infinity are no JSON, but many encoders write them: name the field, as for any other bad value."""
    if b"NaN" not in raw and b"Infinity" not in raw:
        return None
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    bad = (name for name, value in record.items() if isinstance(value, float) and not math.isfinite(value))
    return next((InvalidInputError(name, "must be a finite number") for name in bad), None)


def _shorten(text: str, limit: int = _QUOTED_CHARS) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."
