"""The `freshet experiments` commands."""

from pathlib import Path
from typing import Annotated

import typer

from ops.admin import Url
from ops.experiments import life
from ops.tables import print_whole

_INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add `experiments` and its commands to the application."""
    experiments = typer.Typer(
        help="Experiments: plan, start, ramp, stop, compare arms. See docs/experiments.md.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
    )
    life.register(experiments)
    experiments.command("analyze", epilog="Example: freshet experiments analyze ranking --html report.html")(analyze)
    experiments.command("estimate", epilog="Example: freshet experiments estimate --exploration 0 --exploration 0.2")(
        estimate
    )
    experiments.command(
        "plan", epilog="Example: freshet experiments plan --rate 0.12 --lift 0.05 --lists 8 --users-per-day 20000"
    )(plan)
    app.add_typer(experiments, name="experiments")


def analyze(
    name: Annotated[str, typer.Argument(help="The experiment's name, as impressions carry it.")],
    control: Annotated[
        str | None,
        typer.Option(help="The arm to compare with. [default: as planned, else the first by name]", show_default=False),
    ] = None,
    share: Annotated[
        list[str] | None,
        typer.Option(help="ARM=WEIGHT, once for each arm. [default: as planned, else equal]", show_default=False),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Intervals miss the truth at most so often.")] = 0.05,
    since: Annotated[str | None, typer.Option(help="Only this date (2026-11-24) and later.")] = None,
    until: Annotated[str | None, typer.Option(help="Only up to this date.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a picture (PNG).", show_default=False)] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page.", show_default=False)] = None,
    url: Url = None,
) -> None:
    """Compare an experiment's arms by all metrics, from the lake.

    Intervals hold whenever and however often you look. Users are the unit; what they did before the experiment narrows
    the intervals. What was planned is asked of the API, if it answers. Exit code 3: the arms have not the users that
    they should have, and nothing can be concluded.
    """
    from rich import get_console

    from ops.experiments import measuring, report
    from ops.lake.query import LakeError, opened
    from ops.stack.home import local_settings

    checked = _checked_name(name)
    shares = _shares(share or [])
    if not 0.0 < alpha < 0.5:
        raise typer.BadParameter(f"expected a number between 0 and 0.5, got {alpha}", param_hint="--alpha")
    plan = life.planned(checked, url) if control is None or shares is None else None
    if plan is not None:
        control, shares = control or plan[0], shares or plan[1]
    console = get_console()
    try:
        with opened(local_settings(), since, until) as lake:
            found = report.make(
                checked, measuring.users(lake, checked), measuring.days(lake, checked), control, shares, alpha
            )
    except (LakeError, report.NothingMeasuredError) as error:
        typer.echo(f"freshet: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    if as_json:
        typer.echo(report.to_json(found))
    else:
        report.show(found, console)
        console.print(found.method, style="dim")
    if plot is not None:
        report.write_png(found, plot)
    if html is not None:
        report.write_html(found, html)
    if found.mismatch:
        raise typer.Exit(3)


def estimate(
    exploration: Annotated[list[float], typer.Option(help="A share of places; several times for several.")],
    surface: Annotated[str | None, typer.Option(help="Only its lists.", show_default=False)] = None,
    alpha: Annotated[float, typer.Option(help="Intervals miss the truth so often.")] = 0.05,
    since: Annotated[str | None, typer.Option(help="Only this date (2026-11-24) and later.")] = None,
    until: Annotated[str | None, typer.Option(help="Only up to this date.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what lists would have got under other shares of exploration, before an arm has them.

    From the propensities and outcomes in the lake, by three estimators; intervals are for one look, over users.
    """
    import json

    from rich import get_console
    from rich.table import Table

    from online_models.experiments.off_policy import NoSupportError
    from ops.experiments import estimating
    from ops.lake.query import LakeError, opened
    from ops.stack.home import local_settings

    if not all(0.0 <= share <= 1.0 for share in exploration):
        raise typer.BadParameter("expected shares from 0 to 1", param_hint="--exploration")
    if not 0.0 < alpha < 0.5:
        raise typer.BadParameter(f"expected a number between 0 and 0.5, got {alpha}", param_hint="--alpha")
    try:
        with opened(local_settings(), since, until) as lake:
            places = estimating.places(lake, surface)
        found = [estimating.estimate(places, share, alpha) for share in exploration]
    except (LakeError, estimating.NothingExploredError, NoSupportError) as error:
        typer.echo(f"freshet: {error}", err=True)
        raise typer.Exit(1) from error
    n, n_tried, seen = len(places.rewards), int(places.tried.sum()), float(places.rewards.mean())
    if as_json:
        estimates = [
            {"exploration": of.share} | {name: getattr(of, name).__dict__ for name in ("ips", "snips", "dr")}
            for of in found
        ]
        typer.echo(json.dumps({"places": n, "tried": n_tried, "seen": seen, "estimates": estimates}))
        return
    console = get_console()
    console.print(f"{n:,} places, {n_tried:,} with an item that was tried out: {seen:.4g} positives each")
    table = Table("exploration", "by", "positives per place", f"{1 - alpha:.0%} interval", "worth of places", box=None)
    for of in found:
        for name, value in (("IPS", of.ips), ("SNIPS", of.snips), ("DR", of.dr)):
            bounds = f"{value.low:.4g} to {value.high:.4g}"
            table.add_row(f"{of.share:g}", name, f"{value.value:.4g}", bounds, f"{value.effective_n:,.0f}")
    print_whole(table, console)


def plan(
    rate: Annotated[float, typer.Option(min=0, max=1, help="The metric's value today, such as a click-through rate.")],
    lift: Annotated[float, typer.Option(help="The relative change to be found, such as 0.05.")],
    lists: Annotated[float, typer.Option(min=0.01, help="Shown items per user while the experiment runs.")] = 20.0,
    overdispersion: Annotated[
        float, typer.Option(min=1, help="How many times the variance of equal users: 1 if all click alike.")
    ] = 2.0,
    users_per_day: Annotated[
        int | None, typer.Option(min=1, help="To say how long it takes.", show_default=False)
    ] = None,
    power: Annotated[float, typer.Option(help="How often the change is to be found.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="How often a change may be found that is not there.")] = 0.05,
) -> None:
    """Say how many users two arms need together, however often somebody looks."""
    import math

    from online_models.experiments.sequences import users_needed

    if not (0 < rate < 1 and lift != 0 and 0 < power < 1 and 0 < alpha < 0.5):
        raise typer.BadParameter("expected a rate, a power and an alpha between 0 and 1, and a lift that is not 0")
    user_sd = math.sqrt(overdispersion * rate * (1.0 - rate) / lists)
    n_users = users_needed(user_sd, rate * lift, alpha, power)
    typer.echo(f"{n_users:,} users in two equal arms find {lift:+.1%} of {rate:g} with a power of {power:.0%}.")
    if users_per_day is not None:
        n_days = math.ceil(n_users / users_per_day)
        typer.echo(f"With {users_per_day:,} new users a day: {n_days} {'day' if n_days == 1 else 'days'}.")


def _checked_name(name: str) -> str:
    import msgspec

    from state.experiments import Name

    try:
        return msgspec.convert(name, Name)
    except msgspec.ValidationError as error:
        raise typer.BadParameter("a name has lower case letters, digits, '-', '_' and '.'") from error


def _shares(given: list[str]) -> dict[str, float] | None:
    shares = {}
    for text in given:
        arm, found, weight = text.partition("=")
        try:
            shares[arm] = float(weight)
        except ValueError:
            found = ""
        if not found or not shares[arm] > 0.0:
            raise typer.BadParameter(f"expected ARM=WEIGHT with a weight above 0, got {text!r}", param_hint="--share")
    return shares or None
