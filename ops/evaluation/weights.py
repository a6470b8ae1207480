"""`freshet weights`: learn what a new installation's ranker begins with.

Inputs do not depend on the data set, so weights learned on one order the lists of another from the first one on. Each
log has models of its own; one ranker learns from the lists of all of them, in turns.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from online_models.evaluation.protocols import Log

_HELP = """Example, what ships with Freshet:

freshet weights --data movietweetings-100k --out online_models/engine/default.weights"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("weights", epilog=_HELP)(weights_command)


def weights_command(
    out: Annotated[Path, typer.Option(help="File to write.")],
    data: Annotated[list[Path], typer.Option(help="Folder of a data set; several times for several.")],
    first: Annotated[float, typer.Option(min=0.01, max=1.0, help="Share of each log that is learned from.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Learn ranker weights from the first part of some logs."""
    from rich.console import Console
    from rich.progress import Progress

    from ops.datasets import DatasetError, detect
    from ops.evaluation.logs import learnable

    try:
        logs = [learnable(detect(folder), first) for folder in data]
    except DatasetError as error:
        typer.secho(f"Error: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from None
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("events", total=sum(map(len, logs)))
        weights = learn(logs, seed, lambda n: bar.update(task, completed=n))
    out.write_bytes(weights)
    typer.echo(f"{len(weights):,} bytes in {out}")


def learn(logs: "Sequence[Log]", seed: int = 0, progress: Callable[[int], None] = lambda n: None) -> bytes:
    """Return weights learned from all lists of the logs, interleaved by relative position."""
    from online_models.engine.engine import Engine
    from online_models.engine.inputs import N_INPUTS, NAMES
    from online_models.engine.listwise import ListwiseRanker

    ranker = ListwiseRanker(N_INPUTS, seed=seed)
    engines = [Engine(seed, ranker=ranker) for _ in logs]
    for engine, log in zip(engines, logs, strict=True):
        for item in log.catalogue:
            engine.describe(item)
    for n, (_, number, k) in enumerate(heapq.merge(*(_positions(number, log) for number, log in enumerate(logs)))):
        log = logs[number]
        engines[number].observe(
            log.users[k], log.items[k], bool(log.positive[k]), float(log.ratings[k]), float(log.times[k])
        )
        if n % 256 == 0:
            progress(n)
    return ranker.weights(NAMES)


def _positions(number: int, log: "Log") -> Iterator[tuple[float, int, int]]:
    return (((k + 0.5) / len(log), number, k) for k in range(len(log)))
