"""How far flows are behind, for people."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.table import Table

from ops.lag import PartitionLag


def lag_table(lags: Sequence[PartitionLag]) -> Table:
    """Return one row for each flow, topic and partition, and one for all."""
    columns = ("flow", "partition", "position", "end", "events", "seconds", "last event (UTC)")
    table = Table(*columns, box=None, collapse_padding=True)  # a row is a line of 80
    for column in table.columns[2:6]:
        column.justify = "right"
    for lag in lags:
        table.add_row(
            lag.flow,
            f"{lag.topic}/{lag.partition}",
            "none" if lag.position is None else str(lag.position),
            str(lag.end),
            str(lag.events),
            f"{lag.seconds:.1f}",
            utc(lag.last_event_ts),
        )
    events, seconds = sum(lag.events for lag in lags), max((lag.seconds for lag in lags), default=0.0)
    table.add_row("all", "", "", "", str(events), f"{seconds:.1f}", "")
    return table


def utc(epoch_ms: int | None) -> str:
    """Return a time as people read it, empty for None."""
    return "" if epoch_ms is None else f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
