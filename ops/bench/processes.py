"""What the processes of a stack cost while something runs: peak memory and CPU time."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psutil

_SAMPLE_S = 0.25


@dataclass
class Cost:
    """One part's, with its child processes."""

    peak_rss: int = 0
    """Bytes, the highest of samples taken every quarter of a second."""
    cpu_s: float = 0.0


class ProcessCosts:
    """Samples parts in a thread for as long as the `with` block runs."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        """`pids` are the parts' process ids by name."""
        self.costs = {name: Cost() for name in pids}
        self._pids = pids
        self._began: dict[str, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_done, daemon=True)

    def __enter__(self) -> Self:
        for name, pid in self._pids.items():
            self._began[name] = usage(pid)[1]
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
        for name, pid in self._pids.items():
            rss, cpu_s = usage(pid)
            cost = self.costs[name]
            cost.peak_rss = max(cost.peak_rss, rss)
            cost.cpu_s = max(cost.cpu_s, cpu_s - self._began[name])


def usage(pid: int) -> tuple[int, float]:
    """Return (resident bytes of the largest process, CPU seconds of all) of a process and its children; 0 when gone."""
    rss, cpu_s = 0, 0.0
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return rss, cpu_s
    for process in family:
        try:
            times = process.cpu_times()
            rss = max(rss, process.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
        cpu_s += times.user + times.system
    return rss, cpu_s
