"""Tables on a terminal and in a pipe."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_ANY_WIDTH = 10_000


def print_whole(table: "Table", console: "Console") -> None:
    """Print a table as wide as it is: of a name to be copied, or of a number, no part may be cut off.

    A terminal that is narrower breaks the lines.
    """
    from rich.measure import Measurement

    table.width = Measurement.get(console, console.options.update(max_width=_ANY_WIDTH), table).maximum
    console.print(table, crop=False)
