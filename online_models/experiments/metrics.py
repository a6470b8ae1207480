"""What arms are compared by: ratios of two sums over users."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A ratio of two sums over users.

    `numerator` and `denominator` name what is summed of each user; `one` is 1 for everybody.
    """

    name: str
    meaning: str
    numerator: str
    denominator: str = "one"
    better: Literal["higher", "lower"] = "higher"
    guardrail: bool = True
    """Whether it follows from lists and their outcomes alone, which is what guardrails see."""


METRICS = (
    Metric("ctr", "positive outcomes per shown item", "positives", "labelled"),
    Metric("positives_per_user", "positive outcomes per user", "positives"),
    Metric("conversion", "share of users who bought something after their first list", "converted", guardrail=False),
    Metric("watch_s_per_user", "seconds watched per user after the first list", "watch_s", guardrail=False),
    Metric("save_rate", "saves per shown item", "saves", "labelled"),
    Metric("hide_rate", "hides per shown item", "hides", "labelled", better="lower"),
    Metric(
        "retention",
        "share of users who were active on a later day than that of the first list",
        "returned",
        guardrail=False,
    ),
    Metric("degraded", "share of lists that were degraded", "degraded", "lists", better="lower"),
)
"""The first one of them is what power plans mean when nothing else is said."""

BY_NAME = {metric.name: metric for metric in METRICS}
GUARDED = tuple(metric for metric in METRICS if metric.guardrail)
