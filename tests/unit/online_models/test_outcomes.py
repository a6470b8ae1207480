from typing import Any

import pytest

from online_models.users.outcomes import INTERACTIONS, is_feedback, is_positive, rating_share
from state.records import EVENT_TYPES


@pytest.mark.parametrize(
    ("event_type", "value", "context", "expected"),
    [
        ("click", None, None, True),
        ("view", None, None, True),
        ("purchase", 9.99, None, True),
        ("dislike", None, None, False),
        ("hide", None, None, False),
        ("impression", None, None, False),
        ("rating", 4, None, True),
        ("rating", 3, None, False),
        ("rating", 7, None, True),
        ("rating", 6, None, False),
        ("rating", 4, {"scale": 10}, False),
        ("rating", 80, None, True),
        ("rating", "good", None, False),
        ("watch", 30, None, True),
        ("watch", 10, None, False),
        ("watch", 10, {"share": 0.9}, True),
        ("watch", 100, {"share": 0.1}, False),
        ("watch", None, None, False),
    ],
)
def test_outcome_is_read_as_label(
    event_type: str, value: float | str | None, context: dict[str, Any] | None, *, expected: bool
) -> None:
    """R13."""
    assert is_positive(event_type, value, context) is expected


def test_feedback_is_what_the_user_says_explicitly() -> None:
    """R5."""
    assert {t for t in EVENT_TYPES if is_feedback(t)} == {
        "like",
        "dislike",
        "save",
        "hide",
        "rating",
        "undo",
        "onboarding",
    }


def test_hiding_or_seeing_an_item_in_a_list_does_not_consume_it() -> None:
    assert not INTERACTIONS & {"impression", "hide", "undo", "search", "onboarding"}
    assert set(EVENT_TYPES) >= INTERACTIONS


def test_rating_share_never_leaves_the_scale() -> None:
    assert rating_share(12, {"scale": 10}) == 1.0
    assert rating_share(5, {"scale": 0}) == 1.0
