"""`freshet lag`, `doctor`, `rejected`, `rebuild` and `capacity`."""

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ops.operating import capacity_command, rebuild_command
from ops.operating.away import telling_what_is_away
from ops.traffic.commands import duration

if TYPE_CHECKING:
    from ops.lag import PartitionLag

_EVERY_S = 2.0
_LAG_HELP = """Examples:

freshet lag

freshet lag --flow learn --watch

freshet lag --json | jq 'map(.events) | add'"""

_DOCTOR_HELP = """Examples:

freshet doctor

freshet doctor --json | jq '.[] | select(.level != "ok")'"""
_REJECTED_HELP = """Examples:

freshet rejected --since 1h

freshet rejected --reason "more than 5 minutes ahead" --retry

freshet rejected --reason "unknown field `colour`" --retry --drop colour

freshet rejected --reason price --retry --set price=0"""
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}

_Json = Annotated[bool, typer.Option("--json", help="For programs.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(epilog=_LAG_HELP)(lag)
    app.command(epilog=_DOCTOR_HELP)(doctor)
    app.command(epilog=_REJECTED_HELP)(rejected)
    app.command(epilog=rebuild_command.HELP)(rebuild_command.rebuild)
    app.command(epilog=capacity_command.HELP)(capacity_command.capacity)


def lag(
    flow: Annotated[list[str] | None, typer.Option(help="Only this flow; several times for several.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, every two seconds, until Ctrl-C.")] = False,
    as_json: _Json = False,
) -> None:
    """Show how far each flow is behind in each partition: in events, and for how long the oldest has waited.

    With --json, one array of objects; with --watch, one such line every two seconds.
    """
    from rich.console import Console
    from rich.live import Live

    from ops.interrupts import interruptible
    from ops.lag import lags
    from ops.operating.lag_table import lag_table
    from ops.stack.home import local_settings
    from ops.stack.parts import FLOWS

    names = [known.name for known in FLOWS]
    if unknown := [name for name in flow or () if name not in names]:
        raise typer.BadParameter(f"there is no {unknown[0]!r}; one of {', '.join(names)}", param_hint="--flow")
    wanted = [known for known in FLOWS if not flow or known.name in flow]
    settings = local_settings()

    def look() -> "list[PartitionLag]":
        with telling_what_is_away():
            return lags(settings, wanted)

    if as_json or not watch:
        _show(look(), as_json)
    if not watch:
        return
    with interruptible() as stop:
        if as_json:
            while not stop.wait(_EVERY_S):
                _show(look(), as_json)
            return
        with Live(lag_table(look()), console=Console(), auto_refresh=False) as live:
            while not stop.wait(_EVERY_S):
                live.update(lag_table(look()), refresh=True)


def _show(found: "list[PartitionLag]", as_json: bool) -> None:
    import msgspec
    from rich import get_console

    from ops.operating.lag_table import lag_table

    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
        sys.stdout.flush()
    else:
        get_console().print(lag_table(found))


def doctor(
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds that a flow which is behind may stand still before it is blamed.")
    ] = 10.0,
    as_json: _Json = False,
) -> None:
    """Look at Kafka, Redis, topics, flows, state, disk, clocks, port and keys: what is wrong, and what to do.

    Exit code 1 when something has failed; warnings pass. Nothing is changed.
    """
    import msgspec
    from rich import get_console
    from rich.markup import escape
    from rich.table import Table

    from ops.operating.doctor import examine
    from ops.operating.findings import is_well
    from ops.stack.home import local_settings

    found = list(examine(local_settings(), timedelta(seconds=patience)))
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        table = Table("", "check", "found", "what to do", box=None)
        for column in table.columns:
            column.overflow = "fold"  # a long path is told whole
        for finding in found:
            level = f"[{_COLOURS[finding.level]}]{finding.level}[/]"
            table.add_row(level, *(escape(text) for text in (finding.check, finding.found, finding.remedy or "")))
        get_console().print(table)
    if not is_well(found):
        raise typer.Exit(1)


def rejected(
    reason: Annotated[str | None, typer.Option(help="Only letters whose field or reason contains this.")] = None,
    since: Annotated[
        timedelta | None, typer.Option(parser=duration, help="Only letters of so long ago, as in 90m; default: all.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="How many of the newest to show.")] = 10,
    retry: Annotated[bool, typer.Option("--retry", help="Feed them again, each once.")] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change it before; the value as JSON or text."),
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Leave this field out before.")] = None,
    as_json: _Json = False,
) -> None:
    """Show what was refused: how many for which reason, and the newest. With --retry, feed it again.

    What is fed again goes through the log as if it had just come, and the event's id keeps it from counting twice. A
    letter is fed again once, however often this is called; one that would be refused again stays, and is told.
    """
    import msgspec
    from rich import get_console

    from ops.operating.letters import Fix, summarise
    from ops.operating.letters_table import print_retried, print_summary
    from ops.operating.rejected import DeadLetters
    from ops.stack.home import local_settings

    try:
        fix = Fix.parse(assignments or (), drop or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--set") from error
    if not retry and (assignments or drop):
        raise typer.BadParameter("changes nothing without --retry", param_hint="--set, --drop")
    with telling_what_is_away(), DeadLetters(local_settings()) as letters:
        if retry:
            result = letters.feed(fix, since, reason)
        else:
            summary = summarise(letters.read(since, reason), letters.fed_again(), limit)
    if as_json:
        sys.stdout.write(msgspec.json.encode(result if retry else summary).decode() + "\n")
    elif retry:
        print_retried(result, get_console())
    else:
        print_summary(summary, get_console())
