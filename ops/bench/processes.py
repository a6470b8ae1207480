"""What the processes of a stack cost while something runs: peak memory and CPU time."""

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psutil

_SAMPLE_S = 0.25
_LOOK_EVERY_S = 5.0


@dataclass
class Cost:
    """One part's, with its child processes."""

    peak_rss: int = 0
    """Bytes, the highest of samples taken every quarter of a second."""
    cpu_s: float = 0.0


class _Family:
    """A process and its children, looked for now and then only: it means to look at all processes there are."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._members: list[psutil.Process] = []
        self._look_at = 0.0

    def usage(self) -> tuple[int, float]:
        """Return (resident bytes of the largest process, CPU seconds of all); 0 when gone."""
        now = time.monotonic()
        if now >= self._look_at:
            self._members, self._look_at = _family(self._pid), now + _LOOK_EVERY_S
        return _usage(self._members)


class ProcessCosts:
    """Samples parts in a thread for as long as the `with` block runs."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        """`pids` are the parts' process ids by name."""
        self.costs = {name: Cost() for name in pids}
        self._families = {name: _Family(pid) for name, pid in pids.items()}
        self._began: dict[str, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_done, daemon=True)

    def __enter__(self) -> Self:
        for name, family in self._families.items():
            self._began[name] = family.usage()[1]
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._sample()

    def _sample_until_done(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            self._sample()

    def _sample(self) -> None:
        for name, family in self._families.items():
            rss, cpu_s = family.usage()
            cost = self.costs[name]
            cost.peak_rss = max(cost.peak_rss, rss)
            cost.cpu_s = max(cost.cpu_s, cpu_s - self._began[name])


def usage(pid: int) -> tuple[int, float]:
    """Return (resident bytes of the largest process, CPU seconds of all) of a process and its children; 0 when gone."""
    return _usage(_family(pid))


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _usage(family: Iterable[psutil.Process]) -> tuple[int, float]:
    rss, cpu_s = 0, 0.0
    for process in family:
        try:
            with process.oneshot():
                times = process.cpu_times()
                rss = max(rss, process.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
        cpu_s += times.user + times.system
    return rss, cpu_s
