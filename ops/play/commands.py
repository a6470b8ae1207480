"""`freshet play`: the engine, the API and the page in one process, for trying; nothing is kept."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ops.play.memory_log import MemoryLog
    from ops.play.one_process import Flows
    from serving.app import App
    from state.records import Event, Item
    from state.settings import Settings

_HOST = "127.0.0.1"
_BATCH = 1000
_INTERRUPTED = 130
_LOOK_EVERY_S = 0.02


@dataclass(frozen=True)
class Start:
    """What the engine knows before the first request."""

    title: str
    items: "Iterator[Item]"
    n_events: int
    events: "Iterator[Event]"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("play", epilog="Example: freshet play --port 8001 --events 50000")(play_command)


def play_command(
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of a data set; default: a simulated shop of films.", exists=True, file_okay=False),
    ] = None,
    events: Annotated[int, typer.Option(min=0, max=1_000_000, help="Its newest N events are played first.")] = 10_000,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On this machine only.")] = 8000,
) -> None:
    """Try Freshet in one process, without Kafka, Redis or Java: the same engine, API and page. Nothing is kept."""
    from tempfile import TemporaryDirectory

    from rich import get_console

    from ops.stack.children import is_free
    from ops.stack.errors import StackError
    from ops.stack.foreground import stop_signals_interrupt
    from state.settings import Settings

    console = get_console()
    if not is_free(_HOST, port):
        raise StackError(f"Port {port} is taken.", "Choose another one: freshet play --port 8001.")
    start = _start(data, events)
    with TemporaryDirectory(prefix="freshet-play-") as folder:
        settings = Settings(home=Path(folder), host=_HOST, port=port, partitions=1, workers=1)
        ready = False

        def on_ready() -> None:
            nonlocal ready
            ready = True
            console.print(_READY.format(address=f"http://{_HOST}:{port}"), highlight=False)

        try:
            with stop_signals_interrupt():
                play(settings, start, console, on_ready)
        except KeyboardInterrupt:
            console.print("Stopped; nothing was kept.")
            raise typer.Exit(0 if ready else _INTERRUPTED) from None


_READY = """
[bold]Freshet is ready to play with.[/]
  the page   {address}/
  the API    {address}/docs

This is for trying: one process on this machine, without Kafka or Redis, and nothing is kept. Ctrl-C stops it.
The whole system is started by [bold]freshet up[/] (make up).
"""


def play(settings: "Settings", start: Start, console: "Console", on_ready: Callable[[], None]) -> None:
    """Play the start, then serve until a signal stops it. An error in a flow is raised."""
    import uvloop

    from ops.play.memory_log import MemoryEventLog, MemoryLog
    from ops.play.one_process import Flows
    from serving.app import create_app
    from serving.kafka.event_log import EventLog
    from state.memory_store import AsyncMemoryStore, MemoryStore

    store, messages = MemoryStore(), MemoryLog()
    flows = Flows(settings, store, messages)
    _play_start(start, flows, messages, console)
    # The same interface, without a broker behind it.
    app = create_app(settings, AsyncMemoryStore(store), cast(EventLog, MemoryEventLog(messages)))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app, flows, settings, on_ready))


def _play_start(start: Start, flows: "Flows", messages: "MemoryLog", console: "Console") -> None:
    from msgspec.json import Encoder

    from ops.traffic.replay import progress_bar
    from state.topics import EVENTS, ITEMS

    encode = Encoder().encode
    console.print(f"[bold]freshet play[/]: {start.title}", highlight=False)
    with progress_bar(console) as bar:
        task = bar.add_task("items", total=None, rate="")
        for n, item in enumerate(start.items, 1):
            messages.append(ITEMS, item.item_id.encode(), encode(item))
            if n % _BATCH == 0:
                flows.step(_BATCH)
                bar.update(task, completed=n)
        flows.step(_BATCH)
        n_items = flows.counts["items"]
        bar.update(task, total=n_items, completed=n_items)
        task = bar.add_task("history", total=start.n_events, rate="")
        for n, event in enumerate(start.events, 1):
            messages.append(EVENTS, event.user_id.encode(), encode(event))
            if n % _BATCH == 0:
                flows.step(_BATCH)
                bar.update(task, completed=n)
        flows.step(_BATCH)
        bar.update(task, completed=start.n_events)


async def _serve(app: "App", flows: "Flows", settings: "Settings", on_ready: Callable[[], None]) -> None:
    import uvicorn

    from ops.stack.status import serving_answers
    from serving.worker import Protocol

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            lifespan="on",
            http=Protocol,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
    )
    pump = asyncio.create_task(flows.run())
    serving = asyncio.create_task(server.serve())

    async def tell() -> None:
        while not await asyncio.to_thread(serving_answers, settings):
            await asyncio.sleep(_LOOK_EVERY_S)
        on_ready()

    telling = asyncio.create_task(tell())
    await asyncio.wait({pump, serving}, return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    server.should_exit = True
    await serving
    pump.cancel()
    await asyncio.gather(pump, telling, return_exceptions=True)
    if not pump.cancelled():
        pump.result()


def _start(data: Path | None, n_events: int) -> Start:
    """Return what is played first. Raise `StackError` for a folder that is no data set."""
    import time

    from ops.datasets import DatasetError, detect
    from ops.stack.errors import StackError
    from ops.traffic import schedule
    from ops.traffic.simulator import World

    now_ms = time.time_ns() // 1_000_000
    if data is None:
        world = World()
        title = f"a simulated shop; {world.n_items:,} films and {world.n_users:,} people are made up"
        return Start(title, world.items(), n_events, world.history(n_events, until_ms=now_ms))
    try:
        dataset = detect(data)
        first = max(0, dataset.n_events - n_events)
        events = schedule.shifted(dataset.events(first), now_ms - dataset.last_ts)
        return Start(dataset.name, dataset.items(), dataset.n_events - first, events)
    except DatasetError as error:
        raise StackError(str(error), "See freshet replay --help for the data sets that can be read.") from error
