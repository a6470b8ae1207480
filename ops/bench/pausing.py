"""Processes that stand still: for as long as something is measured, or again and again."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

LAG_S = 10.0
_AWAKE_S = 2.0


@contextmanager
def frozen(pids: Iterable[int]) -> Iterator[None]:
    """Stop processes where they are, as if they hung, and let them go on at the end."""
    stopped = list(pids)
    try:
        _signal(stopped, signal.SIGSTOP)
        yield
    finally:
        _signal(stopped, signal.SIGCONT)


@contextmanager
def lagging(pids: Callable[[], Iterable[int]]) -> Iterator[None]:
    """Let processes run for 2 s only after each 10 s of standing still, so that they are late by up to that.

    `pids` is asked each time: a flow that Kafka has given up ends, and is started again.
    """
    over = threading.Event()

    def alternate() -> None:
        while not over.is_set():
            stopped = list(pids())
            _signal(stopped, signal.SIGSTOP)
            over.wait(LAG_S)
            _signal(stopped, signal.SIGCONT)
            over.wait(_AWAKE_S)

    thread = threading.Thread(target=alternate, name="lagging")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(pid, number)
