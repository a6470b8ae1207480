"""`freshet replay`: a data set's catalogue and events, played into Freshet."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from typing import Literal

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ops.datasets import Dataset
from ops.lag import NotCaughtUpError, wait_until_caught_up
from ops.stack.status import address
from ops.traffic import schedule
from ops.traffic.schedule import Due
from ops.traffic.sending import HttpSender, KafkaSender, Sender
from state.records import Event
from state.settings import Settings

_REPORT_EVERY = 500
_LONGEST_WAIT_S = 0.2


@dataclass(frozen=True)
class Plan:
    """How a log is played.

    By default its times are shifted so that it ends now, and it goes as fast as it can. With a `speed`, its last tenth
    is live traffic that carries the present time, at that many times the log's own pace (`rate`: evenly, events/s).
    """

    speed: float | None = None
    rate: float | None = None
    limit: int | None = None
    original_times: bool = False
    duplicate_share: float = 0.0
    shuffle_window: timedelta = timedelta()
    seed: int = 0
    http: bool = False
    part: Literal["all", "catalogue", "events", "history", "live"] = "all"
    """`history`: the catalogue and what comes before the live part; `live`: only that; `events`: both, no catalogue."""

    def places(self, n_logged: int) -> tuple[int, int, int]:
        """Return where in the time order of a log this plan starts, where its live part does, and where it ends."""
        n_events = min(n_logged, self.limit or n_logged)
        live = self.speed is not None or self.rate is not None
        n_history = int(n_events * schedule.HISTORY_SHARE) if live else n_events
        return n_history if self.part == "live" else 0, n_history, n_history if self.part == "history" else n_events


@dataclass
class Summary:
    """What a replay has done; filled while it goes, so that an interrupted one can tell too."""

    items: int = 0
    catalogue_s: float = 0.0
    """Seconds that the catalogue took, until the flows had it where they were waited for."""
    sent: int = 0
    duplicates: int = 0
    wall_s: float = 0.0
    caught_up_s: dict[str, float] = field(default_factory=dict)
    """Flow -> seconds from the last event sent until the flow had taken it in."""

    @property
    def events_per_s(self) -> float:
        return self.sent / self.wall_s if self.wall_s else 0.0


def events_due(dataset: Dataset, plan: Plan, now_ms: int) -> Iterator[Due]:
    """Yield the log's events as the plan says, in the order in which they are sent."""
    start, n_history, stop = plan.places(dataset.n_events)
    shift_ms = 0 if plan.original_times else now_ms - dataset.ts_of(max(n_history, 1) - 1)
    history: Iterator[Event] = schedule.shifted(dataset.events(start, min(n_history, stop)), shift_ms)
    if plan.duplicate_share or plan.shuffle_window:
        history = schedule.disordered(history, plan.duplicate_share, plan.shuffle_window, plan.seed)
    live: Iterator[Event] = schedule.shifted(dataset.events(max(start, n_history), stop), shift_ms)
    return chain((Due(event) for event in history), _live(live, plan))


def _live(events: Iterator[Event], plan: Plan) -> Iterator[Due]:
    if plan.rate is not None:
        return schedule.at_rate(events, plan.rate)
    return schedule.paced(events, plan.speed or 1.0, carry_present=not plan.original_times)


def replay(
    settings: Settings,
    dataset: Dataset,
    plan: Plan,
    summary: Summary,
    console: Console | None = None,
    stop: threading.Event | None = None,
    catch_up_s: float | None = 600.0,
) -> None:
    """Play a data set and fill `summary`, with a progress bar where there is a console.

    The first event is sent when the flows have the catalogue, so that each finds its item there, as it does when state
    is rebuilt from the log. `stop` being set ends it cleanly, as Ctrl-C does, which is raised on. `catch_up_s` is how
    long to wait for the flows, after the catalogue and at the end; None for not at all.

    Raises
    ------
    SendingError
        If Kafka or the API does not take it.
    NotCaughtUpError
        If the flows are still behind after `catch_up_s`.
    """
    halt = stop or threading.Event()
    sender = HttpSender(address(settings)) if plan.http else KafkaSender(settings)
    with progress_bar(console) as bar, sender:
        if plan.part not in ("events", "live"):
            started = time.perf_counter()
            _send_catalogue(dataset, sender, bar, halt, summary)
            sender.flush()
            if catch_up_s is not None and not halt.is_set():
                catch_up(settings, bar, halt, catch_up_s)
            summary.catalogue_s = time.perf_counter() - started
        if plan.part == "catalogue":
            return
        started = time.perf_counter()
        try:
            _send_events(dataset, plan, sender, bar, halt, summary)
        finally:
            sender.flush()
            summary.wall_s = time.perf_counter() - started
        if catch_up_s is not None and not halt.is_set():
            summary.caught_up_s = catch_up(settings, bar, halt, catch_up_s)


def render(summary: Summary, title: str) -> Table:
    """Return a summary as a table for people."""
    table = Table(title=title, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("items", f"{summary.items:,}")
    table.add_row("events sent", f"{summary.sent:,}")
    if summary.duplicates:
        table.add_row("of these, duplicates", f"{summary.duplicates:,}")
    table.add_row("wall time", f"{summary.wall_s:.1f} s")
    table.add_row("events/s", f"{summary.events_per_s:,.0f}")
    for flow, seconds in summary.caught_up_s.items():
        table.add_row(f"{flow} caught up after", f"{seconds:.1f} s")
    return table


def progress_bar(console: Console | None) -> Progress:
    """Return a bar with count, rate and time left; it shows nothing without a console."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console or Console(quiet=True),
        disable=console is None,
    )


def _send_catalogue(dataset: Dataset, sender: Sender, bar: Progress, halt: threading.Event, summary: Summary) -> None:
    task = bar.add_task("items", total=dataset.n_items, rate="")
    for item in dataset.items():
        if halt.is_set():
            return
        sender.item(item)
        summary.items += 1
        if summary.items % _REPORT_EVERY == 0:
            bar.update(task, completed=summary.items)
    bar.update(task, completed=summary.items)


def _send_events(
    dataset: Dataset, plan: Plan, sender: Sender, bar: Progress, halt: threading.Event, summary: Summary
) -> None:
    start, _, end = plan.places(dataset.n_events)
    task = bar.add_task("events", total=end - start, rate="")
    sent_ids: set[str] = set()
    started = time.perf_counter()
    live_since: float | None = None
    for due in events_due(dataset, plan, now_ms()):
        if due.after_s is not None:
            if live_since is None:
                sender.flush()
                live_since = time.perf_counter()
            _wait(sender, live_since + due.after_s, halt)
        if halt.is_set():
            break
        event = due.event
        sender.event(msgspec.structs.replace(event, ts=now_ms()) if due.live else event)
        summary.sent += 1
        if plan.duplicate_share:
            summary.duplicates += event.event_id in sent_ids
            sent_ids.add(event.event_id)
        if due.after_s is not None or summary.sent % _REPORT_EVERY == 0:
            rate = summary.sent / (time.perf_counter() - started)
            bar.update(task, completed=summary.sent - summary.duplicates, rate=f"{rate:,.0f}/s")
    rate = summary.sent / max(time.perf_counter() - started, 1e-9)
    bar.update(task, completed=summary.sent - summary.duplicates, rate=f"{rate:,.0f}/s")


def _wait(sender: Sender, until: float, halt: threading.Event) -> None:
    """Wait for an event's time; what was sent goes out meanwhile."""
    while (remaining := until - time.perf_counter()) > 0:
        sender.poll()
        if halt.wait(min(remaining, _LONGEST_WAIT_S)):
            return


def catch_up(settings: Settings, bar: Progress, halt: threading.Event, limit_s: float) -> dict[str, float]:
    """Wait for the flows, with progress; return flow -> seconds, nothing when halted. Raise `NotCaughtUpError`."""
    task = bar.add_task("flows catch up", total=None, rate="")

    def report(flow: str, behind: int) -> None:
        bar.update(task, description=f"{flow} catches up", rate=f"{behind:,} behind")

    try:
        return wait_until_caught_up(settings, limit_s, halt, report)
    except NotCaughtUpError:
        if halt.is_set():
            return {}
        raise
    finally:
        bar.update(task, description="flows", rate="", total=1, completed=1)


def now_ms() -> int:
    """Return the wall clock in epoch milliseconds."""
    return time.time_ns() // 1_000_000
