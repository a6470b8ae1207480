"""The experiments API, as published."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from serving.contract.documents import DocumentVersion, Note
from state.experiments import MAX_EXPERIMENTS_BYTES, Experiment, Name, Plan

BODY_LIMIT = MAX_EXPERIMENTS_BYTES


class NewExperiment(Plan, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A plan, which changes nothing until it is started."""

    note: Note = ""
    """Why, for the history."""


class WantedStart(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """That users are to be assigned."""

    note: Note = ""


class WantedRamp(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Another share of the layer's users."""

    share: Annotated[float, Meta(ge=0, le=1)]
    note: Note = ""


class WantedStop(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """That nobody is to be assigned any more."""

    reason: Annotated[str, Meta(min_length=1, max_length=1000)]
    arm: Name | None = None
    """Only this arm; the whole experiment when not given."""


class ExperimentsAnswer(DocumentVersion, kw_only=True, frozen=True):
    """All experiments, oldest first."""

    experiments: list[Experiment]
    pending: int = 0
    """1: in force, and not yet acknowledged by Kafka."""


class ExperimentAnswer(DocumentVersion, kw_only=True, frozen=True):
    """One experiment, in the version of the document that says so."""

    experiment: Experiment
    pending: int = 0
    sums: dict[str, dict[str, int]] | UnsetType = UNSET
    """Arm -> what its users did since its first list, as the flow `experiments` counts: `users`, sums over them of
    `lists`, `degraded`, `labelled`, `positives`, `saves`, `hides`, `converted`, `watch_s`, `returned`, of `latency`
    (tenths of a millisecond), `novelty` (hundredths of a bit) and `diversity` (thousandths) over the lists of which
    they are known (`timed`, `judged`, `compared`), and sums of products, as in `labelled*positives`."""
    arms: dict[str, dict[str, float | int | None]] | UnsetType = UNSET
    """Arm -> the 95 % quantile of latency, and how many different items were shown."""
    days: list[dict[str, float | int | str | None]] | UnsetType = UNSET
    """The metrics of each arm on each day (UTC), oldest first."""
    switched_users: int | UnsetType = UNSET
    """Seen in several arms, and left out."""
