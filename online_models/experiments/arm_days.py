"""One arm on one day, beside the sums over its users: how long lists took, and which items they showed.

Both merge exactly over partitions and days: bins of 2 %, and the lowest hashes of all items, from which the number of
different ones follows (exactly up to `MAX_SAMPLED_ITEMS`, above with a standard error of 3 %).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from online_models.experiments.arm_sums import Sums, add
from online_models.experiments.metrics import METRICS
from state.metrics import MAX_SAMPLED_ITEMS, item_hash, quantile, score_bin
from state.records import ArmDay

MAX_DAYS = 100
"""Of an arm: older ones are dropped when a new one comes."""
_SLACK = 2
"""More hashes are kept between cuts: a cut sorts them."""


@dataclass
class Shown:
    """What lists showed, and how long they took."""

    latency: Sums = field(default_factory=dict)
    """Bin -> lists."""
    items: set[int] = field(default_factory=set)
    """Hashes: all, or more than the lowest `MAX_SAMPLED_ITEMS`."""

    @classmethod
    def of(cls, row: ArmDay) -> "Shown":
        """Return what a row says."""
        return cls(dict(row.latency), set(np.frombuffer(row.items, "<u8").tolist()))

    def add(self, items: Iterable[str], latency_ms: float | None, n_lists: int = 1) -> None:
        """Take some lists that took equally long."""
        if latency_ms is not None:
            add(self.latency, {latency_bin(latency_ms): n_lists})
        self.items.update(map(item_hash, items))
        if len(self.items) > _SLACK * MAX_SAMPLED_ITEMS:
            self.items = set(self.lowest())

    def lowest(self) -> list[int]:
        """Return the hashes that stand for all, ascending."""
        return sorted(self.items)[:MAX_SAMPLED_ITEMS]

    def merge(self, other: "Shown") -> None:
        add(self.latency, other.latency)
        self.items |= other.items

    @property
    def n_items(self) -> int:
        """Different items shown.

        References
        ----------
        Bar-Yossef et al.: Counting distinct elements in a data stream, RANDOM 2002 (k minimum values).
        """
        lowest = self.lowest()
        if len(lowest) < MAX_SAMPLED_ITEMS:
            return len(lowest)
        return round((MAX_SAMPLED_ITEMS - 1) / (lowest[-1] / 2**64))

    @property
    def latency_p95_ms(self) -> float | None:
        """Within 2 %; None without a list whose latency is known."""
        return quantile(self.latency, 0.95)

    def figures(self) -> dict[str, float | int | None]:
        """Return what is told of it."""
        return {"latency_p95_ms": self.latency_p95_ms, "items_shown": self.n_items}


@dataclass
class OneDay:
    """One arm on one day."""

    arm: str
    day: int
    """Since 1970, UTC."""
    sums: Sums = field(default_factory=dict)
    """See `online_models.experiments.arm_sums.day_contributions`."""
    shown: Shown = field(default_factory=Shown)

    @property
    def date(self) -> str:
        return str(np.datetime64(self.day, "D"))


def latency_bin(latency_ms: float) -> str:
    """Return the bin of a latency, which is told by the tenth of a millisecond."""
    return score_bin(int(latency_ms * 10 + 0.5) / 10)


def by_day(rows: Iterable[ArmDay]) -> list[OneDay]:
    """Add up partitions; the arms of one experiment, by day and name."""
    found: dict[tuple[int, str], OneDay] = {}
    for row in rows:
        of_day = found.setdefault((row.day, row.arm), OneDay(row.arm, row.day))
        add(of_day.sums, row.sums)
        of_day.shown.merge(Shown.of(row))
    return [found[name] for name in sorted(found)]


def figures_by_day(days: Sequence[OneDay]) -> list[dict[str, float | int | str | None]]:
    """Return what is told of each arm on each day.

    Rates of users are over those who were active on the day. `retention` is the share of the users whose first list was
    on an earlier day who were active on this one.
    """
    before: dict[str, int] = {}
    found = []
    for of_day in days:
        sums, enrolled = of_day.sums, before.get(of_day.arm, 0)
        before[of_day.arm] = enrolled + sums.get("new", 0)
        line: dict[str, float | int | str | None] = {"arm": of_day.arm, "date": of_day.date}
        line |= {name: sums.get(name, 0) for name in ("users", "active", "lists", "labelled", "positives")}
        for metric in METRICS:
            below = "active" if metric.denominator == "one" else metric.denominator
            line[metric.name] = _ratio(sums, metric.numerator, sums.get(below, 0), metric.unit)
        line["retention"] = _ratio(sums, "returned", enrolled)
        line.update(of_day.shown.figures())
        found.append(line)
    return found


def figures_of_arms(days: Iterable[OneDay]) -> dict[str, dict[str, float | int | None]]:
    """Return, of all days together, what is no ratio of sums over users."""
    found: dict[str, Shown] = {}
    for of_day in days:
        found.setdefault(of_day.arm, Shown()).merge(of_day.shown)
    return {arm: found[arm].figures() for arm in sorted(found)}


def _ratio(sums: Mapping[str, int], above: str, below: int, unit: float = 1.0) -> float | None:
    return sums.get(above, 0) * unit / below if below else None
