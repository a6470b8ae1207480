"""What every benchmark needs around it: a system, a data set, clear errors, and its report at the end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ops.bench.report import Report
    from ops.datasets import Dataset
    from state.settings import Settings


@contextmanager
def measured_system(running: bool, data: Path | None, workers: int = 1) -> Iterator["Settings"]:
    """Yield the system to measure: the running one, or one of our own with a data set in it and so many workers."""
    from ops.bench.systems import own_system
    from ops.stack.home import local_settings
    from ops.traffic.replay import Plan, Summary
    from ops.traffic.replay import replay as play

    console = error_console()
    with failing_clearly():
        if running:
            yield local_settings()
            return
        with opened_dataset(data) as dataset, own_system(console, workers=workers) as settings:
            play(settings, dataset, Plan(), Summary(), console)
            yield settings


@contextmanager
def opened_dataset(data: Path | None) -> Iterator["Dataset"]:
    """Yield the data set in a folder, or where one is by default, or a simulated one."""
    from tempfile import TemporaryDirectory

    from ops.datasets import default_folder, detect
    from ops.datasets.simulated import simulated
    from state.settings import Settings

    folder = data or default_folder(Settings())
    if folder is not None:
        yield detect(folder)
        return
    with TemporaryDirectory(prefix="freshet-simulated-") as made:
        yield simulated(Path(made))


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Exit with 1 and the reason, where there is one to tell."""
    from ops.bench.api import BenchError
    from ops.bench.loadgen import LoadError
    from ops.datasets import DatasetError
    from ops.http_client import ConnectionFailedError
    from ops.lag import NotCaughtUpError
    from ops.traffic.sending import SendingError

    try:
        yield
    except (
        BenchError,
        ConnectionFailedError,
        DatasetError,
        LoadError,
        NotCaughtUpError,
        SendingError,
        TimeoutError,
    ) as error:
        typer.secho(f"Error: {error or type(error).__name__}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error


def error_console() -> "Console":
    """Progress goes to stderr, so that stdout is the report."""
    from rich.console import Console

    return Console(stderr=True)


def show(report: "Report") -> None:
    """Print a report as a table."""
    from rich.console import Console

    Console().print(report.table())


def finish(reports: "Sequence[Report]", as_json: bool, shown: bool = False) -> None:
    """Print the reports, if they are not `shown` yet, and exit with 1 where a target is missed."""
    import msgspec

    if as_json:
        typer.echo(msgspec.json.encode(reports).decode())
    elif not shown:
        for report in reports:
            show(report)
    missed = [figure.name for report in reports for figure in report.figures if figure.met is False]
    if missed:
        typer.secho(f"Targets missed: {', '.join(missed)}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1)
