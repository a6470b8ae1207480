"""Commands that compute for long give way: they have only what nothing else on the machine wants.

A low priority is not enough where Linux divides processors among sessions first (autogroups, `man 7 sched`): it counts
among the processes of one terminal, and what is live runs in another. So the command goes on in a session of its own.
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from ops.stack.tether import tie

_LOWEST = 19
_BY_SESSION = Path("/proc/sys/kernel/sched_autogroup_enabled")
_OF_SESSION = Path("/proc/self/autogroup")
_PASSED_ON = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def give_way() -> None:
    """Take the lowest priority that the platform has. Call it before anything starts a thread.

    Where sessions count, only a child of this process returns; this one passes signals on and ends as the child does.
    """
    os.nice(_LOWEST)
    with suppress(OSError):  # where a container forbids it, `nice` is what is left
        if sys.platform == "linux":
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if _sessions_count():
        _go_on_in_own_session()
        with suppress(OSError):
            _OF_SESSION.write_text(str(_LOWEST))


def _sessions_count() -> bool:
    try:
        return _BY_SESSION.read_text().strip() == "1"
    except OSError:
        return False


def _go_on_in_own_session() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    awaited = {*_PASSED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        tie(signal.SIGTERM, parent)
        return
    ended = 0
    while not ended:
        number = signal.sigwait(awaited)
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
    code = os.waitstatus_to_exitcode(status)
    sys.exit(code if code >= 0 else 128 - code)
