"""`freshet experiments`, over the API: plan, start, ramp, stop, look."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.admin import AdminApi, Json, Note, Url, when

_api = AdminApi("experiments")
_Name = Annotated[str, typer.Argument(help="Of the experiment.")]

_CREATE = """
Plan an experiment. Nothing changes before it is started.

The first arm is the control. Parameters that an arm may change are in docs/experiments.md.

Examples:

  freshet experiments create ranking.json --note "is the model worth it?"

  echo '{"name": "ranking", "arms": [{"name": "default"}, {"name": "popularity", "parameters": {"ranker": "popularity"}}]}' | freshet experiments create -
"""  # noqa: E501 - is shown as it is
_START = """
Assign users from now on: in all serving processes within two seconds.

Examples:

  freshet experiments start ranking
"""
_RAMP = """
Give an experiment another share of its layer's users. Those who stay keep their arms.

Examples:

  freshet experiments ramp ranking 0.5
"""
_STOP = """
Assign nobody any more, for good: users have what holds without the experiment within two seconds.

Examples:

  freshet experiments stop ranking --reason "the lift is there"

  freshet experiments stop ranking --arm popularity --reason "complaints"
"""
_SHOW = """
Show an experiment: its arms, and what they did up to now, as flows have counted it.

Examples:

  freshet experiments show ranking

  freshet experiments show ranking --json
"""
_LIST = """
List all experiments, oldest first.

Examples:

  freshet experiments list
"""
_HISTORY = """
Show who changed what, newest first; what was stopped by itself is told, too.

Examples:

  freshet experiments history --limit 5
"""
_ROLLBACK = """
Put an earlier version of all experiments in force again; without a number the one before.

Examples:

  freshet experiments rollback --note "stopped by mistake"
"""


def register(experiments: typer.Typer) -> None:
    """Add the commands."""
    for name, text, command in (
        ("create", _CREATE, create),
        ("start", _START, start),
        ("ramp", _RAMP, ramp),
        ("stop", _STOP, stop),
        ("show", _SHOW, show),
        ("list", _LIST, list_),
        ("history", _HISTORY, history),
        ("rollback", _ROLLBACK, rollback),
    ):
        experiments.command(name, help=text)(command)


def create(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON, as in docs/experiments.md; `-`: standard input.")],
    note: Note = "",
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Plan."""
    plan = _api.read(file)
    if isinstance(plan, dict) and note:
        plan = plan | {"note": note}
    _told(_api.call("POST", "", url, plan), as_json)


def start(name: _Name, note: Note = "", as_json: Json = False, url: Url = None) -> None:
    """Begin."""
    _told(_api.call("POST", f"/{name}/start", url, {"note": note}), as_json)


def ramp(
    name: _Name,
    share: Annotated[float, typer.Argument(min=0, max=1, help="Of the layer's users.")],
    note: Note = "",
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Grow or shrink."""
    _told(_api.call("POST", f"/{name}/ramp", url, {"share": share, "note": note}), as_json)


def stop(
    name: _Name,
    reason: Annotated[str, typer.Option(help="Why, for the history.")],
    arm: Annotated[str | None, typer.Option(help="Only this arm.", show_default=False)] = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """End."""
    body = {"reason": reason} | ({} if arm is None else {"arm": arm})
    _told(_api.call("POST", f"/{name}/stop", url, body), as_json)


def show(name: _Name, as_json: Json = False, url: Url = None) -> None:
    """Look at one."""
    answer = _api.call("GET", f"/{name}", url)
    if as_json:
        typer.echo(json.dumps(answer))
        return
    experiment = answer["experiment"]
    typer.echo(line_of(experiment))
    for number, arm in enumerate(experiment["arms"]):
        role = " (control)" if number == 0 else ""
        stopped = experiment.get("stopped_arms", {}).get(arm["name"])
        ended = "" if stopped is None else f", stopped: {stopped}"
        changes = json.dumps(arm.get("parameters", {}), ensure_ascii=False)
        typer.echo(f"  {arm['name']}{role}: weight {arm.get('weight', 1):g}, {changes}{ended}")
    _show_figures(experiment, answer)


def list_(as_json: Json = False, url: Url = None) -> None:
    """Look at all."""
    answer = _api.call("GET", "", url)
    if as_json:
        typer.echo(json.dumps(answer))
        return
    for experiment in answer["experiments"]:
        typer.echo(line_of(experiment))


def history(
    limit: Annotated[int, typer.Option(min=1, max=100, help="Versions wanted.")] = 20,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Show earlier versions."""
    _api.print_history(limit, as_json, url)


def rollback(
    to: Annotated[int | None, typer.Option(min=0, help="The version; 0: none.", show_default=False)] = None,
    note: Note = "",
    url: Url = None,
) -> None:
    """Go back."""
    answer = _api.roll_back(to, note, url)
    typer.echo(f"version {answer['version']} is in force, with the experiments of version {answer['restores']}")


def planned(name: str, url: str | None) -> tuple[str, dict[str, float]] | None:
    """Return an experiment's control and the weights of its arms, None where no API knows it."""
    answer = _api.find(f"/{name}", url)
    return None if answer is None else _sides(answer["experiment"])


def _sides(experiment: dict[str, Any]) -> tuple[str, dict[str, float]]:
    """Return the control and the weights of the arms that are given to users: of others the split tells nothing."""
    stopped = experiment.get("stopped_arms", {})
    weights = {arm["name"]: arm.get("weight", 1.0) for arm in experiment["arms"] if arm["name"] not in stopped}
    return experiment["arms"][0]["name"], weights


def _show_figures(experiment: dict[str, Any], answer: dict[str, Any]) -> None:
    """Show what the arms did against control, as guardrails see it, and by day."""
    from rich.console import Console

    from ops.experiments import report

    console = Console()
    control, shares = _sides(experiment)
    by_day = report.ByDay(answer["arms"], answer["days"])
    try:
        found = report.of_sums(experiment["name"], answer["sums"], answer["switched_users"], by_day, control, shares)
    except report.NothingMeasuredError as error:
        console.print(f"no comparison yet: {error}", highlight=False)
        return
    report.show(found, console)


def line_of(experiment: dict[str, Any]) -> str:
    """Return one line about an experiment."""
    status = experiment.get("status", "draft")
    since = f" since {when(experiment['started_ms'])}" if status == "running" else ""
    reason = f": {experiment['reason']}" if experiment.get("reason") else ""
    share, layer = experiment.get("share", 1.0), experiment.get("layer", "default")
    return f"{experiment['name']}: {status}{since}{reason}, {share:.1%} of layer {layer!r}"


def _told(answer: dict[str, Any], as_json: bool) -> None:
    typer.echo(json.dumps(answer) if as_json else line_of(answer["experiment"]))
