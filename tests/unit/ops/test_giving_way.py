"""What computes for long has only what nothing else wants."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is `nice` alone")

ROOT = Path(__file__).parents[3]
BY_SESSION = Path("/proc/sys/kernel/sched_autogroup_enabled")
WORK = """
import os, pathlib, signal
from ops.giving_way import give_way
signal.signal(signal.SIGTERM, lambda *_: os._exit(3))
give_way()
group = pathlib.Path("/proc/self/autogroup")
of_session = group.read_text().split()[-1:] if group.exists() else []
print(os.sched_getscheduler(0) == os.SCHED_IDLE, os.nice(0), os.getsid(0) == os.getpid(), *of_session, flush=True)
signal.pause()
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", WORK], cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


def test_it_has_the_lowest_priority_and_hears_signals(process: subprocess.Popen[str]) -> None:
    """R19: also among sessions, where Linux counts them."""
    assert process.stdout is not None
    own_session = BY_SESSION.exists() and BY_SESSION.read_text().strip() == "1"
    expected = ["True", "19", "True", "19"] if own_session else ["True", "19", "False"]
    assert process.stdout.readline().split()[: len(expected)] == expected
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 3


def test_it_ends_with_the_process_that_was_started(process: subprocess.Popen[str]) -> None:
    """R19: however that one ends."""
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    assert process.stdout.read() == ""  # nobody holds the pipe any more
