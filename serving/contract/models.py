"""The models API, as published."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from serving.contract.documents import DocumentVersion, Note
from serving.contract.queries import NoQuery
from state.artifacts import ArtifactName, Manifest, RankerName


class WantedModel(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Why a model is registered, put in force or taken back."""

    note: Note = ""


class WantedShadow(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """That a model is to score what is served once more."""

    share: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.1
    """Of the lists; 0 ends it."""
    note: Note = ""


class DifferenceQuery(NoQuery, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What to compare with."""

    to: Annotated[str, Meta(description="the other model")]


class ModelsInForce(DocumentVersion, kw_only=True, frozen=True):
    """What ranks, by the newest version of the document."""

    ranker: RankerName
    pending: int = 0
    """1: in force, and not yet acknowledged by Kafka."""


class ListedModel(Struct, kw_only=True, frozen=True):
    """A registered model."""

    name: str
    status: Literal["live", "shadow", "registered", "refused"]
    manifest: Manifest | None = None
    problem: str | None = None
    """Why it is refused: damaged, truncated, or of other inputs than this release has."""


class ModelsAnswer(Struct, kw_only=True, frozen=True):
    """All models, oldest first, and what ranks."""

    in_force: ModelsInForce
    serving: str
    """The version that ranks in the process that answered."""
    shadow: ArtifactName | None
    shadow_share: float
    models: list[ListedModel]


class DeletedModel(Struct, kw_only=True, frozen=True):
    """A model that is not registered any more."""

    deleted: str


class InputDifference(Struct, kw_only=True, frozen=True):
    """How much an input's direct weights differ."""

    name: str
    before: float
    after: float
    """Weight of the input against its mean in the list, in the linear part."""


class ModelsDifference(Struct, kw_only=True, frozen=True):
    """What one model has other than another."""

    before: str
    after: str
    manifest: list[str]
    """`parameters.learning_rate 0.0015 -> 0.003`"""
    metrics: dict[str, dict[str, tuple[float, float]]]
    """Segment -> metric -> before and after, of those that both have, each on its own held-out events."""
    weights_distance: float | None
    """Euclidean distance of all weights, relative to the length of the first model's; null where one has trees."""
    inputs: list[InputDifference]
    """The ten that differ most; none where one has trees."""
