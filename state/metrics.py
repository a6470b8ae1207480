"""The metrics: what `flows.metrics` sums, and others beside it, and how readers make numbers of the sums.

A result is one window of one partition, and holds sums only. To read a metric, add up the sums of all partitions (and
of several windows, if you like), then apply its formula: so parts always merge exactly.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Protocol
from urllib.parse import parse_qsl, urlencode

from ddsketch.mapping import LogarithmicMapping

WIDTHS = (60_000, 300_000, 3_600_000)
"""Of the windows: a minute, five minutes, an hour (ms)."""

Sums = Mapping[str, int]
Families = Mapping[str, Sums]
"""Family -> its sums in one window and cut."""


@dataclass(frozen=True)
class Family:
    """Sums that are made of one topic, together."""

    name: str
    topic: str
    description: str
    cuts: str
    """The dimensions by which it is summed, beside all of it."""


EVENTS = Family("events", "clean", "valid events: one sum for each type", "")
REJECTED = Family("rejected", "rejected", "refused messages, at their arrival: one sum for each field to blame", "")
SLATES = Family(
    "slates",
    "impressions",
    "lists shown: `slates`, their `items`, `degraded` ones",
    "surface, device, model, arm, surface and arm",
)
SCORES = Family("scores", "impressions", "scores of items shown, in bins of 2 % (DDSketch)", "surface, model")
EXPOSURE = Family("exposure", "impressions", "how often each item was shown", "surface")
OUTCOMES = Family(
    "outcomes",
    "clean, impressions",
    "events that name the list they come from: one sum for each type, `watch_ms`; `unlinked` ones name an unknown list",
    "surface, device, model, arm, surface and arm",
)
LABELS = Family(
    "labels",
    "examples",
    "what the ranker is told of lists: `positives`, `negatives`, `rank_N` of positives (the first is 1)",
    "surface, arm, surface and arm",
)
SHADOW_SLATES = Family(
    "shadow",
    "impressions",
    "lists that the model in the shadow scored, too: `lists`, and millionths of its agreement with what was served",
    "challenger",
)
SHADOW_LABELS = Family(
    "shadow_labels",
    "examples",
    "`lists` with a positive: millionths of how well the model in the shadow ranks it, and the order shown",
    "challenger",
)
ARMS = Family(
    "arms",
    "impressions, examples",
    "since an arm's first list, without an end: its `users`, sums over them and sums of products",
    "experiment and arm",
)
ALARMS = Family(
    "alarms",
    "impressions, examples",
    "minutes in which an experiment has a `sample_ratio` alarm, arms that a `guardrail` stopped",
    "experiment, arm",
)
DRIFT = Family(
    "drift",
    "examples",
    "`alarms`: minutes in which a signal is no longer what it was: an input, the predictions, or the residuals",
    "signal",
)
WINDOWED = (EVENTS, REJECTED, SLATES, SCORES, EXPOSURE, OUTCOMES, LABELS)
"""Summed by `flows.metrics`, and kept in Redis for the dashboard."""
FAMILIES = (*WINDOWED, SHADOW_SLATES, SHADOW_LABELS, ARMS, ALARMS, DRIFT)

MAX_RANK = 50
"""Positives that stood lower are summed in `rank_50`."""
MAX_SAMPLED_ITEMS = 1024


class Formula(Protocol):
    """How a metric is made of sums."""

    @property
    def families(self) -> tuple[str, ...]:
        """The families that it reads."""

    def value(self, families: Families) -> float | None:
        """Return the value, None where it is not defined."""


@dataclass(frozen=True)
class Total:
    """A sum, or several: `outcomes.hide + outcomes.dislike`; `events.*` is all of a family's."""

    terms: str
    scale: float = 1.0

    @property
    def families(self) -> tuple[str, ...]:
        return _families(self.terms)

    def value(self, families: Families) -> float | None:
        return _total(self.terms, families) * self.scale

    def __str__(self) -> str:
        return self.terms + ("" if self.scale == 1 else f" * {self.scale:g}")


@dataclass(frozen=True)
class Ratio:
    """A sum by another."""

    above: str
    below: str
    scale: float = 1.0

    @property
    def families(self) -> tuple[str, ...]:
        return _families(f"{self.above} + {self.below}")

    def value(self, families: Families) -> float | None:
        below = _total(self.below, families)
        return _total(self.above, families) * self.scale / below if below else None

    def __str__(self) -> str:
        above, below = (f"({terms})" if " " in terms else terms for terms in (self.above, self.below))
        return f"{above} / {below}" + ("" if self.scale == 1 else f" * {self.scale:g}")


@dataclass(frozen=True)
class MeanReciprocalRank:
    """1 / rank, averaged over positives."""

    families = (LABELS.name,)

    def value(self, families: Families) -> float | None:
        by_rank = {
            int(name.removeprefix("rank_")): n
            for name, n in families.get(LABELS.name, {}).items()
            if name.startswith("rank_")
        }
        total = sum(by_rank.values())
        return sum(n / rank for rank, n in by_rank.items()) / total if total else None

    def __str__(self) -> str:
        return "sum over N of labels.rank_N / N / labels.positives"


@dataclass(frozen=True)
class ScoreQuantile:
    """A quantile of the scores, within 2 % of its value."""

    q: float
    families = (SCORES.name,)

    def value(self, families: Families) -> float | None:
        return quantile(families.get(SCORES.name, {}), self.q)

    def __str__(self) -> str:
        return f"{self.q:g}-quantile of scores"


@dataclass(frozen=True)
class ItemsShown:
    """Distinct items; an estimate when a partition showed more than 1024 in the window."""

    families = (EXPOSURE.name,)

    def value(self, families: Families) -> float | None:
        exposure = families.get(EXPOSURE.name, {})
        share = sampled_share(exposure)
        return len(exposure) / share

    def __str__(self) -> str:
        return "number of items in exposure"


@dataclass(frozen=True)
class Gini:
    """Gini coefficient of exposure among the items shown: 0, all equally often; near 1, few have nearly all."""

    families = (EXPOSURE.name,)

    def value(self, families: Families) -> float | None:
        shown = sorted(families.get(EXPOSURE.name, {}).values())
        total = sum(shown)
        if not total:
            return None
        n = len(shown)
        return 2 * sum(rank * times for rank, times in enumerate(shown, 1)) / (n * total) - (n + 1) / n

    def __str__(self) -> str:
        return "Gini coefficient of the sums in exposure"


@dataclass(frozen=True)
class Metric:
    """One number that people read."""

    name: str
    unit: str
    meaning: str
    formula: Formula


_SHOWN = "slates.items"
_ENGAGED = "outcomes.click + outcomes.view + outcomes.like + outcomes.save + outcomes.purchase"
_REFUSED = "outcomes.hide + outcomes.dislike"
_LABELS = "labels.positives + labels.negatives"


def _of_shadow(name: str) -> Ratio:
    return Ratio(f"shadow.{name}", "shadow.lists", 1e-6)


def _of_labels(name: str) -> Ratio:
    return Ratio(f"shadow_labels.{name}", "shadow_labels.lists", 1e-6)


METRICS: tuple[Metric, ...] = (
    Metric("events", "events", "valid events", Total("events.*")),
    Metric("clicks_all", "events", "clicks, also on lists that we did not make", Total("events.click")),
    Metric("rejected", "messages", "refused messages", Total("rejected.*")),
    Metric("reject_rate", "share", "refused ones of all messages", Ratio("rejected.*", "rejected.* + events.*")),
    Metric("slates", "lists", "lists shown to a user", Total("slates.slates")),
    Metric("impressions", "items", "items shown in lists", Total(_SHOWN)),
    Metric("degraded_share", "share", "lists not made as declared", Ratio("slates.degraded", "slates.slates")),
    Metric("clicks", "events", "clicks that name their list", Total("outcomes.click")),
    Metric("ctr", "share", "clicks per item shown", Ratio("outcomes.click", _SHOWN)),
    Metric("clicks_per_list", "clicks", "clicks per list shown", Ratio("outcomes.click", "slates.slates")),
    Metric("engagement_rate", "share", "positive events per item shown", Ratio(_ENGAGED, _SHOWN)),
    Metric("purchases", "events", "purchases that name their list", Total("outcomes.purchase")),
    Metric("conversion", "share", "purchases per click", Ratio("outcomes.purchase", "outcomes.click")),
    Metric("saves", "events", "saves that name their list", Total("outcomes.save")),
    Metric("save_rate", "share", "saves per item shown", Ratio("outcomes.save", _SHOWN)),
    Metric("hides", "events", "hides and dislikes that name their list", Total(_REFUSED)),
    Metric("hide_rate", "share", "hides and dislikes per item shown", Ratio(_REFUSED, _SHOWN)),
    Metric("watch_s", "s", "time watched, of events that name their list", Total("outcomes.watch_ms", 0.001)),
    Metric("watch_s_per_list", "s", "time watched per list", Ratio("outcomes.watch_ms", "slates.slates", 0.001)),
    Metric("unlinked", "events", "events that name a list nobody knows", Total("outcomes.unlinked")),
    Metric("positives", "labels", "positive labels told to the ranker", Total("labels.positives")),
    Metric("positive_share", "share", "positive ones of the labels of lists", Ratio("labels.positives", _LABELS)),
    Metric("mrr", "1", "mean reciprocal rank of positives", MeanReciprocalRank()),
    Metric("items_shown", "items", "different items shown", ItemsShown()),
    Metric("gini", "1", "how unevenly the shown items are shown", Gini()),
    Metric("shadow_lists", "lists", "lists that the model in the shadow scored", Total("shadow.lists")),
    Metric("shadow_kendall", "1", "Kendall's tau with the order by score", _of_shadow("kendall")),
    Metric("shadow_spearman", "1", "Spearman's rank correlation with it", _of_shadow("spearman")),
    Metric("shadow_overlap10", "share", "first ten that are the same", _of_shadow("overlap10")),
    Metric("shadow_distance", "share", "chance that is given to other items", _of_shadow("distance")),
    Metric("shadow_log_loss", "1", "its log loss on what was taken of shown lists", _of_labels("log_loss")),
    Metric("shadow_auc", "1", "how often it scores what was taken above what was not", _of_labels("auc")),
    Metric("shadow_ndcg10", "1", "NDCG@10 of its order of shown lists", _of_labels("ndcg10")),
    Metric("shown_auc", "1", "as `shadow_auc`, of the order that was shown", _of_labels("shown_auc")),
    Metric("shown_ndcg10", "1", "as `shadow_ndcg10`, of the order that was shown", _of_labels("shown_ndcg10")),
    Metric("score_p10", "1", "score that 10 % of shown items are below", ScoreQuantile(0.1)),
    Metric("score_p50", "1", "median score of shown items", ScoreQuantile(0.5)),
    Metric("alarms", "alarms", "of experiments: broken splits, and arms that were stopped", Total("alarms.*")),
    Metric("drift_alarms", "alarms", "of inputs, predictions and residuals that have drifted", Total("drift.alarms")),
    Metric("score_p90", "1", "score that 90 % of shown items are below", ScoreQuantile(0.9)),
)
BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}


def cut_of(**dimensions: str) -> str:
    """Return the name of a cut."""
    return urlencode(dimensions)


def dimensions_of(cut: str) -> dict[str, str]:
    """Reverse `cut_of`."""
    return dict(parse_qsl(cut, keep_blank_values=True)) if cut else {}


def merged(parts: Iterable[tuple[str, Sums]]) -> dict[str, dict[str, int]]:
    """Add up (family, sums) of partitions and windows of one cut; return family -> sums."""
    found: dict[str, list[Sums]] = {}
    for family, sums in parts:
        found.setdefault(family, []).append(sums)
    return {
        family: merged_exposure(several) if family == EXPOSURE.name else _added(several)
        for family, several in found.items()
    }


def merged_exposure(parts: Sequence[Sums]) -> dict[str, int]:
    """Add up samples of items: of all those hashed below the lowest bound of a part, each has its exact sum."""
    added = _added(parts)
    full = [part for part in parts if len(part) >= MAX_SAMPLED_ITEMS]
    if full:
        bound = min(max(map(item_hash, part)) for part in full)
        added = {item: n for item, n in added.items() if item_hash(item) <= bound}
    return added


@cache
def _mapping() -> LogarithmicMapping:
    return LogarithmicMapping(0.02)


def score_bin(score: float) -> str:
    """Return the name of the sum that counts a score: DDSketch's bin, `zero` for what is none."""
    return str(_mapping().key(score)) if score > 0 else "zero"


def quantile(bins: Sums, q: float) -> float | None:
    """Return the `q`-quantile of binned scores, within 2 % of its value; None without any.

    References
    ----------
    Masson, Rim and Lee: DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees, VLDB 2019.
    """
    total = sum(bins.values())
    if not total:
        return None
    rank, seen = q * (total - 1), bins.get("zero", 0)
    if seen > rank:
        return 0.0
    found = sorted(int(name) for name in bins if name not in ("zero", "other"))
    for key in found:
        seen += bins[str(key)]
        if seen > rank:
            return float(_mapping().value(key))
    return float(_mapping().value(found[-1])) if found else 0.0


@lru_cache(maxsize=65_536)
def item_hash(item_id: str) -> int:
    """Return the same number below 2^64 for an item everywhere."""
    return int.from_bytes(blake2b(item_id.encode(), digest_size=8).digest())


def sample_of(sums: Sums, n: int) -> dict[str, int]:
    """Keep the `n` items with the lowest hashes.

    An item that is among them has been so since it was first seen: its sum is exact.

    References
    ----------
    Bar-Yossef et al.: Counting distinct elements in a data stream, RANDOM 2002 (k minimum values).
    """
    return {item: sums[item] for item in sorted(sums, key=item_hash)[:n]}


def sampled_share(exposure: Sums) -> float:
    """Return the share of all items that a (merged) sample holds; 1 when it is all of them."""
    if len(exposure) < MAX_SAMPLED_ITEMS:
        return 1.0
    return max(map(item_hash, exposure)) / 2**64


def _added(parts: Iterable[Sums]) -> dict[str, int]:
    added: dict[str, int] = {}
    for part in parts:
        for name, n in part.items():
            added[name] = added.get(name, 0) + n
    return added


def _families(terms: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(term.partition(".")[0] for term in terms.split(" + ")))


def _total(terms: str, families: Families) -> float:
    total = 0
    for term in terms.split(" + "):
        family, _, name = term.partition(".")
        sums = families.get(family, {})
        total += sum(sums.values()) if name == "*" else sums.get(name, 0)
    return total
