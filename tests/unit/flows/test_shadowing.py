"""The shadow: what it sums, of which lists, and what it is that scores (R20)."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from flows.metrics.shadowing import Shadow, WithShadow
from flows.metrics.tallies import Books, TallyLabels, TallySlates
from flows.metrics.windowed_sums import WindowedSums
from online_models.engine import inputs
from online_models.versions.ranking import Ranking
from state.artifacts import Artifact, chunk_id, chunks_of, encode
from state.control import SHADOW, ControlDocument
from state.entries import CONTROL, MODEL_CHUNK
from state.memory_store import MemoryStore
from state.metrics import BY_NAME, SHADOW_LABELS, SHADOW_SLATES
from state.models import Shadow as Document
from state.records import Example, Impression
from state.registry import Registry
from state.store import Changes
from tests.unit.online_models.artifacts import an_artifact

START = 1_790_000_040_000


class Flow:
    """The tallies of both topics, as the flow has them."""

    def __init__(self, tmp_path: Path) -> None:
        self.store = MemoryStore()
        self.registry = Registry(str(tmp_path))
        self.now = 0.0
        self.shadow = Shadow(self.store, self.registry, lambda: self.now)
        self.slates = WithShadow(TallySlates(), SHADOW_SLATES, self.shadow)
        self.labels = WithShadow(TallyLabels(), SHADOW_LABELS, self.shadow)
        self.books = Books((f.name, WindowedSums()) for f in (*self.slates.families, *self.labels.families))
        self._version = 0

    def put(self, artifact: Artifact | None, share: float = 1.0) -> None:
        """Say what is in the shadow."""
        self._version += 1
        body = SHADOW.encode(Document() if artifact is None else Document(model=artifact.manifest.name, share=share))
        changes = Changes()
        changes.upsert(CONTROL, "shadow", ControlDocument("shadow", self._version, body, "", 0))
        self.store.commit(changes)
        self.now += 10

    def publish(self, artifact: Artifact, damaged: bool = False) -> None:
        changes = Changes()
        content = encode(artifact)
        for number, chunk in enumerate(chunks_of(content[:-1] if damaged else content, 5000)):
            changes.put(MODEL_CHUNK, chunk_id(artifact.manifest.name, number), chunk)
        self.store.commit(changes)

    def sums(self, family: str) -> dict[str, dict[str, int]]:
        (window, *_) = self.books[family].take() or [None]
        return {} if window is None else window.sums


def values_of(n: int = 20, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(n + 1, inputs.N_INPUTS)).astype("<f4")
    values[n] = values[:n].mean(axis=0)
    return values


def served(flow: Flow, scores: list[float], request_id: str = "r1", **fields: object) -> None:
    n = len(scores)
    known = {"features": values_of(n).tobytes(), "feature_set": inputs.FEATURE_SET} | fields
    impression = Impression(
        request_id=request_id, user_id="u", ts=START, surface="home", items=[f"i{k}" for k in range(n)], scores=scores,
        sources=[[]] * n, propensities=[1.0] * n, model="listwise", model_version="1", **known,
    )  # type: ignore[arg-type]  # fmt: skip
    flow.slates.add(flow.books, 0, msgspec.msgpack.encode(impression), START, None)


def labelled(flow: Flow, labels: list[int], request_id: str | None = "r1") -> None:
    n = len(labels)
    example = Example(
        "x", request_id, "u", START, "home", [f"i{k}" for k in range(n)], labels, [None] * n, [1.0] * n,
        values_of(n).tobytes(), inputs.FEATURE_SET, "1",
    )  # fmt: skip
    flow.labels.add(flow.books, 0, msgspec.msgpack.encode(example), START, None)


def chances(artifact: Artifact) -> list[float]:
    values = values_of()
    scores = np.exp(Ranking.of(artifact).score(values[:20], values[20]).astype(np.float64))
    return list((scores / scores.sum()).tolist())


def test_a_model_agrees_with_itself_and_not_with_its_opposite(tmp_path: Path) -> None:
    """R20: from logged inputs, the scores that serving would give."""
    flow, artifact = Flow(tmp_path), an_artifact()
    flow.publish(artifact)
    flow.put(artifact)
    mine = chances(artifact)
    served(flow, mine)
    (of,) = flow.sums("shadow").values()
    assert of["lists"] == 1
    assert (of["kendall"], of["spearman"], of["overlap10"]) == (1_000_000, 1_000_000, 1_000_000)
    assert of["distance"] < 100
    served(flow, (max(mine) + min(mine) - np.array(mine)).tolist())
    (of,) = flow.sums("shadow").values()
    assert (of["lists"], of["kendall"], of["spearman"]) == (2, 0, 0)
    assert BY_NAME["shadow_kendall"].formula.value({"shadow": of}) == 0.0
    assert BY_NAME["shadow_overlap10"].formula.value({"shadow": of}) == pytest.approx(0.5)


def test_would_be_quality_stands_beside_what_was_shown(tmp_path: Path) -> None:
    """R20: the item that the challenger has first was shown last, and taken."""
    flow, artifact = Flow(tmp_path), an_artifact()
    flow.publish(artifact)
    flow.put(artifact)
    best = int(np.argmax(chances(artifact)))
    labelled(flow, [int(k == best) for k in range(20)])
    labelled(flow, [0] * 20)
    labelled(flow, [1], request_id=None)
    (of,) = flow.sums("shadow_labels").values()
    assert of["lists"] == 1
    assert (of["auc"], of["ndcg10"]) == (1_000_000, 1_000_000)
    assert of["shown_auc"] == round(1_000_000 * (19 - best) / 19)
    assert BY_NAME["shadow_log_loss"].formula.value({"shadow_labels": of}) == pytest.approx(
        -np.log(chances(artifact)[best]), abs=1e-4
    )


def test_only_the_share_is_scored_and_the_same_lists_of_both_topics(tmp_path: Path) -> None:
    """R20"""
    flow, artifact = Flow(tmp_path), an_artifact()
    flow.publish(artifact)
    flow.put(artifact, share=0.2)
    for k in range(200):
        served(flow, chances(artifact), f"r{k}")
        labelled(flow, [1] + [0] * 19, f"r{k}")
    (slates,), (labels,) = flow.sums("shadow").values(), flow.sums("shadow_labels").values()
    assert 20 < slates["lists"] == labels["lists"] < 60


def test_what_it_cannot_score_is_left_out(tmp_path: Path) -> None:
    """R20: degraded lists have no inputs; other releases have others."""
    flow, artifact = Flow(tmp_path), an_artifact()
    flow.publish(artifact)
    flow.put(artifact)
    served(flow, [0.5, 0.5], features=b"")
    served(flow, [0.5, 0.5], feature_set="other")
    served(flow, [0.0, 0.0])
    served(flow, [1.0])
    assert flow.sums("shadow") == {}
    assert flow.sums("slates")[""]["slates"] == 4


def test_it_follows_the_document(tmp_path: Path) -> None:
    """R18, R20: from Redis, else from the registry; what is damaged in both scores nothing; an end is an end."""
    flow, (one, two, three) = Flow(tmp_path), [an_artifact(seed) for seed in (1, 2, 3)]
    assert flow.shadow.current() is None
    flow.publish(one)
    flow.publish(two, damaged=True)
    flow.registry.put(two)
    names = []
    for artifact in (one, two, three, one, None):
        flow.put(artifact)
        challenger = flow.shadow.current()
        names.append(None if challenger is None else challenger.name)
    assert names == [one.manifest.name, two.manifest.name, None, one.manifest.name, None]
