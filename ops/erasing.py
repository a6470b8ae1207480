"""`freshet erase`: forget a user, wait until every place has, and report each (R27)."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from state.records import Event
    from state.settings import Settings

DOCUMENTS = "rules, experiments' overrides"
_POLL = timedelta(seconds=0.5)
_TIMEOUT_S = 30.0
_INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add `erase` to the application."""
    app.command("erase", epilog="Example: freshet erase anna --wait 300")(erase_command)


def erase_command(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until every place has forgotten.")] = 240.0,
) -> None:
    """Forget a user everywhere, as DELETE /v1/users/{id} does, and watch it happen.

    Exit code 1 when some place still knows the user after the wait.
    """
    from rich.console import Console
    from rich.table import Table

    from ops.stack.home import local_settings
    from state.erasure import PLACES
    from state.store import StoreUnavailableError

    console = Console()
    settings = local_settings()
    event = erasure(user)
    places = checks(settings, user)
    try:
        in_documents = _send(settings, event)
        left = _wait(places, wait, console)
    except (ErasureError, StoreUnavailableError) as error:
        console.print(f"[red]Not erased:[/red] {error}. Is Freshet running? freshet status tells.", highlight=False)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    table = Table("place", "", box=None)
    for place in places:
        table.add_row(place, "[red]still knows the user[/red]" if place in left else "gone")
    table.add_row(DOCUMENTS, "gone" if in_documents is None else f"[red]{in_documents}[/red]")
    for place in ("Kafka", "dead letters"):
        table.add_row(place, PLACES[place])
    console.print(table)
    if left or in_documents is not None:
        raise typer.Exit(1)


class ErasureError(Exception):
    """The erasure could not be told to anybody."""


def _send(settings: "Settings", event: "Event") -> str | None:
    """Erase by the API; where it does not answer, put the event into the log. Return what documents may still hold.

    Raise `ErasureError` when neither can be had, or when the API refuses.
    """
    from urllib.parse import quote

    import httpx

    from ops.http_client import authorization
    from ops.stack.status import address
    from ops.traffic.sending import KafkaSender, SendingError

    try:
        url = f"{address(settings)}/v1/users/{quote(event.user_id, safe='')}"
        answer = httpx.delete(url, headers=authorization(), timeout=_TIMEOUT_S)
    except httpx.HTTPError:
        try:
            with KafkaSender(settings) as sender:
                sender.event(event)
        except SendingError as error:
            raise ErasureError(str(error)) from error
        return "may still name the user: erase again when the API answers"
    if answer.is_error:
        raise ErasureError(f"the API says {answer.status_code}: {answer.text}")
    told: dict[str, str] = answer.json().get("degraded") or {}
    return "; ".join(f"{part}: {why}" for part, why in told.items()) or None


def erasure(user: str) -> "Event":
    """Return the event that takes back all before it. Raise `typer.BadParameter` for an id that nobody can have."""
    import uuid

    import msgspec

    from state.records import Event
    from state.validation import ERASE, InvalidInputError, parse_event

    now_ms = int(time.time() * 1000)
    event = Event(event_id=uuid.uuid4().hex, type=ERASE, user_id=user, ts=now_ms)
    try:
        return parse_event(msgspec.json.encode(event), now_ms)
    except InvalidInputError as error:
        raise typer.BadParameter(str(error)) from error


def checks(settings: "Settings", user: str) -> dict[str, Callable[[], bool]]:
    """Return each place, and whether it knows the user."""
    from flows.lake.store import count_of_user
    from flows.lake.tables import TABLES
    from state.entries import LEARNER_USER, USER_PROFILE, USER_VECTOR
    from state.kept_runs import folder_of, is_older
    from state.redis_store import RedisStore

    store, began = RedisStore(settings), time.time()

    def profile() -> bool:
        return store.get_many(USER_PROFILE, [user]) != [None]

    def models() -> bool:
        named = (row.user_id == user for _, row in store.scan_rows(USER_VECTOR))
        return store.get_many(LEARNER_USER, [user]) != [None] or any(named)

    def lake() -> bool:
        return any(count_of_user(settings.lake_root, table, user) for table in TABLES if table.of_user)

    def backfills() -> bool:
        return is_older(folder_of(settings), began)

    return {"profile, sessions, feedback": profile, "models": models, "lake": lake, "interrupted backfills": backfills}


def _wait(places: "dict[str, Callable[[], bool]]", wait_s: float, console: "Console") -> set[str]:
    """Return the places that still know the user after the wait."""
    from ops.stack.children import wait_until

    left = set(places)
    with console.status("") as status:

        def forgotten() -> bool:
            left.difference_update([place for place in left if not places[place]()])
            status.update(f"Waiting for: {', '.join(sorted(left))}")
            return not left

        wait_until(forgotten, timedelta(seconds=wait_s), _POLL)
    return left
