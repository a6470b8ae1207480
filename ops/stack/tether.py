"""Run a command that does not outlive its starter: `python -m ops.stack.tether SIGKILL NICE COMMAND...`.

On Linux the kernel sends the signal when the parent ends, however it ends. Elsewhere this only runs the command.
"""

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 65_536


def tie(death_signal: signal.Signals, parent: int) -> None:
    """Let the kernel end this process, and what it executes, when `parent` does."""
    if not sys.platform.startswith("linux"):
        return
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(death_signal)) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it ended before the kernel was told
        sys.exit(1)


def command(argv: list[str], death_signal: signal.Signals = signal.SIGKILL, nice: int = 0) -> list[str]:
    """Return `argv`, tied to the process that starts it, and that much nicer to others."""
    # -I -S: neither site-packages nor the working folder are needed, and it starts in 20 ms.
    return [sys.executable, "-I", "-S", __file__, death_signal.name, str(nice), *argv]


def _allow_many_files() -> None:
    """Kafka's segments and serving's connections need more than the usual 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _OPEN_FILES:
        wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


if __name__ == "__main__":
    _allow_many_files()
    tie(signal.Signals[sys.argv[1]], os.getppid())
    os.nice(int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606 - it becomes the command
