"""The metric over the stream, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from online_models.evaluation.report import Report
from ops.evaluation.simulated import DRIFTS, NewItems, Recovery


def draw(report: Report, path: Path) -> None:
    """Write one line per model: the mean of the headline metric in equal shares of the queries."""
    from matplotlib.figure import Figure  # without pyplot: no display is needed

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    for model in report.models:
        axes.plot(*model.stream, marker=".", label=model.name)
    axes.set(xlabel="events", ylabel=report.headline, title=f"{report.data} · {report.protocol}")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
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
