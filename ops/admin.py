"""What commands over `/v1/admin` share: options, calls, how answers and problems are shown."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.tables import print_whole

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 60.0
Url = Annotated[
    str | None,
    typer.Option("--url", help="Of the API; default: the local stack's, or FRESHET_PORT.", show_default=False),
]
Note = Annotated[str, typer.Option(help="Why, for the history.")]
Json = Annotated[bool, typer.Option("--json", help="Print what the API answered.")]


class AdminApi:
    """One part of `/v1/admin`, such as `rules`; what it refuses ends the command with its reason."""

    def __init__(self, part: str) -> None:
        self._part = part

    def call(
        self, method: str, path: str, url: str | None, body: object = None, params: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the answer's JSON. Raise `typer.Exit` after a problem was told."""
        import httpx

        base = url or local_address()
        try:
            answer = self._request(method, path, base, body, params)
        except httpx.HTTPError as error:
            raise self._failed(f"{base} does not answer ({error}); is it running? See freshet status.") from None
        return self._content(answer)

    def find(self, path: str, url: str | None) -> dict[str, Any] | None:
        """Return what is there, None where there is nothing or nobody answers; else as `call`."""
        import httpx

        try:
            answer = self._request("GET", path, url or local_address())
        except httpx.HTTPError:
            return None
        return None if answer.status_code == httpx.codes.NOT_FOUND else self._content(answer)

    def read(self, file: Path) -> Any:
        """Return the JSON of a file, of standard input for `-`. Raise `typer.Exit` after a problem was told."""
        try:
            return json.loads(sys.stdin.read() if str(file) == "-" else file.read_text())
        except (OSError, ValueError) as error:
            raise self._failed(f"{file}: {error}") from None

    def print_history(self, limit: int, as_json: bool, url: str | None) -> None:
        """Show who changed what, newest first."""
        answer = self.call("GET", "/history", url, params={"limit": str(limit)})
        if as_json:
            typer.echo(json.dumps(answer))
            return
        from rich.console import Console
        from rich.table import Table

        table = Table("version", "when", "who", "what", "note", box=None)
        for version in answer["versions"]:
            what = list(version["changes"])
            if version["restores"] is not None:
                what.insert(0, f"back to {version['restores']}")
            table.add_row(
                str(version["version"]), when(version["ts"]), version["author"], "\n".join(what), version["note"]
            )
        print_whole(table, Console())

    def roll_back(self, to: int | None, note: str, url: str | None) -> dict[str, Any]:
        """Put an earlier version in force again; return the new one."""
        return self.call("POST", "/rollback", url, {"note": note} | ({} if to is None else {"to": to}))

    def _request(
        self, method: str, path: str, base: str, body: object = None, params: dict[str, str] | None = None
    ) -> "httpx.Response":
        import httpx

        from ops.http_client import authorization

        return httpx.request(
            method,
            f"{base.rstrip('/')}/v1/admin/{self._part}{path}",
            json=body,
            params=params,
            headers=authorization(),
            timeout=TIMEOUT_S,
        )

    def _content(self, answer: "httpx.Response") -> dict[str, Any]:
        if answer.is_error:
            problem = answer.json() if "json" in answer.headers.get("content-type", "") else {}
            raise self._failed(str(problem.get("detail") or answer.text or answer.status_code))
        found: dict[str, Any] = answer.json()
        return found

    def _failed(self, reason: str) -> typer.Exit:
        typer.echo(f"freshet {self._part}: {reason}", err=True)
        return typer.Exit(1)


def local_address() -> str:
    """Return where the API of the local stack is."""
    from ops.stack.home import local_settings
    from ops.stack.status import address

    return address(local_settings())


def when(ts: int) -> str:
    """Return a time (epoch ms) for people, UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ts / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
