"""What `flows.metrics` sums of a message: pure, one class for each topic."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple, Protocol

import msgspec

from flows.metrics.windowed_sums import Cuts, WindowedSums
from state.metrics import (
    EVENTS,
    EXPOSURE,
    LABELS,
    MAX_RANK,
    OUTCOMES,
    REJECTED,
    SCORES,
    SLATES,
    Family,
    cut_of,
    score_bin,
)
from state.records import Event

ALL: Cuts = ("",)
_UNLINKED = {"unlinked": 1}
_FIELDS = frozenset(Event.__struct_fields__)


class SlateKind(NamedTuple):
    """What the lists are told apart by."""

    surface: str
    device: str
    model: str
    arms: tuple[tuple[str, str], ...]
    """Experiment and variant."""


class SlatesByRequest(Protocol):
    """Finds lists by request id."""

    def find(self, partition: int, wanted: Iterable[str], since: int, until: int) -> Mapping[str, SlateKind]:
        """Return those of the wanted lists that are known; they were made between the two times (epoch ms)."""


class _Event(msgspec.Struct, array_like=True):
    """The part of `CleanEvent` that is counted; the rest is skipped."""

    event_id: msgspec.Raw
    type: str
    user_id: msgspec.Raw
    item_id: msgspec.Raw
    ts: int
    session_id: msgspec.Raw = msgspec.Raw()
    request_id: str | None = None
    position: msgspec.Raw = msgspec.Raw()
    value: float | str | None = None


class _Slate(msgspec.Struct, array_like=True):
    """The part of `Impression` that is counted."""

    request_id: str
    user_id: msgspec.Raw
    ts: int
    surface: str
    items: list[str]
    scores: list[float]
    sources: msgspec.Raw
    propensities: msgspec.Raw
    features: msgspec.Raw
    feature_set: msgspec.Raw
    model: str
    model_version: msgspec.Raw
    experiments: dict[str, str] = {}
    degraded: dict[str, str] | None = None
    session_id: msgspec.Raw = msgspec.Raw()
    device: str | None = None


class _Labels(msgspec.Struct, array_like=True):
    """The part of `Example` that is counted."""

    example_id: msgspec.Raw
    request_id: str | None
    user_id: msgspec.Raw
    ts: int
    surface: str | None
    items: msgspec.Raw
    labels: list[int]
    outcomes: msgspec.Raw
    propensities: msgspec.Raw
    features: msgspec.Raw
    feature_set: msgspec.Raw
    model_version: msgspec.Raw
    experiments: dict[str, str] = {}


_decode_event = msgspec.msgpack.Decoder(_Event).decode
_decode_slate = msgspec.msgpack.Decoder(_Slate).decode
_decode_labels = msgspec.msgpack.Decoder(_Labels).decode


class Books(dict[str, WindowedSums]):
    """Family -> the sums of one partition."""


class Tally(Protocol):
    """Sums the messages of one topic's partition."""

    @property
    def families(self) -> tuple[Family, ...]:
        """What it sums."""

    def add(self, books: Books, partition: int, value: bytes, ts: int, headers: object) -> None:
        """Sum a message with its time on the log (epoch ms), or keep it. Raise `msgspec.MsgspecError`."""

    def settle(self, books: Books, partition: int) -> None:
        """Sum what was kept: called before the sums are read."""

    def forget(self) -> None:
        """Drop what was kept: it will be read again."""


class TallyEvents:
    """`clean`: events by type, and what came of which kind of list.

    An event's list is the one that its request id names, if `slates` knows it.
    """

    families = (EVENTS, OUTCOMES)

    def __init__(self, slates: SlatesByRequest, window_ms: int) -> None:
        self._slates = slates
        self._window_ms = window_ms
        self._linked: dict[int, list[_Event]] = {}

    def add(self, books: Books, partition: int, value: bytes, ts: int, headers: object) -> None:
        event = _decode_event(value)
        books["events"].count(ALL, event.type, event.ts)
        if event.request_id is not None:
            self._linked.setdefault(partition, []).append(event)

    def settle(self, books: Books, partition: int) -> None:
        linked = self._linked.pop(partition, None)
        if not linked:
            return
        wanted = dict.fromkeys(event.request_id or "" for event in linked)
        times = [event.ts for event in linked]
        slates = self._slates.find(partition, wanted, min(times) - self._window_ms, max(times))
        outcomes = books["outcomes"]
        for event in linked:
            slate = slates.get(event.request_id or "")
            if slate is None:
                outcomes.add(ALL, _UNLINKED, event.ts)
            elif event.type == "watch" and isinstance(event.value, float):
                outcomes.add(cuts_of(slate), {"watch": 1, "watch_ms": round(1000 * event.value)}, event.ts)
            else:
                outcomes.count(cuts_of(slate), event.type, event.ts)

    def forget(self) -> None:
        self._linked.clear()


class _KeepsNothing:
    def settle(self, books: Books, partition: int) -> None:
        """Nothing is kept."""

    def forget(self) -> None:
        """Nothing is kept."""


class TallyRejected(_KeepsNothing):
    """`rejected`: by the field to blame, at the time of the rejection: the sender's time cannot be trusted."""

    families = (REJECTED,)

    def add(self, books: Books, partition: int, value: bytes, ts: int, headers: object) -> None:
        found = dict(headers) if isinstance(headers, list) else {}
        field = (found.get("field") or b"").decode(errors="replace")
        known = not field or field.split("[")[0] in _FIELDS
        books["rejected"].count(ALL, (field or "none") if known else "unknown", ts)


class TallySlates(_KeepsNothing):
    """`impressions`: lists, the scores in them, and how often each item is shown."""

    families = (SLATES, SCORES, EXPOSURE)

    def add(self, books: Books, partition: int, value: bytes, ts: int, headers: object) -> None:
        slate = _decode_slate(value)
        kind = kind_of(slate)
        sums = {"slates": 1, "items": len(slate.items)}
        if slate.degraded:
            sums["degraded"] = 1
        books["slates"].add(cuts_of(kind), sums, slate.ts)
        books["scores"].add(_score_cuts(kind), Counter(map(score_bin, slate.scores)), slate.ts)
        books["exposure"].add(_exposure_cuts(kind), Counter(slate.items), slate.ts)


class TallyLabels(_KeepsNothing):
    """`examples`: what the ranker is told."""

    families = (LABELS,)

    def add(self, books: Books, partition: int, value: bytes, ts: int, headers: object) -> None:
        labels = _decode_labels(value)
        if labels.request_id is None:
            return  # of no list; a replay has one for each positive event
        sums = {f"rank_{min(rank, MAX_RANK)}": 1 for rank, label in enumerate(labels.labels, 1) if label == 1}
        sums["positives"] = labels.labels.count(1)
        sums["negatives"] = labels.labels.count(0)
        books["labels"].add(_label_cuts(labels.surface or "unknown", _arms(labels.experiments)), sums, labels.ts)


def decode_kind(value: bytes) -> tuple[str, int, SlateKind]:
    """Return an impression's request id, time and kind. Raise `msgspec.MsgspecError`."""
    slate = _decode_slate(value)
    return slate.request_id, slate.ts, kind_of(slate)


def kind_of(slate: _Slate) -> SlateKind:
    """Return what the list is told apart by."""
    return _kind(slate.surface, slate.device or "unknown", slate.model, _arms(slate.experiments))


def _arms(experiments: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(experiments.items())) if experiments else ()


@lru_cache(maxsize=4096)
def _kind(surface: str, device: str, model: str, arms: tuple[tuple[str, str], ...]) -> SlateKind:
    return SlateKind(surface, device, model, arms)  # one object for many lists


@lru_cache(maxsize=4096)
def cuts_of(kind: SlateKind) -> Cuts:
    """Return the cuts in which a list of this kind is summed."""
    return (
        *_label_cuts(kind.surface, kind.arms),
        cut_of(device=kind.device),
        cut_of(model=kind.model),
    )


@lru_cache(maxsize=4096)
def _label_cuts(surface: str, arms: tuple[tuple[str, str], ...]) -> Cuts:
    names = [f"{experiment}:{variant}" for experiment, variant in arms]
    return (
        "",
        cut_of(surface=surface),
        *(cut_of(arm=name) for name in names),
        *(cut_of(surface=surface, arm=name) for name in names),
    )


@lru_cache(maxsize=4096)
def _score_cuts(kind: SlateKind) -> Cuts:
    return ("", cut_of(surface=kind.surface), cut_of(model=kind.model))


@lru_cache(maxsize=4096)
def _exposure_cuts(kind: SlateKind) -> Cuts:
    return ("", cut_of(surface=kind.surface))
