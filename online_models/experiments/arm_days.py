"""One arm on one day, beside the sums over its users: how long lists took, and which items they showed.

Both merge exactly over partitions and days: bins of 2 %, and the lowest hashes of all items, from which the number of
different ones follows (exactly up to `MAX_SAMPLED_ITEMS`, above with a standard error of 3 %). Beside each hash is the
user who was shown the item, as long as it is only one: with an erased user go the items that nobody else was shown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import zip_longest

import numpy as np

from online_models.experiments.arm_sums import Sums, add
from online_models.experiments.metrics import METRICS
from state.metrics import MAX_SAMPLED_ITEMS, item_hash, quantile, score_bin
from state.records import ArmDay

MAX_DAYS = 100
"""Of an arm: older ones are dropped when a new one comes."""
SEVERAL = 0
"""In the place of the only user who was shown an item."""
ALL = 2**64 - 1
"""The highest hash."""
_SLACK = 2
"""More hashes are kept between cuts: a cut sorts them."""


@dataclass
class Shown:
    """What lists showed, and how long they took."""

    latency: Sums = field(default_factory=dict)
    """Bin -> lists."""
    items: dict[int, int] = field(default_factory=dict)
    """Hash of an item -> that of the only user who was shown it, or `SEVERAL`."""
    up_to: int = ALL
    """Items of higher hashes are not kept."""

    @classmethod
    def of(cls, row: ArmDay) -> "Shown":
        """Return what a row says."""
        hashes = (np.frombuffer(of_row, "<u8").tolist() for of_row in (row.items, row.users))
        return cls(dict(row.latency), dict(zip_longest(*hashes, fillvalue=SEVERAL)), row.up_to)

    def add(self, items: Iterable[str], latency_ms: float | None, n_lists: int = 1, user: int = SEVERAL) -> None:
        """Take some lists that took equally long; `user`: who was shown them, see `user_hash`."""
        if latency_ms is not None:
            add(self.latency, {latency_bin(latency_ms): n_lists})
        for item in map(item_hash, items):
            if item <= self.up_to and self.items.setdefault(item, user) != user:
                self.items[item] = SEVERAL
        if len(self.items) > _SLACK * MAX_SAMPLED_ITEMS:
            self.cut()

    def forget(self, user: int) -> bool:
        """Take out what only this user was shown; return whether there was any."""
        kept = {item: only for item, only in self.items.items() if only != user}
        found, self.items = len(kept) < len(self.items), kept
        return found

    def cut(self) -> None:
        """Keep what stands for all."""
        hashes = sorted(self.items)
        if len(hashes) > MAX_SAMPLED_ITEMS:
            self.up_to = hashes[MAX_SAMPLED_ITEMS] - 1
        self.items = {item: self.items[item] for item in hashes[:MAX_SAMPLED_ITEMS]}

    def merge(self, other: "Shown") -> None:
        """Take what another partition, or day, has shown: of that, only the number of items is told."""
        add(self.latency, other.latency)
        self.up_to = min(self.up_to, other.up_to)
        self.items = {item: SEVERAL for item in self.items.keys() | other.items.keys() if item <= self.up_to}

    @property
    def n_items(self) -> int:
        """Different items shown.

        References
        ----------
        Bar-Yossef et al.: Counting distinct elements in a data stream, RANDOM 2002 (k minimum values).
        Dasgupta et al.: A framework for estimating stream expression cardinalities, ICDT 2016 (a threshold beside them,
        so that some may be taken out).
        """
        self.cut()
        return round(len(self.items) * ((ALL + 1) / (self.up_to + 1)))

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


def user_hash(user_id: str) -> int:
    """Return the same number below 2^64 for a user everywhere, never `SEVERAL`."""
    return int.from_bytes(blake2b(user_id.encode(), digest_size=8).digest()) or 1


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
