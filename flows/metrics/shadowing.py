"""What is in the shadow now, and what `flows.metrics` sums of it."""

import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from flows.metrics.tallies import Books, Tally
from state.artifacts import ArtifactError, chunk_id, decode, joined
from state.control import SHADOW, ControlDocument
from state.entries import CONTROL, MODEL_CHUNK, StateDecodeError
from state.metrics import SHADOW_LABELS, SHADOW_SLATES, Family, cut_of
from state.registry import Registry, RegistryError, UnknownModelError
from state.store import Store, StoreUnavailableError
from state.validation import InvalidInputError

if TYPE_CHECKING:
    from online_models.versions.shadow import Challenger

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 2.0


class Shadow:
    """Follows the document: the model that it names is loaded and checked. One that cannot be used scores nothing."""

    def __init__(self, store: Store, registry: Registry, clock: Callable[[], float] = monotonic) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._looked_at = float("-inf")
        self._version = 0
        self._challenger: Challenger | None = None

    def current(self) -> "Challenger | None":
        """Return what scores lists now."""
        now = self._clock()
        if now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            try:
                document = self._store.get_rows(CONTROL, [SHADOW.name]).get(SHADOW.name)
                if document is not None and document.version != self._version:
                    self._take(document)
            except (StoreUnavailableError, RegistryError) as error:
                log.debug("what is in the shadow cannot be looked up: %s", error)
        return self._challenger

    def _take(self, document: ControlDocument) -> None:
        """Load what a document names. Raise what store and registry raise, for another attempt."""
        challenger = None
        try:
            wanted = SHADOW.parse(document.body)
            if wanted.model is not None and wanted.share:
                challenger = self._loaded(wanted.model, wanted.share)
        except (InvalidInputError, ArtifactError, UnknownModelError) as error:
            log.error("nothing is in the shadow: %s", error)
        self._version, self._challenger = document.version, challenger
        if challenger is not None:
            log.info("in the shadow: %s, %.0f %% of the lists", challenger.name, 100 * challenger.share)

    def _loaded(self, name: str, share: float) -> "Challenger":
        # Here, since it takes memory that the flow needs for nothing else.
        from online_models.versions.ranking import Ranking
        from online_models.versions.shadow import Challenger

        try:
            (first,) = self._store.get_many(MODEL_CHUNK, [chunk_id(name, 0)])
            n_chunks = 1 if first is None else first.n_chunks
            others = self._store.get_many(MODEL_CHUNK, [chunk_id(name, k) for k in range(1, n_chunks)])
            return Challenger(Ranking.of(decode(joined(name, [first, *others]), name)), share)
        except (ArtifactError, StateDecodeError) as error:
            log.info("the registry is asked for %s, Redis does not have it: %s", name, error)
        return Challenger(Ranking.of(self._registry.get(name)), share)


class _Scored(msgspec.Struct, array_like=True):
    """The part of `Impression` that a challenger looks at."""

    request_id: str
    user_id: msgspec.Raw
    ts: int
    surface: msgspec.Raw
    items: msgspec.Raw
    scores: list[float]
    sources: msgspec.Raw
    propensities: msgspec.Raw
    features: bytes
    feature_set: str


class _Labelled(msgspec.Struct, array_like=True):
    """The part of `Example` that a challenger looks at."""

    example_id: msgspec.Raw
    request_id: str | None
    user_id: msgspec.Raw
    ts: int
    surface: msgspec.Raw
    items: msgspec.Raw
    labels: list[int]
    outcomes: msgspec.Raw
    propensities: msgspec.Raw
    features: bytes
    feature_set: str


_decode_scored = msgspec.msgpack.Decoder(_Scored).decode
_decode_labelled = msgspec.msgpack.Decoder(_Labelled).decode


class WithShadow:
    """A tally of lists or of their labels, and what the model in the shadow says to some of them (R20)."""

    def __init__(self, tally: Tally, family: Family, shadow: Shadow) -> None:
        """`family`: `SHADOW_SLATES` for impressions, `SHADOW_LABELS` for examples."""
        self._tally = tally
        self._family = family
        self._shadow = shadow
        self._count = {SHADOW_SLATES: self._count_slate, SHADOW_LABELS: self._count_labels}[family]

    @property
    def families(self) -> tuple[Family, ...]:
        return (*self._tally.families, self._family)

    def add(self, books: Books, partition: int, value: bytes, ts: int, headers: object) -> None:
        self._tally.add(books, partition, value, ts, headers)
        challenger = self._shadow.current()
        if challenger is not None:
            self._count(books, value, challenger)

    def settle(self, books: Books, partition: int) -> None:
        self._tally.settle(books, partition)

    def forget(self) -> None:
        self._tally.forget()

    def _count_slate(self, books: Books, value: bytes, challenger: "Challenger") -> None:
        slate = _decode_scored(value)
        if challenger.scores_list(slate.request_id):
            sums = challenger.agreement(slate.features, slate.feature_set, slate.scores)
            self._sum(books, sums, slate.ts, challenger)

    def _count_labels(self, books: Books, value: bytes, challenger: "Challenger") -> None:
        example = _decode_labelled(value)
        if example.request_id is not None and challenger.scores_list(example.request_id):
            sums = challenger.quality(example.features, example.feature_set, example.labels)
            self._sum(books, sums, example.ts, challenger)

    def _sum(self, books: Books, sums: dict[str, int] | None, ts: int, challenger: "Challenger") -> None:
        if sums is not None:
            books[self._family.name].add((cut_of(challenger=challenger.name),), sums, ts)
