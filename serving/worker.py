"""gunicorn's worker and hooks."""

import os
from typing import Any, ClassVar

from prometheus_client import multiprocess
from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

from serving.telemetry import MULTIPROCESS_DIR


class Worker(UvicornWorker):  # type: ignore[misc]
    """A uvicorn worker on uvloop and httptools."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": "httptools",
        "lifespan": "on",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
    }


def child_exit(server: Any, worker: Any) -> None:
    """Forget the live gauges of a worker that is gone."""
    if MULTIPROCESS_DIR in os.environ:
        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
