"""`freshet evaluate`: how good the lists are, by protocols that anyone can repeat, beside baselines."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from ops.one_core import use_one_core

if TYPE_CHECKING:
    from online_models.evaluation.protocols import Outcome, Progress
    from online_models.evaluation.report import Report
    from ops.evaluation.tasks import Task

PROTOCOLS = ("prequential", "sessions", "leave-last-out")
SIMULATED = ("drift", "new-items")

_HELP = """Examples:

freshet evaluate --data movietweetings-100k --models engine,cooc

freshet evaluate --data movietweetings-100k --models all --tune --json"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("evaluate", epilog=_HELP)(evaluate_command)


def evaluate_command(
    data: Annotated[
        Path | None, typer.Option("--data", envvar="FRESHET_DATA", help="Folder of the data set.", show_default=False)
    ] = None,
    protocol: Annotated[
        str, typer.Option(help=f"{', '.join(PROTOCOLS)}; on the simulator, without data: {', '.join(SIMULATED)}")
    ] = "prequential",
    models: Annotated[
        str,
        typer.Option(
            help="Separated by commas; all: every one that runs here; engine:genre-cap=3+diversity=0.1: re-ranked."
        ),
    ] = "engine",
    baseline: Annotated[
        str | None, typer.Option(help="Differences are taken to this model.", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Only the first N events.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write the metric over the stream to a PNG.")] = None,
    tuned: Annotated[
        bool, typer.Option("--tune", help="Tune each baseline, never the engine, on what precedes the test.")
    ] = False,
    stdio: Annotated[bool, typer.Option(help="Be driven by JSON lines on standard input instead.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    warm_up: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="prequential: share of the log that is learned without queries.")
    ] = 0.5,
    weights: Annotated[
        str, typer.Option(help="What the engine's ranker begins with on data: default, none or a file.")
    ] = ("default"),
    without: Annotated[
        str | None,
        typer.Option(
            help="On data: beside the engine, one that lacks a source or inputs; separated by commas, or all. With"
            " default weights each begins with random ones: those that ship know all inputs.",
            show_default=False,
        ),
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="On data: make another log of it, such as long-tail.", show_default=False)
    ] = None,
) -> None:
    """Judge lists along a log: each is asked for before its event is shown."""
    use_one_core()
    if stdio:
        from ops.evaluation.stdio import run

        run(seed)
        return
    if protocol not in PROTOCOLS + SIMULATED:
        expected = ", ".join(PROTOCOLS + SIMULATED)
        raise typer.BadParameter(f"expected one of {expected}, got {protocol!r}", param_hint="--protocol")
    _check_engine(protocol, weights, without)
    groups = _groups(without)
    _check_variant(protocol, variant)
    if tuned and warm_up == 0.0:
        raise typer.BadParameter("there is nothing before the first query to tune on", param_hint="--warm-up")
    names = _names(models, baseline)
    if protocol in SIMULATED:
        _simulated(protocol, names, limit, seed, as_json, plot)
        return
    if data is None:
        raise typer.BadParameter("a folder is needed, here or in FRESHET_DATA", param_hint="--data")
    from ops.datasets import DatasetError
    from ops.evaluation.tasks import task_of

    try:
        report = _evaluate(
            task_of(data, protocol, limit, warm_up, variant), names, baseline, seed, tuned, as_json, weights, groups
        )
    except DatasetError as error:
        typer.echo(f"freshet evaluate: {error}", err=True)
        raise typer.Exit(1) from None
    if plot is not None:
        from ops.evaluation.plot import draw

        draw(report, plot)
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        from ops.evaluation.display import show

        show(report)


def _simulated(protocol: str, names: list[str], limit: int | None, seed: int, as_json: bool, plot: Path | None) -> None:
    from ops.evaluation.display import show_new_items, show_recoveries
    from ops.evaluation.models import make
    from ops.evaluation.plot import draw_new_items, draw_recoveries
    from ops.evaluation.simulated import DRIFTS, N_DAYS, N_EVENTS, place_new_items, recover, stream_of

    n_events = limit or N_EVENTS
    if protocol == "new-items":
        stream = stream_of(n_events, seed)
        placed = []
        for name in names:
            with _advancing(name, as_json) as advance:
                placed.append(place_new_items(name, make(name, seed, n_events, nights=N_DAYS), stream, seed, advance))
        if plot is not None:
            draw_new_items(placed, plot)
        if as_json:
            typer.echo(msgspec.json.encode(placed))
        else:
            show_new_items(placed)
        return
    recoveries = []
    for drift in DRIFTS:
        stream = stream_of(n_events, seed, drift)
        for name in names:
            with _advancing(f"{name}, {drift}", as_json) as advance:
                recoveries.append(recover(name, make(name, seed, n_events, nights=N_DAYS), stream, drift, advance))
    if plot is not None:
        draw_recoveries(recoveries, plot)
    if as_json:
        typer.echo(msgspec.json.encode(recoveries))
    else:
        show_recoveries(recoveries)


def _names(models: str, baseline: str | None) -> list[str]:
    """Return the models to run, the baseline among them."""
    from ops.evaluation.models import NAMES, runnable

    known = runnable()
    names = known if models == "all" else [name.strip() for name in models.split(",") if name.strip()]
    if baseline is not None and baseline not in names:
        names = [baseline, *names]
    for name in names:
        if name.startswith("engine:"):
            _check_wishes(name)
            continue
        if name not in NAMES:
            raise typer.BadParameter(f"expected some of {', '.join(NAMES)}, got {name!r}", param_hint="--models")
        if name not in known:
            raise typer.BadParameter(
                f"{name} needs a package: pip install 'freshet[evaluation]'", param_hint="--models"
            )
    if not names:
        raise typer.BadParameter(f"expected some of {', '.join(NAMES)}, got {models!r}", param_hint="--models")
    return names


def _check_wishes(name: str) -> None:
    from online_models.evaluation.reranked import wishes_of

    try:
        wishes_of(name)
    except ValueError as error:
        raise typer.BadParameter(f"{name}: {error}", param_hint="--models") from None


def _check_engine(protocol: str, weights: str, without: str | None) -> None:
    from online_models.engine.inputs import N_INPUTS, NAMES
    from online_models.engine.scorer import Scorer, SnapshotVersionError

    if protocol in SIMULATED and (weights != "default" or without is not None):
        raise typer.BadParameter(f"--weights and --without are for {', '.join(PROTOCOLS)}", param_hint="--protocol")
    if weights not in ("default", "none"):
        if not Path(weights).is_file():
            raise typer.BadParameter(f"expected default, none or a file, got {weights!r}", param_hint="--weights")
        try:
            Scorer(N_INPUTS).load(Path(weights).read_bytes(), NAMES)
        except (SnapshotVersionError, msgspec.MsgspecError) as error:
            raise typer.BadParameter(f"{weights}: {error}", param_hint="--weights") from None


def _groups(without: str | None) -> list[str]:
    """Return the groups that the engine is to do without, one at a time."""
    from online_models.evaluation.ablation import GROUPS

    if without is None:
        return []
    groups = list(GROUPS) if without == "all" else [group.strip() for group in without.split(",")]
    for group in groups:
        if group not in GROUPS:
            raise typer.BadParameter(
                f"expected all or some of {', '.join(GROUPS)}, got {group!r}", param_hint="--without"
            )
    return groups


def _check_variant(protocol: str, variant: str | None) -> None:
    from online_models.evaluation.variants import VARIANTS

    if variant is not None and protocol not in ("prequential", "sessions"):
        raise typer.BadParameter("is for prequential and sessions", param_hint="--variant")
    if variant is not None and variant not in VARIANTS:
        raise typer.BadParameter(f"expected one of {', '.join(VARIANTS)}, got {variant!r}", param_hint="--variant")


def _evaluate(
    task: "Task",
    names: list[str],
    baseline: str | None,
    seed: int,
    tuned: bool,
    quiet: bool,
    weights: str,
    groups: list[str],
) -> "Report":
    from online_models.evaluation.ablation import ablated
    from online_models.evaluation.report import report_of
    from ops.evaluation.models import BASELINES, make, tuned_for, weights_of

    if groups:
        names = names if "engine" in names else ["engine", *names]
        baseline = baseline or "engine"
        weights = "none" if weights == "default" else weights
    outcomes: dict[str, Outcome] = {}
    constants: dict[str, dict[str, float]] = {}
    for name in names:
        constants[name] = tuned_for(task.data, name)
        if tuned and name in BASELINES:
            constants[name] = _tune(task, name, seed, quiet)
        with _advancing(name, quiet) as advance:
            outcomes[name] = task.run(make(name, seed, task.n_events, constants[name], weights), advance)
    for group in groups:
        name = f"without {group}"
        with _advancing(name, quiet) as advance:
            outcomes[name] = task.run(ablated(group, seed, weights_of(weights, seed)), advance)
    return report_of(task.data, task.protocol, outcomes, baseline, task.n_items, task.genres, constants)


def _tune(task: "Task", name: str, seed: int, quiet: bool) -> dict[str, float]:
    from online_models.evaluation.tuning import tune
    from ops.evaluation.models import BASELINES, NIGHTS

    every = max(task.n_validation_events // NIGHTS, 1)
    with _advancing(f"tuning {name}", quiet) as advance:
        n_tried = 0

        def tried(value: float) -> None:
            nonlocal n_tried
            n_tried += 1
            advance(n_tried, 0)

        model = BASELINES[name]
        return tune(lambda of: model(seed, every, of), model.CONSTANTS, task.judge, tried)


@contextmanager
def _advancing(what: str, quiet: bool) -> "Iterator[Progress]":
    """Show a bar on a terminal; a total of 0 is an unknown one."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=console, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)
