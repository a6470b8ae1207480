"""What the models see of a user at one moment."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from online_models.users.outcomes import INTERACTIONS
from state.records import UserProfile

_STEPS = INTERACTIONS | {"onboarding"}


@dataclass(frozen=True, slots=True)
class UserView:
    """A user's newest steps, newest last, as the learner keeps them, and a few counts. Immutable."""

    now_ms: int
    items: Sequence[str] = ()
    times: Sequence[float] = ()
    """Epoch seconds."""
    positive: Sequence[bool] = ()
    n_events: int = 0
    """All interactions ever."""
    genres: Mapping[str, float] = field(default_factory=dict)
    """Genre -> weight from onboarding and long-term affinity: the taste of a user without steps."""

    @classmethod
    def of(cls, profile: UserProfile | None, now_ms: int, without: Collection[str] = ()) -> Self:
        """Build from a profile that contains the overlay; None is an unknown user.

        `without`: items whose steps do not count. What was disliked tells nothing of what somebody would take next.
        """
        if profile is None:
            return cls(now_ms)
        steps = [step for step in profile.recent if step.type in _STEPS and step.item_id not in without]
        return cls(
            now_ms=now_ms,
            items=[step.item_id for step in steps],
            times=[step.ts / 1000.0 for step in steps],
            positive=[step.positive for step in steps],
            n_events=sum(n for kind, n in profile.activity.counts.items() if kind in INTERACTIONS),
            genres=profile.affinity,
        )

    @classmethod
    def of_items(cls, item_ids: Sequence[str], now_ms: int) -> Self:
        """A view of somebody who has just taken these items, newest last: for `similar` and `because`."""
        n = len(item_ids)
        return cls(now_ms, item_ids, (now_ms / 1000.0,) * n, (True,) * n, n)
