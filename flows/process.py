"""What every flow's process does alike: logging, collecting garbage, and stopping when asked to."""

import gc
import logging
import signal
import threading
from types import FrameType

from state.logs import formatter
from state.settings import Settings


def configure_logging(settings: Settings) -> None:
    """One line per record on stderr: time, level, logger, message; or JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(settings, "%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)


def collect_garbage_rarely() -> None:
    """Look for cycles after 50 000 new objects instead of 700: flows make many that live, and hardly a cycle.

    It took a sixth of the time of `features`.
    """
    gc.set_threshold(50_000, 20, 50)


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set. Call it from the main thread."""
    stopping = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping
