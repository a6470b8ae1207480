"""Traffic for a whole system: history first, at full speed, then a gentle live stream until it is stopped."""

import argparse
import asyncio
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ops.datasets import Dataset, DatasetError, default_folder, detect
from ops.interrupts import interruptible
from ops.lag import NotCaughtUpError
from ops.stack.status import address
from ops.traffic.replay import Plan, Summary, catch_up, now_ms, progress_bar, render, replay
from ops.traffic.sending import KafkaSender, SendingError
from ops.traffic.simulator import World
from ops.traffic.visits import Tally, Visitors
from state.settings import Settings

_LIVE_EVENTS_PER_S = 5.0
_LIVE_VISITS_PER_S = 2.0
_CATCH_UP_S = 600.0


@dataclass(frozen=True)
class Simulation:
    """How big the simulated world is, and how lively."""

    n_items: int = 2000
    n_users: int = 1000
    n_history: int = 20_000
    visits_per_s: float = _LIVE_VISITS_PER_S
    duration_s: float | None = None
    seed: int = 0


def play(
    settings: Settings,
    kind: str,
    data: Path | None = None,
    *,
    console: Console | None = None,
    stop: threading.Event | None = None,
    on_live: Callable[[], None] = lambda: None,
) -> None:
    """Play `simulate`, `replay` or `none`: history until the flows have it, then `on_live`, then live traffic.

    `replay` without a data set, neither as `data` nor in the settings, simulates. Returns when `stop` is set, or when a
    log has come to its end. Progress is shown on `console` up to the live part, which says nothing.

    Raises
    ------
    DatasetError, SendingError, NotCaughtUpError
        As the loaders, senders and the wait do.
    """
    halt = stop or threading.Event()
    folder = data or default_folder(settings)
    if kind == "none":
        on_live()
    elif kind == "replay" and folder is not None:
        _replay(settings, detect(folder), console, halt, on_live)
    else:
        played = _marker(settings, "simulated")
        simulation = Simulation(n_history=0) if played.exists() else Simulation()

        def begin_live() -> None:
            played.touch()
            on_live()

        simulate(settings, simulation, Tally(), console, halt, begin_live)


def simulate(
    settings: Settings,
    simulation: Simulation,
    tally: Tally,
    console: Console | None = None,
    stop: threading.Event | None = None,
    on_live: Callable[[], None] | None = None,
) -> None:
    """Produce a simulated catalogue and history, then visit the API and fill `tally`.

    With `on_live`, live progress is not shown.

    Raises
    ------
    SendingError, NotCaughtUpError
        As the sender and the wait do.
    """
    halt = stop or threading.Event()
    world = World(simulation.n_items, simulation.n_users, simulation.seed)
    if console is not None:
        console.print(
            f"[bold]Simulated traffic[/bold]: {simulation.n_items:,} items and {simulation.n_users:,} users "
            f"are made up (seed {simulation.seed})"
        )
    if simulation.n_history:
        _simulated_history(settings, world, simulation.n_history, console, halt)
    if on_live is not None and not halt.is_set():
        on_live()
    visitors = Visitors(world, address(settings), tally)
    with progress_bar(console if on_live is None else None) as bar:
        task = bar.add_task("visits", total=simulation.duration_s, rate="")

        def report(elapsed_s: float) -> None:
            bar.update(task, description=str(tally), completed=int(elapsed_s))

        asyncio.run(visitors.play(simulation.visits_per_s, halt, simulation.duration_s, report))


def _simulated_history(
    settings: Settings, world: World, n_events: int, console: Console | None, halt: threading.Event
) -> None:
    with progress_bar(console) as bar, KafkaSender(settings) as sender:
        task = bar.add_task("items (simulated)", total=world.n_items, rate="")
        for item in world.items():
            sender.item(item)
        sender.flush()
        bar.update(task, completed=world.n_items)
        catch_up(settings, bar, halt, _CATCH_UP_S)  # each event finds its item in the catalogue
        task = bar.add_task("history (simulated)", total=n_events, rate="")
        for n, event in enumerate(world.history(n_events, until_ms=now_ms()), 1):
            if halt.is_set():
                return
            sender.event(event)
            if n % 500 == 0 or n == n_events:
                bar.update(task, completed=n)
        sender.flush()
        catch_up(settings, bar, halt, _CATCH_UP_S)


def _replay(
    settings: Settings, dataset: Dataset, console: Console | None, halt: threading.Event, on_live: Callable[[], None]
) -> None:
    played = _marker(settings, f"replayed-{dataset.name}")
    if not played.exists():
        summary = Summary()
        history = Plan(rate=_LIVE_EVENTS_PER_S, part="history")
        replay(settings, dataset, history, summary, console, halt, _CATCH_UP_S)
        if console is not None:
            console.print(render(summary, f"History of {dataset.name}"))
        if halt.is_set():
            return
        played.touch()
    on_live()
    replay(settings, dataset, Plan(rate=_LIVE_EVENTS_PER_S, part="live"), Summary(), None, halt, catch_up_s=None)


def _marker(settings: Settings, name: str) -> Path:
    """Return the file which says that this system has had its history: Kafka keeps it from one start to the next."""
    settings.home.mkdir(parents=True, exist_ok=True)
    namespace = f"-{settings.namespace}" if settings.namespace else ""
    return settings.home / f"traffic{namespace}-{name}"


def main() -> None:
    """Play until SIGTERM or SIGINT: `python -m ops.traffic.generate replay|simulate`, settings from the environment."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("kind", choices=("simulate", "replay"))
    parser.add_argument("--data", type=Path, default=None)
    arguments = parser.parse_args()
    try:
        with interruptible() as stop:
            play(Settings(), arguments.kind, arguments.data, console=Console(stderr=True), stop=stop)
    except (DatasetError, SendingError, NotCaughtUpError) as error:
        sys.exit(f"traffic: {error}")


if __name__ == "__main__":
    main()
