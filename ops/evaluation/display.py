"""Reports as tables."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from online_models.evaluation.metrics import ITEM_EVENTS, LISTS, USER_EVENTS, Estimate, classes
from online_models.evaluation.report import Report
from ops.evaluation.simulated import NewItems, Recovery

_WIDTH = 180
"""Columns where there is no terminal to fit."""

_TITLES = {"all": "all queries", "new": "new: the current item taken out"}


def show(report: Report) -> None:
    """Print the tables of a report."""
    console = _console()
    for view in report.models[0].views:
        console.print(_means(report, view))
        if report.baseline is not None and len(report.models) > 1:
            console.print(_differences(report, view))
    console.print(
        _by_age(
            report,
            "the events that the user had before the query",
            USER_EVENTS,
            [m.by_user_events for m in report.models],
        )
    )
    console.print(
        _by_age(
            report,
            "the events that the target had before the query",
            ITEM_EVENTS,
            [m.by_item_events for m in report.models],
        )
    )
    console.print(_by_age(report, "the lists that were asked for before", LISTS, [m.by_lists for m in report.models]))
    console.print(_lists(report))
    for model in report.models:
        if model.constants:
            console.print(f"{model.name}, tuned:", ", ".join(f"{name} {of:g}" for name, of in model.constants.items()))


def show_recoveries(recoveries: Sequence[Recovery]) -> None:
    """Print how each model came through each drift."""
    title = "simulated change of all users' tastes halfway: share of the attainable relevance that lists have"
    table = _table(title, ["drift", "before", "lowest", "at the end", "since the change", "events to 95 % of before"])
    for found in recoveries:
        shares = (f"{share:.3f}" for share in (found.before, found.lowest, found.after, found.since))
        took = "not reached" if found.events_to_recover is None else f"{found.events_to_recover:,}"
        table.add_row(found.model, found.drift, *shares, took)
    _console().print(table)


def show_new_items(placed: Sequence[NewItems]) -> None:
    """Print how often new items are listed, by how many events they had."""
    title = (
        f"{placed[0].n_items} simulated new items: share of top-20 lists that show one, to the right users / to others"
    )
    events = [str(n) for n in placed[0].events]
    table = _table(title, [*events, "found before the tenth event"])
    for found in placed:
        cells = [f"{right:.2f} / {other:.2f}" for right, other in zip(found.right, found.others, strict=True)]
        table.add_row(found.model, *cells, f"{found.found_before_ten:.0%}")
    _console().print(table)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)


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


def _by_age(report: Report, what: str, starts: tuple[int, ...], curves: list[list[Estimate]]) -> Table:
    """One column for each class of events that users, or targets, had."""
    n = ", ".join(str(estimate.n) for estimate in curves[0])
    table = _table(f"{report.headline} by {what} · queries: {n}", classes(starts))
    for model, curve in zip(report.models, curves, strict=True):
        table.add_row(model.name, *("-" if not estimate.n else f"{estimate.mean:.4f}" for estimate in curve))
    return table


def _lists(report: Report) -> Table:
    names = ["coverage@10", "novelty bits", "diversity", "Gini", "µs an event", "µs a list"]
    table = _table("lists, and CPU time of one thread (median / 99th percentile)", names)
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
