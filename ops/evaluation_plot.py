"""The metric over the stream, as a picture."""

from pathlib import Path

from online_models.evaluation.report import Report


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
