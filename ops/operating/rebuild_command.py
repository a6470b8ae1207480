"""`freshet rebuild`: the state from the log again, beside the one that serves, and in its place when it is ready."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from ops.operating.digest import Digest
    from ops.operating.rebuilding import Origin
    from state.settings import Settings

HELP = """Examples:

freshet rebuild

freshet rebuild --from lake

freshet rebuild --check"""
_INTERRUPTED = 130
_ENOUGH = 3
"""Times that it reads what came meanwhile: each takes a fraction of the one before."""


class Kind(msgspec.Struct):
    """One kind of state, as it was and as it was built."""

    kind: str
    n_before: int
    n_built: int
    is_equal: bool


class Outcome(msgspec.Struct):
    """The answer of `freshet rebuild --json`."""

    n_events: int
    seconds: float
    is_switched: bool
    kinds: list[Kind]
    kept_in: int | None
    """The Redis database that has the old state; None where it was deleted."""


def rebuild(
    origin: Annotated[
        str, typer.Option("--from", help="kafka: what it has; lake: before that, the lake's events.")
    ] = "kafka",
    check: Annotated[bool, typer.Option("--check", help="Build and compare, switch nothing.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the old state in the spare database.")] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Begin anew where a rebuild was killed; not while one runs.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Build the state in Redis from the log again, and put it in the place of what is there, while serving goes on.

    It is built in an empty database of the same Redis, compared with the old one, and exchanged with it at one instant;
    flows notice, start again and go on from there. What differs is told: on a quiet system nothing does. See
    docs/operations.md.
    """
    from ops.interrupts import interruptible
    from ops.operating.away import telling_what_is_away
    from ops.operating.rebuilding import Interrupted
    from ops.stack.home import local_settings

    if origin not in {"kafka", "lake"}:
        raise typer.BadParameter(f"expected kafka or lake, got {origin!r}", param_hint="--from")
    with telling_what_is_away(), interruptible() as stop:
        try:
            outcome = run(
                local_settings(),
                "lake" if origin == "lake" else "kafka",
                stop,
                check=check,
                keep=keep,
                take_over=take_over,
            )
        except Interrupted:
            raise typer.Exit(_INTERRUPTED) from None
    if as_json:
        sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
    else:
        _print(outcome)


def run(
    settings: "Settings",
    origin: "Origin",
    stop: "threading.Event",
    *,
    check: bool,
    keep: bool,
    take_over: bool = False,
) -> Outcome:
    """Rebuild, compare and, unless `check`, switch.

    Raises
    ------
    StackError, KafkaException, StoreUnavailableError, Interrupted
        Then the state that serves is as it was, and the spare database is empty again.
    """
    from ops.operating.databases import Databases
    from ops.operating.digest import digests
    from ops.operating.rebuilding import Rebuild

    started = time.monotonic()
    databases = Databases(settings, take_over=take_over)
    switched = False
    try:
        databases.check_owner()
        carried = databases.carry_over()
        built = Rebuild(settings, databases, origin, stop)
        with Bar() as bar:
            for _ in range(_ENOUGH):
                built.run(bar.report)
        kinds = compared(digests(databases.live, databases.keys), digests(databases.spare, databases.keys))
        if not check:
            known = carried | built.applied.feedback
            databases.carry_over(known, built.applied.erased)
            databases.swap(known)
            switched = True
        kept_in = databases.spare_number if keep and switched else None
        return Outcome(built.n_events, time.monotonic() - started, switched, kinds, kept_in)
    finally:
        if not (keep and switched):
            databases.empty_spare()
        databases.close()


def compared(before: "Mapping[str, Digest]", built: "Mapping[str, Digest]") -> list[Kind]:
    """Return one line for each kind of state."""
    return [Kind(kind, was.n, built[kind].n, was == built[kind]) for kind, was in before.items()]


class Bar:
    """How far it is, on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._progress = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("")

    def report(self, what: str, done: int, of: int) -> None:
        """Show that so much of something has been read."""
        self._progress.update(self._task, description=f"reads {what}", completed=done, total=of)

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()


def _print(outcome: Outcome) -> None:
    from rich import get_console
    from rich.table import Table

    console = get_console()
    table = Table("state", "before", "built", "", box=None)
    for kind in outcome.kinds:
        table.add_row(
            kind.kind, str(kind.n_before), str(kind.n_built), "equal" if kind.is_equal else "[yellow]differs[/]"
        )
    console.print(table)
    done = "It has taken the place of the old one." if outcome.is_switched else "Nothing was switched."
    console.print(f"{outcome.n_events:,} events in {outcome.seconds:.0f} s. {done}", highlight=False)
    if outcome.kept_in is not None:
        text = f"The old one is in database {outcome.kept_in} of this Redis, until you empty that (flushdb)."
        console.print(text, highlight=False)
