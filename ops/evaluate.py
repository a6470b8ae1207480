"""`freshet evaluate`: how good the lists are, by protocols that anyone can repeat, beside baselines."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

if TYPE_CHECKING:
    from online_models.evaluation.protocols import Outcome, Progress, Recommender
    from online_models.evaluation.report import Report

PROTOCOLS = ("prequential", "sessions", "leave-last-out")
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("evaluate")(evaluate_command)


def evaluate_command(
    data: Annotated[
        Path | None, typer.Option("--data", envvar="FRESHET_DATA", help="Folder of the data set.", show_default=False)
    ] = None,
    protocol: Annotated[str, typer.Option(help=", ".join(PROTOCOLS))] = "prequential",
    models: Annotated[str, typer.Option(help="Separated by commas; all: every one that runs here.")] = "engine",
    baseline: Annotated[
        str | None, typer.Option(help="Differences are taken to this model.", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Only the first N events.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write the metric over the stream to a PNG.")] = None,
    stdio: Annotated[bool, typer.Option(help="Be driven by JSON lines on standard input instead.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Judge lists along a log: each is asked for before its event is shown."""
    for name in _ONE_THREAD:  # read when numpy is first imported: costs are of one core
        os.environ.setdefault(name, "1")
    if stdio:
        from ops.evaluation_stdio import serve

        serve(sys.stdin.buffer, sys.stdout.buffer, seed)
        return
    from ops.datasets import DatasetError
    from ops.evaluation_models import MODELS

    if data is None:
        raise typer.BadParameter("a folder is needed, here or in FRESHET_DATA", param_hint="--data")
    if protocol not in PROTOCOLS:
        raise typer.BadParameter(f"expected one of {', '.join(PROTOCOLS)}, got {protocol!r}", param_hint="--protocol")
    wanted = list(MODELS) if models == "all" else [name.strip() for name in models.split(",") if name.strip()]
    if baseline is not None and baseline not in wanted:
        wanted.insert(0, baseline)
    unknown = [name for name in wanted if name not in MODELS]
    if unknown or not wanted:
        raise typer.BadParameter(f"expected some of {', '.join(MODELS)}, got {models!r}", param_hint="--models")
    try:
        report = _evaluate(data, protocol, wanted, baseline, limit, seed, quiet=as_json)
    except DatasetError as error:
        typer.echo(f"freshet evaluate: {error}", err=True)
        raise typer.Exit(1) from None
    if plot is not None:
        from ops.evaluation_plot import draw

        draw(report, plot)
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        from ops.evaluation_display import show

        show(report)


def _evaluate(
    data: Path, protocol: str, names: list[str], baseline: str | None, limit: int | None, seed: int, quiet: bool
) -> "Report":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from online_models.evaluation.report import report_of
    from ops.evaluation_models import MODELS

    run, n_items, genres = _protocol(data, protocol, limit)
    outcomes: dict[str, Outcome] = {}
    columns = (TextColumn("{task.description:<14}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        for name in names:
            task = progress.add_task(name, total=None)

            def advance(done: int, total: int, task: int = task) -> None:
                progress.update(task, completed=done, total=total)  # type: ignore[arg-type]

            outcomes[name] = run(MODELS[name](seed), advance)
            progress.update(task, completed=1, total=1)
    return report_of(data.name, protocol, outcomes, baseline, n_items, genres)


def _protocol(
    data: Path, protocol: str, limit: int | None
) -> "tuple[Callable[[Recommender, Progress | None], Outcome], int, dict[str, frozenset[str]]]":
    """Return how to run a model, the size of the catalogue, and its genres."""
    from online_models.evaluation.protocols import leave_last_out, prequential, sessions
    from ops.datasets import detect
    from ops.evaluation_logs import genres_of, histories_of, log_of, read_pairs, sessions_of

    if protocol == "leave-last-out":
        histories = read_pairs(data) if data.is_file() else histories_of(detect(data), limit)
        items = {item for history in histories.values() for item in history}
        return lambda model, progress: leave_last_out(model, histories, progress=progress), len(items), {}
    dataset = detect(data)
    if protocol == "sessions":
        train, test = sessions_of(dataset, limit)
        n_items = len({*train.items, *test.items})
        return lambda model, progress: sessions(model, train, test, progress), n_items, genres_of(train)
    log = log_of(dataset, limit)
    return lambda model, progress: prequential(model, log, progress=progress), len(set(log.items)), genres_of(log)
