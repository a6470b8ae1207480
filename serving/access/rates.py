"""How often a key may call: one count for all workers of a machine."""

import mmap
import os
import time
from pathlib import Path

from serving.access.keys import MAX_KEYS
from state.settings import Settings

BURST_S = 1.0
"""What a key has not used for so long it may use at once."""
_SIZE = 8 * MAX_KEYS


def rates_path(settings: Settings) -> Path:
    """Return the file in which the workers of one server count."""
    return settings.home / f"serving-{settings.port}-rates"


class Rates:
    """The generic cell rate algorithm over a file that all workers have mapped.

    A key has the time at which it would have nothing saved up: each call moves it by 1/rate, and a call that would move
    it further than a burst from now is refused. Two workers that count at the very same moment may count one call
    only: a lock would cost more than it is worth.

    References
    ----------
    ITU-T I.371, annex A (the virtual scheduling form).
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, _SIZE)
            self._spent_until = memoryview(mmap.mmap(descriptor, _SIZE)).cast("d")
        finally:
            os.close(descriptor)

    def wait_s(self, place: int, rate: float) -> float:
        """Count a call of the key at this place; return 0, or after how many seconds it may be tried again.

        Parameters
        ----------
        rate
            Calls a second, above 0.
        """
        now = time.monotonic()
        burst_s = max(BURST_S, 1.0 / rate)
        spent_until = self._spent_until[place]
        # Later than any call can have moved it: written before the machine was started again.
        if not now <= spent_until <= now + burst_s:
            spent_until = now
        after = spent_until + 1.0 / rate
        if after > now + burst_s + 1e-9:
            return after - now - burst_s
        self._spent_until[place] = after
        return 0.0
