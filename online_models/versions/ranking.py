"""One version of the ranker, as lists are ordered by it."""

from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.engine import inputs
from online_models.engine.contributions import contributions
from online_models.engine.scorer import Scorer, SnapshotVersionError
from online_models.versions.trees import TreeScorer
from state.artifacts import Artifact, ArtifactError

MODEL_NAME = "listwise"
_KINDS: dict[str, tuple[str, type[Scorer] | type[TreeScorer]]] = {
    "ranker": (MODEL_NAME, Scorer),
    "trees": ("trees", TreeScorer),
}
"""`Manifest.model` -> what answers call it, and what scores."""


@dataclass(frozen=True)
class Ranking:
    """Weights and the version that answers and impressions tell of them: one object, so that they are never mixed.

    Its scorer is never written to: other weights are another object.
    """

    version: str
    scorer: Scorer | TreeScorer
    name: str = MODEL_NAME

    @classmethod
    def live(cls, weights: bytes) -> Self:
        """Return the online ranker with its newest weights. Raise `SnapshotVersionError`."""
        scorer = Scorer(inputs.N_INPUTS).load(weights, inputs.NAMES)
        return cls(f"{inputs.FEATURE_SET}-{scorer.n_lists}", scorer)

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        """Return an artifact's ranker. Raise `ArtifactError` when it is of other inputs or another layout."""
        manifest = artifact.manifest
        if manifest.feature_set != inputs.FEATURE_SET:
            raise ArtifactError(
                f"{manifest.name}: expected feature set {inputs.FEATURE_SET}, got {manifest.feature_set}"
            )
        if manifest.model not in _KINDS:
            raise ArtifactError(f"{manifest.name}: expected one of {', '.join(_KINDS)}, got {manifest.model!r}")
        name, kind = _KINDS[manifest.model]
        try:
            return cls(manifest.name, kind(inputs.N_INPUTS).load(artifact.weights, inputs.NAMES), name)
        except (SnapshotVersionError, msgspec.MsgspecError, ValueError) as error:
            raise ArtifactError(f"{manifest.name}: {error}") from error

    def score(self, features: NDArray[np.float32], mean: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the score of each candidate of one list, shape (n,): only their order means anything.

        `mean`: `Scorer.list_mean` of the features, where it is known already.
        """
        if not self.scorer.is_ready:
            return inputs.untrained(features)
        return self.scorer.predict_many(features, mean)

    def contributions(
        self, features: NDArray[np.float32], mean: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Return what each input contributes to each score, shape (n, n_inputs), the scores and that of the mean.

        `mean`: over all candidates that were scored together.
        """
        if self.scorer.is_ready:
            if isinstance(self.scorer, TreeScorer):
                parts, baseline = self.scorer.contributions(features, mean)
            else:
                parts, baseline = contributions(self.scorer, features, mean)
            return parts, self.scorer.predict_many(features, mean).astype(np.float64), baseline
        one_each = np.eye(inputs.N_INPUTS, dtype=np.float32)
        effects = (features - mean).astype(np.float64) * inputs.untrained(one_each).astype(np.float64)
        return effects, inputs.untrained(features).astype(np.float64), float(inputs.untrained(mean[None, :])[0])
