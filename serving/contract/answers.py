"""What list surfaces answer, as published."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from state.records import Item


class Contribution(Struct, frozen=True):
    """What one of the ranker's inputs contributes to an item's score."""

    name: str
    value: float
    contribution: float


class RuleEffect(Struct, frozen=True):
    """What a rule did to an item."""

    rule: str
    """Its name; `near_duplicates`, `diversity` or `exploration` for what is no rule of the document's lists."""
    effect: str


class ItemExplanation(Struct, frozen=True, kw_only=True):
    """Why an item has its place."""

    rank: int | None
    """By score, from 0, before rules."""
    ranker_score: float | None
    """What the ranker says: `baseline` and all contributions together. None where it did not score the list."""
    baseline: float | None
    """The score of a candidate that is as all candidates of this list are on average."""
    features: list[Contribution]
    """Greatest contribution first; inputs that contribute nothing are left out."""
    rules: list[RuleEffect]
    propensity: float
    """Probability of this item to have this place, given those above it."""


class ListedItem(Struct, frozen=True):
    """One item of a list."""

    item_id: str
    score: float | None
    """None when nothing could score it."""
    sources: list[str]
    reason: str
    position: int
    """From 0."""
    title: str | UnsetType = UNSET
    """This and what follows: as `fields` asks for."""
    genres: list[str] | UnsetType = UNSET
    release_date: str | UnsetType | None = UNSET
    explanation: ItemExplanation | UnsetType = UNSET
    category: str | UnsetType | None = UNSET
    price: float | UnsetType | None = UNSET
    tags: list[str] | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    creator: str | UnsetType | None = UNSET
    age_rating: str | UnsetType | None = UNSET
    attributes: dict[str, Any] | UnsetType = UNSET


class ModelVersion(Struct, frozen=True):
    """What scored the list."""

    name: str
    version: str


class StageReport(Struct, frozen=True):
    """What one stage did, for `explain`."""

    stage: str
    n_in: int
    n_out: int
    ms: float
    notes: dict[str, int | str] = {}
    """Candidates per source, drops per filter, relaxed rules."""


class StateUsed(Struct, frozen=True, kw_only=True):
    """How old what the list was made from is."""

    age_ms: int
    """Since the oldest part of it was what Redis holds: the models in memory, and the user's state, which is read for
    each list and so adds something only where it could not be."""
    user: Literal["redis", "memory", "last list", "request", "none"]
    """Where the user's state came from. `memory`: what this process itself was told. `request`: what was sent with it.
    `none`: nobody was named."""
    user_ts: int | None
    """Time of the newest event of this user that the list knows, epoch ms; feedback counts at once."""
    pending: int
    """Feedback in the list that no flow has applied yet."""
    stream_ts: int | None
    """Time of the newest event of anybody that the flows have applied, epoch ms: how far they are behind."""


class ListAnswer(Struct, frozen=True, kw_only=True):
    """A ranked list."""

    request_id: str
    user_id: str | None
    surface: str
    about: str | UnsetType = UNSET
    """The item that the list is about."""
    items: list[ListedItem]
    next: str | None = None
    model: ModelVersion
    experiments: dict[str, str] = {}
    relaxed: dict[str, int] | UnsetType = UNSET
    """Rule -> places at which it had to give way, as the candidates did not allow to keep it."""
    degraded: dict[str, str] | None = None
    """Stage or part -> what is missing and why; `answer`: what the list is instead."""
    state: StateUsed
    timing_ms: dict[str, float]
    explain: list[StageReport] | UnsetType = UNSET


class ReplayedList(Struct, frozen=True, kw_only=True):
    """A list as it was shown, from the log; titles, genres and dates are those of the catalogue as it is now."""

    request_id: str
    user_id: str
    surface: str
    ts: int
    """Of the answer, epoch ms."""
    items: list[ListedItem]
    propensities: list[float]
    """Of each item to have its place, given those above it."""
    model: ModelVersion
    rules_version: int
    relaxed: dict[str, int]
    experiments: dict[str, str]
    degraded: dict[str, str] | None
    session_id: str | None
    device: str | None


class Rejected(Struct, frozen=True):
    """One refused element of a batch."""

    index: int
    error: str


class BatchAnswer(Struct, frozen=True, kw_only=True):
    """What became of a batch."""

    accepted: int
    rejected: list[Rejected]
    pending: int = 0
    """Of the accepted ones: queued here, not yet acknowledged by Kafka."""
    degraded: dict[str, str] | UnsetType = UNSET
    """Part -> what is missing and why."""


class FeedbackAnswer(Struct, frozen=True, kw_only=True):
    """Feedback was taken: the user's next list respects it."""

    event_id: str
    accepted: int = 1
    pending: int = 0
    degraded: dict[str, str] | None = None


class EraseAnswer(Struct, frozen=True, kw_only=True):
    """The user is forgotten: by lists and by `GET` now, by all else as `places` says."""

    user_id: str
    event_id: str
    places: dict[str, str]
    """Where data of the user is kept -> when it is gone."""
    pending: int = 0
    degraded: dict[str, str] | None = None


Counts = dict[str, int]


class ItemAnswer(Struct, frozen=True, kw_only=True):
    """A catalogue entry and its activity."""

    item_id: str
    title: str = ""
    genres: list[str] = []
    category: str | None = None
    price: float | None = None
    tags: list[str] = []
    description: str | None = None
    creator: str | None = None
    release_date: str | None = None
    age_rating: str | None = None
    attributes: dict[str, Any] = {}
    status: str | None = None
    """None for an item that is known by its events only."""
    counts: Counts
    """Events by type, all time."""
    windows: dict[str, Counts]
    """`5m`, `1h`, `1d` -> events by type, up to stream time."""
    servable: bool
    """Whether lists may have it, as far as the process that answers knows."""
    degraded: dict[str, str] | None = None


class CataloguePage(Struct, frozen=True, kw_only=True):
    """A part of the catalogue, in the order of ids."""

    items: list[Item]
    next: str | None


class UserAnswer(Struct, frozen=True, kw_only=True):
    """What is known of a user."""

    user_id: str
    counts: Counts
    windows: dict[str, Counts]
    recent: list[dict[str, Any]]
    """Newest first."""
    affinity: dict[str, float]
    liked: list[str]
    disliked: list[str]
    saved: list[str]
    hidden: list[str]
    ratings: dict[str, float]
    """Share of the scale, 0..1."""
    first_ts: int | None
    last_ts: int | None
    pending: int
    """Feedback that is contained here and that no flow has applied yet."""
    degraded: dict[str, str] | None = None


class Live(Struct, frozen=True):
    """The process answers."""

    live: bool = True


class Ready(Struct, frozen=True, kw_only=True):
    """Whether lists can be answered, and from what."""

    ready: bool
    items: int
    origin: str
    """Where the models in memory came from: `redis` or `disk`; empty before they are there."""
    degraded: dict[str, str] | None
