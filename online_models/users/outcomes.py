"""What an event says about the user and the item: one reading for training, serving and features (R13)."""

from collections.abc import Mapping
from typing import Any

from state.validation import FEEDBACK_TYPES, NUMBER

INTERACTIONS = frozenset({"click", "view", "watch", "like", "dislike", "save", "rating", "purchase"})
"""Types after which an item counts as consumed."""

POSITIVES = frozenset({"click", "view", "like", "save", "purchase"})
"""Types that are a positive outcome by themselves."""

MIN_WATCH_S = 30.0
MIN_WATCH_SHARE = 0.5
MIN_RATING_SHARE = 0.7


def is_feedback(event_type: str) -> bool:
    """Whether the user said it explicitly, undos and the first answers included: what the overlay carries (R5)."""
    return event_type in FEEDBACK_TYPES or event_type in ("undo", "onboarding")


def is_positive(event_type: str, value: float | str | None, context: Mapping[str, Any] | None) -> bool:
    """Whether the event is a positive label for what was shown."""
    if event_type in POSITIVES:
        return True
    if event_type == "rating":
        return isinstance(value, NUMBER) and rating_share(value, context) >= MIN_RATING_SHARE
    if event_type == "watch":
        share = (context or {}).get("share")
        if isinstance(share, NUMBER):
            return share >= MIN_WATCH_SHARE
        return isinstance(value, NUMBER) and value >= MIN_WATCH_S
    return False


def rating_share(value: float, context: Mapping[str, Any] | None) -> float:
    """Return a rating as a share of its scale: `context["scale"]`, else 5, 10 or 100 stars, whichever holds it."""
    scale = (context or {}).get("scale")
    if not isinstance(scale, NUMBER) or scale <= 0:
        scale = 5.0 if value <= 5 else 10.0 if value <= 10 else 100.0
    return min(1.0, value / scale)
