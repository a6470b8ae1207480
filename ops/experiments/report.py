"""The report on an experiment: numbers for people, for programs, and as pictures."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from online_models.experiments.arm_days import OneDay, figures_by_day, figures_of_arms
from online_models.experiments.arm_sums import USERS
from online_models.experiments.effects import (
    Effect,
    SampleRatio,
    compare,
    compare_estimates,
    estimate_sums,
    holm,
    sample_ratio,
)
from online_models.experiments.metrics import BY_NAME, METRICS
from ops.experiments.measuring import Measured
from ops.tables import print_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table

METHOD = (
    "Intervals hold at all times at once, so looking early and often is allowed (Robbins' normal mixture over the "
    "delta method's variance of sums per user, narrowed by what users did before: CUPED). "
    "p-values are always valid, and corrected for the number of metrics and arms (Holm)."
)


class Line(Struct, frozen=True, kw_only=True):
    """One metric of one arm against control."""

    metric: str
    arm: str
    control: float
    treatment: float
    difference: float
    low: float | None
    """None while users are too few, or all alike."""
    high: float | None
    relative: float | None
    p_value: float
    corrected_p_value: float
    variance_kept: float

    @property
    def is_gain(self) -> bool:
        return (self.difference > 0) == (BY_NAME[self.metric].better == "higher")

    @property
    def is_significant(self) -> bool:
        return self.low is not None and self.high is not None and not self.low <= 0.0 <= self.high


class ByDay(NamedTuple):
    """What `online_models.experiments.arm_days` says of arms and of their days."""

    arms: dict[str, dict[str, float | int | None]]
    days: list[dict[str, float | int | str | None]]


class Report(Struct, frozen=True, kw_only=True):
    """What `freshet experiments analyze --json` prints."""

    experiment: str
    control: str
    alpha: float
    users: dict[str, int]
    switched_users: int
    """Seen in several arms, and left out."""
    sample_ratio_p: float
    """Of the chi-square test."""
    sample_ratio_always_valid_p: float
    mismatch: bool
    lines: list[Line]
    arms: dict[str, dict[str, float | int | None]]
    """Arm -> what is no ratio of sums over users: `latency_p95_ms`, `items_shown`."""
    days: list[dict[str, float | int | str | None]]
    """Of each arm, see `online_models.experiments.arm_days.figures_by_day`."""
    method: str = METHOD


class NothingMeasuredError(Exception):
    """The experiment is in no impression of the lake, or has one arm only."""


def make(
    name: str,
    measured: Measured,
    by_day: Sequence[OneDay],
    control: str | None = None,
    shares: Mapping[str, float] | None = None,
    alpha: float = 0.05,
) -> Report:
    """Compare each arm with control, by every metric.

    `shares` are those of the users that arms are to have, equal ones if not given. What is not among them, such as an
    arm that was stopped, is compared, and left out of the sample ratio.

    Raises
    ------
    NothingMeasuredError
        With fewer than two arms, or without the control.
    """
    control = _control(name, list(measured.arms), control)
    effects = {
        (metric.name, arm): compare(measured.arm(control, metric), measured.arm(arm, metric), alpha)
        for metric in METRICS
        for arm in measured.arms
        if arm != control
    }
    n_users = {arm: len(sums["one"]) for arm, sums in measured.arms.items()}
    told = ByDay(figures_of_arms(by_day), figures_by_day(by_day))
    return _report(name, control, effects, n_users, measured.n_switched, told, shares, alpha)


def of_sums(
    name: str,
    sums: Mapping[str, Mapping[str, int]],
    n_switched: int,
    by_day: ByDay,
    control: str,
    shares: Mapping[str, float] | None = None,
    alpha: float = 0.05,
) -> Report:
    """Compare arms by what the flow `experiments` has summed; see `make`. What users did before narrows nothing."""
    _control(name, list(sums), control)
    effects = {
        (metric.name, arm): compare_estimates(
            estimate_sums(sums[control], metric), estimate_sums(of_arm, metric), alpha
        )
        for metric in METRICS
        for arm, of_arm in sums.items()
        if arm != control
    }
    n_users = {arm: of_arm.get(USERS, 0) for arm, of_arm in sums.items()}
    return _report(name, control, effects, n_users, n_switched, by_day, shares, alpha)


def _control(name: str, arms: list[str], control: str | None) -> str:
    """Return the arm to compare with. Raise `NothingMeasuredError`."""
    control = control or (arms[0] if arms else "")
    if len(arms) < 2 or control not in arms:
        known = f"has the arms {', '.join(arms)}" if arms else "is in no list yet"
        wanted = f"two, of which {control!r} is the control" if control else "two arms"
        raise NothingMeasuredError(f"experiment {name!r} {known}; a comparison needs {wanted}")
    return control


def _report(
    name: str,
    control: str,
    effects: Mapping[tuple[str, str], Effect],
    n_users: dict[str, int],
    n_switched: int,
    by_day: ByDay,
    shares: Mapping[str, float] | None,
    alpha: float,
) -> Report:
    corrected = holm({f"{metric} {arm}": effect.p_value for (metric, arm), effect in effects.items()})
    wanted = {arm: 1.0 if shares is None else shares[arm] for arm in n_users if shares is None or arm in shares}
    ratio = SampleRatio(1.0, 1.0)
    if len(wanted) > 1:
        ratio = sample_ratio([n_users[arm] for arm in wanted], [w / sum(wanted.values()) for w in wanted.values()])
    return Report(
        experiment=name,
        control=control,
        alpha=alpha,
        users=n_users,
        switched_users=n_switched,
        sample_ratio_p=ratio.p_value,
        sample_ratio_always_valid_p=ratio.always_valid,
        mismatch=ratio.is_mismatch(),
        lines=[_line(metric, arm, effect, corrected[f"{metric} {arm}"]) for (metric, arm), effect in effects.items()],
        arms={arm: figures for arm, figures in by_day.arms.items() if arm in n_users},
        days=by_day.days,
    )


def _line(metric: str, arm: str, effect: Effect, corrected: float) -> Line:
    known = effect.high != float("inf")
    return Line(
        metric=metric,
        arm=arm,
        control=effect.control.value,
        treatment=effect.treatment.value,
        difference=effect.difference,
        low=effect.low if known else None,
        high=effect.high if known else None,
        relative=effect.relative if effect.control.value else None,
        p_value=effect.p_value,
        corrected_p_value=corrected,
        variance_kept=effect.variance_kept,
    )


def to_json(report: Report) -> str:
    """Return the report for programs."""
    return msgspec.json.encode(report).decode()


def table(report: Report) -> "Table":
    """Return the report for a terminal."""
    from rich.table import Table

    found = Table("metric", "arm", report.control, "arm's", "change", f"{1 - report.alpha:.0%} interval", "p", box=None)
    for column in range(2, 7):
        found.columns[column].justify = "right"
    for line in report.lines:
        change = "" if line.relative is None else f"{line.relative:+.1%}"
        style = ("green" if line.is_gain else "red") if line.is_significant else None
        found.add_row(
            line.metric,
            line.arm,
            f"{line.control:.4g}",
            f"{line.treatment:.4g}",
            change,
            "no interval yet" if line.low is None else f"{line.low:+.4g} to {line.high:+.4g}",
            f"{line.corrected_p_value:.2g}",
            style=style,
        )
    return found


def warnings(report: Report) -> list[str]:
    """Return what makes the numbers doubtful."""
    found = []
    if report.mismatch:
        counts = ", ".join(f"{arm} {n:,}" for arm, n in report.users.items())
        found.append(
            f"Sample ratio mismatch: the arms have not the users they should ({counts}; p = "
            f"{report.sample_ratio_always_valid_p:.1g}). Do not trust the differences; look for lost or doubled users."
        )
    if report.switched_users:
        found.append(f"{report.switched_users:,} users were seen in several arms and are left out.")
    return found


_DAILY = {
    "ctr": "ctr",
    "conversion": "bought",
    "watch_s_per_user": "watch s",
    "retention": "back",
    "diversity": "divers.",
    "novelty": "novelty",
    "items_shown": "items",
    "latency_p95_ms": "p95 ms",
    "degraded": "degr.",
}
"""What is told of each day, and its column on a terminal."""


def show(report: Report, console: "Console") -> None:
    """Print the report for people: effects, what is no ratio over users, and each arm's days."""
    from rich.table import Table

    counts = ", ".join(f"{arm} {n:,}" for arm, n in report.users.items())
    console.print(f"users: {counts}", highlight=False)
    for text in warnings(report):
        console.print(f"[red]{text}[/red]")
    print_whole(table(report), console)
    of_arms = Table("arm", "latency p95, ms", "different items shown", box=None)
    for arm, figures in report.arms.items():
        of_arms.add_row(arm, *map(_told, figures.values()))
    of_days = Table(*(_DAILY.get(name, name) for name in _OF_DAYS), box=None, padding=(0, 1, 0, 0))
    for day in report.days:
        of_days.add_row(*(_told(day[name]) for name in _OF_DAYS))
    for found in (of_arms, of_days):
        print_whole(found, console)


_OF_DAYS = ("date", "arm", "users", "lists", *_DAILY)


def _told(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,.0f}" if isinstance(value, int) or value >= 1000 else f"{value:.3g}"


def figure(report: Report) -> "Figure":
    """Return relative effects with their intervals, and what is told of each day."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(15, 7.5), layout="constrained")
    sides = np.asarray(drawn.subfigures(1, 2, width_ratios=(2, 3)))
    left, right = sides.tolist()
    effects, daily = left.subplots(), right.subplots(3, 3, sharex=True)
    lines = [line for line in report.lines if line.low is not None and line.control]
    labels = [f"{line.metric} ({line.arm})" for line in lines]
    for place, line in enumerate(lines):
        assert line.low is not None
        assert line.high is not None
        low, middle, high = (100 * value / abs(line.control) for value in (line.low, line.difference, line.high))
        color = ("tab:green" if line.is_gain else "tab:red") if line.is_significant else "tab:gray"
        effects.plot([low, high], [place, place], color=color, linewidth=2)
        effects.plot([middle], [place], marker="o", color=color)
    effects.set_yticks(range(len(lines)), labels)
    effects.axvline(0.0, color="black", linewidth=0.8)
    effects.invert_yaxis()
    effects.set(xlabel=f"% against {report.control}", title=f"{report.experiment}: effect and interval")
    effects.grid(alpha=0.3)
    dates = sorted({str(day["date"]) for day in report.days})
    for axes, name in zip(daily.flat, _DAILY, strict=True):
        for arm in report.users:
            of_arm = {day["date"]: day[name] for day in report.days if day["arm"] == arm}
            values = [float("nan") if of_arm.get(date) is None else of_arm[date] for date in dates]
            axes.plot(dates, values, marker=".", label=arm)
        axes.set(title=name)
        axes.set_ylim(bottom=0)
        axes.tick_params(axis="x", rotation=45)
        axes.grid(alpha=0.3)
    right.suptitle("by day")
    right.legend(*daily.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return drawn


def write_png(report: Report, path: Path) -> None:
    """Write the pictures."""
    figure(report).savefig(path, dpi=120)


def write_html(report: Report, path: Path) -> None:
    """Write one file that needs nothing else."""
    picture = io.BytesIO()
    figure(report).savefig(picture, dpi=120, format="png")
    rows = "".join(
        f"<tr><td>{escape(line.metric)}<td>{escape(line.arm)}<td>{line.control:.4g}<td>{line.treatment:.4g}"
        f"<td>{'' if line.relative is None else f'{line.relative:+.1%}'}"
        f"<td>{'no interval yet' if line.low is None else f'{line.low:+.4g} to {line.high:+.4g}'}"
        f"<td>{line.corrected_p_value:.2g}</tr>"
        for line in report.lines
    )
    said = "".join(f"<p class=bad role=alert>{escape(text)}</p>" for text in warnings(report))
    counts = ", ".join(f"{escape(arm)} {n:,}" for arm, n in report.users.items())
    path.write_text(
        _PAGE.format(
            name=escape(report.experiment),
            said=said,
            counts=counts,
            control=escape(report.control),
            interval=f"{1 - report.alpha:.0%}",
            rows=rows,
            arms=_html_rows([arm, *figures.values()] for arm, figures in report.arms.items()),
            day_names="".join(f"<th>{escape(name)}" for name in _OF_DAYS),
            days=_html_rows([day[name] for name in _OF_DAYS] for day in report.days),
            method=escape(report.method),
            picture=base64.b64encode(picture.getvalue()).decode(),
        )
    )


def _html_rows(rows: Iterable[Iterable[float | str | None]]) -> str:
    return "".join("<tr>" + "".join(f"<td>{escape(_told(value))}" for value in row) + "</tr>" for row in rows)


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884; font-variant-numeric: tabular-nums }}
img {{ max-width: 100%; background: white; border-radius: .5rem }}
.bad {{ border-left: .3rem solid #c33; padding-left: .8rem }}
</style>
<h1>{name}</h1>{said}
<p>Users: {counts}.</p>
<img alt="Effects with their intervals, and each arm by day" src="data:image/png;base64,{picture}">
<table><thead><tr><th>metric<th>arm<th>{control}<th>arm's<th>change<th>{interval} interval<th>p</tr></thead>
<tbody>{rows}</tbody></table>
<p>{method}</p>
<h2>Of all days together</h2>
<table><thead><tr><th>arm<th>latency p95, ms<th>different items shown</tr></thead><tbody>{arms}</tbody></table>
<h2>By day</h2>
<table><thead><tr>{day_names}</tr></thead><tbody>{days}</tbody></table></html>
"""
