"""`freshet weights`: learn what a new installation's ranker begins with.

Inputs do not depend on the data set, so weights learned on one order the lists of another. What counts is how they do
in a system that knows nothing yet, whatever comes: so they are learned from many short streams, each from empty models
and by the same ranker: pieces of real logs, a variant of each piece, and simulated users.
"""

from collections.abc import Callable, Sequence
from itertools import count, cycle
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from online_models.engine.engine import Engine
from online_models.engine.inputs import N_INPUTS, NAMES
from online_models.engine.listwise import ListwiseRanker
from online_models.evaluation.protocols import Log
from online_models.evaluation.variants import VARIANTS, vary
from ops.evaluation.simulated import log_of_stream, stream_of

_PIECE = 5000
"""Events of a stream: the time in which what ships matters."""
_N_EPOCHS = 2
_PIECES_PER_SIMULATED = 3
"""A real piece and its variant count for more than what a simulator makes of people."""
_SIMULATED_SEED = 1000
"""Other worlds than those that the engine is judged on."""
_N_AVERAGED = 10_000
"""Steps: the weights are for all kinds of streams, not for the last ones."""

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
    """Learn ranker weights from the first part of some logs, variants of it, and simulated users."""
    from rich.console import Console
    from rich.progress import Progress

    from ops.datasets import DatasetError, detect
    from ops.evaluation.logs import learnable

    try:
        logs = [learnable(detect(folder), first) for folder in data]
    except DatasetError as error:
        typer.secho(f"Error: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from None
    streams = curriculum(logs, seed)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("events", total=sum(map(len, streams)))
        weights = learn(streams, seed, lambda n: bar.advance(task, n))
    out.write_bytes(weights)
    typer.echo(f"{len(weights):,} bytes in {out}")


def curriculum(logs: Sequence[Log], seed: int = 0) -> list[Log]:
    """Return the streams to learn from: twice, in random order, the pieces of the logs, variants and simulated ones."""
    pieces = [piece for log in logs for piece in log.pieces(_PIECE)]
    variants, numbers = cycle(VARIANTS), count(_SIMULATED_SEED + seed)
    rng = np.random.default_rng(seed)
    found: list[Log] = []
    for _ in range(_N_EPOCHS):
        epoch = [*pieces, *(vary(piece, next(variants), seed) for piece in pieces)]
        epoch += [log_of_stream(stream_of(_PIECE, next(numbers))) for _ in pieces[::_PIECES_PER_SIMULATED]]
        found += [epoch[k] for k in rng.permutation(len(epoch))]
    return found


def learn(streams: Sequence[Log], seed: int = 0, progress: Callable[[int], None] = lambda n: None) -> bytes:
    """Return weights learned from the streams, one after the other. `progress` is told of events as they are done."""
    ranker = ListwiseRanker(N_INPUTS, n_averaged=_N_AVERAGED, seed=seed)
    for stream in streams:
        engine = Engine(seed, ranker=ranker)
        for item in stream.catalogue:
            engine.describe(item)
        events = zip(
            stream.users,
            stream.items,
            stream.positive.tolist(),
            stream.ratings.tolist(),
            stream.times.tolist(),
            strict=True,
        )
        for event in events:
            engine.observe(*event)
        progress(len(stream))
    return ranker.weights(NAMES)
