"""`freshet rules`: what people decide about lists: look, try, apply, look back, go back."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ops.admin import AdminApi, Json, Note, Url

_File = Annotated[Path, typer.Argument(metavar="FILE", help="JSON, as in docs/rules.md; `-`: standard input.")]
_api = AdminApi("rules")

_SHOW = """
Show the rules in force as a file that `apply` takes.

Examples:

  freshet rules show > rules.json

  freshet rules show --version 3
"""
_APPLY = """
Put the rules of a file in force: in all serving processes within two seconds, or not at all.

What is in the file replaces all rules. `--version` says which version the file was made from: when somebody else has
changed the rules since, nothing is changed. Without it the version in force is replaced, whatever it is.

Examples:

  freshet rules apply rules.json --note "recall of batch 12"

  freshet rules show | jq '.blocks += [{"name": "recall", "items": ["m17"]}]' | freshet rules apply -
"""
_DRY_RUN = """
Show whose lists would change with the rules of a file, and how. Nothing is changed.

Examples:

  freshet rules dry-run rules.json --user anna --user ben

  freshet rules dry-run rules.json --sample 200 --surface popular
"""
_HISTORY = """
Show who changed what, newest first.

Examples:

  freshet rules history --limit 5
"""
_ROLLBACK = """
Put an earlier version in force again, as a new version; without a number the one before.

Examples:

  freshet rules rollback

  freshet rules rollback --to 3 --note "the promotion is over"
"""


def register(app: typer.Typer) -> None:
    """Add `rules` and its commands to the application."""
    rules = typer.Typer(
        help="Rules for lists: blocks, policies, boosts, pins, promotions, caps. See docs/rules.md.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
    )
    rules.command("show", help=_SHOW)(show)
    rules.command("apply", help=_APPLY)(apply)
    rules.command("dry-run", help=_DRY_RUN)(dry_run)
    rules.command("history", help=_HISTORY)(history)
    rules.command("rollback", help=_ROLLBACK)(rollback)
    app.add_typer(rules, name="rules")


def show(
    version: Annotated[int | None, typer.Option(min=0, help="An earlier one.", show_default=False)] = None,
    url: Url = None,
) -> None:
    """Print a version's rules."""
    answer = _api.call("GET", "", url, params={} if version is None else {"version": str(version)})
    typer.echo(json.dumps(answer["rules"], indent=2, ensure_ascii=False))


def apply(
    file: _File,
    version: Annotated[
        int | None, typer.Option(min=0, help="The one that the file was made from.", show_default=False)
    ] = None,
    note: Note = "",
    url: Url = None,
) -> None:
    """Put rules in force."""
    rules = _api.read(file)
    expected = _api.call("GET", "", url)["version"] if version is None else version
    answer = _api.call("PUT", "", url, {"rules": rules, "version": expected, "note": note})
    typer.echo(f"version {answer['version']} is in force")


def dry_run(
    file: _File,
    user: Annotated[list[str] | None, typer.Option(help="Whose list to try.", show_default=False)] = None,
    sample: Annotated[int, typer.Option(min=0, max=200, help="Recent users to try in addition.")] = 50,
    surface: Annotated[str, typer.Option(help="home, popular or trending")] = "home",
    limit: Annotated[int, typer.Option(min=1, max=100, help="Length of the lists.")] = 20,
    region: Annotated[str | None, typer.Option(help="Where the users are.", show_default=False)] = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Show what rules would change."""
    body = {"rules": _api.read(file), "users": user or [], "sample": sample, "surface": surface, "limit": limit}
    answer = _api.call("POST", "/dry-run", url, body | ({} if region is None else {"region": region}))
    if as_json:
        typer.echo(json.dumps(answer))
        return
    from rich.console import Console

    console = Console()
    for change in answer["changes"]:
        console.print(change, markup=False, highlight=False)
    console.print(
        f"{answer['n_changed']} of {answer['n_users']} lists would change, compared with version {answer['version']};"
        f" {answer['n_withheld']} items would be withheld.",
        highlight=False,
    )
    for change in answer["lists"]:
        parts = [f"+ {item}" for item in change["new"]] + [f"- {item}" for item in change["gone"]]
        what = ", ".join(parts) or "another order"
        relaxed = ", ".join(f"{name} gives way at {n}" for name, n in change["relaxed"].items())
        line = f"{change['user_id']}: {what}" + (f" ({relaxed})" if relaxed else "")
        console.print(line, markup=False, highlight=False)


def history(
    limit: Annotated[int, typer.Option(min=1, max=100, help="Versions wanted.")] = 20,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Show earlier versions."""
    _api.print_history(limit, as_json, url)


def rollback(
    to: Annotated[int | None, typer.Option(min=0, help="The version; 0: no rules.", show_default=False)] = None,
    note: Note = "",
    url: Url = None,
) -> None:
    """Go back."""
    answer = _api.roll_back(to, note, url)
    typer.echo(f"version {answer['version']} is in force, with the rules of version {answer['restores']}")
