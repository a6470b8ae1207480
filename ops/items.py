"""`freshet items`: the catalogue from files."""

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.admin import Url, local_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ops.http_client import Client
    from state.validation import InvalidInputError

_BATCH = 2000
_BATCH_BYTES = 4 << 20
_CONNECTIONS = 2
_PATIENCE = 30
"""Times that a batch is sent again while Kafka does not keep up."""
_PAUSE_S = 1.0
_TOLD = 20
_AWAITED = 200


def register(app: typer.Typer) -> None:
    """Add `items` and its commands to the application."""
    items = typer.Typer(help="The catalogue.", no_args_is_help=True)
    items.command("load", epilog="Example: freshet items load catalogue.csv.gz")(load)
    app.add_typer(items, name="items")


def load(
    file: Annotated[Path, typer.Argument(help="JSON lines or CSV, also .gz.", exists=True, dir_okay=False)],
    url: Url = None,
    kind: Annotated[
        str | None, typer.Option("--format", help="jsonl or csv; default: by the name.", show_default=False)
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until lists may have the items.")] = 60.0,
) -> None:
    """Add or replace the items of a file, and wait until lists may have them.

    JSON lines are items as `PUT /v1/items` takes them. CSV has a column for each field, and `attributes.<name>` for
    others; labels in one cell are separated by `|`. Lines that are refused are told with the reason; all others are
    loaded. Where keys are needed, FRESHET_API_KEY is one with scope `ingest` (and `read`, to wait).
    """
    import asyncio
    from typing import cast

    from rich import get_console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from ops.catalogue_files import CatalogueFileError, Format, format_of, open_file, read_items
    from ops.http_client import ConnectionFailedError
    from ops.stack.errors import StackError

    if kind not in (None, "jsonl", "csv"):
        raise typer.BadParameter(f"expected jsonl or csv, got {kind!r}", param_hint="--format")
    url = url or local_address()
    console = get_console()
    columns = (TextColumn("{task.fields[n]} items"), BarColumn(), MofNCompleteColumn(), TextColumn("bytes"))
    loaded = Loaded()
    try:
        content, raw = open_file(file)
        with content, Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            bar = progress.add_task("", total=file.stat().st_size, n=0)
            items = read_items(content, cast("Format", kind) if kind is not None else format_of(file))

            def on_batch() -> None:
                progress.update(bar, completed=raw.tell(), n=loaded.n_items)

            asyncio.run(send_items(items, url, loaded, on_batch))
            if wait:
                asyncio.run(_wait_until_servable(url, loaded.active, wait))
    except (CatalogueFileError, UnicodeDecodeError, OSError) as error:
        raise StackError(f"{file}: {error}", "Nothing, or only a part of the file, was loaded.") from error
    except (ConnectionFailedError, TimeoutError, LoadError) as error:
        raise StackError(
            f"{url}: {error or 'no answer in time'}",
            f"{loaded.n_items} items were loaded. To load all of them again changes nothing for these. "
            "Is serving running? See freshet status.",
        ) from error
    console.print(f"{loaded.n_items} items loaded, {len(loaded.refused)} lines refused.")
    for line, why in loaded.refused[:_TOLD]:
        console.print(f"  line {line}: {why}", markup=False, highlight=False)
    if len(loaded.refused) > _TOLD:
        console.print(f"  and {len(loaded.refused) - _TOLD} more")
    if loaded.refused:
        raise typer.Exit(1)


class LoadError(Exception):
    """Serving did not take a batch: why."""


@dataclass
class Loaded:
    """What became of a file so far."""

    n_items: int = 0
    refused: "list[tuple[int, str]]" = field(default_factory=list)
    """Line numbers with reasons."""
    active: deque[str] = field(default_factory=lambda: deque(maxlen=_AWAITED))
    """The newest items that lists may have: so many that there are some in each partition."""


async def send_items(
    items: "Iterator[tuple[int, bytes | InvalidInputError]]",
    url: str,
    loaded: Loaded,
    on_batch: "Callable[[], None]",
) -> None:
    """Put the items in batches, a few at once. Raise `LoadError`, `ConnectionFailedError` or `TimeoutError`."""
    import asyncio
    from contextlib import AsyncExitStack

    from ops.http_client import Client

    batches = _batches(items, loaded)

    async def work(client: "Client") -> None:
        for batch in batches:
            await _send(client, batch, loaded)
            on_batch()

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(url)) for _ in range(_CONNECTIONS)]
        try:
            async with asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(work(client))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed


def _batches(
    items: "Iterator[tuple[int, bytes | InvalidInputError]]", loaded: Loaded
) -> "Iterator[list[tuple[int, bytes]]]":
    batch: list[tuple[int, bytes]] = []
    n_bytes = 0
    for number, item in items:
        if not isinstance(item, bytes):
            loaded.refused.append((number, str(item)))
            continue
        batch.append((number, item))
        n_bytes += len(item)
        if len(batch) >= _BATCH or n_bytes >= _BATCH_BYTES:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


async def _send(client: "Client", batch: list[tuple[int, bytes]], loaded: Loaded) -> None:
    import asyncio

    import msgspec

    from state.validation import parse_item

    body = b'{"items":[' + b",".join(item for _, item in batch) + b"]}"
    for _ in range(_PATIENCE):
        answer = await client.put("/v1/items", body)
        if answer.status != 429:
            break
        await asyncio.sleep(_PAUSE_S)  # Kafka does not keep up; the same batch again changes nothing
    told = msgspec.json.decode(answer.body) if answer.body else {}
    if answer.status != 202:
        raise LoadError(f"{answer.status} {told.get('detail', '')}".strip())
    loaded.n_items += told["accepted"]
    loaded.refused += [(batch[refused["index"]][0], refused["error"]) for refused in told["rejected"]]
    refused = {refused["index"] for refused in told["rejected"]}
    for index, (_, raw) in enumerate(batch[-_AWAITED:], max(0, len(batch) - _AWAITED)):
        item = parse_item(raw)
        if item.status == "active" and index not in refused:
            loaded.active.append(item.item_id)


async def _wait_until_servable(url: str, item_ids: "Iterable[str]", at_most_s: float) -> None:
    """Raise `LoadError` when lists may not have the items in time."""
    import asyncio

    from ops.http_client import Client

    async with Client(url) as client:
        try:
            async with asyncio.timeout(at_most_s):
                for item_id in item_ids:
                    while not await _is_servable(client, item_id):
                        await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise LoadError(f"all is sent, but lists do not have {item_id!r} after {at_most_s:.0f} s") from error


async def _is_servable(client: "Client", item_id: str) -> bool:
    from urllib.parse import quote

    import msgspec

    answer = await client.get(f"/v1/items/{quote(item_id, safe='')}")
    return answer.status == 200 and bool(msgspec.json.decode(answer.body)["servable"])
