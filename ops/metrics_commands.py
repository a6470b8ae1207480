"""`freshet metrics`: what is measured, and how it goes."""

import os
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ops.traffic.commands import duration

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from rich.table import Table

    from ops.metrics import Tail
    from state.metric_readings import Group, Reading, Readings
    from state.metrics import Metric

_TAIL_HELP = """Examples:

freshet metrics tail

freshet metrics tail --metric ctr --metric mrr --by surface --width 5m

freshet metrics tail --metric ctr --by arm --since 6h --json --no-follow | jq .value"""
_LIST_HELP = "Example: freshet metrics list --json"
_BARS = "▁▂▃▄▅▆▇█"
_SPARK = 30
_WAIT_S = 0.5
_USUAL = ("events", "rejected", "slates", "ctr", "watch_s_per_list", "mrr", "degraded_share", "items_shown", "gini")
_DIMENSIONS = ("surface", "device", "model", "arm", "challenger", "signal")


def register(app: typer.Typer) -> None:
    """Add `metrics` and its commands to the application."""
    metrics = typer.Typer(
        help="How it goes: events, lists, clicks, by window and part of the traffic.", no_args_is_help=True
    )
    metrics.command("list", epilog=_LIST_HELP)(list_metrics)
    metrics.command("tail", epilog=_TAIL_HELP)(tail)
    app.add_typer(metrics, name="metrics")


def list_metrics(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Explain each metric: its unit, and how it is made of the sums on the topic `metrics`."""
    import msgspec
    from rich import get_console
    from rich.table import Table

    from state.metrics import FAMILIES, METRICS

    if as_json:
        found = [{"metric": m.name, "unit": m.unit, "formula": str(m.formula), "meaning": m.meaning} for m in METRICS]
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
        return
    table = Table("metric", "unit", "formula", "meaning", box=None)
    for metric in METRICS:
        table.add_row(metric.name, metric.unit, str(metric.formula), metric.meaning)
    families = Table("sums of", "from topic", "what", "cut by", box=None)
    for family in FAMILIES:
        families.add_row(family.name, family.topic, family.description, family.cuts)
    console = get_console()
    console.print(table)
    console.print()
    console.print(families)


def tail(
    metric: Annotated[
        list[str] | None, typer.Option(help="One of `freshet metrics list`; several times for several.")
    ] = None,
    by: Annotated[str, typer.Option(help="surface, device, model, arm, challenger, signal, or surface,arm.")] = "",
    width: Annotated[str, typer.Option(help="Of the windows: 1m, 5m or 1h.")] = "1m",
    since: Annotated[timedelta, typer.Option(parser=duration, help="Results of so long ago, as in 90m.")] = "30m",  # type: ignore[assignment]
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on as results come.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines: each value that has changed. The rule in a pipe.")
    ] = False,
) -> None:
    """Show metrics as they change: a live table on a terminal, JSON lines in a pipe.

    A window's values are early results until it is closed, five minutes of event time after its end.
    """
    from confluent_kafka import KafkaException

    from ops.interrupts import interruptible
    from ops.metrics import WIDTH_OF, Tail
    from ops.stack.home import local_settings

    metrics = _metrics(metric)
    dimensions = _dimensions(by)
    if width not in WIDTH_OF:
        raise typer.BadParameter(f"expected one of {', '.join(WIDTH_OF)}, got {width!r}", param_hint="--width")
    reading = Tail(local_settings(), since, WIDTH_OF[width])
    try:
        reading.begin()
        with interruptible() as stop:
            if as_json or not sys.stdout.isatty():
                _write_lines(reading, metrics, dimensions, follow, stop)
            else:
                _show_table(reading, metrics, dimensions, WIDTH_OF[width], follow, stop)
    except BrokenPipeError:
        # Whoever read has seen enough; else Python complains when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KafkaException as error:
        _fail(f"Kafka: {error.args[0].str()}; is it running? See `freshet status`.")
    finally:
        reading.close()


def _write_lines(
    reading: "Tail", metrics: "Sequence[Metric]", by: tuple[str, ...], follow: bool, stop: "threading.Event"
) -> None:
    """Write each value that differs from what was written before; without following, only the last of each."""
    import msgspec

    encode = msgspec.json.Encoder().encode
    written: dict[tuple[str, Group], tuple[float, bool]] = {}
    changed: dict[Group, None] = {}
    while not stop.is_set():
        changed.update(dict.fromkeys(reading.read(_WAIT_S)))
        if not reading.at_end:
            continue
        for group in changed:
            for metric in metrics if _is_wanted(group[2], by) else ():
                found = reading.readings.read(metric, group)
                if found is not None and written.get((metric.name, group)) != (found.value, found.final):
                    written[metric.name, group] = found.value, found.final
                    sys.stdout.write(encode(_line(found)).decode() + "\n")
        changed.clear()
        sys.stdout.flush()
        if not follow:
            return


def _line(found: "Reading") -> dict[str, Any]:
    from state.metrics import dimensions_of

    return {
        "metric": found.metric,
        "start": found.start,
        "end": found.start + found.width,
        "by": dimensions_of(found.cut),
        "value": found.value,
        "final": found.final,
    }


def _show_table(
    reading: "Tail", metrics: "Sequence[Metric]", by: tuple[str, ...], width: int, follow: bool, stop: "threading.Event"
) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    while not reading.at_end and not stop.is_set():
        reading.read(_WAIT_S)
    if not follow:
        console.print(table_of(reading.readings, metrics, by, width))
        return
    with Live(table_of(reading.readings, metrics, by, width), console=console, auto_refresh=False) as live:
        while not stop.is_set():
            if reading.read(_WAIT_S):
                live.update(table_of(reading.readings, metrics, by, width), refresh=True)


def table_of(readings: "Readings", metrics: "Sequence[Metric]", by: tuple[str, ...], width: int) -> "Table":
    """Return the newest window of each metric and cut, the one before, and how it went."""
    from rich.markup import escape
    from rich.table import Table

    from state.metrics import dimensions_of

    table = Table("metric", *by, "window", "now", "before", f"last {_SPARK}", "unit", box=None)
    for column in (len(by) + 2, len(by) + 3):
        table.columns[column].justify = "right"
    cuts = [cut for cut in readings.cuts(width) if _is_wanted(cut, by)]
    for metric in metrics:
        for cut in cuts:
            series = readings.series(metric, width, cut)
            if not series:
                continue
            newest = series[-1]
            dimensions = dimensions_of(cut)
            window = f"{datetime.fromtimestamp(newest.start / 1000, UTC):%m-%d %H:%M}"
            table.add_row(
                metric.name,
                *(escape(dimensions[name]) for name in by),
                window if newest.final else f"{window} …",
                number(newest.value),
                number(series[-2].value) if len(series) > 1 else "",
                sparkline([one.value for one in series[-_SPARK:]]),
                metric.unit,
            )
    if not table.row_count:
        table.add_row("no results yet")
    return table


def sparkline(values: "Sequence[float]") -> str:
    """Return one bar for each value, from the lowest to the highest."""
    low, high = min(values), max(values)
    if high == low:
        return _BARS[0] * len(values)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in values)


def number(value: float) -> str:
    """Return a number as people read it, with three digits that count."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _metrics(names: "Sequence[str] | None") -> "list[Metric]":
    from state.metrics import BY_NAME

    for name in names or ():
        if name not in BY_NAME:
            raise typer.BadParameter(f"there is no {name!r}; one of {', '.join(BY_NAME)}", param_hint="--metric")
    return [BY_NAME[name] for name in names or _USUAL]


def _dimensions(by: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in by.split(",") if name.strip())
    if names and names not in {(name,) for name in _DIMENSIONS} | {("surface", "arm"), ("arm", "surface")}:
        raise typer.BadParameter(f"expected {', '.join(_DIMENSIONS)} or surface,arm, got {by!r}", param_hint="--by")
    return names


def _is_wanted(cut: str, by: tuple[str, ...]) -> bool:
    from state.metrics import dimensions_of

    return set(dimensions_of(cut)) == set(by)


def _fail(reason: str) -> NoReturn:
    typer.secho(f"Error: {reason}", fg=typer.colors.RED, err=True)
    raise typer.Exit(1)
