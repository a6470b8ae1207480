"""The home folder of the local stack: what is where, and what is remembered from one start to the next."""

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ops.stack.children import free_ports, is_free
from ops.stack.errors import StackError
from state.settings import Settings

_MIN_FREE_BYTES = 512 * 2**20
_MAX_SOCKET_PATH = 90  # of 108 on Linux, 104 on macOS, less the suffix that supervisord adds for a moment


class Ports(msgspec.Struct, frozen=True):
    """Loopback ports of our own servers."""

    kafka: int
    controller: int
    redis: int


class _Memory(msgspec.Struct, frozen=True):
    """What `stack.json` holds."""

    ports: Ports
    settings: dict[str, Any]


class Home:
    """One local stack's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.kafka = folder / "kafka"
        self.redis = folder / "redis"
        self.config = folder / "supervisord.conf"
        self.pid_file = folder / "supervisord.pid"
        self._memory = folder / "stack.json"

    @classmethod
    def of(cls, settings: Settings) -> "Home":
        return cls((project_root() / settings.home).resolve())

    @property
    def socket(self) -> Path:
        """The supervisor's; beside the home folder's other files unless their path is too long for a socket."""
        inside = self.folder / "supervisor.sock"
        if len(str(inside)) <= _MAX_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"freshet-{digest}" / "supervisor.sock"

    def log(self, part: str) -> Path:
        return self.logs / f"{part}.log"

    def prepare(self) -> None:
        """Create the folders. Raise `StackError` when the disk is full or cannot be written."""
        try:
            for folder in (self.folder, self.logs, self.socket.parent):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.folder / "writable").write_bytes(b"\0" * 4096)
            (self.folder / "writable").unlink()
        except OSError as error:
            raise StackError(
                f"{self.folder} cannot be written: {error}",
                "Make room or mend its permissions, or choose another folder with FRESHET_HOME.",
            ) from error
        free = shutil.disk_usage(self.folder).free
        if free < _MIN_FREE_BYTES:
            needed = _MIN_FREE_BYTES // 2**20
            raise StackError(
                f"The disk is full: {free // 2**20} MiB are free for {self.folder}, {needed} are needed.",
                "Make room, or choose a folder on another disk with FRESHET_HOME.",
            )

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Let one start at a time pass."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def ports(self) -> Ports:
        """Return the ports of the last start where they are free, others where they are not."""
        memory = self._read()
        fresh = Ports(*free_ports(3))
        if memory is None:
            return fresh
        kept = {
            name: port if is_free("127.0.0.1", port) else getattr(fresh, name)
            for name, port in msgspec.structs.asdict(memory.ports).items()
        }
        return Ports(**kept)

    def remember(self, ports: Ports, settings: Settings) -> None:
        self._memory.write_bytes(msgspec.json.encode(_Memory(ports, settings.model_dump(mode="json"))))

    def settings(self) -> dict[str, Any]:
        """Return the settings of the last start, empty when there was none."""
        memory = self._read()
        return {} if memory is None else memory.settings

    def _read(self) -> _Memory | None:
        try:
            return msgspec.json.decode(self._memory.read_bytes(), type=_Memory)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise StackError(
                f"{self._memory} is damaged: {error}", f"Delete it; with {self.folder} goes all local state."
            ) from error


def project_root() -> Path:
    """Return the checkout's folder: relative folders in the settings start there."""
    return Path(__file__).parents[2]


def local_settings(**chosen: object) -> Settings:
    """Return the settings for a command that talks to the local stack.

    What is chosen here comes first, then the environment, then what the stack was started with, then the defaults.
    """
    given = Settings()
    home = Home.of(given)
    started_with = {name: value for name, value in home.settings().items() if name in Settings.model_fields}
    from_environment = {name: getattr(given, name) for name in given.model_fields_set}
    return Settings.model_validate(started_with | from_environment | chosen | {"home": home.folder})
