"""Traffic at one rate for long: is anything left behind, does memory grow, is a window of metrics wrong?"""

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from rich.console import Console

from ops.bench.background import Background
from ops.bench.processes import usage
from ops.bench.report import Figure, Report
from ops.bench.soak_traffic import MINUTE_MS, Readers, Sent, n_crowds, pool, send_evenly
from ops.bench.systems import everything_caught_up, pids, restarts
from ops.lag import Progress, wait_until_caught_up
from ops.metrics import Tail, until_end
from ops.stack.children import wait_until
from ops.stack.parts import FLOWS
from ops.stack.status import address
from ops.traffic.sending import KafkaSender
from ops.traffic.simulator import World
from state.metrics import WIDTHS
from state.settings import Settings

_N_ITEMS, _N_USERS = 5_000, 20_000
_SAMPLE_S = 10.0
_CATCH_UP = timedelta(minutes=10)
_TOLD_WITHIN = timedelta(minutes=1)
"""Windows of an hour are told more rarely than they change."""
_MIB = 2**20
_REACHED = 0.99
"""Of the wanted rate."""
_MAX_WAIT_S = 30.0
"""The oldest event that a flow has not taken in may have waited so long; `lake` writes rarely, which is added."""
_GROWTH, _GROWTH_MIB = 1.1, 16.0
"""Memory of a part in the last third, at most, of that in the middle third; and beside that."""
_KEEPS = "redis"
"""What keeps what it is told of users and sessions. So it grows with them, by no more in the last third than before."""
SETTINGS: dict[str, Any] = {"attribution_wait_s": 60.0, "attribution_window_s": 120.0}
"""Of the system: lists wait in `attribution` for so long that as many come as go already in the first third."""
_N_EXAMPLES = 5


@dataclass
class Samples:
    """What was seen meanwhile, sample by sample."""

    waited_s: dict[str, list[float]] = field(default_factory=dict)
    """Flow -> how long the oldest event that it had not taken in had waited."""
    events: dict[str, list[int]] = field(default_factory=dict)
    """Flow -> how many it had not taken in."""
    rss: dict[str, list[int]] = field(default_factory=dict)
    """Part -> bytes of its largest process."""


@dataclass
class Soaked:
    """The result."""

    asked_per_s: float
    n_events: int
    seconds: float
    n_lists: int
    n_failed: int
    caught_up_s: float
    n_windows: int
    wrong: list[str]
    """What differs in windows, for people."""
    n_restarts: int
    samples: Samples


def measure(settings: Settings, seconds: float, per_s: float, lists_per_s: float, console: Console) -> Soaked:
    """Play simulated traffic into an empty system.

    Raises
    ------
    SendingError, NotCaughtUpError, BenchError
        As sending, looking at progress and waiting for the flows do.
    """
    world = World(_N_ITEMS, _N_USERS)
    events = pool(world)
    with KafkaSender(settings) as sender:
        for item in world.items():
            sender.item(item)
    wait_until_caught_up(settings, _CATCH_UP.total_seconds())
    sent: Sent = Counter()
    with (
        _Sampler(settings, console) as sampler,
        Readers(address(settings), world, n_crowds(per_s, seconds), lists_per_s, sent) as readers,
    ):
        n_events, took_s = send_evenly(settings, events, per_s, seconds, sampler.failed, sent)
    began = time.perf_counter()
    everything_caught_up(settings, _CATCH_UP)
    caught_up_s = time.perf_counter() - began
    expected, since = windows_of(sent), timedelta(seconds=took_s + caught_up_s) + _TOLD_WITHIN

    def wrong() -> list[str]:
        return differences(expected, _windows(settings, since), readers.n_failed)

    wait_until(lambda: not wrong(), _TOLD_WITHIN, timedelta(seconds=2))
    return Soaked(
        asked_per_s=per_s,
        n_events=n_events,
        seconds=took_s,
        n_lists=readers.n_lists,
        n_failed=readers.n_failed,
        caught_up_s=caught_up_s,
        n_windows=len(expected),
        wrong=wrong(),
        n_restarts=restarts(settings),
        samples=sampler.samples,
    )


Window = tuple[str, int, int]
"""Family, width and start."""


def windows_of(sent: Sent) -> dict[Window, dict[str, int]]:
    """Return what each window of each width must say."""
    found: dict[Window, dict[str, int]] = {}
    for (family, minute, name), n in sent.items():
        for width in WIDTHS:
            sums = found.setdefault((family, width, minute - minute % width), {})
            sums[name] = sums.get(name, 0) + n
    return found


def differences(
    expected: Mapping[Window, dict[str, int]], found: Mapping[Window, Mapping[str, int]], n_unsure: int
) -> list[str]:
    """Return, for people, which windows do not say what they must; names that nothing is expected of are left out.

    So many lists may be there beyond what was expected: those that were answered when nobody waited any more.
    """
    wrong = []
    for window, sums in sorted(expected.items()):
        told = {name: found.get(window, {}).get(name, 0) for name in sums}
        more = n_unsure if window[0] == "slates" else 0
        if not all(n <= told[name] <= n + more for name, n in sums.items()):
            family, width, start = window
            wrong.append(f"{family} of {width // MINUTE_MS} min from {start}: {told}, not {sums}")
    return wrong


def report(soaked: Soaked, lake_delay_s: float) -> Report:
    """Return figures, targets and with them the verdict."""
    per_s = soaked.n_events / soaked.seconds
    figures = [
        Figure(
            "events sent",
            per_s,
            "/s",
            target=_REACHED * soaked.asked_per_s,
            at_most=False,
            note=f"{soaked.n_events:,} in {soaked.seconds:.0f} s",
        ),
        Figure("lists answered", soaked.n_lists / soaked.seconds, "/s"),
        Figure("lists that failed", soaked.n_failed, "lists", target=0),
        Figure("all flows have it all after", soaked.caught_up_s, "s"),
        Figure(
            "windows with wrong counts",
            len(soaked.wrong),
            f"of {soaked.n_windows:,}",
            target=0,
            note="; ".join(soaked.wrong[:_N_EXAMPLES]),
        ),
        Figure("processes that died", soaked.n_restarts, "times", target=0),
    ]
    for flow, waited_s in soaked.samples.waited_s.items():
        allowed_s = _MAX_WAIT_S + (lake_delay_s if flow == "lake" else 0)
        n_events = soaked.samples.events[flow]
        figures.append(
            Figure(
                f"{flow} is behind",
                max(last_third(waited_s)),
                "s",
                target=allowed_s,
                note=f"at most, in the last third; {max(n_events):,} events at most, {n_events[-1]:,} at the end",
            )
        )
    for part, rss in soaked.samples.rss.items():
        name, of = (f"{part} memory grows by", _growth) if part == _KEEPS else (f"{part} memory", statistics.median)
        middle, last = (of(third) / _MIB for third in (middle_third(rss), last_third(rss)))
        note = f"{rss[-1] / _MIB:.0f} MiB at the end" if part == _KEEPS else ""
        figures.append(Figure(name, last, "MiB", target=_GROWTH * middle + _GROWTH_MIB, note=note))
    return Report(f"Soak: {soaked.asked_per_s:,.0f} events/s for {soaked.seconds / 60:.1f} min", figures)


def _growth(values: Sequence[float]) -> float:
    return values[-1] - values[0]


def middle_third(values: Sequence[float]) -> Sequence[float]:
    """Return the second of three parts, at least one value."""
    third = len(values) // 3
    return values[third : len(values) - third] or values


def last_third(values: Sequence[float]) -> Sequence[float]:
    """Return the last of three parts, at least one value."""
    return values[-max(1, len(values) // 3) :]


class _Sampler(Background):
    """Looks at lag and memory every ten seconds, and says what it sees once a minute."""

    def __init__(self, settings: Settings, console: Console) -> None:
        super().__init__()
        self.samples = Samples()
        self._settings = settings
        self._console = console

    def work(self) -> None:
        progress = Progress(self._settings)
        try:
            began = said = time.monotonic()
            while not self.stopping.wait(_SAMPLE_S):
                self._sample(progress)
                if time.monotonic() - said >= 60:
                    said = time.monotonic()
                    self._say(said - began)
        finally:
            progress.close()

    def _sample(self, progress: Progress) -> None:
        samples = self.samples
        for flow in FLOWS:
            lags = progress.lags(flow, time.time())
            samples.waited_s.setdefault(flow.name, []).append(max((lag.seconds for lag in lags), default=0.0))
            samples.events.setdefault(flow.name, []).append(sum(lag.events for lag in lags))
        for part, pid in pids(self._settings).items():
            samples.rss.setdefault(part, []).append(usage(pid)[0])

    def _say(self, seconds: float) -> None:
        behind = ", ".join(f"{flow} {waited[-1]:.0f} s" for flow, waited in self.samples.waited_s.items())
        memory = ", ".join(f"{part} {rss[-1] / _MIB:.0f}" for part, rss in self.samples.rss.items())
        self._console.print(f"{seconds / 60:.0f} min: behind: {behind}; MiB: {memory}", highlight=False)


def _windows(settings: Settings, since: timedelta) -> dict[Window, dict[str, int]]:
    """Return what the topic `metrics` says of all traffic."""
    found: dict[Window, dict[str, int]] = {}
    for width in WIDTHS:
        tail = Tail(settings, since, width)
        try:
            tail.begin()
            for _ in until_end(tail):
                pass
        finally:
            tail.close()
        for group in tail.readings.groups():
            _, start, cut = group
            if not cut:
                found |= {(family, width, start): sums for family, sums in tail.readings.sums(group).items()}
    return found
