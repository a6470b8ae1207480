"""What commands print as tables."""

import io

from rich.console import Console
from rich.table import Table

from ops.tables import print_whole


def test_a_table_that_is_too_wide_loses_nothing() -> None:
    """R32: names are there to be copied, also out of 40 columns."""
    table = Table("name", "note", box=None)
    table.add_row("ranker@2026-11-22T10:00Z-3f2a", "before the campaign")
    printed = io.StringIO()
    print_whole(table, Console(file=printed, width=40))
    assert printed.getvalue().splitlines()[1].split(maxsplit=1) == [
        "ranker@2026-11-22T10:00Z-3f2a",
        "before the campaign ",
    ]
