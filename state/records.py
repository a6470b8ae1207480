"""Records that cross a process boundary.

`Event` and `Item` are public input: strict, JSON. The others are internal: msgpack arrays, in which a new field goes
to the end and has a default.
"""

from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, Raw, Struct, field

EventType = Literal[
    "impression",
    "click",
    "view",
    "watch",
    "like",
    "dislike",
    "save",
    "hide",
    "rating",
    "purchase",
    "search",
    "onboarding",
    "undo",
    "erase",
]
EVENT_TYPES: tuple[str, ...] = get_args(EventType)

Identifier = Annotated[str, Meta(min_length=1, max_length=128)]
ShortText = Annotated[str, Meta(max_length=256)]
# Integers outside of 64 bits cannot be written in msgpack.
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Scalar = str | float | Integer | bool | None
Labels = Annotated[list[ShortText], Meta(max_length=64)]


class Event(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True):
    """What a user did, as clients send it. Validate with `state.validation.parse_event`, which also checks meaning."""

    event_id: Identifier
    type: EventType
    user_id: Identifier
    item_id: Identifier | None = None
    ts: int
    """Event time, epoch milliseconds."""
    session_id: Identifier | None = None
    request_id: Identifier | None = None
    position: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    value: float | ShortText | None = None
    """Stars of a rating, seconds watched, the type that an undo takes back."""
    context: Annotated[dict[ShortText, Scalar | Labels], Meta(max_length=32)] | None = None


class Item(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True):
    """A catalogue entry, as clients send it."""

    item_id: Identifier
    title: Annotated[str, Meta(max_length=1024)] = ""
    genres: Labels = []
    category: ShortText | None = None
    price: Annotated[float, Meta(ge=0)] | None = None
    tags: Labels = []
    description: Annotated[str, Meta(max_length=16_384)] | None = None
    creator: ShortText | None = None
    release_date: Annotated[str, Meta(pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$")] | None = None
    age_rating: ShortText | None = None
    attributes: Annotated[dict[ShortText, Scalar | Labels], Meta(max_length=64)] = {}
    status: Literal["active", "hidden"] = "active"


class CleanEvent(Struct, array_like=True, frozen=True):
    """A valid event, exactly once."""

    event_id: str
    type: str
    user_id: str
    item_id: str | None
    ts: int
    session_id: str | None = None
    request_id: str | None = None
    position: int | None = None
    value: float | str | None = None
    context: dict[str, Any] | None = None


class Impression(Struct, array_like=True, frozen=True):
    """A slate as served: one per answered list request."""

    request_id: str
    user_id: str
    ts: int
    surface: str
    items: list[str]
    """In slate order: the index is the position."""
    scores: list[float]
    sources: list[list[str]]
    propensities: list[float]
    features: bytes
    """float32, row-major, shape (n_items + 1, n_features): the values that scored the items, and their mean over all
    candidates that were scored together. Empty when degraded."""
    feature_set: str
    """Version of the feature definitions, `online_models.features.FEATURE_SET`."""
    model: str
    model_version: str
    experiments: dict[str, str] = {}
    degraded: dict[str, str] | None = None
    session_id: str | None = None
    device: str | None = None
    reasons: list[str] = []
    """As shown, in slate order."""
    rules_version: int = 0
    relaxed: dict[str, int] = {}
    """Rules that had to give way, see `online_models.reranking.rerank`."""
    latency_ms: float | None = None
    """From the request's arrival until the list was made."""
    novelty: float | None = None
    """Of the list, bits; see `online_models.evaluation.slates`, also for `diversity`."""
    diversity: float | None = None
    """Of the list, 0 to 1; None where less than two of its items have genres."""


class Example(Struct, array_like=True, frozen=True):
    """A labelled slate.

    Earlier versions also wrote `organic` ones, of positives that no impression explains: one item, no features, and
    nothing that could be learned, as a list is made for the event itself when it comes.
    """

    example_id: str
    """Deterministic: the same cause gives the same id, so that a repeat can be recognised."""
    request_id: str | None
    user_id: str
    ts: int
    surface: str | None
    items: list[str]
    labels: list[int]
    """1 positive, 0 negative, -1 shown but told by an earlier example of this slate."""
    outcomes: list[str | None]
    """The event type behind each label, None for no event."""
    propensities: list[float]
    features: bytes
    """As logged with the impression, see `Impression.features`."""
    feature_set: str
    model_version: str | None
    experiments: dict[str, str] = {}
    reason: Literal["outcome", "expired", "organic"] = "outcome"


class Activity(Struct, array_like=True):
    """Events of one item, user or session: all-time counts and the panes that windows are summed from.

    See `online_models.users.activity` for what is in a pane and how windows are read.
    """

    counts: dict[str, int] = field(default_factory=dict)
    panes: dict[int, dict[str, int]] = field(default_factory=dict)


class RecentItem(Struct, array_like=True, frozen=True, gc=False):
    """One step of a user's history."""

    item_id: str
    ts: int
    type: str
    value: float | None = None
    session_id: str | None = None
    positive: bool = True
    """See `online_models.users.outcomes.is_positive`."""


class UserProfile(Struct, array_like=True):
    """All that is known of a user, folded from the user's clean events by `online_models.users.profiles`."""

    activity: Activity = field(default_factory=Activity)
    recent: list[RecentItem] = field(default_factory=list)
    """Newest last, bounded."""
    seen: dict[str, int] = field(default_factory=dict)
    """item -> time of the newest interaction (epoch ms), bounded, oldest dropped first."""
    feedback: dict[str, list[str]] = field(default_factory=dict)
    """item -> standing explicit feedback: `like`, `dislike`, `save`, `hide` (an undo removes it)."""
    ratings: dict[str, float] = field(default_factory=dict)
    """item -> newest standing rating, as a share of its scale (0 to 1)."""
    affinity: dict[str, float] = field(default_factory=dict)
    """genre -> decayed weight, as of `affinity_ts`."""
    affinity_ts: int = 0
    first_ts: int = 0
    last_ts: int = 0
    feedback_ts: dict[str, dict[str, int]] = field(default_factory=dict)
    """item -> feedback type, `undo` or `undo <type>` -> its newest time: what decides which feedback stands."""


class ProfileToFold(UserProfile, array_like=True):
    """A profile as who folds events into it reads it: steps stay encoded, as hardly any is looked at again."""

    recent: list[Raw] = field(default_factory=list)  # type: ignore[assignment]


class SessionProfile(Struct, array_like=True):
    """One session's steps and counts."""

    user_id: str
    activity: Activity = field(default_factory=Activity)
    recent: list[RecentItem] = field(default_factory=list)
    first_ts: int = 0
    last_ts: int = 0


class ToldList(Struct, array_like=True):
    """What was told of one list: enough to count each item once, however often and in whatever order it is told."""

    ts: int
    """Of the list or, until that comes, of what was told first; epoch ms."""
    shown: bool = False
    """Whether the impression itself has come."""
    labels: dict[int, int] = field(default_factory=dict)
    """Position -> highest label."""
    outcomes: dict[int, tuple[int, int, str]] = field(default_factory=dict)
    """Position -> label, time and type of the outcome that stands."""


class UserArm(Struct, array_like=True):
    """What a user did in one experiment."""

    arm: str | None
    """None for who was seen in several: nothing of this counts."""
    counts: dict[str, int] = field(default_factory=dict)
    """See `online_models.experiments.arm_sums.COLUMNS`."""
    first_ts: int = 0
    """Of the lists, epoch ms; 0 until one has come."""
    last_ts: int = 0
    """Of the events after the first list."""
    days: dict[int, dict[str, int]] = field(default_factory=dict)
    """Day since 1970 (UTC) -> counts of the day, bounded."""


class UserArms(Struct, array_like=True):
    """What a user did in experiments."""

    experiments: dict[str, UserArm] = field(default_factory=dict)
    """Newest last, bounded."""
    lists: dict[str, ToldList] = field(default_factory=dict)
    """Request -> its list, while more may be told of it; oldest first, bounded."""


class ArmRow(Struct, array_like=True, frozen=True):
    """Sums over one partition's users of one arm."""

    experiment: str
    arm: str
    """Empty: the users who were seen in several."""
    sums: dict[str, int]
    """See `online_models.experiments.arm_sums`."""
    first_ts: int
    """Of its lists, epoch ms."""


class ArmDay(Struct, array_like=True, frozen=True):
    """What one partition's users were shown and did in one arm on one day; see `online_models.experiments.arm_days`."""

    experiment: str
    arm: str
    day: int
    """Since 1970, UTC."""
    sums: dict[str, int]
    """Over the users who were seen in no other arm."""
    latency: dict[str, int]
    """Bin of a latency, as in `state.metrics.score_bin` -> lists."""
    items: bytes
    """uint64, ascending: the lowest hashes of the items that were shown, see `state.metrics.item_hash`."""
    users: bytes = b""
    """uint64 for each item: the hash of the only user who was shown it, 0 where there were several."""
    up_to: int = 2**64 - 1
    """Items of higher hashes were shown, too, and are not kept."""


class Shown(Struct, array_like=True, frozen=True):
    """What a user was shown by lists that rotate: items with the times they were shown last, oldest first, bounded."""

    items: list[str] = []
    times: list[int] = []
    """Epoch ms, of the serving process."""


class Watermark(Struct, array_like=True, frozen=True):
    """How far a flow has applied a partition, stored in the transaction that stores what was applied."""

    next_offset: int
    stream_ts: int
    """Stream time: the highest event time applied, epoch ms."""
    applied_ts: int = 0
    """Wall clock of the write, epoch ms."""


# The rows of the online models. Arrays are little-endian bytes.


class ItemRow(Struct, array_like=True, frozen=True):
    """One item as the learner knows it."""

    slot: int
    """Row number in the learner's arrays; neighbour lists and histories refer to it. Reused after the item is
    forgotten."""
    given_at: int
    """Items that had been forgotten when the slot was given to this one: what refers to it from before is stale."""
    arrived: float
    """Stream time at which it got the slot, epoch seconds."""
    counts: bytes
    """See `online_models.engine.items`."""


class ContextRow(Struct, array_like=True, frozen=True):
    """What is taken in one context, see `online_models.contexts`."""

    items: list[str]
    counts: list[float]
    """Of positives, decayed, in units of one at time `at`."""
    total: float
    """Of all items, those that were dropped too."""
    at: float
    """Epoch seconds."""
    least: float = 0.0
    """How many more events an item may have had at most, after others were dropped."""


class BlobRow(Struct, array_like=True, frozen=True):
    """A piece of a model, as the model itself encodes it."""

    blob: bytes


class UserVectorRow(Struct, array_like=True, frozen=True):
    """Who has one of the learner's user slots, and the factors there."""

    user_id: str
    factors: bytes
    """See `online_models.engine.factors`."""


class UserRow(Struct, array_like=True, frozen=True):
    """A user as the learner knows it: arrays by step, newest last. Items are the learner's slots."""

    items: bytes
    """int32"""
    times: bytes
    """float64, epoch seconds"""
    positive: bytes
    """bool"""
    seen: bytes
    """int32, distinct items ever taken"""
    n_events: int
    """Ever."""
    as_of: int
    """Items that had been forgotten when this was written, see `ItemRow.given_at`."""


class MetricResult(Struct, frozen=True, rename={"start_ms": "start", "end_ms": "end"}):
    """What one process summed of one partition in one window of event time; JSON, the newest result holds.

    Readers add up partitions and apply the formulas of `state.metrics`. `final` says that the window is closed: what
    comes later is summed with the dimension `late`, in the window of its arrival.
    """

    metric: str
    """The family of sums, see `state.metrics.FAMILIES`."""
    start_ms: int
    """Epoch ms, inclusive. Of event time, of arrival for `rejected`."""
    end_ms: int
    dimensions: dict[str, str]
    """The part of the traffic: empty for all of it, else `surface`, `device`, `model`, `arm`, or two of them."""
    partition: int
    sums: dict[str, int]
    final: bool


class MetricWindow(Struct, array_like=True, frozen=True):
    """One family's sums of one partition in one window, for the dashboard."""

    final: bool
    sums: dict[str, dict[str, int]]
    """By cut, `state.metrics.cut_of`."""
