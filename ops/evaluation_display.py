"""Reports as tables."""

import math

from rich.console import Console
from rich.table import Table

from online_models.evaluation.metrics import Estimate
from online_models.evaluation.report import Report

_WIDTH = 180
"""Columns where there is no terminal to fit."""

_TITLES = {"all": "all queries", "new": "new: the current item taken out"}


def show(report: Report) -> None:
    """Print the tables of a report."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    for view in report.models[0].views:
        console.print(_means(report, view))
        if report.baseline is not None and len(report.models) > 1:
            console.print(_differences(report, view))
    console.print(_lists(report))


def _cell(estimate: Estimate, sign: str = "") -> str:
    low, high = estimate.interval
    return f"{estimate.mean:{sign}.4f} ±{(high - low) / 2:.4f}"


def _table(title: str, names: list[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("model", *names):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=name == "model")
    return table


def _means(report: Report, view: str) -> Table:
    splits = report.models[0].views[view]
    metrics = splits["all"]
    others = [split for split in splits if split != "all"]
    n = metrics[report.headline].n
    title = f"{report.data} · {report.protocol} · {_TITLES[view]} · {n} queries · ± 95 %"
    table = _table(title, [*metrics, *(f"{report.headline} {split}" for split in others)])
    for model in report.models:
        found = model.views[view]
        cells = [_cell(estimate) for estimate in found["all"].values()]
        table.add_row(model.name, *cells, *(f"{found[split][report.headline].mean:.4f}" for split in others))
    return table


def _differences(report: Report, view: str) -> Table:
    title = f"difference to {report.baseline}, paired by query, errors clustered by user, ± 95 %"
    table = _table(title, list(report.models[0].paired[view]))
    for model in report.models:
        if model.name != report.baseline:
            table.add_row(model.name, *(_cell(estimate, "+") for estimate in model.paired[view].values()))
    return table


def _lists(report: Report) -> Table:
    names = ["coverage@10", "novelty bits", "diversity", "Gini", "µs an event", "µs a list"]
    table = _table("lists, and cost on one core (median / 99th percentile)", names)
    for model in report.models:
        table.add_row(
            model.name,
            f"{model.coverage:.3f}",
            f"{model.novelty:.2f}",
            "-" if math.isnan(model.diversity) else f"{model.diversity:.3f}",
            f"{model.gini:.3f}",
            f"{model.event_us[0]:.0f} / {model.event_us[1]:.0f}",
            f"{model.list_us[0]:.0f} / {model.list_us[1]:.0f}",
        )
    return table
