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
    unit: float = 1.0
    """What one of the numerator is worth: sums are integers."""


METRICS = (
    Metric("ctr", "positive outcomes per shown item", "positives", "labelled"),
    Metric("positives_per_user", "positive outcomes per user", "positives"),
    Metric("conversion", "share of users who bought something after their first list", "converted"),
    Metric("watch_s_per_user", "seconds watched per user after the first list", "watch_s"),
    Metric("save_rate", "saves per shown item", "saves", "labelled"),
    Metric("hide_rate", "hides per shown item", "hides", "labelled", better="lower"),
    Metric("retention", "share of users who were active on a later day than that of the first list", "returned"),
    Metric("diversity", "mean distance of two items of a list by genre", "diversity", "compared", unit=0.001),
    Metric("novelty", "bits of information in a list's items, mean", "novelty", "judged", unit=0.01),
    Metric("latency_ms", "time from request to list, mean", "latency", "timed", better="lower", unit=0.1),
    Metric("degraded", "share of lists that were degraded", "degraded", "lists", better="lower"),
)
"""The first one of them is what power plans mean when nothing else is said."""

BY_NAME = {metric.name: metric for metric in METRICS}
