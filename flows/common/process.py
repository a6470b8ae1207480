"""What every flow's process does alike: logging, collecting garbage, and stopping when asked to."""

import gc
import logging
import os
import signal
import threading
from types import FrameType

from flows.common.telemetry import expose
from state.logs import formatter
from state.settings import Settings

log = logging.getLogger(__name__)


def begin(flow: str) -> Settings:
    """Read the settings, and set up logging and metrics: how every flow's process begins."""
    settings = Settings()
    configure_logging(settings)
    expose(settings, flow)
    return settings


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


def tell_ready(settings: Settings, flow: str) -> None:
    """Say to who has started this process that its state is restored and its input assigned."""
    file = settings.ready_file(flow)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f"{file.name}.{os.getpid()}")
        fresh.write_text(str(os.getpid()))
        fresh.replace(file)
    except OSError as error:  # it works all the same
        log.warning("cannot say that %s is ready: %s", flow, error)


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set. Call it from the main thread."""
    stopping = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping
