"""Waits for an alarm of the learner's drift detectors."""

import threading
from datetime import timedelta

from ops.metrics import WIDTH_OF, Tail
from state.metrics import BY_NAME, dimensions_of
from state.registry import Registry
from state.settings import Settings

_WAIT_S = 0.5
NOTE = "drift: "
"""How the notes of models begin that answer an alarm."""


def rest_s(registry: Registry, wanted_s: float, now_s: float) -> float:
    """Return how long no alarm is to be answered, after the newest answer. Raise `RegistryError`."""
    answers = [
        found.manifest.created_ms / 1000
        for found in registry.listed()
        if found.manifest is not None and found.manifest.note.startswith(NOTE)
    ]
    return max(0.0, max(answers) + wanted_s - now_s) if answers else 0.0


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
