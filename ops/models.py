"""`freshet models`: which models there are, which one ranks, and the way back."""

import json
from typing import Annotated, Any

import typer

from ops.admin import AdminApi, Json, Note, Url, when
from ops.tables import print_whole

_api = AdminApi("models")
_Name = Annotated[str, typer.Argument(help="Of the model, as in ranker@2026-11-22T10:00Z-3f2a.")]

_LIST = """
List the registered models, oldest first, and what ranks.

Examples:

  freshet models list

  freshet models list --json | jq -r '.models[].name'
"""
_SHOW = """
Show what a model was learned from, by which code, and how good it was on held-out events.

Examples:

  freshet models show ranker@2026-11-22T10:00Z-3f2a
"""
_DIFF = """
Show what the second model has other than the first: lineage, parameters, metrics, weights.

Examples:

  freshet models diff ranker@2026-11-22T10:00Z-3f2a ranker@2026-11-23T10:00Z-90c1
"""
_SNAPSHOT = """
Register the live ranker as it is now. It goes on to learn.

Examples:

  freshet models snapshot --note "before the campaign"
"""
_PROMOTE = """
Let a model rank, in all serving processes within two seconds. `online` is the live learner.

A model that is damaged or of other inputs is refused, and what ranks goes on to rank.

Examples:

  freshet models promote ranker@2026-11-22T10:00Z-3f2a

  freshet models promote online
"""
_PIN = """
Freeze what ranks: register the live ranker, and rank by it as it is now. The learner goes on.

Examples:

  freshet models pin --note "sale weekend"
"""
_ROLLBACK = """
Rank by what ranked before; without a number the version before.

Examples:

  freshet models rollback

  freshet models rollback --to 3
"""
_SHADOW = """
Let a model score a share of the served lists once more, beside serving. Nobody is shown what it says; how far it
agrees, and how good it would be, are metrics: `freshet metrics tail --metric shadow_kendall --by challenger`.

Examples:

  freshet models shadow ranker@2026-11-22T10:00Z-3f2a --share 0.5

  freshet models shadow ranker@2026-11-22T10:00Z-3f2a --share 0
"""
_DELETE = """
Remove a model that neither ranks, nor is in the shadow or in an arm.

Examples:

  freshet models delete ranker@2026-11-22T10:00Z-3f2a
"""
_HISTORY = """
Show who promoted what, newest first.

Examples:

  freshet models history --limit 5
"""


def register(app: typer.Typer) -> None:
    """Add `models` and its commands to the application."""
    models = typer.Typer(
        help="Registered models: look, promote, go back. See docs/models.md.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
    )
    models.command("list", help=_LIST)(list_models)
    models.command("show", help=_SHOW)(show)
    models.command("diff", help=_DIFF)(diff)
    models.command("snapshot", help=_SNAPSHOT)(snapshot)
    models.command("promote", help=_PROMOTE)(promote)
    models.command("pin", help=_PIN)(pin)
    models.command("rollback", help=_ROLLBACK)(rollback)
    models.command("shadow", help=_SHADOW)(shadow)
    models.command("delete", help=_DELETE)(delete)
    models.command("history", help=_HISTORY)(history)
    app.add_typer(models, name="models")


def list_models(as_json: Json = False, url: Url = None) -> None:
    """Print all models."""
    answer = _api.call("GET", "", url)
    if as_json:
        typer.echo(json.dumps(answer))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("name", "status", "lists", "from", "made", "NDCG@10", "note", box=None)
    for model in answer["models"]:
        manifest = model["manifest"]
        if manifest is None:
            table.add_row(model["name"], model["status"], "", "", "", "", model["problem"])
            continue
        ndcg = manifest.get("metrics", {}).get("all", {}).get("NDCG@10")
        table.add_row(
            model["name"],
            model["status"],
            str(manifest["n_lists"]),
            manifest["lineage"]["source"],
            when(manifest["created_ms"]),
            "" if ndcg is None else f"{ndcg:.4f}",
            model["problem"] or manifest["note"],
        )
    if answer["models"]:
        print_whole(table, console)
    ranks = answer["in_force"]
    console.print(f"ranks: {ranks['ranker']} (version {ranks['version']}), served now: {answer['serving']}")
    if answer["shadow"]:
        console.print(f"shadow: {answer['shadow']}, {answer['shadow_share']:.0%} of the lists")


def show(name: _Name, as_json: Json = False, url: Url = None) -> None:
    """Print a model's manifest."""
    manifest = _api.call("GET", f"/{name}", url)
    if as_json:
        typer.echo(json.dumps(manifest))
        return
    from rich.console import Console
    from rich.table import Table

    metrics, beside = manifest.pop("metrics"), manifest.pop("beside")
    table = Table(show_header=False, box=None)
    for key, value in _flat(manifest):
        table.add_row(key, str(value))
    console = Console()
    print_whole(table, console)
    if metrics:
        print_whole(metrics_table(metrics, beside), console)


def diff(
    name: _Name,
    other: Annotated[str, typer.Argument(help="The second model.")],
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Compare two models."""
    answer = _api.call("GET", f"/{name}/diff", url, params={"to": other})
    agreement, reason = _agreement(name, other)
    if as_json:
        typer.echo(json.dumps(answer | {"agreement": agreement}))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for line in answer["manifest"]:
        console.print(line, highlight=False)
    for segment, metrics in answer["metrics"].items():
        for metric, (before, after) in metrics.items():
            console.print(f"{metric}, {segment}: {before:.4f} -> {after:.4f}", highlight=False)
    if answer["weights_distance"] is None:
        console.print("weights: not to be compared, as trees have none")
    else:
        console.print(f"all weights differ by {answer['weights_distance']:.1%}; most, of those that act directly:")
        table = Table("input", "first", "second", box=None)
        for found in answer["inputs"]:
            table.add_row(found["name"], f"{found['before']:+.4f}", f"{found['after']:+.4f}")
        print_whole(table, console)
    if agreement is None:
        console.print(f"order of lists: not to be compared, {reason}", highlight=False)
        return
    console.print(
        f"on the newest {agreement['lists']:,} served lists: Kendall's tau {agreement['kendall']:.3f}, "
        f"first ten in common {agreement['overlap10']:.1%}, chance given to other items {agreement['distance']:.1%}",
        highlight=False,
        soft_wrap=True,
    )
    for metric, before in agreement["first"].items():
        after, n = agreement["second"][metric], agreement["taken_lists"]
        console.print(
            f"{metric} on {n:,} of them, of which either may have learned: {before:.4f} -> {after:.4f}", soft_wrap=True
        )


def _agreement(name: str, other: str) -> tuple[dict[str, Any] | None, str]:
    """Return how far two models agree on served lists; or None, and why that cannot be said here."""
    import msgspec

    from online_models.versions.ranking import Ranking
    from ops import model_agreement
    from ops.lake.query import LakeError, opened
    from ops.stack.home import local_settings
    from state.artifacts import ArtifactError
    from state.registry import Registry, RegistryError, UnknownModelError

    settings = local_settings()
    registry = Registry(settings.models_root)
    try:
        first, second = (Ranking.of(registry.get(model)) for model in (name, other))
        with opened(settings) as lake:
            found = model_agreement.agreement(lake, first, second)
    except (ArtifactError, UnknownModelError, RegistryError, LakeError) as error:
        return None, str(error)
    return (None, "as the lake has no list that both can score") if found is None else (msgspec.to_builtins(found), "")


def snapshot(note: Note = "", as_json: Json = False, url: Url = None) -> None:
    """Register the live ranker."""
    answer = _api.call("POST", "", url, {"note": note})
    typer.echo(json.dumps(answer) if as_json else f"{answer['name']} is registered ({answer['n_lists']} lists learned)")


def promote(name: _Name, note: Note = "", as_json: Json = False, url: Url = None) -> None:
    """Let a model rank."""
    _tell_ranker(_api.call("POST", f"/{name}/promote", url, {"note": note}), as_json)


def pin(note: Note = "", as_json: Json = False, url: Url = None) -> None:
    """Freeze what ranks."""
    _tell_ranker(_api.call("POST", "/pin", url, {"note": note}), as_json)


def rollback(
    to: Annotated[int | None, typer.Option(min=0, help="The version; 0: online.", show_default=False)] = None,
    note: Note = "",
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Go back."""
    _tell_ranker(_api.roll_back(to, note, url), as_json)


def shadow(
    name: _Name,
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of the lists; 0 ends it.")] = 0.1,
    note: Note = "",
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Try a model in the shadow."""
    answer = _api.call("POST", f"/{name}/shadow", url, {"share": share, "note": note})
    if as_json:
        typer.echo(json.dumps(answer))
    elif share:
        typer.echo(f"{name} scores {share:.0%} of the lists beside serving")
    else:
        typer.echo("nothing is in the shadow any more")


def delete(name: _Name, url: Url = None) -> None:
    """Remove a model."""
    typer.echo(f"{_api.call('DELETE', f'/{name}', url)['deleted']} is deleted")


def history(
    limit: Annotated[int, typer.Option(min=1, max=100, help="Versions wanted.")] = 20,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Show who promoted what."""
    _api.print_history(limit, as_json, url)


def metrics_table(metrics: dict[str, dict[str, float]], beside: dict[str, dict[str, float]]) -> Any:
    """Return a table of a model's metrics by segment, beside those of the model that was live."""
    from rich.table import Table

    names = list(next(iter(metrics.values())))
    table = Table("held-out events", "of", *names, box=None)
    for segment, values in metrics.items():
        table.add_row(segment, "this", *(_number(values.get(name)) for name in names))
        if segment in beside:
            table.add_row("", "live", *(_number(beside[segment].get(name)) for name in names))
    return table


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value == int(value) and abs(value) > 1 else f"{value:.4f}"


def _tell_ranker(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        typer.echo(f"version {answer['version']}: {answer['ranker']} ranks")


def _flat(of: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in of.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return found
