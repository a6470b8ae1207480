"""What users say of items, as clients send it."""

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from serving.contract.problems import ProblemError
from state.records import Identifier, Labels, ShortText
from state.validation import InvalidInputError, check_identifier, decode

BODY_LIMIT = 64 * 1024

FeedbackType = Literal["like", "dislike", "save", "hide", "rating", "undo"]
FEEDBACK_TYPES: tuple[str, ...] = get_args(FeedbackType)


class Feedback(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What a user says of an item."""

    item_id: Identifier
    type: FeedbackType
    value: float | ShortText | None = None
    """Stars of a rating; the type that an undo takes back, all when absent."""
    event_id: Identifier | None = None
    """Given by clients that may send the same feedback twice."""
    ts: Annotated[int, Meta(description="epoch ms")] | None = None
    request_id: Identifier | None = None
    position: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    session_id: Identifier | None = None


_feedback_decoder = msgspec.json.Decoder(Feedback)


def parse_feedback(body: bytes) -> Feedback:
    """Decode and check. Raise `InvalidInputError`, or `ProblemError` that says which types there are."""
    try:
        return decode(_feedback_decoder, body, BODY_LIMIT)
    except InvalidInputError as error:
        if error.field == "type":
            raise ProblemError(400, "type: this is no feedback", field="type", allowed=FEEDBACK_TYPES) from error
        raise


class Onboarding(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What a user who has just come says of the own taste: genres, items, or both."""

    genres: Labels = []
    items: Annotated[list[Identifier], Meta(max_length=64)] = []
    event_id: Identifier | None = None
    """Given by clients that may send the same answers twice."""
    ts: Annotated[int, Meta(description="epoch ms")] | None = None
    session_id: Identifier | None = None


_onboarding_decoder = msgspec.json.Decoder(Onboarding)


def parse_onboarding(body: bytes) -> Onboarding:
    """Decode and check. Raise `InvalidInputError`."""
    answers = decode(_onboarding_decoder, body, BODY_LIMIT)
    if not answers.genres and not answers.items:
        raise InvalidInputError("genres", "at least one genre or item is needed")
    for n, item_id in enumerate(answers.items):
        check_identifier(f"items[{n}]", item_id)
    return answers
