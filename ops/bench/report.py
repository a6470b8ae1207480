"""Figures of a benchmark: each beside its ceiling or its target, for people and for programs."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from rich.box import SIMPLE
from rich.table import Table

_COLOURS = {None: "", True: "[green]", False: "[red]"}


class Figure(msgspec.Struct, omit_defaults=True):
    """One measured value."""

    name: str
    value: float
    unit: str
    ceiling: float | None = None
    """What the machine did in the same run without our work, in the same unit."""
    target: float | None = None
    at_most: bool = True
    """Whether the target is an upper limit."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


class Report(msgspec.Struct):
    """What one benchmark found."""

    title: str
    figures: list[Figure]

    @property
    def met(self) -> bool:
        return all(figure.met is not False for figure in self.figures)

    def table(self) -> Table:
        """Return it for people, in 80 columns."""
        notes = [f"{figure.name}: {figure.note}" for figure in self.figures if figure.note]
        table = Table(
            "",
            "value",
            "unit",
            "ceiling",
            "of it",
            "target",
            title=self.title,
            caption="\n".join(notes) or None,
            box=SIMPLE,
        )
        for column in (1, 3, 4, 5):
            table.columns[column].justify = "right"
        for figure in self.figures:
            table.add_row(
                figure.name,
                f"{_COLOURS[figure.met]}{_number(figure.value)}",
                figure.unit,
                _number(figure.ceiling),
                _ratio(figure.value / figure.ceiling) if figure.ceiling else "",
                "" if figure.target is None else f"{'≤' if figure.at_most else '≥'} {_number(figure.target)}",
            )
        return table


def percentiles(
    name: str,
    samples_s: Sequence[float],
    targets_ms: dict[int, float] | None = None,
    ceilings_ms: dict[int, float] | None = None,
    shares: Sequence[int] = (50, 90, 99),
) -> list[Figure]:
    """Return percentiles of durations given in seconds, in milliseconds."""
    found = np.percentile(np.asarray(samples_s) * 1000, shares) if samples_s else [float("nan")] * len(shares)
    return [
        Figure(
            f"{name} p{share}",
            float(value),
            "ms",
            ceiling=(ceilings_ms or {}).get(share),
            target=(targets_ms or {}).get(share),
        )
        for share, value in zip(shares, found, strict=True)
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if math.isnan(value):
        return "none"
    if abs(value) < 1:  # shares: .95 is not .9
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.1f}"


def _ratio(ratio: float) -> str:
    return f"{ratio:.0%}" if ratio < 2 else f"{ratio:.1f}x"
