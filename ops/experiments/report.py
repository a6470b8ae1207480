"""The report on an experiment: numbers for people, for programs, and as pictures."""

import base64
import io
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

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
from online_models.experiments.metrics import GUARDED, METRICS
from ops.experiments.measuring import Day, Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure
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
    def is_significant(self) -> bool:
        return self.low is not None and self.high is not None and not self.low <= 0.0 <= self.high


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
    days: list[dict[str, Any]]
    method: str = METHOD


class NothingMeasuredError(Exception):
    """The experiment is in no impression of the lake, or has one arm only."""


def make(
    name: str,
    measured: Measured,
    by_day: list[Day],
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
    return _report(name, control, effects, n_users, measured.n_switched, by_day, shares, alpha)


def of_sums(
    name: str,
    sums: Mapping[str, Mapping[str, int]],
    n_switched: int,
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
        for metric in GUARDED
        for arm, of_arm in sums.items()
        if arm != control
    }
    n_users = {arm: of_arm.get(USERS, 0) for arm, of_arm in sums.items()}
    return _report(name, control, effects, n_users, n_switched, [], shares, alpha)


def _control(name: str, arms: list[str], control: str | None) -> str:
    """Return the arm to compare with. Raise `NothingMeasuredError`."""
    control = control or (arms[0] if arms else "")
    if len(arms) < 2 or control not in arms:
        known = f"has the arms {', '.join(arms)}" if arms else "is in no impression"
        raise NothingMeasuredError(f"experiment {name!r} {known}; a comparison needs two, and control {control!r}")
    return control


def _report(
    name: str,
    control: str,
    effects: Mapping[tuple[str, str], Effect],
    n_users: dict[str, int],
    n_switched: int,
    by_day: list[Day],
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
        days=[{**vars(day), "ctr": day.ctr if day.labelled else None} for day in by_day],
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
        style = ("green" if line.difference > 0 else "red") if line.is_significant else None
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


def figure(report: Report) -> "Figure":
    """Return relative effects with their intervals, and the click-through rate by day."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(11, 4.5), layout="constrained")
    effects, daily = drawn.subplots(1, 2, width_ratios=(3, 2))
    lines = [line for line in report.lines if line.low is not None and line.control]
    labels = [f"{line.metric} ({line.arm})" for line in lines]
    for place, line in enumerate(lines):
        assert line.low is not None
        assert line.high is not None
        low, middle, high = (100 * value / abs(line.control) for value in (line.low, line.difference, line.high))
        color = ("tab:green" if middle > 0 else "tab:red") if line.is_significant else "tab:gray"
        effects.plot([low, high], [place, place], color=color, linewidth=2)
        effects.plot([middle], [place], marker="o", color=color)
    effects.set_yticks(range(len(lines)), labels)
    effects.axvline(0.0, color="black", linewidth=0.8)
    effects.invert_yaxis()
    effects.set(xlabel=f"% against {report.control}", title=f"{report.experiment}: effect and interval")
    effects.grid(alpha=0.3)
    for arm in report.users:
        of_arm = [day for day in report.days if day["arm"] == arm]
        daily.plot([day["date"] for day in of_arm], [day["ctr"] for day in of_arm], marker=".", label=arm)
    daily.set(title="click-through rate by day")
    daily.tick_params(axis="x", rotation=45)
    daily.set_ylim(bottom=0)
    daily.grid(alpha=0.3)
    daily.legend()
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
            method=escape(report.method),
            picture=base64.b64encode(picture.getvalue()).decode(),
        )
    )


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
<img alt="Effects with their intervals, and the click-through rate by day" src="data:image/png;base64,{picture}">
<table><thead><tr><th>metric<th>arm<th>{control}<th>arm's<th>change<th>{interval} interval<th>p</tr></thead>
<tbody>{rows}</tbody></table>
<p>{method}</p></html>
"""
