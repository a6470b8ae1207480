"""`python -m serving`: becomes gunicorn with the options that Freshet's settings say."""

import os
import shutil
import sys

from serving.access.keys import KeyFileError, NotProtectedError, ring
from serving.access.rates import rates_path
from serving.telemetry import MULTIPROCESS_DIR
from state.settings import Settings

_GRACE_S = 10


def command(settings: Settings) -> list[str]:
    """Return gunicorn's command line."""
    return [
        sys.executable,
        "-m",
        "gunicorn",
        "--no-control-socket",
        f"--bind={settings.host}:{settings.port}",
        f"--workers={settings.workers}",
        "--worker-class=serving.worker.Worker",
        "--config=python:serving.worker",
        f"--graceful-timeout={_GRACE_S}",
        "--keep-alive=75",
        f"--log-level={settings.log_level}",
        "serving.app:create()",
    ]


def main() -> None:
    """Replace this process by gunicorn."""
    settings = Settings()
    try:
        ring(settings)  # said once here, not by each worker
    except (KeyFileError, NotProtectedError) as error:
        sys.exit(f"serving: {error}")
    rates_path(settings).unlink(missing_ok=True)
    metrics = settings.home / f"serving-{settings.port}-metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir(parents=True)
    os.environ[MULTIPROCESS_DIR] = str(metrics)
    # A request's matrices are small: more threads would only take the processor from other workers.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    arguments = command(settings)
    os.execv(arguments[0], arguments)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
