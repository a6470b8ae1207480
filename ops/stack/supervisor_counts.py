"""An extension of supervisord, loaded into its process: how often each part was started again by itself.

Called over XML-RPC as `freshet.restarts()`.
"""

from typing import Any

from supervisor import events
from supervisor.states import ProcessStates


class Restarts:
    """Counts starts that follow a death."""

    def __init__(self) -> None:
        self._restarts: dict[str, int] = {}
        events.subscribe(events.ProcessStateStartingEvent, self._count)

    def restarts(self) -> dict[str, int]:
        """Return part -> count, without the parts that never died."""
        return self._restarts

    def _count(self, event: Any) -> None:
        if event.from_state in {ProcessStates.BACKOFF, ProcessStates.EXITED}:
            name = event.process.config.name
            self._restarts[name] = self._restarts.get(name, 0) + 1


def make_rpcinterface(supervisord: object, **config: str) -> Restarts:
    """Return the interface; supervisord asks for it by this function's name in its configuration."""
    return Restarts()
