"""What the models see of a user at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from online_models.outcomes import INTERACTIONS, is_positive
from state.records import UserProfile

HISTORY_LENGTH = 32
"""Distinct items of the user's history that models look at."""

OTHER_WEIGHT = 0.3
"""Of an interaction that is not a positive one, for tastes."""


@dataclass(frozen=True, slots=True)
class UserView:
    """A user's newest distinct items, newest first, and a few counts. Immutable."""

    now_ms: int
    items: tuple[str, ...] = ()
    times: tuple[int, ...] = ()
    """Of the newest interaction with each, epoch ms."""
    weights: tuple[float, ...] = ()
    """1 for a positive interaction, `OTHER_WEIGHT` for others."""
    n_events: int = 0
    """All interactions ever."""
    genres: Mapping[str, float] = field(default_factory=dict)
    """Genre -> weight from onboarding and long-term affinity: the taste of a user without items."""

    @classmethod
    def of(cls, profile: UserProfile | None, now_ms: int) -> Self:
        """Build from a profile that contains the overlay; None is an unknown user."""
        if profile is None:
            return cls(now_ms)
        newest: dict[str, tuple[int, float]] = {}
        for step in reversed(profile.recent):
            if step.type not in INTERACTIONS:
                continue
            weight = taste_weight(step.type, step.value)
            if step.item_id in newest:
                time, known = newest[step.item_id]
                newest[step.item_id] = (time, max(known, weight))
            elif len(newest) < HISTORY_LENGTH:
                newest[step.item_id] = (step.ts, weight)
        counts = profile.activity.counts
        return cls(
            now_ms=now_ms,
            items=tuple(newest),
            times=tuple(time for time, _ in newest.values()),
            weights=tuple(weight for _, weight in newest.values()),
            n_events=sum(n for kind, n in counts.items() if kind in INTERACTIONS),
            genres=profile.affinity,
        )

    @classmethod
    def of_items(cls, item_ids: tuple[str, ...], now_ms: int) -> Self:
        """A view of somebody who has just taken these items, newest first: for `similar` and `because`."""
        return cls(now_ms, item_ids, (now_ms,) * len(item_ids), (1.0,) * len(item_ids), len(item_ids))


def taste_weight(event_type: str, value: float | str | None) -> float:
    """Return how much an interaction says about tastes: 1 when positive, else `OTHER_WEIGHT`.

    A profile's history does not hold an event's context, so the learner leaves it out, too.
    """
    return 1.0 if is_positive(event_type, value, None) else OTHER_WEIGHT
