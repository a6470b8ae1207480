"""What every flow's process does alike: logging, and stopping when asked to."""

import logging
import signal
import threading
from types import FrameType

from state.settings import Settings


def configure_logging(settings: Settings) -> None:
    """One line per record on stderr: time, level, logger, message."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set. Call it from the main thread."""
    stopping = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping
