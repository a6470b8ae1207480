"""Reports as pictures."""

from collections.abc import Sequence
from pathlib import Path

from online_models.evaluation.metrics import ITEM_EVENTS, USER_EVENTS, classes
from online_models.evaluation.report import Report
from ops.evaluation.simulated import DRIFTS, NewItems, Recovery


def draw(report: Report, path: Path) -> None:
    """Write three panels with one line per model: the headline metric over the stream, and how it starts cold.

    That is, by how many events the user had, and by how many the target had, with 95 % intervals.
    """
    from matplotlib.figure import Figure  # without pyplot: no display is needed

    figure = Figure(figsize=(15, 4.5), layout="constrained")
    stream, *young = figure.subplots(1, 3, width_ratios=(3, 2, 2))
    for model in report.models:
        stream.plot(*model.stream, marker=".", label=model.name)
        for panel, curve, starts in zip(
            young, (model.by_user_events, model.by_item_events), (USER_EVENTS, ITEM_EVENTS), strict=True
        ):
            asked = [k for k, estimate in enumerate(curve) if estimate.n]
            means = [curve[k].mean for k in asked]
            errors = [curve[k].interval[1] - curve[k].mean for k in asked]
            panel.errorbar(asked, means, errors, marker=".", capsize=2, elinewidth=0.8)
            panel.set_xticks(range(len(starts)), classes(starts))
    stream.set(xlabel="events", ylabel=report.headline)
    for panel, what in zip(young, ("user", "target"), strict=True):
        panel.set(xlabel=f"events that the {what} had before")
    for panel in (stream, *young):
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    stream.legend()
    figure.suptitle(f"{report.data} · {report.protocol}")
    figure.savefig(path, dpi=120)


def draw_recoveries(recoveries: Sequence[Recovery], path: Path) -> None:
    """Write one panel per kind of drift, one line per model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for panel, drift in zip(figure.subplots(1, len(DRIFTS), sharey=True), DRIFTS, strict=True):
        for found in recoveries:
            if found.drift == drift:
                panel.plot(*found.stream, label=found.model)
        panel.set(xlabel="events", ylabel="share of attainable relevance", title=f"{drift} change of taste, halfway")
        panel.grid(alpha=0.3)
        panel.legend()
    figure.savefig(path, dpi=120)


def draw_new_items(placed: Sequence[NewItems], path: Path) -> None:
    """Write two lines per model: lists of the right users, and of others."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    for found in placed:
        (line,) = axes.plot(found.events, found.right, marker=".", label=f"{found.model}: the right users")
        axes.plot(found.events, found.others, linestyle=":", color=line.get_color(), label=f"{found.model}: others")
    axes.set(xlabel="events of the new item", ylabel="share of lists that show it")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
