"""`freshet bench`: each benchmark prints a table, or JSON, and exits with 1 if a target is missed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.bench import steps
from ops.bench.around import error_console, failing_clearly, finish, measured_system, opened_dataset, show
from ops.one_core import use_one_core

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ops.bench.report import Report

_Running = Annotated[
    bool, typer.Option("--running", help="Measure the system that runs here, not one started for this.")
]
_Json = Annotated[bool, typer.Option("--json", help="For programs.")]
_Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder of the data set; default: FRESHET_DATA, ../shared/data, else simulated.",
        show_default=False,
    ),
]
_Limit = Annotated[int | None, typer.Option(min=100, help="Only the first N events.", show_default=False)]

_PARTS = 4
"""Of the stream, whose costs are compared."""
_SIZES = "10000,100000,1000000"
_N_ITEMS, _N_EVENTS = 100_000, 30_000
_KILLS_AT_PER_S = 500.0
_NO_CLICK_S = 2.0
"""A list without a click becomes an example after this."""
_SOAK_HELP = "Example: freshet bench soak --minutes 3 --rate 2000. Too long for `all`."
_CAPACITY_HELP = "Example: freshet bench capacity --out costs.json && freshet capacity --costs costs.json"


def register(app: typer.Typer) -> None:
    """Add `bench` and its commands to the application."""
    bench = typer.Typer(help="Benchmarks, each beside a ceiling or a target.", no_args_is_help=True)
    bench.command("freshness", epilog="Example: freshet bench freshness --running --clicks 500")(freshness)
    bench.command("replay", epilog="Example: freshet bench replay --data movietweetings-100k")(replay)
    bench.command("serving", epilog="Example: freshet bench serving --seconds 30")(serving)
    bench.command("hides", epilog="Example: freshet bench hides --n 5000")(hides)
    bench.command("promotion", epilog="Example: freshet bench promotion --rate 100 --swaps 20")(promotion)
    bench.command("beside", epilog="Example: freshet bench beside --seconds 20")(beside)
    bench.command("faults", epilog="Example: freshet bench faults --seconds 15")(faults)
    bench.command("feedback", epilog="Example: freshet bench feedback --n 3400")(feedback)
    bench.command("live", epilog="Example: freshet bench live --connections 300")(live)
    bench.command("filters", epilog="Example: freshet bench filters --items 20000")(filters)
    bench.command("engine", epilog="Example: freshet bench engine --items 10000,100000")(engine)
    bench.command("endless", epilog="Example: freshet bench endless --events 1000000")(endless)
    bench.command("experiment", epilog="Example: freshet bench experiment --live 5000")(experiment)
    bench.command("recovery", epilog="Example: freshet bench recovery --rounds 1")(recovery)
    bench.command("brokers", epilog="Example: freshet bench brokers --limit 20000")(brokers)
    bench.command("soak", epilog=_SOAK_HELP)(soak)
    bench.command("capacity", epilog=_CAPACITY_HELP)(capacity)
    bench.command("all", epilog="Example: freshet bench all --limit 20000 --json")(run_all)
    app.add_typer(bench, name="bench")


def freshness(
    clicks: Annotated[int, typer.Option(min=10, help="Clicks per measurement.")] = 200,
    load: Annotated[float, typer.Option(min=0, help="Other events a second in the second measurement.")] = 100.0,
    data: _Data = None,
    running: _Running = False,
    as_json: _Json = False,
) -> None:
    """Time from posting a click until the user's features, and list, show it."""
    with measured_system(running, data) as settings:
        finish([steps.freshness(settings, clicks, load)], as_json)


def replay(data: _Data = None, limit: _Limit = None, as_json: _Json = False) -> None:
    """Replay a data set into an empty system through all flows."""
    from ops.bench.systems import own_system

    console = error_console()
    with failing_clearly(), opened_dataset(data) as dataset, own_system(console) as settings:
        report = steps.replay(settings, dataset, limit, console)
    finish([report], as_json)


def serving(
    seconds: Annotated[float, typer.Option(min=1, help="Of each measurement.")] = 10.0,
    data: _Data = None,
    running: _Running = False,
    as_json: _Json = False,
) -> None:
    """Requests a second and latency of lists, one worker, 1 and 50 clients."""
    with measured_system(running, data) as settings:
        finish([steps.serving(settings, seconds)], as_json)


def hides(
    n: Annotated[int, typer.Option(min=1, help="How often.")] = 1000,
    data: _Data = None,
    running: _Running = False,
    as_json: _Json = False,
) -> None:
    """Hide an item and ask at once: no list may show it. Again while all flows are frozen."""
    with measured_system(running, data) as settings:
        finish([steps.hides(settings, n)], as_json)


def promotion(
    rate: Annotated[float, typer.Option(min=1, help="Lists a second.")] = 200.0,
    swaps: Annotated[int, typer.Option(min=1, help="How often another model is to rank.")] = 10,
    workers: Annotated[int, typer.Option(min=1, help="Serving processes of the system that is started.")] = 2,
    data: _Data = None,
    running: _Running = False,
    as_json: _Json = False,
) -> None:
    """Promote models and go back while lists are asked for: no request fails, all workers follow in two seconds."""
    import asyncio

    from ops.bench import promotion as bench
    from ops.stack.status import address

    with measured_system(running, data, workers) as settings:
        finish([asyncio.run(bench.measure(address(settings), rate, swaps))], as_json)


def beside(
    rate: Annotated[float, typer.Option(min=1, help="Lists a second.")] = 100.0,
    seconds: Annotated[float, typer.Option(min=1, help="Of each measurement.")] = 15.0,
    data: _Data = None,
    running: _Running = False,
    as_json: _Json = False,
) -> None:
    """Latency of lists alone, with a model in the shadow, and beside a backfill, which must touch nothing live."""
    import asyncio
    from tempfile import TemporaryDirectory

    from ops.bench import beside as bench
    from ops.stack.status import address

    with measured_system(running, data) as settings, TemporaryDirectory(prefix="freshet-beside-") as folder:
        finish([asyncio.run(bench.measure(settings, address(settings), rate, seconds, Path(folder)))], as_json)


def faults(
    seconds: Annotated[float, typer.Option(min=1, help="Of each fault.")] = 8.0,
    data: _Data = None,
    as_json: _Json = False,
) -> None:
    """Lists and feedback while Redis is slow, lossy or gone and Kafka hangs: latency, and what is answered."""
    from ops.bench import robustness as bench

    with measured_system(False, data) as settings:
        finish([bench.faults(settings, seconds)], as_json)


def feedback(
    n: Annotated[int, typer.Option(min=100, help="Pairs of a post and a read.")] = 10_000,
    data: _Data = None,
    running: _Running = False,
    as_json: _Json = False,
) -> None:
    """Post feedback and read at once: none of the lists may be stale. Flows running, late by 10 s, and stopped."""
    from ops.bench import robustness as bench

    with measured_system(running, data) as settings:
        finish([bench.feedback(settings, n)], as_json)


def live(
    connections: Annotated[int, typer.Option(min=1, help="Open at once, each of another user.")] = 1000,
    changes: Annotated[int, typer.Option(min=1, help="Of users' states, by feedback.")] = 500,
    rate: Annotated[float, typer.Option(min=1, help="Changes a second.")] = 50.0,
    data: _Data = None,
    as_json: _Json = False,
) -> None:
    """Hold many live lists open on one worker, and time how long a change takes to reach its user's."""
    from ops.bench import robustness as bench

    with measured_system(False, data) as settings:
        finish([bench.live(settings, connections, changes, rate)], as_json)


def filters(
    items: Annotated[int, typer.Option(min=1000, help="Size of the catalogue.")] = _N_ITEMS,
    events: Annotated[int, typer.Option(min=100, help="Of the history that is played over it.")] = _N_EVENTS,
    as_json: _Json = False,
) -> None:
    """Filtered lists of a large catalogue: recall against all that match, latency, and how soon items are servable."""
    console = error_console()
    with failing_clearly():
        reports = steps.filters(items, events, console)
    finish(reports, as_json)


def engine(
    sizes: Annotated[str, typer.Option("--items", help="Sizes of catalogues, separated by commas.")] = _SIZES,
    events: Annotated[int, typer.Option(min=100, help="Played over each catalogue.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    as_json: _Json = False,
) -> None:
    """Cost of a list and of learning, by the size of the catalogue and along the stream, in process."""
    use_one_core()
    from rich.progress import Progress

    from ops.bench import engine as bench

    try:
        wanted = sorted(int(size) for size in sizes.split(","))
    except ValueError:
        raise typer.BadParameter(f"expected numbers, got {sizes!r}", param_hint="--items") from None
    found = []
    console = error_console()
    with Progress(console=console, disable=not console.is_terminal) as progress:
        for size in wanted:
            task = progress.add_task(f"{size:,} items", total=events)
            found.append(bench.measure(size, events, _PARTS, seed, partial(_complete, progress, task)))
    finish([bench.report(wanted, found)], as_json)


def _complete(progress: "Progress", task: "TaskID", done: int) -> None:
    progress.update(task, completed=done)


def endless(
    events: Annotated[int, typer.Option(min=10_000, help="Of the stream.")] = 10_000_000,
    as_json: _Json = False,
) -> None:
    """Feed what learns far more items and users than it may hold: memory stays flat. Takes a quarter of an hour."""
    from rich.progress import Progress

    from ops.bench import endless as bench

    with Progress(console=error_console(), disable=as_json) as progress:
        task = progress.add_task("events", total=None)
        report = bench.measure(events, progress=lambda done, total: progress.update(task, completed=done, total=total))
    finish([report], as_json)


def experiment(
    live: Annotated[int, typer.Option(min=100, help="Events that are played as live traffic.")] = 10_000,
    data: _Data = None,
    as_json: _Json = False,
) -> None:
    """Popularity against the model as two arms over a data set, in one process: the lift, and its interval."""
    import asyncio
    from tempfile import TemporaryDirectory

    from rich.progress import Progress

    from ops.bench import experiment as bench

    console = error_console()
    with (
        failing_clearly(),
        opened_dataset(data) as dataset,
        TemporaryDirectory(prefix="freshet-experiment-") as home,
        Progress(console=console, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("events", total=dataset.n_events)
        found = asyncio.run(bench.measure(dataset, live, Path(home), partial(_complete, progress, task)))
        name = dataset.name
    finish([bench.report(name, found)], as_json)


def recovery(
    rounds: Annotated[int, typer.Option(min=1, help="Kills of each flow.")] = 3,
    rate: Annotated[float, typer.Option(min=50, help="Events a second meanwhile.")] = _KILLS_AT_PER_S,
    data: _Data = None,
    as_json: _Json = False,
) -> None:
    """Kill each flow in the middle of a stream: until it moves on, and whether counts stay exact."""
    console = error_console()
    with failing_clearly(), opened_dataset(data) as dataset:
        report = steps.recovery(dataset, rounds, rate, console)
    finish([report], as_json)


def brokers(data: _Data = None, limit: _Limit = None, as_json: _Json = False) -> None:
    """Kill one of three brokers in the middle of a replay: nothing is lost or counted twice. Not part of `all`."""
    from ops.bench import brokers as bench
    from ops.bench.systems import own_system

    console = error_console()
    with (
        failing_clearly(),
        opened_dataset(data) as dataset,
        bench.running() as three,
        own_system(console, kafka_brokers=",".join(broker.address for broker in three)) as settings,
    ):
        report = bench.measure(settings, three, dataset, limit, console)
    finish([report], as_json)


def soak(
    minutes: Annotated[float, typer.Option(min=0.5, help="Of traffic.")] = 10.0,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 10_000.0,
    lists: Annotated[float, typer.Option(min=0.1, help="Lists a second, beside them.")] = 20.0,
    as_json: _Json = False,
) -> None:
    """Simulated traffic at one rate for long: lag stays bounded, memory flat, and no window of metrics is wrong."""
    from ops.bench import soak as bench
    from ops.bench.systems import own_system

    console = error_console()
    with failing_clearly(), own_system(console, **bench.SETTINGS) as settings:
        soaked = bench.measure(settings, 60 * minutes, rate, lists, console)
        lake_delay_s = settings.lake_delay_s
    finish([bench.report(soaked, lake_delay_s)], as_json)


def capacity(
    data: _Data = None,
    limit: _Limit = 30_000,
    seconds: Annotated[float, typer.Option(min=1, help="Of asking for lists.")] = 15.0,
    out: Annotated[
        Path | None, typer.Option(help="Write the costs to this file, for freshet capacity --costs.", dir_okay=False)
    ] = None,
    as_json: _Json = False,
) -> None:
    """What one event and one list cost each part, and what that makes for 1, 20 and 200 million daily users."""
    import msgspec

    from ops.bench import costs as bench
    from ops.bench.systems import own_system, pids
    from ops.operating.capacity_command import show

    console = error_console()
    with (
        failing_clearly(),
        opened_dataset(data) as dataset,
        own_system(console, attribution_wait_s=_NO_CLICK_S) as settings,
    ):
        found = bench.measure(settings, dataset, pids(settings), limit, seconds, console)
    if out is not None:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    show(found, as_json=as_json)


def run_all(
    data: _Data = None,
    limit: _Limit = None,
    seconds: Annotated[float, typer.Option(min=1, help="Of each serving measurement.")] = 10.0,
    clicks: Annotated[int, typer.Option(min=10, help="Of each freshness measurement.")] = 200,
    n_hides: Annotated[int, typer.Option("--hides", min=1)] = 1000,
    n_feedback: Annotated[int, typer.Option("--feedback", min=100)] = 10_000,
    kills: Annotated[int, typer.Option(min=1, help="Of each flow.")] = 1,
    as_json: _Json = False,
) -> None:
    """All benchmarks, one after the other, on a system that starts empty; recovery and filters on others."""
    from ops.bench import robustness
    from ops.bench.systems import own_system

    console = error_console()
    reports: list[Report] = []

    def run(step: "Callable[[], Report | list[Report]]") -> None:
        found = step()
        for report in found if isinstance(found, list) else [found]:
            reports.append(report)
            if not as_json:
                show(report)

    with failing_clearly(), opened_dataset(data) as dataset:
        with own_system(console) as settings:
            run(lambda: steps.replay(settings, dataset, limit, console))
            run(lambda: steps.serving(settings, seconds))
            run(lambda: steps.freshness(settings, clicks, 100.0))
            run(lambda: steps.hides(settings, n_hides))
            run(lambda: robustness.feedback(settings, n_feedback))
            run(lambda: robustness.live(settings, 1000, 500, 50.0))
            run(lambda: robustness.faults(settings, seconds))
        run(lambda: steps.recovery(dataset, kills, _KILLS_AT_PER_S, console))
        run(lambda: steps.filters(_N_ITEMS, _N_EVENTS, console))
    finish(reports, as_json, shown=True)
