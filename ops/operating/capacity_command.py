"""`freshet capacity`: what numbers of daily users take."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from ops.operating.capacity import Assumptions, Costs, Need

HELP = """Examples:

freshet capacity

freshet capacity --users 5000000 --set lists_per_user=30

freshet capacity --costs costs.json --set peak=5 --set redis_gib=128"""
_USERS = (1_000_000, 20_000_000, 200_000_000)


def capacity(
    users: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Daily users; several times for several. [default: 1, 20, 200 million]"),
    ] = None,
    costs: Annotated[
        Path | None, typer.Option(help="What freshet bench capacity has written; default: what docs/capacity.md tells.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=NUMBER", help="Another assumption; they are in the table."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Tell how many processes, cores, GiB and cells so many daily users take at the peak, and what that costs."""
    import msgspec

    from ops.operating.capacity import Assumptions, read, shipped

    assumed = {name: text for name, _, text in (one.partition("=") for one in assignments or ())}
    try:
        chosen = msgspec.convert(assumed, Assumptions, strict=False)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(str(error), param_hint="--set") from error
    if unknown := sorted(set(assumed) - set(Assumptions.__struct_fields__)):
        known = ", ".join(Assumptions.__struct_fields__)
        raise typer.BadParameter(f"there is no {unknown[0]!r}; one of {known}", param_hint="--set")
    show(shipped() if costs is None else read(costs), users or _USERS, chosen, as_json=as_json)


def show(
    costs: "Costs", users: "Sequence[int]" = _USERS, assumed: "Assumptions | None" = None, *, as_json: bool
) -> None:
    """Print what was measured, what is assumed, and what follows."""
    import msgspec
    from rich import get_console

    from ops.operating.capacity import Assumptions, need

    assumed = assumed or Assumptions()
    needs = [need(n, costs, assumed) for n in users]
    if as_json:
        found = {"costs": costs, "assumptions": assumed, "needs": needs}
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
        return
    console = get_console()
    console.print(f"Measured on {costs.machine}, {costs.measured}:", highlight=False)
    console.print(_costs_table(costs))
    console.print("\nAssumed:", ", ".join(f"{k}={v:g}" for k, v in msgspec.structs.asdict(assumed).items()))
    console.print()
    console.print(_needs_table(needs))


def _costs_table(costs: "Costs") -> "Table":
    from rich.table import Table

    table = Table("", "an event", "a list", "unit", box=None)
    for part in costs.event_us:
        table.add_row(f"CPU {part}", f"{costs.event_us[part]:.0f}", f"{costs.list_us[part]:.0f}", "us")
    table.add_row("Kafka, one replica", f"{costs.event_log_bytes:.0f}", f"{costs.list_log_bytes:.0f}", "bytes")
    table.add_row("lake", f"{costs.event_lake_bytes:.0f}", f"{costs.list_lake_bytes:.0f}", "bytes")
    table.add_row("Redis, a user", f"{costs.user_bytes:.0f}", "", "bytes")
    table.add_row("Redis, an item", f"{costs.item_bytes:.0f}", "", "bytes")
    return table


def _needs_table(needs: "Sequence[Need]") -> "Table":
    from rich.table import Table

    table = Table("daily users", *(f"{need.daily_users:,}" for need in needs), box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    rows = {
        "events/s at the peak": [f"{need.events_per_s:,.0f}" for need in needs],
        "lists/s at the peak": [f"{need.lists_per_s:,.0f}" for need in needs],
        "cells": [f"{need.cells:,}" for need in needs],
        "  filled by": [need.bound_by for need in needs],
        "  partitions of each": [str(need.partitions) for need in needs],
        **{f"  processes of {flow}": [str(need.processes[flow]) for need in needs] for flow in needs[0].processes},
        "cores: serving": [f"{need.serving_cores:,}" for need in needs],
        "cores: flows": [f"{need.flow_cores:,}" for need in needs],
        "cores: Kafka": [f"{need.kafka_cores:,}" for need in needs],
        "cores: Redis, with replicas": [f"{need.redis_cores:,}" for need in needs],
        "Redis, GiB of primaries": [f"{need.redis_gib:,}" for need in needs],
        "Kafka, TiB of disk": [f"{need.kafka_tib:,.1f}" for need in needs],
        "lake, TiB": [f"{need.lake_tib:,.1f}" for need in needs],
        "a month": [f"{need.per_month:,.0f}" for need in needs],
    }
    for name, values in rows.items():
        table.add_row(name, *values)
    return table
