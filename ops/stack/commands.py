"""`freshet up`, `down` and `status`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from ops.stack.status import Status
    from state.settings import Settings


Traffic = Literal["simulate", "replay", "none"]

UP_HELP = """Examples:

freshet up

freshet up --traffic replay --data movietweetings-100k

freshet up --traffic none --detach --port 8155"""


def up(
    traffic: Annotated[
        Traffic, typer.Option(help="What to play into it: simulated users, a data set (--data), or nothing.")
    ] = "simulate",
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data set to replay.", exists=True, file_okay=False)
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the HTTP API. [default: 8000]")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Serving processes. [default: 1]")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when all is ready; `freshet down` stops it.")
    ] = False,
) -> None:
    """Start the whole system on this machine: Kafka, Redis, flows and serving.

    With KAFKA_BROKERS or REDIS_URL in the environment, those are used and not started.
    """
    from rich import get_console

    from ops import demo
    from ops.stack.display import Display
    from ops.stack.foreground import run_until_stopped, stop_signals_interrupt
    from ops.stack.home import Home, local_settings
    from ops.stack.parts import traffic as traffic_part
    from ops.stack.start import start, stop
    from ops.stack.status import address
    from ops.stack.supervisor import Supervisor

    settings = _settings(traffic, data, port, workers)
    home = Home.of(settings)
    console = get_console()
    if Supervisor(home).answers():
        console.print(f"Freshet is already up: {address(local_settings())} (see freshet status)", highlight=False)
        return
    later = [traffic_part(traffic)] if detach and traffic != "none" else []
    try:
        with stop_signals_interrupt():
            with Display(console) as display:
                settings = start(settings, os.environ, display, tied=not detach, traffic=later)
            console.print(_addresses(settings), highlight=False)
            if later:
                demo.show(settings, console)
    except KeyboardInterrupt:
        stop(home)
        raise typer.Exit(130) from None
    if not detach:
        run_until_stopped(settings, traffic, console)


def topics() -> None:
    """Create the topics that are missing, on KAFKA_BROKERS or the local Kafka. `up` does this too."""
    from ops.stack.home import local_settings
    from ops.stack.kafka import create_topics

    settings = local_settings()
    create_topics(settings)
    print(f"The topics are there: {settings.kafka_brokers}, {settings.partitions} partitions for users.")


def _settings(traffic: Traffic, data: Path | None, port: int | None, workers: int | None) -> "Settings":
    """Return what was chosen, over the environment. Raise `StackError` when it cannot be done."""
    from ops.datasets import DatasetError, detect
    from ops.stack.errors import StackError
    from state.settings import Settings

    chosen = {"port": port, "workers": workers, "data": data and data.resolve()}
    settings = Settings.model_validate({name: value for name, value in chosen.items() if value is not None})
    if traffic == "replay":
        if settings.data is None:
            raise StackError("--traffic replay needs a data set.", "Say which: --data FOLDER.")
        try:
            detect(settings.data)
        except DatasetError as error:
            raise StackError(str(error), "See freshet replay --help for the data sets that can be read.") from error
    return settings


def down() -> None:
    """Stop the local system; what it knows stays in the home folder."""
    from ops.stack.home import Home
    from ops.stack.start import stop
    from state.settings import Settings

    print("Freshet is stopped." if stop(Home.of(Settings())) else "Freshet is not running.")


def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show each part: process, state, restarts, how far it is behind, and its last event.

    `freshet lag` tells it by topic and partition, `freshet doctor` what is wrong and what to do.
    """
    import msgspec

    from ops.stack import status as stack_status
    from ops.stack.home import Home, local_settings

    settings = local_settings()
    found = stack_status.status(Home.of(settings), settings)
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        _print_table(found, settings)


def _addresses(settings: "Settings") -> str:
    from ops.stack.status import address

    base = address(settings)
    return (
        "\n[bold]Freshet is up.[/]\n"
        f"  the page {base}/\n"
        f"  API      {base}/docs\n"
        f"  a list   {base}/v1/users/anna/recommendations\n"
        f"  metrics  {base}/metrics\n"
        f"  Kafka    {settings.kafka_brokers}\n"
        f"  Redis    {settings.redis_url}\n"
        f"  logs     {settings.home / 'logs'}\n"
    )


def _print_table(found: "Status", settings: "Settings") -> None:
    from rich import get_console
    from rich.table import Table

    from ops.operating.lag_table import utc

    table = Table("part", "kind", "pid", "state", "restarts", "lag", "for", "last event (UTC)", box=None)
    for part in found.parts:
        table.add_row(
            part.name,
            part.kind,
            _cell(part.pid),
            part.state,
            str(part.restarts),
            _cell(part.lag),
            f"{part.lag_s:.0f} s" if part.lag_s else "",
            utc(part.last_event_ts),
        )
    get_console().print(table)


def _cell(value: int | None) -> str:
    return "" if value is None else str(value)
