"""Start the stack part by part, each when what it needs is ready; stop it without leaving anything behind."""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial

import psutil

from ops.stack import kafka, parts, redis_server
from ops.stack.children import is_free, last_lines, wait_until
from ops.stack.display import Display
from ops.stack.errors import StackError
from ops.stack.home import Home
from ops.stack.parts import FLOWS, Part
from ops.stack.status import address, says_ready, serving_answers
from ops.stack.supervisor import STACK_VARIABLE, Supervisor
from serving.access.keys import KeyFileError, NotProtectedError, ring
from state.settings import Settings

_READY = timedelta(seconds=300)
"""On a busy machine, the first start compiles for minutes; what keeps dying is noticed sooner."""
_REACHABLE = timedelta(seconds=5)
_STOPPED = timedelta(seconds=60)
_KILLED = timedelta(seconds=10)
_TRIES = 5
"""A part that dies so often while the stack starts will not come up."""


def start(
    settings: Settings, environ: Mapping[str, str], display: Display, *, tied: bool, traffic: Sequence[Part] = ()
) -> Settings:
    """Start everything and wait until it is ready, then `traffic`; return the settings with the addresses in them.

    Servers whose address is in the environment are used and not started. Tied: the stack stops when this process ends.
    Raise `StackError`; then nothing is left running.
    """
    home = Home.of(settings)
    home.prepare()
    with home.starting():
        stop(home)  # what a start that was killed left over
        try:
            ring(settings)
        except (KeyFileError, NotProtectedError) as error:
            raise StackError(str(error), "See freshet keys --help.") from error
        if not is_free(settings.host, settings.port):
            raise StackError(
                f"Port {settings.port} is taken{_by(settings.port)}.",
                "Stop what listens there, or choose another port: freshet up --port 8001 (make up ARGS='--port 8001').",
            )
        ports = home.ports()
        servers: list[Part] = []
        if not environ.get("REDIS_URL"):
            settings = settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{ports.redis}/0"})
            servers.append(parts.redis(redis_server.command(home.redis, ports.redis)))
        if not environ.get("KAFKA_BROKERS"):
            settings = settings.model_copy(update={"kafka_brokers": f"127.0.0.1:{ports.kafka}"})
            display.begin("kafka", "fetching its jars")
            argv = kafka.command(
                home.kafka,
                ports.kafka,
                ports.controller,
                lambda done, total: display.begin("kafka", f"jars {done}/{total}"),
            )
            servers.append(parts.broker(argv))
        keys_file = settings.api_keys and settings.api_keys.resolve()
        settings = settings.model_copy(update={"home": home.folder, "api_keys": keys_file})
        home.remember(ports, settings)
        try:
            _start(home, settings, servers, traffic, display, tied=tied)
        except BaseException:
            stop(home)
            raise
    return settings


def _start(
    home: Home, settings: Settings, servers: list[Part], traffic: Sequence[Part], display: Display, *, tied: bool
) -> None:
    supervisor = Supervisor(home)
    others = [*(flow.part() for flow in FLOWS), parts.serving()]
    later = [*parts.challenger(settings.on_drift, settings.on_drift_rest_s), *traffic]
    supervisor.start([*servers, *others, *later], settings, tied=tied)
    for part in servers:
        display.begin(part.name, "starting")
        supervisor.start_part(part)
    own = {part.name: part for part in servers}
    client = kafka.admin(settings.kafka_brokers)
    _wait_for_server(home, own.get("redis"), "REDIS_URL", settings.redis_url, redis_server.answers, display)
    _wait_for_server(
        home, own.get("kafka"), "KAFKA_BROKERS", settings.kafka_brokers, lambda _: kafka.answers(client), display
    )
    display.begin("topics", "creating")
    kafka.create_topics(settings)
    display.done("topics", f"{settings.partitions} partitions for users")
    for part in others:
        display.begin(part.name, "starting")
        supervisor.start_part(part)
    for part in others:
        _wait(home, part, partial(_is_up, supervisor, part, settings))
        display.done(part.name, address(settings) if part.kind == "serving" else "ready")
    for part in later:
        supervisor.start_part(part)


def _wait_for_server(
    home: Home, part: Part | None, variable: str, where: str, answers: Callable[[str], bool], display: Display
) -> None:
    name = "redis" if variable == "REDIS_URL" else "kafka"
    if part is not None:
        _wait(home, part, lambda: answers(where))
    elif not wait_until(lambda: answers(where), _REACHABLE):
        raise StackError(
            f"Nothing answers at {variable}={where}.", f"Start it, or unset {variable}: then one is started here."
        )
    display.done(name, where if part is not None else f"{where} (not ours)")


def _is_up(supervisor: Supervisor, part: Part, settings: Settings) -> bool:
    if part.kind == "serving":
        return serving_answers(settings)
    process = supervisor.processes().get(part.name)
    return process is not None and says_ready(settings, part.name, process.pid)


def _wait(home: Home, part: Part, ready: Callable[[], bool]) -> None:
    """Wait for one part. Raise `StackError` when it keeps dying or takes too long."""
    supervisor = Supervisor(home)

    def settled() -> bool:
        process = supervisor.processes().get(part.name)
        if process is None or process.restarts >= _TRIES or process.state == "fatal":
            log = home.log(part.name)
            raise StackError(
                f"{part.name} keeps dying. The end of its log:\n{last_lines(log)}",
                f"The whole log is {log}. Mend what it says, then start again.",
            )
        return ready()

    if not wait_until(settled, _READY):
        log = home.log(part.name)
        raise StackError(
            f"{part.name} was not ready within {_READY.total_seconds():.0f} s. The end of its log:\n{last_lines(log)}",
            f"The whole log is {log}. A machine that is very busy may need a second try.",
        )


def stop(home: Home) -> bool:
    """Stop everything that belongs to this home folder; return whether there was anything.

    What does not stop in time, or lost its supervisor, is killed.
    """
    supervisor = Supervisor(home)
    pid = supervisor.pid()
    if pid is not None:
        supervisor.shut_down()
        wait_until(lambda: _ended(pid), _STOPPED)
    left_over = _processes_of(home)
    for process in left_over:
        _kill(process)
    psutil.wait_procs(left_over, timeout=_KILLED.total_seconds())
    if pid is not None or left_over:
        for left in (home.socket, home.pid_file):
            left.unlink(missing_ok=True)
    return pid is not None or bool(left_over)


def _processes_of(home: Home) -> list[psutil.Process]:
    """Return this stack's processes, found by the variable that all of them have in their environment."""
    return [
        process
        for process in psutil.process_iter(["environ"])
        if process.pid != os.getpid() and (process.info["environ"] or {}).get(STACK_VARIABLE) == str(home.folder)
    ]


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _ended(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _by(port: int) -> str:
    """Say who listens on a port, if the system tells us."""
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        return ""
    return ""
