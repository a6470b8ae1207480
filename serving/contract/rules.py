"""The rules API, as published."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from serving.contract.documents import DocumentVersion, Note
from state.records import Identifier
from state.rules import MAX_BYTES, Rules

BODY_LIMIT = MAX_BYTES + 64 * 1024


class NewRules(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Rules to put in force."""

    rules: Rules
    version: Annotated[int, Meta(ge=0)]
    """The version that they replace; when another one is in force meanwhile, nothing changes."""
    note: Note = ""
    """Why, for the history."""


class Trial(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Rules to try, and on whom."""

    rules: Rules
    users: Annotated[list[Identifier], Meta(max_length=200)] = []
    sample: Annotated[int, Meta(ge=0, le=200)] = 50
    """Users in addition, of those who were given lists lately."""
    surface: Literal["home", "popular", "trending"] = "home"
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    region: Annotated[str, Meta(min_length=1, max_length=32)] | None = None


class RulesAnswer(DocumentVersion, kw_only=True, frozen=True):
    """The rules of one version."""

    rules: Rules
    pending: int = 0
    """1: in force, and not yet acknowledged by Kafka."""


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
