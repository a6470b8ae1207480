"""The rules API, as published."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from serving.contract.queries import NoQuery
from state.records import Identifier
from state.rules import MAX_BYTES, Rules

BODY_LIMIT = MAX_BYTES + 64 * 1024
Note = Annotated[str, Meta(max_length=1000)]


class RulesQuery(NoQuery, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Which rules."""

    version: Annotated[int, Meta(ge=0, description="an earlier version instead of the one in force")] | None = None


class HistoryQuery(NoQuery, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """How much history."""

    limit: Annotated[int, Meta(ge=1, le=100, description="versions wanted, newest first")] = 20


class NewRules(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Rules to put in force."""

    rules: Rules
    version: Annotated[int, Meta(ge=0)]
    """The version that they replace; when another one is in force meanwhile, nothing changes."""
    note: Note = ""
    """Why, for the history."""


class WantedRollback(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A way back."""

    to: Annotated[int, Meta(ge=0)] | None = None
    """The version to take the rules from, 0 for none; the one before, when not given."""
    note: Note = ""


class Trial(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Rules to try, and on whom."""

    rules: Rules
    users: Annotated[list[Identifier], Meta(max_length=200)] = []
    sample: Annotated[int, Meta(ge=0, le=200)] = 50
    """Users in addition, of those who were given lists lately."""
    surface: Literal["home", "popular", "trending"] = "home"
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    region: Annotated[str, Meta(min_length=1, max_length=32)] | None = None


class RulesVersion(Struct, kw_only=True, frozen=True):
    """One version of the rules."""

    version: int
    """0 while nobody has written any."""
    author: str
    """Name and id of the API key."""
    ts: int | None
    """Epoch ms."""
    note: str
    restores: int | None
    """The version that a rollback took it from."""


class RulesAnswer(RulesVersion, kw_only=True, frozen=True):
    """The rules of one version."""

    rules: Rules
    pending: int = 0
    """1: in force, and not yet acknowledged by Kafka."""


class HistoryEntry(RulesVersion, kw_only=True, frozen=True):
    """What a version changed."""

    changes: list[str]
    """`+ blocks recalled`, `- pins easter`, `~ caps genres`."""


class HistoryAnswer(Struct, kw_only=True, frozen=True):
    """Who changed what, newest first."""

    versions: list[HistoryEntry]


class ListChange(Struct, kw_only=True, frozen=True):
    """How one user's list would change."""

    user_id: str
    before: list[str]
    after: list[str]
    gone: list[str]
    new: list[str]
    relaxed: dict[str, int]
    """Rule -> places of the new list at which it would have to give way."""


class TrialAnswer(Struct, kw_only=True, frozen=True):
    """Whose lists would change, and how."""

    version: int
    """In force, which the trial was compared with."""
    changes: list[str]
    """Of the rules themselves, as in the history."""
    n_users: int
    n_changed: int
    n_withheld: int
    """Items of the catalogue that would be kept out of all lists of the surface."""
    lists: list[ListChange]
