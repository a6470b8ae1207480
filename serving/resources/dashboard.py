"""`/v1/metrics`: what the dashboard shows, in one answer that is cheap to ask for again."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import falcon.asgi

from online_models.versions.ranking import Ranking
from serving import telemetry
from serving.contract.bodies import send
from serving.contract.metrics import FlowPlace, MetricsAnswer, MetricsQuery, MetricText, ModelPlace, Part, Timing
from serving.contract.queries import parse_query
from serving.memory.mirror import Mirror
from serving.memory.windows import MetricWindows
from state.metric_readings import Readings
from state.metrics import BY_NAME, METRICS, WIDTHS, cut_of, dimensions_of
from state.settings import Settings
from state.store import AsyncStore, StoreUnavailableError

MINUTE, FIVE, HOUR = WIDTHS
RANGES: Mapping[str, tuple[int, int]] = {"1h": (MINUTE, 60), "6h": (FIVE, 72), "24h": (FIVE, 288), "7d": (HOUR, 168)}
"""Width and number of the windows."""
PART_METRICS = ("slates", "ctr", "watch_s_per_list", "hide_rate", "save_rate", "positive_share", "mrr")
_MAX_PARTS = 8
_FLOWS = ("features", "learn", "catalogue")
_GRACE_MS = 300_000
_DIGITS = 6
_SPAN_S = 300.0
_TEXTS = {metric.name: MetricText(metric.unit, metric.meaning, str(metric.formula)) for metric in METRICS}


class MetricsOverTime:
    """Metrics by window, and how the system does."""

    def __init__(self, settings: Settings, store: AsyncStore, mirror: Mirror, ranking: Callable[[], Ranking]) -> None:
        self._store = store
        self._mirror = mirror
        self._ranking = ranking
        self._windows = {width: MetricWindows(store, settings.partitions, width, now_ms) for width in WIDTHS}
        self._timings = RecentTimings()

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        query = parse_query(MetricsQuery, req.params)
        width, n_windows = RANGES[query.range]
        degraded = None
        try:
            starts, readings = await self._windows[width].read(n_windows)
            flows = [place for flow in _FLOWS for place in await self._place(flow)]
        except StoreUnavailableError as error:
            degraded = {"metrics": str(error)}
            starts, readings, flows = [], Readings(), []
        cuts = readings.cuts(width)
        replica, ranking = self._mirror.current, self._ranking()
        now = now_ms()
        answer = MetricsAnswer(
            now=now,
            width=width,
            starts=starts,
            early_from=now - width - _GRACE_MS,
            total=_part("all" if query.surface is None else query.surface, readings, width, starts,
                        "" if query.surface is None else cut_of(surface=query.surface), BY_NAME),
            parts=[
                _part(name, readings, width, starts, cut, PART_METRICS)
                for name, cut in _parts(cuts, query)[:_MAX_PARTS]
            ],
            choices=_choices(cuts),
            flows=flows,
            timings=self._timings.read(),
            model=ModelPlace(
                ranking.name,
                ranking.version,
                replica.columns.n_events,
                replica.n_items,
                self._mirror.degraded is None,
            ),
            metrics=_TEXTS,
            degraded=degraded,
        )  # fmt: skip
        send(resp, answer)

    async def _place(self, flow: str) -> list[FlowPlace]:
        marks = await self._store.watermarks(flow)
        if not marks:
            return []
        return [
            FlowPlace(flow, max(mark.stream_ts for mark in marks.values()), max(m.applied_ts for m in marks.values()))
        ]


class RecentTimings:
    """Quantiles of this process' histograms over the last minutes: since the oldest of some snapshots."""

    def __init__(self) -> None:
        self._snapshots: deque[tuple[float, dict[tuple[str, str], dict[float, float]]]] = deque()

    def read(self) -> list[Timing]:
        now, counts = time.monotonic(), _histograms()
        if not self._snapshots or now - self._snapshots[-1][0] >= _SPAN_S / 30:
            self._snapshots.append((now, counts))
        while len(self._snapshots) > 1 and now - self._snapshots[1][0] >= _SPAN_S:
            self._snapshots.popleft()
        before = self._snapshots[0][1] if now - self._snapshots[0][0] >= _SPAN_S else {}
        found = []
        for (surface, stage), buckets in counts.items():
            old = before.get((surface, stage), {})
            recent = {bound: n - old.get(bound, 0) for bound, n in buckets.items()}
            n = int(max(recent.values(), default=0))
            if n:
                p50, p95 = (round(1000 * quantile_of(recent, q), 3) for q in (0.5, 0.95))
                found.append(Timing(surface, stage, n, p50, p95))
        return found


def quantile_of(cumulative: Mapping[float, float], q: float) -> float:
    """Return a quantile of a Prometheus histogram: linear within a bucket, the last bound where it is beyond it.

    Parameters
    ----------
    cumulative
        Upper bound -> observations up to it.
    """
    bounds = sorted(cumulative)
    wanted = q * cumulative[bounds[-1]]
    low, seen = 0.0, 0.0
    for bound in bounds:
        n = cumulative[bound]
        if n >= wanted and n > seen:
            return low if bound == float("inf") else low + (bound - low) * (wanted - seen) / (n - seen)
        low, seen = bound, n
    return low


def _histograms() -> dict[tuple[str, str], dict[float, float]]:
    """Return (surface, stage) or (route, "") -> upper bound -> observations up to it."""
    found: dict[tuple[str, str], dict[float, float]] = {}
    for histogram in (telemetry.REQUEST_SECONDS, telemetry.STAGE_SECONDS):
        for family in histogram.collect():
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    labels = sample.labels
                    where = (labels["surface"], labels["stage"]) if "stage" in labels else (labels["route"], "")
                    if where[1] == "" and (not where[0].startswith("/v1/") or where[0] == "/v1/metrics"):
                        continue
                    buckets = found.setdefault(where, {})
                    bound = float(labels["le"])
                    buckets[bound] = buckets.get(bound, 0) + sample.value
    return found


def _part(name: str, readings: Readings, width: int, starts: Sequence[int], cut: str, metrics: Iterable[str]) -> Part:
    values: dict[str, list[float | None]] = {}
    for metric in metrics:
        found = [readings.read(BY_NAME[metric], (width, start, cut)) for start in starts]
        if any(reading is not None for reading in found):
            values[metric] = [None if reading is None else _short(reading.value) for reading in found]
    return Part(name, values)


def _parts(cuts: Iterable[str], query: MetricsQuery) -> list[tuple[str, str]]:
    """Return the name and the cut of each part."""
    wanted = {query.by} if query.surface is None else {"surface", "arm"} if query.by == "arm" else set()
    found = []
    for cut in cuts:
        dimensions = dimensions_of(cut)
        if set(dimensions) == wanted and wanted and dimensions.get("surface", query.surface) in (None, query.surface):
            found.append((dimensions[query.by], cut))
        elif set(dimensions) == wanted == {"surface"}:
            found.append((dimensions["surface"], cut))
    return found


def _choices(cuts: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for cut in cuts:
        dimensions = dimensions_of(cut)
        if len(dimensions) == 1:
            for name, value in dimensions.items():
                found.setdefault(name, []).append(value)
    found.pop("late", None)
    return found


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def now_ms() -> int:
    """Return the wall clock, epoch ms."""
    return time.time_ns() // 1_000_000
