"""What the engine costs by the size of the catalogue and along the stream, in process and by CPU time of one thread."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from time import thread_time_ns
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from online_models.engine.engine import Engine
from ops.bench.report import Figure, Report
from state.records import Item

P = ParamSpec("P")
R = TypeVar("R")

N_LISTED = 20
_LIST_US, _EVENT_US, _RANKER_US = 600.0, 150.0, 300.0
"""Medians to stay under, for a list, the learning of an event, and the ranker's step."""
_GROWTH = 1.5
"""A cost that is at most this many times that of the smallest catalogue, or of the stream's begin, does not grow."""
_N_GENRES = 20
_START = 1.7e9


@dataclass
class Costs:
    """CPU microseconds of single calls."""

    lists: list[float] = field(default_factory=list)
    sources: list[float] = field(default_factory=list)
    """Events that are no label: the sources learn."""
    labelled: list[float] = field(default_factory=list)
    """Positives that are in the list which has just been made: the ranker takes a step, then the sources learn."""


def measure(n_items: int, n_events: int, n_parts: int, seed: int, progress: Callable[[int], None]) -> list[Costs]:
    """Describe a catalogue, play events over it, and return the costs in equal parts of the stream.

    Items and users are drawn by Zipf's law, an item near those of the user's group half of the time. Every fifth event
    is asked for first; a quarter of the events are not positive.
    """
    draw = np.random.default_rng(seed)
    engine = Engine(seed)
    for k in range(n_items):
        engine.describe(Item(item_id=f"i{k}", genres=[f"genre {k % _N_GENRES}"], release_date=str(1990 + k % 35)))
    users = _zipf(draw, max(n_events // 15, 1), n_events)
    items = _zipf(draw, n_items, n_events)
    grouped = draw.random(n_events) < 0.5
    items = np.where(grouped, np.minimum(items - items % _N_GENRES + users % _N_GENRES, n_items - 1), items)
    positive = draw.random(n_events) < 0.75
    parts = [Costs() for _ in range(n_parts)]
    for k, (user, item) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
        costs, t = parts[k * n_parts // n_events], _START + 30.0 * k
        listed: list[str] = []
        if k % 5 == 0:
            listed, spent = _cost(engine.recommend, f"u{user}", N_LISTED, t, "unseen")
            costs.lists.append(spent)
        label = bool(positive[k])
        _, spent = _cost(engine.observe, f"u{user}", f"i{item}", label, 1.0, t)
        if not label:
            costs.sources.append(spent)
        elif f"i{item}" in listed:
            costs.labelled.append(spent)
        if not k % 256:
            progress(k)
    return parts


def report(sizes: list[int], found: list[list[Costs]]) -> Report:
    """Medians for each catalogue, and each beside the smallest catalogue and beside the stream's begin."""
    figures = []
    smallest: dict[str, float] = {}
    for size, parts in zip(sizes, found, strict=True):
        last = parts[-1]
        sources = _median(last.sources)
        medians = {
            "list": (_median(last.lists), _LIST_US),
            "learning an event": (sources, _EVENT_US),
            "ranker's step": (_median(last.labelled) - sources, _RANKER_US),
        }
        for name, (value, target) in medians.items():
            figures.append(Figure(f"{size:,} items: {name}", value, "µs", target=target))
            ratio = value / smallest.setdefault(name, value)
            if size != sizes[0]:
                figures.append(Figure(f"{size:,} / {sizes[0]:,} items: {name}", ratio, "times", target=_GROWTH))
        begin = parts[1] if len(parts) > 2 else parts[0]  # the first part compiles and has empty histories
        growth = _median(last.lists) / _median(begin.lists)
        figures.append(Figure(f"{size:,} items: list, end / begin of the stream", growth, "times", target=_GROWTH))
    return Report("engine, median CPU time of a call on one thread", figures)


def _median(of: list[float]) -> float:
    return float(np.median(of)) if of else math.nan


def _cost(call: Callable[P, R], *of: P.args, **named: P.kwargs) -> tuple[R, float]:
    """Return what a call returns, and its CPU microseconds."""
    began = thread_time_ns()
    result = call(*of, **named)
    return result, (thread_time_ns() - began) / 1000


def _zipf(draw: np.random.Generator, n: int, size: int) -> NDArray[np.int64]:
    """Ranks below `n` with probability in proportion to 1 / (rank + 10)."""
    edges = np.cumsum(1.0 / (np.arange(n) + 10.0))
    return np.asarray(np.searchsorted(edges, draw.random(size) * edges[-1]), np.int64)
