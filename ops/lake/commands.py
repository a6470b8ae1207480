"""`freshet lake`: ask it in SQL, look at its size, put its files together."""

import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.lake.query import Answer

_TABLE_ROWS = 100
_INTERRUPTED = 130
_DATE = ["%Y-%m-%d"]


def register(app: typer.Typer) -> None:
    """Add `lake` and its commands to the application."""
    lake = typer.Typer(help="Events, impressions and examples as Parquet files.", no_args_is_help=True)
    lake.command("sql", epilog='Example: freshet lake sql "select type, count(*) from events group by type"')(sql)
    lake.command("views", epilog="Example: freshet lake views")(views)
    lake.command("stats", epilog="Example: freshet lake stats --json")(stats)
    lake.command("compact", epilog="Example: freshet lake compact --all")(compact)
    app.add_typer(lake, name="lake")


def sql(
    query: Annotated[str, typer.Argument(help="One query over the views; - reads it from the standard input.")],
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array of objects.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with a header line.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=0, help="At most so many rows. [default: 100 for a table, else all]")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only files of this date (2026-11-24) and later.")] = None,
    until: Annotated[str | None, typer.Option(help="Only files up to this date.")] = None,
) -> None:
    """Ask the lake in SQL (DuckDB). It reads the lake and nothing else, and changes nothing.

    Views: events, impressions, examples, rejected, items, and slates, outcomes, labels, users made of them; see
    `freshet lake views`. Times are UTC.
    """
    from ops.lake.query import LakeError, opened
    from ops.stack.home import local_settings

    if as_json and as_csv:
        raise typer.BadParameter("choose --json or --csv")
    text = sys.stdin.read() if query == "-" else query
    try:
        with (
            opened(local_settings(), _date(since, "--since"), _date(until, "--until")) as lake,
            _Progress() as progress,
        ):
            answer = lake.ask(text, progress.report)
            progress.stop()
            if as_json:
                _write_json(answer, limit)
            elif as_csv:
                _write_csv(answer, limit)
            else:
                _write_table(answer, _TABLE_ROWS if limit is None else limit)
    except LakeError as error:
        _fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None


def views() -> None:
    """List what can be asked: each view and what a row of it is."""
    from rich import get_console
    from rich.table import Table

    from ops.lake.views import DESCRIPTIONS

    table = Table("view", "a row is", box=None)
    for name, description in DESCRIPTIONS.items():
        table.add_row(name, description)
    get_console().print(table)
    print("\nIts columns: freshet lake sql 'describe events'")


def stats(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show rows, files, bytes and dates of each table, and what is still to come."""
    from datetime import UTC, datetime

    import msgspec
    from rich import get_console
    from rich.filesize import decimal
    from rich.table import Table

    from ops.lake.stats import stats as lake_stats
    from ops.stack.home import local_settings

    found = lake_stats(local_settings())
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
        return
    table = Table("table", "rows", "files", "size", "dates", "written (UTC)", box=None)
    for column in (1, 2, 3):
        table.columns[column].justify = "right"
    for column in (4, 5):
        table.columns[column].no_wrap = True
    for one in found.tables:
        written = (
            "" if one.written_ms is None else f"{datetime.fromtimestamp(one.written_ms / 1000, UTC):%m-%d %H:%M:%S}"
        )
        dates = "" if one.first_date is None or one.last_date is None else f"{one.first_date} - {one.last_date}"
        table.add_row(one.name, f"{one.rows:,}", f"{one.files:,}", decimal(one.bytes), dates, written)
    console = get_console()
    console.print(found.root, highlight=False)
    console.print(table)
    lag = "not known, Kafka does not answer" if found.lag is None else f"{found.lag:,} messages"
    console.print(f"\nStill to come: {lag}", highlight=False)


def compact(
    every: Annotated[bool, typer.Option("--all", help="Every partition of more than one small file.")] = False,
) -> None:
    """Put small files together now, as the flow does by itself. Readers see the old files or the new one."""
    import time
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.progress import Progress

    from flows.lake.store import KEPT, compact, drop_replaced, stored_table, worth_compacting
    from flows.lake.tables import TABLES
    from ops.stack.home import local_settings

    root = local_settings().lake_root
    console = Console(stderr=True)
    n_compacted = n_dropped = 0
    with Progress(console=console, disable=not console.is_terminal) as progress:
        for table in TABLES:
            stored = stored_table(root, table)
            if stored is None:
                continue
            today = datetime.now(UTC).date().isoformat()
            partitions = worth_compacting(stored, table, today, int(time.time() * 1000), all_of_it=every)
            for partition in progress.track(partitions, description=table.name):
                n_compacted += compact(stored, partition)
            n_dropped += drop_replaced(stored, KEPT)
    print(
        f"{n_compacted:,} partitions compacted; {n_dropped:,} files deleted that were replaced an hour ago or earlier."
    )


class _Progress:
    """A bar on the terminal while a query runs for more than a moment."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._progress = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task: Any = None

    def report(self, percent: float) -> None:
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task("reading", total=100)
        if percent >= 0:
            self._progress.update(self._task, completed=percent)

    def stop(self) -> None:
        self._progress.stop()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _limited(answer: "Answer", limit: int | None) -> "Iterator[tuple[Any, ...]]":
    from itertools import islice

    return islice(answer.rows, limit)


def _write_json(answer: "Answer", limit: int | None) -> None:
    import msgspec

    encode = msgspec.json.Encoder(enc_hook=str).encode
    separator = "["
    for row in _limited(answer, limit):
        sys.stdout.write(separator + encode(dict(zip(answer.columns, map(_plain, row), strict=True))).decode())
        separator = ",\n "
    sys.stdout.write("[]\n" if separator == "[" else "]\n")


def _plain(value: Any) -> Any:
    """Numbers as JSON knows them."""
    from decimal import Decimal

    return float(value) if isinstance(value, Decimal) else value


def _write_csv(answer: "Answer", limit: int | None) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows(_limited(answer, limit))


def _write_table(answer: "Answer", limit: int) -> None:
    from rich import get_console
    from rich.markup import escape
    from rich.table import Table

    rows = list(_limited(answer, limit + 1))
    table = Table(*map(escape, answer.columns), box=None)
    for at in range(len(answer.columns)):
        if all(isinstance(row[at], int | float | None) for row in rows):
            table.columns[at].justify = "right"
    for row in rows[:limit]:
        table.add_row(*(escape(_cell(value)) for value in row))
    get_console().print(table)
    if len(rows) > limit:
        print(f"... only the first {limit:,} rows; --limit N, --csv or --json shows more.")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else str(value)


def _date(text: str | None, option: str) -> str | None:
    from datetime import date

    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise typer.BadParameter(f"expected a date such as 2026-11-24, got {text!r}", param_hint=option) from error


def _fail(error: Exception) -> NoReturn:
    typer.secho(f"Error: {error}", fg=typer.colors.RED, err=True)
    raise typer.Exit(1)
