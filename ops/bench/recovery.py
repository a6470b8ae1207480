"""`kill -9` of each flow in the middle of a stream: how long until it moves on, and whether counts stay exact."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import msgspec
import psutil
from rich.console import Console

from ops.bench.api import BenchError
from ops.bench.background import Background
from ops.bench.report import Figure, Report
from ops.bench.systems import flow_pids
from ops.datasets import Dataset
from ops.lag import Progress, wait_until_caught_up
from ops.stack.children import wait_until
from ops.stack.parts import FLOWS, Flow
from ops.stack.status import address
from ops.traffic import schedule
from ops.traffic.replay import now_ms
from ops.traffic.sending import KafkaSender
from ops.traffic.verify import compare, expected_counts
from state.settings import Settings

_TARGET_S = 10.0
_GIVE_UP = timedelta(seconds=90)
_CATCH_UP_S = 300.0
_POLL = timedelta(seconds=0.02)
_EVENTS_PER_ITEM = 5


def measure(settings: Settings, dataset: Dataset, rounds: int, per_s: float, console: Console) -> Report:
    """Stream a data set into an empty system and kill each flow once per round; its input never pauses.

    Raises
    ------
    BenchError
        If a flow does not move again, or the data set is too short.
    SendingError, NotCaughtUpError, ConnectionFailedError
        As sending, waiting for the flows and the comparison of counts do.
    """
    outages: dict[str, list[float]] = {flow.name: [] for flow in FLOWS}
    with Stream(settings, dataset, per_s) as stream, _progress(settings) as progress:
        for flow in FLOWS:
            _wait_until_moved(progress, flow, 0, stream)
        for _, flow in itertools.product(range(rounds), FLOWS):
            outages[flow.name].append(_outage_s(settings, progress, flow, stream))
            console.print(f"{flow.name}: moved again after {outages[flow.name][-1]:.1f} s", highlight=False)
    wait_until_caught_up(settings, _CATCH_UP_S)
    verdict = asyncio.run(compare(address(settings), *expected_counts(dataset, stream.n_events)))
    figures = [
        Figure(
            name,
            max(seconds),
            "s",
            target=_TARGET_S,
            note=f"longest of {', '.join(f'{s:.1f}' for s in seconds)}",
        )
        for name, seconds in outages.items()
    ]
    figures.append(
        Figure(
            "users and items with wrong counts",
            verdict.n_different,
            f"of {verdict.n_users + verdict.n_items:,}",
            target=0,
        )
    )
    return Report(f"Recovery: from kill -9 of a flow until its position moves, at {per_s:.0f} events/s", figures)


class Stream(Background):
    """Sends a data set's events evenly, with the present time, and its items again and again."""

    def __init__(self, settings: Settings, dataset: Dataset, per_s: float) -> None:
        super().__init__()
        self.n_events = 0
        """Sent so far."""
        self._settings = settings
        self._dataset = dataset
        self._per_s = per_s

    def check(self) -> None:
        """Raise what ended the stream before its time."""
        super().check()
        if not (self.is_working or self.stopping.is_set()):
            raise BenchError(f"{self._dataset.name} ended after {self.n_events:,} events: ask for fewer rounds")

    def work(self) -> None:
        with KafkaSender(self._settings) as sender:
            self._send(sender)

    def _send(self, sender: KafkaSender) -> None:
        items = itertools.cycle(self._dataset.items())
        for item in itertools.islice(items, self._dataset.n_items):
            sender.item(item)
        started = time.perf_counter()
        for due in schedule.at_rate(self._dataset.events(), self._per_s):
            while (early_s := started + (due.after_s or 0.0) - time.perf_counter()) > 0:
                sender.poll()
                if self.stopping.wait(early_s):
                    return
            sender.event(msgspec.structs.replace(due.event, ts=now_ms()))
            self.n_events += 1
            if self.n_events % _EVENTS_PER_ITEM == 0:
                sender.item(next(items))


def _outage_s(settings: Settings, progress: Progress, flow: Flow, stream: Stream) -> float:
    pid = flow_pids(settings)[flow.name]
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    killed = time.perf_counter()
    wait_until(lambda: not process.is_running(), _GIVE_UP, _POLL)
    _wait_until_moved(progress, flow, _where(progress, flow), stream)
    return time.perf_counter() - killed


def _wait_until_moved(progress: Progress, flow: Flow, before: int, stream: Stream) -> None:
    def has_moved() -> bool:
        stream.check()
        return _where(progress, flow) > before

    if not wait_until(has_moved, _GIVE_UP, _POLL):
        raise BenchError(f"{flow.name} did not move within {_GIVE_UP.total_seconds():.0f} s")


def _where(progress: Progress, flow: Flow) -> int:
    """Return the sum of a flow's positions over all its inputs."""
    return sum(sum(progress.position(flow, topic).values()) for topic in flow.inputs)


@contextmanager
def _progress(settings: Settings) -> Iterator[Progress]:
    progress = Progress(settings)
    try:
        yield progress
    finally:
        progress.close()
