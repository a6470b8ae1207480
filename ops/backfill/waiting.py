"""Waits for an alarm of the learner's drift detectors."""

import threading
from datetime import timedelta

from ops.metrics import WIDTH_OF, Tail
from state.metrics import BY_NAME, dimensions_of
from state.settings import Settings

_WAIT_S = 0.5


def drifted(settings: Settings, stop: threading.Event, since: timedelta = timedelta(0)) -> str | None:
    """Return the signal that an alarm is about, the first that comes; None when `stop` is set before.

    `since`: alarms so long ago count, too. Raise `KafkaException`.
    """
    tail = Tail(settings, since, WIDTH_OF["1m"])
    try:
        tail.begin()
        while not stop.is_set():
            for group in tail.read(_WAIT_S):
                signal = dimensions_of(group[2]).get("signal")
                if signal is not None and tail.readings.read(BY_NAME["drift_alarms"], group) is not None:
                    return signal
    finally:
        tail.close()
    return None
