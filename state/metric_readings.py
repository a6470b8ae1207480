"""From results of `flows.metrics` to numbers: partitions added up, formulas applied. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from state.metrics import Metric, Sums, merged

Group = tuple[int, int, str]
"""Width (ms), start (epoch ms) and cut."""


class Reading(NamedTuple):
    """A metric in one window and cut."""

    metric: str
    width: int
    start: int
    cut: str
    value: float
    final: bool


@dataclass
class _Window:
    families: dict[str, dict[int, tuple[Sums, bool]]] = field(default_factory=dict)
    """Family -> partition -> its newest sums, and whether they are final."""
    read: dict[str, "Reading | None"] = field(default_factory=dict)
    """Metric -> what was read of it since the last change."""


class Readings:
    """The newest results, and what they say."""

    def __init__(self) -> None:
        self._windows: dict[Group, _Window] = {}
        self._changed: set[Group] = set()

    def add(self, family: str, group: Group, partition: int, sums: Sums, final: bool) -> None:
        """Take a result; one that is not final does not replace a final one."""
        parts = self._windows.setdefault(group, _Window()).families.setdefault(family, {})
        before = parts.get(partition)
        if before is None or final or not before[1]:
            parts[partition] = sums, final
            self._windows[group].read.clear()
            self._changed.add(group)

    def changed(self) -> list[Group]:
        """Return the windows and cuts with new results since the last call, in order of time."""
        found, self._changed = sorted(self._changed, key=lambda group: (group[1], group[0], group[2])), set()
        return found

    def read(self, metric: Metric, group: Group) -> Reading | None:
        """Return a metric's value, None where it is not defined: a family has no sums there, or a ratio none below."""
        window = self._windows.get(group)
        if window is None:
            return None
        if metric.name not in window.read:
            window.read[metric.name] = _read(metric, group, window)
        return window.read[metric.name]

    def sums(self, group: Group) -> dict[str, dict[str, int]]:
        """Return family -> sums of all partitions in a window and cut."""
        window = self._windows.get(group, _Window())
        return merged((family, sums) for family, parts in window.families.items() for sums, _ in parts.values())

    def series(self, metric: Metric, width: int, cut: str) -> list[Reading]:
        """Return a metric in every window of a width, in order of time."""
        starts = sorted(start for w, start, c in self._windows if w == width and c == cut)
        readings = (self.read(metric, (width, start, cut)) for start in starts)
        return [reading for reading in readings if reading is not None]

    def cuts(self, width: int) -> list[str]:
        """Return the cuts that occur in windows of a width."""
        return sorted({cut for w, _, cut in self._windows if w == width})

    def forget(self, groups: Iterable[Group]) -> None:
        """Drop windows that are no longer needed."""
        for group in groups:
            self._windows.pop(group, None)
            self._changed.discard(group)

    def groups(self) -> list[Group]:
        """Return all windows and cuts."""
        return list(self._windows)


def _read(metric: Metric, group: Group, window: _Window) -> Reading | None:
    families = metric.formula.families
    found = {family: window.families[family] for family in families if family in window.families}
    if not found:
        return None
    value = metric.formula.value(merged((f, sums) for f, parts in found.items() for sums, _ in parts.values()))
    if value is None:
        return None
    width, start, cut = group
    final = all(final for parts in found.values() for _, final in parts.values())
    return Reading(metric.name, width, start, cut, value, final)
