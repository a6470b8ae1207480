"""`freshet keys`: make, list and revoke API keys. Only hashes are stored: a key is shown once, when it is made."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.tables import print_whole

if TYPE_CHECKING:
    from serving.access.keys import Key

_File = Annotated[
    Path | None, typer.Option("--file", help="The file of hashes; default: FRESHET_API_KEYS.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add `keys` and its commands to the application."""
    keys = typer.Typer(help="API keys: who may call what, and how often.", no_args_is_help=True)
    keys.command("create", epilog="Example: freshet keys create shop --scope read --scope ingest")(create)
    keys.command("list", epilog="Example: freshet keys list")(list_keys)
    keys.command("revoke", epilog="Example: freshet keys revoke 3f9a61c2b07d")(revoke)
    app.add_typer(keys, name="keys")


def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, as `list` tells it.")],
    scope: Annotated[list[str], typer.Option(help="ingest, read or admin; several times for several.")],
    rate: Annotated[
        float | None,
        typer.Option(min=0, help="Calls a second; 0: any number; default: FRESHET_RATE_LIMIT.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the key to this file instead of showing it.", show_default=False)
    ] = None,
    unless_any: Annotated[bool, typer.Option("--unless-any", help="Do nothing if there is a valid key.")] = False,
    file: _File = None,
) -> None:
    """Make a key. It is shown once: only its hash is stored. Servers know it within a second or so."""
    from typing import cast

    from serving.access import keys
    from serving.contract.scopes import SCOPES, Scope

    if unknown := [given for given in scope if given not in SCOPES]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(SCOPES)}", param_hint="--scope")
    path = _path(file)
    stored = _read(path)
    if unless_any and any(entry.revoked is None for entry in stored):
        return
    key, entry = keys.make(name, cast("list[Scope]", list(dict.fromkeys(scope))), rate)
    if out is None:
        _write(path, [*stored, entry])
        typer.echo(key)
        return
    # The key first: one that is in the file of hashes and nowhere else would be of no use to anybody.
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as target:
        target.write(f"{key}\n")
    _write(path, [*stored, entry])
    typer.echo(f"{out} holds the key", err=True)


def list_keys(file: _File = None) -> None:
    """Show the keys: id, whose, scopes, rate, and whether they are valid."""
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "name", "scopes", "calls/s", "made", "revoked", box=None)
    for entry in _read(_path(file)):
        rate = "" if entry.rate is None else f"{entry.rate:g}" if entry.rate else "any"
        table.add_row(entry.id, entry.name, " ".join(entry.scopes), rate, entry.created, entry.revoked or "")
    print_whole(table, Console())


def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")], file: _File = None
) -> None:
    """Revoke a key: servers refuse it within a second or so."""
    import msgspec

    from ops.stack.errors import StackError
    from serving.access import keys

    path = _path(file)
    stored = _read(path)
    if key_id not in {entry.id for entry in stored}:
        raise StackError(f"{path} holds no key {key_id!r}.", "See freshet keys list.")
    _write(
        path,
        [
            msgspec.structs.replace(entry, revoked=keys.now())
            if entry.id == key_id and entry.revoked is None
            else entry
            for entry in stored
        ],
    )


def _path(given: Path | None) -> Path:
    from state.settings import Settings

    path = given or Settings().api_keys
    if path is None:
        raise typer.BadParameter("say where the hashes are, or set FRESHET_API_KEYS", param_hint="--file")
    return path


def _read(path: Path) -> "list[Key]":
    from ops.stack.errors import StackError
    from serving.access import keys

    try:
        return keys.read(path)
    except keys.KeyFileError as error:
        raise StackError(str(error), "Name another file with --file.") from error


def _write(path: Path, entries: "list[Key]") -> None:
    from ops.stack.errors import StackError
    from serving.access import keys

    try:
        keys.write(path, entries)
    except keys.KeyFileError as error:
        raise StackError(str(error), "Name a file that can be written with --file.") from error
