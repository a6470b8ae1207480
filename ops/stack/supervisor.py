"""The one supervisor: supervisord with a generated configuration, driven over its socket in the home folder."""

import http.client
import shlex
import signal
import subprocess
import sys
import xmlrpc.client
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from ops.stack import tether
from ops.stack.children import environment, last_lines, wait_until
from ops.stack.errors import StackError
from ops.stack.home import Home, project_root
from ops.stack.parts import Part
from state.settings import Settings

STACK_VARIABLE = "FRESHET_STACK"
"""In the environment of every process of a local stack: its home folder. By it, what was left over is found."""

State = Literal["running", "starting", "backoff", "stopping", "stopped", "exited", "fatal", "unknown"]
"""Supervisord's; `backoff` waits before the next try, `fatal` has tried often enough."""

_ANSWER = timedelta(seconds=15)
_UNREACHABLE = (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError)

_SUPERVISORD = """\
[supervisord]
nodaemon = true
silent = true
directory = {root}
pidfile = {pid_file}
logfile = {log}
logfile_maxbytes = 5MB
logfile_backups = 2
minfds = 256
minprocs = 1

[unix_http_server]
file = {socket}
chmod = 0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[rpcinterface:freshet]
supervisor.rpcinterface_factory = ops.stack.supervisor_counts:make_rpcinterface
"""

# A part that dies after `startsecs` starts again at once. One that dies before is tried again after 1, 2, 3, ...
# seconds: 40 tries are 14 minutes of a broker that is away.
_PROGRAM = """
[program:{name}]
command = {command}
autostart = false
autorestart = {autorestart}
startsecs = {start_s}
startretries = 40
stopsignal = TERM
stopwaitsecs = {stop_wait_s}
killasgroup = true
redirect_stderr = true
stdout_logfile = {log}
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 3
"""

# What stops first has the highest number. Parts of one group stop side by side.
_GROUPS = {
    "traffic": ("traffic", 40),
    "training": ("training", 35),
    "serving": ("serving", 30),
    "flow": ("flows", 20),
    "state": ("servers", 10),
    "broker": ("servers", 10),
}


@dataclass(frozen=True)
class PartProcess:
    """A part as the supervisor sees it."""

    pid: int | None
    state: State
    restarts: int


class Supervisor:
    """Supervisord of one home folder."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def start(self, parts: Sequence[Part], settings: Settings, *, tied: bool) -> int:
        """Start supervisord without any part; return its process id. Tied: it stops when this process ends."""
        self._home.config.write_text(configuration(parts, self._home))
        argv = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._home.config)]
        output = self._home.log("supervisord-output")
        with output.open("wb") as log:
            process = subprocess.Popen(
                tether.command(argv, signal.SIGTERM) if tied else argv,
                cwd=project_root(),
                env=environment(settings) | {STACK_VARIABLE: str(self._home.folder), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us, who then stop it
            )
        wait_until(lambda: process.poll() is not None or self.answers(), _ANSWER)
        if not self.answers():
            process.kill()
            raise StackError(f"The supervisor did not start:\n{last_lines(output)}", f"See {self._home.logs}.")
        return process.pid

    def answers(self) -> bool:
        try:
            return bool(self._call("supervisor.getState")["statename"] == "RUNNING")
        except _UNREACHABLE:
            return False

    def pid(self) -> int | None:
        """Return supervisord's process id, also while it is stopping; None when there is none."""
        try:
            return int(self._call("supervisor.getPID"))
        except _UNREACHABLE:
            return None
        except xmlrpc.client.Fault:  # while it stops it refuses to answer
            pid_file = self._home.pid_file
            return int(pid_file.read_text()) if pid_file.exists() else None

    def start_part(self, part: Part) -> None:
        self._call("supervisor.startProcess", f"{_GROUPS[part.kind][0]}:{part.name}", False)

    def processes(self) -> dict[str, PartProcess]:
        """Return what runs by part; empty when no supervisor answers."""
        try:
            restarts = self._call("freshet.restarts")
            infos = self._call("supervisor.getAllProcessInfo")
        except (*_UNREACHABLE, xmlrpc.client.Fault):  # there is none, or it stops
            return {}
        return {
            info["name"]: PartProcess(info["pid"] or None, info["statename"].lower(), restarts.get(info["name"], 0))
            for info in infos
        }

    def shut_down(self) -> None:
        """Ask for a clean stop of all parts and of the supervisor; it takes its time."""
        try:
            self._call("supervisor.shutdown")
        except (*_UNREACHABLE, xmlrpc.client.Fault):
            return  # it is gone, or on its way

    def died(self) -> bool:
        """Return whether it ended without being asked to: then its pid file stays."""
        return self.pid() is None and self._home.pid_file.exists()

    def _call(self, method: str, *arguments: object) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self._home.socket}")
        try:
            proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
            return getattr(proxy, method)(*arguments)
        finally:
            transport.close()


def configuration(parts: Sequence[Part], home: Home) -> str:
    """Return supervisord's configuration file."""
    sections = [
        _SUPERVISORD.format(
            root=_escaped(project_root()),
            pid_file=_escaped(home.pid_file),
            log=_escaped(home.log("supervisord")),
            socket=_escaped(home.socket),
        )
    ]
    groups: dict[tuple[str, int], list[str]] = {}
    for part in parts:
        command = shlex.join(tether.command(part.argv, part.death_signal, part.nice))
        sections.append(
            _PROGRAM.format(
                name=part.name,
                command=_escaped(command),
                autorestart="unexpected" if part.once else "true",
                start_s=part.start_s,
                stop_wait_s=part.stop_wait_s,
                log=_escaped(home.log(part.name)),
            )
        )
        groups.setdefault(_GROUPS[part.kind], []).append(part.name)
    for (name, priority), programs in groups.items():
        sections.append(f"\n[group:{name}]\nprograms = {','.join(programs)}\npriority = {priority}\n")
    return "".join(sections)


def _escaped(value: object) -> str:
    """Supervisord expands `%(name)s` in values."""
    return str(value).replace("%", "%%")
