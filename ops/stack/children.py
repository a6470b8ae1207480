"""Child processes: started with an environment made from the settings, ready by condition, stopped by process id."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from pydantic import AliasChoices

from ops.stack import tether
from ops.stack.errors import StackError
from state.settings import Settings

_LAST_LINES = 15


def environment(settings: Settings) -> dict[str, str]:
    """Return this process' environment with exactly these settings in it."""
    inherited = {name: value for name, value in os.environ.items() if name not in variables().values()}
    values = {variable: getattr(settings, field) for field, variable in variables().items()}
    return inherited | {name: _text(value) for name, value in values.items() if value is not None}


def _text(value: object) -> str:
    return ",".join(str(part) for part in value) if isinstance(value, tuple) else str(value)


def variables() -> dict[str, str]:
    """Return the environment variable of every field of `Settings`."""
    names = {}
    for field, info in Settings.model_fields.items():
        alias = info.validation_alias
        names[field] = str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"FRESHET_{field.upper()}"
    return names


def free_ports(n_ports: int) -> list[int]:
    """Return different ports of the loopback interface that nothing listens on."""
    sockets = [socket.socket() for _ in range(n_ports)]
    try:
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()


def is_free(host: str, port: int) -> bool:
    """Return whether we could listen there."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
        return True


def wait_until(condition: Callable[[], bool], timeout: timedelta, every: timedelta = timedelta(seconds=0.05)) -> bool:
    """Ask again and again; return whether it held in time."""
    end = monotonic() + timeout.total_seconds()
    pause = threading.Event()
    while not condition():
        if monotonic() >= end:
            return False
        pause.wait(every.total_seconds())
    return True


def last_lines(log: Path, n_lines: int = _LAST_LINES) -> str:
    """Return the end of a log file, empty when there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16_384))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-n_lines:])


class Child:
    """One child process. It does not outlive this one (on Linux), and its output goes to a log file."""

    def __init__(self, name: str, argv: list[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                tether.command(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,  # Ctrl-C is for the one who stops it
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def wait_until(self, condition: Callable[[], bool], timeout: timedelta) -> None:
        """Raise `StackError` with the log's end when the process ends first, or when it takes too long."""
        held = wait_until(lambda: self.returncode is not None or condition(), timeout)
        if self.returncode is not None:
            raise self._error(f"{self.name} ended with code {self.returncode} while it started.")
        if not held:
            raise self._error(f"{self.name} was not ready within {timeout.total_seconds():.0f} s.")

    def stop(self, timeout: timedelta = timedelta(seconds=30)) -> int:
        """Ask it to end, insist after `timeout`; return its exit code."""
        return self._end(signal.SIGTERM, timeout)

    def kill(self) -> int:
        """End it at once, as a crash would."""
        return self._end(signal.SIGKILL, timedelta(seconds=10))

    def _end(self, how: signal.Signals, timeout: timedelta) -> int:
        self._process.send_signal(how)
        try:
            return self._process.wait(timeout.total_seconds())
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _error(self, problem: str) -> StackError:
        return StackError(f"{problem} The end of its log:\n{last_lines(self.log)}", f"All of it is in {self.log}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
