"""The commands that put traffic in and check what became of it."""

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from state.settings import Settings

_DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Folder of the data set; default: FRESHET_DATA, or ../shared/data.", show_default=False
    ),
]
_LimitOption = Annotated[int | None, typer.Option(min=1, help="Only the first N events.", show_default=False)]

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$")
_INTERRUPTED = 130
_REPLAY_HELP = """Examples:

freshet replay --data movietweetings-100k

freshet replay --limit 20000 --duplicate-share 0.05 --shuffle-window 2m"""
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("replay", epilog=_REPLAY_HELP)(replay_command)
    app.command("simulate", epilog="Example: freshet simulate --rate 20 --seconds 60")(simulate_command)
    app.command("verify", epilog="Example: freshet verify --data movietweetings-100k")(verify_command)


def duration(text: str) -> timedelta:
    """Read `5m`, `1.5h`, `200ms`. Raise `typer.BadParameter`."""
    found = _DURATION.match(text)
    if found is None:
        raise typer.BadParameter(f"expected a number with ms, s, m, h or d, such as 5m, got {text!r}")
    return timedelta(seconds=float(found[1]) * _UNITS_S[found[2]])


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise typer.BadParameter(f"expected max or a number above 0, got {text!r}", param_hint="--speed")
    return speed


def replay_command(
    data: _DataOption = None,
    speed: Annotated[
        str, typer.Option(help="max, or how many times its own pace the last tenth is played at, as live traffic.")
    ] = "max",
    limit: _LimitOption = None,
    original_times: Annotated[
        bool, typer.Option("--original-times", help="Keep the log's times: only in a namespace of its own.")
    ] = False,
    duplicate_share: Annotated[float, typer.Option(min=0, max=1, help="Repeat this share of the events.")] = 0.0,
    shuffle_window: Annotated[str, typer.Option(help="Delay events by up to this much event time, such as 5m.")] = "0s",
    seed: Annotated[int, typer.Option(help="Of duplicates and delays.")] = 0,
    http: Annotated[bool, typer.Option("--http", help="Through the API instead of straight to Kafka.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until the flows have caught up.")] = True,
) -> None:
    """Play a data set's catalogue and events into Freshet."""
    from rich.console import Console

    from ops.datasets import DatasetError, detect
    from ops.interrupts import interruptible
    from ops.lag import NotCaughtUpError
    from ops.stack.home import local_settings
    from ops.traffic.replay import Plan, Summary, render, replay
    from ops.traffic.sending import SendingError

    console = Console()
    settings = local_settings()
    plan = Plan(
        speed=_speed(speed),
        limit=limit,
        original_times=original_times,
        duplicate_share=duplicate_share,
        shuffle_window=duration(shuffle_window),
        seed=seed,
        http=http,
    )
    summary = Summary()
    folder = _folder(data, settings)
    try:
        dataset = detect(folder)
    except DatasetError as error:
        _fail(error)
    try:
        with interruptible() as stop:
            replay(settings, dataset, plan, summary, console, stop, catch_up_s=600.0 if wait else None)
            interrupted = stop.is_set()
    except (SendingError, NotCaughtUpError) as error:
        _fail(error)
    console.print(render(summary, f"Replay of {dataset.name}" + (", interrupted" if interrupted else "")))
    if interrupted:
        raise typer.Exit(_INTERRUPTED)


def simulate_command(
    items: Annotated[int, typer.Option(min=1, max=1_000_000)] = 2000,
    users: Annotated[int, typer.Option(min=1, max=1_000_000)] = 1000,
    history: Annotated[int, typer.Option(min=0, help="Events before the live visits.")] = 20_000,
    rate: Annotated[float, typer.Option(min=0.01, max=200, help="Visits a second.")] = 2.0,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop after; default: on Ctrl-C.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Play simulated users with known tastes, who ask for lists and click."""
    from rich.console import Console

    from ops.interrupts import interruptible
    from ops.lag import NotCaughtUpError
    from ops.stack.home import local_settings
    from ops.traffic.generate import Simulation, simulate
    from ops.traffic.sending import SendingError
    from ops.traffic.visits import Tally

    tally = Tally()
    try:
        with interruptible() as stop:
            simulate(local_settings(), Simulation(items, users, history, rate, seconds, seed), tally, Console(), stop)
            if stop.is_set():
                typer.echo("Interrupted.")
    except (SendingError, NotCaughtUpError) as error:
        _fail(error)
    typer.echo(f"Simulated: {tally}")


def verify_command(data: _DataOption = None, limit: _LimitOption = None) -> None:
    """Compare the API's counts of every user and item with those of the file; exit with 1 if one differs."""
    import asyncio

    from rich.console import Console

    from ops.datasets import DatasetError, detect
    from ops.http_client import ConnectionFailedError
    from ops.stack.home import local_settings
    from ops.stack.status import address
    from ops.traffic.replay import progress_bar
    from ops.traffic.verify import compare, expected_counts

    console = Console()
    settings = local_settings()
    try:
        users, items = expected_counts(detect(_folder(data, settings)), limit)
        with progress_bar(console) as bar:
            verdict = asyncio.run(compare(address(settings), users, items, bar))
    except (DatasetError, ConnectionFailedError, TimeoutError) as error:
        _fail(error)
    for difference in verdict.examples:
        console.print(f"{difference.entity}: the file says {difference.expected}, the API {difference.got}")
    compared = f"{verdict.n_users:,} users and {verdict.n_items:,} items"
    if verdict.n_different:
        console.print(f"[red]{compared}: {verdict.n_different:,} of them differ from the file[/red]")
        raise typer.Exit(1)
    console.print(f"[green]{compared}: counts equal those of the file[/green]")


def _folder(data: Path | None, settings: "Settings") -> Path:
    from ops.datasets import default_folder

    folder = data or default_folder(settings)
    if folder is None:
        raise typer.BadParameter("name a folder, or set FRESHET_DATA", param_hint="--data")
    return folder


def _fail(error: Exception) -> NoReturn:
    typer.secho(f"Error: {error or type(error).__name__}", fg=typer.colors.RED, err=True)
    raise typer.Exit(1)
