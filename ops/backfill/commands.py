"""The `freshet backfill` command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ops.admin import Json, Note, Url
from ops.giving_way import give_way
from ops.one_core import use_one_core
from ops.tables import print_whole

if TYPE_CHECKING:
    from online_models.versions.boosting import TreeParameters
    from ops.backfill.running import Request
    from ops.backfill.training import Parameters, Training
    from state.artifacts import Artifact
    from state.settings import Settings

_INTERRUPTED = 130
_HELP = """
Learn a ranker from the log, apart from what is live, judge it, and register it.

It learns by the code of the live learner, in a process of its own, and writes nothing but the registry unless it is to
take over. The last part of the log is held out: each list is judged before it is learned, beside what the live model
thought of it. An interrupted run goes on where it was when it is started again with the same options. It has one
processor, and by default only what nothing else on the machine wants.

Examples:

  freshet backfill --from lake

  freshet backfill --from kafka --since 2026-11-01 --params learning_rate=0.003 --params n_replayed=5 --promote

  freshet backfill --model trees --params n_trees=500 --params max_lists=50000

  freshet backfill --from kafka --params learning_rate=0.003 --take-over

  freshet backfill --on-drift --promote
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("backfill", help=_HELP)(backfill)


def backfill(
    model: Annotated[str, typer.Option(help="Which model: ranker, or trees, that LightGBM learns.")] = "ranker",
    source: Annotated[str, typer.Option("--from", help="lake or kafka")] = "lake",
    since: Annotated[str | None, typer.Option(help="Events from this date or time (ISO, UTC) on.")] = None,
    until: Annotated[str | None, typer.Option(help="Events before this date or time.")] = None,
    params: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, several times for several.", show_default=False)
    ] = None,
    held_out: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of the time, the last, that is judged first.")
    ] = 0.2,
    promote: Annotated[bool, typer.Option(help="Let it rank, unless it is worse than what does.")] = False,
    force: Annotated[bool, typer.Option(help="Let it rank, or take over, even if it is worse.")] = False,
    on_drift: Annotated[
        bool, typer.Option("--on-drift", help="Wait for the next alarm of drift, then begin. See docs/models.md.")
    ] = False,
    rest: Annotated[
        float, typer.Option(min=0, help="Seconds after the last answer to an alarm, in which none counts.")
    ] = 0.0,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Let the live learner go on from it, unless it is worse than what ranks."),
    ] = False,
    gives_way: Annotated[
        bool, typer.Option("--give-way/--full-speed", help="Whether all else that runs on this machine goes first.")
    ] = True,
    restart: Annotated[bool, typer.Option(help="Begin again, whatever an interrupted run has kept.")] = False,
    note: Note = "",
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Learn, judge, register."""
    use_one_core()
    if gives_way:
        give_way()
    if source not in ("lake", "kafka"):
        raise typer.BadParameter(f"expected lake or kafka, got {source!r}", param_hint="--from")
    from online_models.versions.revision import revision
    from ops.backfill.running import Request, forget
    from ops.stack.home import local_settings
    from state.kept_runs import folder_of

    parameters = _parameters(model, params or [])
    if take_over:
        _check_take_over(parameters, since, until)
    request = Request(
        source=source,
        since_ms=_ms(since, "--since"),
        until_ms=_ms(until, "--until"),
        held_out=held_out,
        parameters=parameters,
        code=revision(),
    )
    settings = local_settings()
    folder = folder_of(settings)
    if restart:
        forget(request, folder)
    if on_drift:
        note = "; ".join(part for part in (_awaited(settings, rest), note) if part)
    training, artifact = _learned(request, settings, folder, note, as_json)
    _tell(training, artifact, as_json)
    objection = training.held_out.objection()
    if take_over:
        _take_over(training, objection, force, settings)
    if promote or (force and not take_over):
        _promote(artifact, objection, force, note, url)


def _parameters(model: str, params: list[str]) -> "Parameters | TreeParameters":
    from ops.backfill.training import MODELS, parsed

    if model not in MODELS:
        raise typer.BadParameter(f"expected one of {', '.join(MODELS)}, got {model!r}", param_hint="--model")
    if model == "trees":
        _check_library()
    try:
        return parsed(params, model)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--params") from None


def _check_library() -> None:
    """Say what is missing at once, and not after the log is read."""
    from online_models.versions.boosting import MissingLibraryError, lightgbm

    try:
        lightgbm()
    except MissingLibraryError as error:
        _fail(str(error))


def _awaited(settings: "Settings", rest: float) -> str:
    """Return the note that says what has drifted."""
    import time

    from confluent_kafka import KafkaException

    from ops.backfill.waiting import NOTE, drifted, rest_s
    from ops.interrupts import interruptible
    from state.registry import Registry, RegistryError

    try:
        with interruptible() as stop:
            pause_s = rest_s(Registry(settings.models_root), rest, time.time())
            if pause_s:
                typer.echo(f"resting for {pause_s:,.0f} s", err=True)
                stop.wait(pause_s)
            typer.echo("waiting for drift", err=True)
            signal = drifted(settings, stop)
    except KafkaException as error:
        _fail(f"Kafka: {error.args[0].str()}; is it running? See `freshet status`.")
    except RegistryError as error:
        _fail(str(error))
    if signal is None:
        raise typer.Exit(_INTERRUPTED)
    typer.echo(f"{signal} has drifted", err=True)
    return NOTE + signal


def _learned(
    request: "Request", settings: "Settings", folder: Path, note: str, quiet: bool
) -> "tuple[Training, Artifact]":
    from confluent_kafka import KafkaException
    from rich.console import Console

    from online_models.versions.boosting import TooFewListsError
    from ops.backfill.registering import artifact_of, live_ranking
    from ops.backfill.running import InterruptedRunError, KeptRunError, NothingToLearnError, forget, run
    from ops.backfill.sources import KafkaSource, LakeSource
    from ops.interrupts import interruptible
    from ops.lake.query import LakeError
    from ops.traffic.replay import progress_bar
    from state.artifacts import ArtifactError
    from state.redis_store import RedisStore
    from state.registry import Registry, RegistryError, UnknownModelError
    from state.store import StoreUnavailableError

    registry = Registry(settings.models_root)
    console = Console(stderr=True)
    try:
        live = live_ranking(RedisStore(settings), registry)
        with (
            interruptible() as stop,
            (LakeSource if request.source == "lake" else KafkaSource)(settings) as log,
            progress_bar(None if quiet else console) as bar,
        ):
            task = bar.add_task("messages", total=None, rate="")
            training = run(
                request, log, live, folder, stop, lambda done, total: bar.update(task, completed=done, total=total)
            )
            begins = {f"{topic}/{partition}": begin for (topic, partition), (begin, _) in log.bounds().items()}
        artifact = artifact_of(training, begins, note)
        registry.put(artifact)
    except InterruptedRunError as error:
        typer.echo(f"freshet backfill: interrupted {error}; start it again to go on", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    except (NothingToLearnError, KeptRunError, TooFewListsError) as error:
        _fail(str(error))
    except (LakeError, KafkaException, RegistryError, UnknownModelError, ArtifactError) as error:
        _fail(str(error))
    except StoreUnavailableError as error:
        _fail(f"what ranks now cannot be read from Redis: {error}; is the system running? See freshet status.")
    forget(request, folder)
    return training, artifact


def _tell(training: "Training", artifact: "Artifact", as_json: bool) -> None:
    import msgspec

    from ops.models import metrics_table

    manifest, held_out = artifact.manifest, training.held_out
    objection = held_out.objection()
    if as_json:
        built = {"manifest": msgspec.to_builtins(manifest), "objection": objection}
        typer.echo(msgspec.json.encode(built))
        return
    from rich.console import Console

    console = Console()
    console.print(f"{manifest.name} is registered: {manifest.n_lists} lists learned, {len(held_out)} held out")
    if manifest.metrics:
        print_whole(metrics_table(manifest.metrics, manifest.beside), console)
    console.print(f"worse than what ranks: {objection}" if objection else "not worse than what ranks", highlight=False)


def _check_take_over(parameters: "Parameters | TreeParameters", since: str | None, until: str | None) -> None:
    from ops.backfill.taking_over import CannotTakeOverError, check

    try:
        check(parameters, since is not None, until is not None)
    except CannotTakeOverError as error:
        raise typer.BadParameter(str(error), param_hint="--take-over") from None


def _take_over(training: "Training", objection: str | None, force: bool, settings: "Settings") -> None:
    from ops.backfill.taking_over import take_over_redis
    from state.store import StateLostError, StoreUnavailableError

    if objection is not None and not force:
        typer.echo(f"it does not take over: {objection}. --force lets it all the same.", err=True)
        return
    try:
        take_over_redis(training, settings)
    except (StateLostError, StoreUnavailableError) as error:
        _fail(f"the live learner's state was not replaced: {error}")
    typer.echo("the live learner goes on from it", err=True)


def _promote(artifact: "Artifact", objection: str | None, force: bool, note: str, url: str | None) -> None:
    from ops.admin import AdminApi

    name = artifact.manifest.name
    if objection is not None and not force:
        typer.echo(f"{name} is not promoted: {objection}. --force promotes it all the same.", err=True)
        return
    answer = AdminApi("models").call("POST", f"/{name}/promote", url, {"note": note or "backfill"})
    typer.echo(f"version {answer['version']}: {answer['ranker']} ranks", err=True)


def _ms(text: str | None, option: str) -> int | None:
    from datetime import UTC, datetime

    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"expected 2026-11-24 or 2026-11-24T10:00, got {text!r}", param_hint=option) from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _fail(reason: str) -> NoReturn:
    typer.echo(f"freshet backfill: {reason}", err=True)
    raise typer.Exit(1)
