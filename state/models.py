"""The documents that say which models work: which one ranks, and which one is tried in the shadow."""

from typing import Annotated

from msgspec import Meta, Struct

from state.artifacts import ONLINE, ArtifactName, RankerName

MAX_MODELS_BYTES = 4096


class Models(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What ranks the lists of everybody whom no experiment gives another model."""

    ranker: RankerName = ONLINE


class Shadow(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What scores served lists once more, off the path of requests."""

    model: ArtifactName | None = None
    share: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.1
    """Of the lists, chosen by their request ids."""
