"""An extension of supervisord, loaded into its process: parts that die are started again without a pause, and counted.

Called over XML-RPC as `freshet.restarts()`.
"""

import os
from typing import Any

from supervisor import events
from supervisor.states import ProcessStates


class Restarts:
    """Counts starts that follow a death, and hastens them.

    Supervisord's loop sees a death, then waits for up to a second for something to happen, then starts the part again.
    Here something happens: a pipe that can always be read is polled once (the loop drops what it does not know).
    """

    def __init__(self, supervisord: Any) -> None:
        self._restarts: dict[str, int] = {}
        self._poller = supervisord.options.poller
        self._readable, writable = os.pipe()
        os.close(writable)  # the end of a file can be read, too
        events.subscribe(events.ProcessStateStartingEvent, self._count)
        events.subscribe(events.ProcessStateExitedEvent, self._hasten)

    def restarts(self) -> dict[str, int]:
        """Return part -> count, without the parts that never died."""
        return self._restarts

    def _count(self, event: Any) -> None:
        if event.from_state in {ProcessStates.BACKOFF, ProcessStates.EXITED}:
            name = event.process.config.name
            self._restarts[name] = self._restarts.get(name, 0) + 1

    def _hasten(self, event: Any) -> None:
        self._poller.register_readable(self._readable)


def make_rpcinterface(supervisord: object, **config: str) -> Restarts:
    """Return the interface; supervisord asks for it by this function's name in its configuration."""
    return Restarts(supervisord)
