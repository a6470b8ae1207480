"""`freshet up` without --detach: plays traffic and shows the click until it is stopped, then stops everything."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from confluent_kafka import KafkaException
from rich.console import Console

from ops import demo
from ops.lag import NotCaughtUpError
from ops.stack.errors import StackError
from ops.stack.home import Home
from ops.stack.start import stop
from ops.stack.supervisor import Supervisor
from ops.traffic import generate as traffic
from ops.traffic.sending import SendingError
from state.settings import Settings

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_EVERY_S = 1.0
_TRAFFIC_ENDS_S = 5.0
_DEMONSTRATION_AT_S = 30.0
"""Within the first minute, also when the history is long."""


@contextmanager
def stop_signals_interrupt() -> Iterator[None]:
    """Make SIGTERM and a closed terminal what Ctrl-C is."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_until_stopped(settings: Settings, kind: Literal["simulate", "replay", "none"], console: Console) -> None:
    """Stop everything on Ctrl-C, SIGTERM, a closed terminal, or when `freshet down` stopped it from elsewhere.

    Raise `StackError` when the supervisor died.
    """
    home = Home.of(settings)
    supervisor = Supervisor(home)
    stopping = threading.Event()
    for number in _STOP_SIGNALS:
        # From here on a second signal changes nothing: the stop is under way, and bounded.
        signal.signal(number, lambda *_: stopping.set())
    console.print("Ctrl-C stops everything.\n")
    player = threading.Thread(target=_play, args=(settings, kind, console, stopping), daemon=True)
    player.start()
    ended = False
    while not (ended or stopping.wait(_LOOK_EVERY_S)):
        ended = not supervisor.answers()
    stopping.set()
    died = supervisor.died()
    player.join(_TRAFFIC_ENDS_S)
    console.print("Stopping ...")
    stop(home)
    if died:
        raise StackError("The supervisor died, and all parts with it.", f"See {home.log('supervisord')}; start again.")
    console.print("Stopped.")


def _play(
    settings: Settings, kind: Literal["simulate", "replay", "none"], console: Console, stopping: threading.Event
) -> None:
    live = threading.Event()

    def demonstrate() -> None:
        live.wait(_DEMONSTRATION_AT_S)
        demo.show(settings, console)

    if kind != "none":
        threading.Thread(target=demonstrate, daemon=True).start()
    try:
        traffic.play(settings, kind, settings.data, console=console, stop=stopping, on_live=live.set)
    except (SendingError, NotCaughtUpError, KafkaException) as error:
        console.print(f"[red]The traffic has ended:[/] {error}\nThe system is still up; see freshet status.")
