"""Every feature of the ranker, declared once (R13): `flows.learn` and `serving` build them with the same code.

A feature depends on one candidate, one user and one moment, never on the other candidates of the list, so a value
logged with an impression and one built later from the same state are the same. What is not known has the declared
neutral value.
"""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

HALF_LIVES: tuple[timedelta | None, ...] = (
    timedelta(hours=1),
    timedelta(hours=8),
    timedelta(days=2),
    timedelta(days=8),
    timedelta(days=30),
    None,
)
"""Of the decayed popularity, shortest first; None does not decay."""


@dataclass(frozen=True)
class Feature:
    """One input of the ranker."""

    name: str
    meaning: str
    neutral: float = 0.0
    """The value when nothing is known."""
    mean: float = 0.0
    """Prior of the scaler, with `std`: typical values over candidates."""
    std: float = 1.0
    weight: float = 0.0
    """Prior weight of the standardised feature, so that an untrained ranker already orders sensibly."""


_LOG_EMPTY = -2.9957322735539909  # ln 0.05

DECLARED: tuple[Feature, ...] = (
    Feature("pop_1h", "ln(.05 + positives decayed with a half-life of 1 h)", _LOG_EMPTY, -2.5, 1.0, 0.1),
    Feature("pop_8h", "the same, 8 h", _LOG_EMPTY, -2.0, 1.2, 0.1),
    Feature("pop_2d", "the same, 2 d", _LOG_EMPTY, -1.0, 1.5, 0.3),
    Feature("pop_8d", "the same, 8 d", _LOG_EMPTY, 0.0, 1.8, 0.3),
    Feature("pop_30d", "the same, 30 d", _LOG_EMPTY, 0.5, 1.8, 0.1),
    Feature("pop_all", "the same, without decay", _LOG_EMPTY, 1.0, 1.8, 0.0),
    Feature("covis", "ln(.01 + covisitation with the user's recent items)", -4.605170185988091, -3.5, 1.5, 1.0),
    Feature("covis_share", "covisitation as a share of the user's best candidate's", 0.0, 0.1, 0.2, 0.3),
    Feature("covis_last", "ln(.01 + covisitation with the newest item alone)", -4.605170185988091, -4.0, 1.0, 0.4),
    Feature("emb_user", "cosine of item vector and user vector", 0.0, 0.2, 0.3, 0.3),
    Feature("emb_last", "cosine of item vector and the newest item's", 0.0, 0.2, 0.3, 0.1),
    Feature("genre_match", "share of the user's decayed taste in the item's genres", 0.0, 0.2, 0.3, 0.6),
    Feature("creator_match", "share of the user's recent items by the item's creator", 0.0, 0.02, 0.1, 0.1),
    Feature("price_gap", "|ln price - the user's mean ln price|", 0.0, 0.3, 0.5, -0.1),
    Feature("quality", "(positives + 1) / (events + 1.5)", 0.6666666666666666, 0.7, 0.15, 0.1),
    Feature("item_age", "ln(1 + days since the item's first event)", 0.0, 2.5, 1.5, 0.0),
    Feature("since_event", "ln(1 + hours since the item's last event)", 10.0, 4.0, 2.5, -0.1),
    Feature("in_recent", "1 when among the user's recent items", 0.0, 0.02, 0.14, 0.0),
    Feature("recency", "1 / (1 + items taken since), 0 when not recent", 0.0, 0.01, 0.1, 0.0),
    Feature("history", "ln(1 + the user's events)", 0.0, 2.5, 1.5, 0.0),
    Feature("idle", "ln(1 + minutes since the user's last event)", 10.0, 4.0, 3.0, 0.0),
    Feature("pop_if_new_user", "pop_8d - its neutral value when the user has no history", 0.0, 0.3, 1.0, 0.3),
)

FEATURES: tuple[str, ...] = tuple(feature.name for feature in DECLARED)
"""Column names of a feature matrix, in order."""

FEATURE_SET: str = hashlib.blake2b(repr(DECLARED).encode(), digest_size=6).hexdigest()
"""Version of the definitions: logged with each impression; values of another version are not learned from."""
