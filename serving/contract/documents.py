"""What is published of control documents of any kind: versions, history, the way back."""

from typing import Annotated

from msgspec import Meta, Struct

from serving.contract.queries import NoQuery

Note = Annotated[str, Meta(max_length=1000)]


class VersionQuery(NoQuery, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Which version."""

    version: Annotated[int, Meta(ge=0, description="an earlier version instead of the one in force")] | None = None


class HistoryQuery(NoQuery, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """How much history."""

    limit: Annotated[int, Meta(ge=1, le=100, description="versions wanted, newest first")] = 20


class WantedRollback(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A way back."""

    to: Annotated[int, Meta(ge=0)] | None = None
    """The version to go back to, 0 for none; the one before, when not given."""
    note: Note = ""


class DocumentVersion(Struct, kw_only=True, frozen=True):
    """One version of a document."""

    version: int
    """0 while nobody has written any."""
    author: str
    """Name and id of the API key."""
    ts: int | None
    """Epoch ms."""
    note: str
    restores: int | None
    """The version that a rollback took it from."""


class HistoryEntry(DocumentVersion, kw_only=True, frozen=True):
    """What a version changed."""

    changes: list[str]
    """`+ blocks recalled`, `- pins easter`, `~ caps genres`."""


class HistoryAnswer(Struct, kw_only=True, frozen=True):
    """Who changed what, newest first."""

    versions: list[HistoryEntry]
