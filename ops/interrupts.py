"""Ctrl-C as an event that loops look at.

A `KeyboardInterrupt` raised inside a library's callback can be lost; a set event is not.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set."""
    stop = threading.Event()

    def handle(number: int, frame: object) -> None:
        # In a thread: `set` takes a lock that the interrupted `wait` may hold.
        threading.Thread(target=stop.set).start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
