"""`/v1/admin/models`: what is registered, what ranks, what is tried in the shadow."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

import falcon.asgi
import msgspec
import numpy as np

from online_models.engine import inputs
from online_models.engine.scorer import Scorer
from online_models.versions.ranking import Ranking
from online_models.versions.revision import revision
from serving.contract.bodies import read_body, send
from serving.contract.documents import WantedRollback
from serving.contract.models import (
    DeletedModel,
    DifferenceQuery,
    InputDifference,
    ListedModel,
    ModelsAnswer,
    ModelsDifference,
    ModelsInForce,
    WantedModel,
    WantedShadow,
)
from serving.contract.problems import ProblemError
from serving.contract.queries import NoQuery, parse_query, path_identifier
from serving.memory.mirror import Mirror
from serving.memory.models import Models
from serving.resources.documents import Documents, caller
from state.artifacts import ONLINE, Artifact, ArtifactError, Lineage, Manifest, name_of
from state.control import MODELS, ControlDocument
from state.entries import MODEL
from state.models import Models as ModelsDocument
from state.models import Shadow
from state.records import Watermark
from state.registry import Registry, RegistryError, UnknownModelError
from state.store import AsyncStore, StoreUnavailableError
from state.validation import decode

_BODY_LIMIT = 64 * 1024
_SHOWN_INPUTS = 10
_ATTEMPTS = 5
"""Of reading weights and watermarks of one commit; the learner commits about once a second, or less often."""
_wanted_decoder = msgspec.json.Decoder(WantedModel)
_shadow_decoder = msgspec.json.Decoder(WantedShadow)
_rollback_decoder = msgspec.json.Decoder(WantedRollback)

T = TypeVar("T")


class Promoting:
    """Registers the live model, and changes what ranks and what is tried.

    Parameters
    ----------
    in_arms
        Returns the models that arms of experiments rank by.
    """

    def __init__(
        self,
        documents: Documents[ModelsDocument],
        shadows: Documents[Shadow],
        models: Models,
        registry: Registry,
        store: AsyncStore,
        mirror: Mirror,
        in_arms: Callable[[], Collection[str]],
    ) -> None:
        self.documents = documents
        self.shadows = shadows
        self.registry = registry
        self._models = models
        self._store = store
        self._mirror = mirror
        self._in_arms = in_arms

    @property
    def serving(self) -> Ranking:
        """What ranks in this process."""
        return self._models.ranking or self._mirror.current.ranking

    async def get(self, name: str) -> Artifact:
        """Return a registered model. Raise `ProblemError` 404, 409 (it is refused) or 503."""
        return await told(asyncio.to_thread(self.registry.get, name))

    async def rank_by(
        self, name: str, author: str, note: str, restores: int | None = None, expected: int | None = None
    ) -> ModelsInForce:
        """Let a model rank, once all processes can have it. Raise `ProblemError` 404, 409 or 503."""
        if name != ONLINE:
            await told(self._models.publish(name))
        body = ModelsDocument(ranker=name)
        return in_force(*await self.documents.write(body, author, note, expected, restores))

    async def snapshot(self, note: str) -> Manifest:
        """Register the live ranker as it is now. Raise `ProblemError` 503."""
        artifact = await told(self._live(note))
        await told(asyncio.to_thread(self.registry.put, artifact))
        return artifact.manifest

    async def shadow(self, name: str, share: float, author: str, note: str) -> None:
        """Let a model score what is served once more. Raise `ProblemError` 404, 409 or 503."""
        if share:
            await told(self._models.publish(name))
        await self.shadows.write(Shadow(model=name, share=share) if share else Shadow(), author, note, None)

    async def delete(self, name: str) -> None:
        """Remove a model that nothing uses. Raise `ProblemError` 404, 409 or 503."""
        uses = {
            "it ranks; promote another one first": self.documents.body_of(await self.documents.in_force()).ranker,
            "it is in the shadow; --share 0 ends that": self.shadows.body_of(await self.shadows.in_force()).model,
        }
        for use, model in uses.items():
            if model == name:
                raise ProblemError(409, f"{name}: {use}")
        if name in self._in_arms():
            raise ProblemError(409, f"{name}: an arm of a running experiment ranks by it; stop that first")
        await told(asyncio.to_thread(self.registry.delete, name))

    async def _live(self, note: str) -> Artifact:
        marks, weights = await self._committed()
        if weights is None:
            scorer = self._mirror.current.ranking.scorer
            assert isinstance(scorer, Scorer)  # the live one
            weights = scorer.weights(inputs.NAMES)
        now_ms = int(time.time() * 1000)
        ranking = Ranking.live(weights)
        lineage = Lineage(
            source="online",
            offsets={f"{topic}/{partition}": (0, mark.next_offset) for (topic, partition), mark in marks.items()},
        )
        manifest = Manifest(
            name=name_of("ranker", now_ms, weights),
            created_ms=now_ms,
            feature_set=inputs.FEATURE_SET,
            code=revision(),
            n_lists=ranking.scorer.n_lists,
            lineage=lineage,
            note=note,
        )
        return Artifact(manifest, weights)

    async def _committed(self) -> tuple[dict[tuple[str, int], Watermark], bytes | None]:
        """Return the learner's watermarks and weights, of one commit."""
        for _ in range(_ATTEMPTS):
            before = await self._store.watermarks("learn")
            row = (await self._store.get_rows(MODEL, ["ranker"])).get("ranker")
            if before == await self._store.watermarks("learn"):
                return before, None if row is None else row.blob
        raise StoreUnavailableError("the learner commits faster than its state can be read; try again")


async def told(work: Awaitable[T]) -> T:
    """Return what the work returns. Raise `ProblemError` 404, 409 or 503 for what models and stores raise."""
    try:
        return await work
    except UnknownModelError as error:
        raise ProblemError(404, str(error), field="name") from error
    except ArtifactError as error:
        raise ProblemError(409, f"refused: {error}", field="name") from error
    except (RegistryError, StoreUnavailableError) as error:
        raise ProblemError(503, str(error), retry_after_s=1) from error


class AllModels:
    """All of them, and one more: the live one as it is now."""

    def __init__(self, promoting: Promoting) -> None:
        self._promoting = promoting

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        parse_query(NoQuery, req.params)
        promoting = self._promoting
        ranks = in_force(await promoting.documents.in_force())
        shadow = promoting.shadows.body_of(await promoting.shadows.in_force())
        found = await told(asyncio.to_thread(promoting.registry.listed))
        models = []
        for name, manifest, damage in found:
            problem = damage or (None if manifest is None else _incompatible(manifest))
            status: Any = "refused" if problem else "registered"
            if name == ranks.ranker:
                status = "live"
            elif name == shadow.model:
                status = "shadow"
            models.append(ListedModel(name=name, status=status, manifest=manifest, problem=problem))
        send(
            resp,
            ModelsAnswer(
                in_force=ranks,
                serving=promoting.serving.version,
                shadow=shadow.model,
                shadow_share=shadow.share if shadow.model else 0.0,
                models=models,
            ),
        )

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        send(resp, await self._promoting.snapshot((await _wanted(req)).note), 201)


class OneModel:
    """What one is, and the end of it."""

    def __init__(self, promoting: Promoting) -> None:
        self._promoting = promoting

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str) -> None:
        parse_query(NoQuery, req.params)
        send(resp, (await self._promoting.get(path_identifier("name", name))).manifest)

    async def on_delete(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str) -> None:
        parse_query(NoQuery, req.params)
        await self._promoting.delete(path_identifier("name", name))
        send(resp, DeletedModel(deleted=name))


class Difference:
    """What another has other than this one."""

    def __init__(self, promoting: Promoting) -> None:
        self._promoting = promoting

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str) -> None:
        to = parse_query(DifferenceQuery, req.params).to
        before = await self._promoting.get(path_identifier("name", name))
        send(resp, await told(_compared(before, await self._promoting.get(to))))


class Promote:
    """It ranks from now on, in all processes within two seconds."""

    def __init__(self, promoting: Promoting) -> None:
        self._promoting = promoting

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str) -> None:
        wanted = await _wanted(req)
        note = wanted.note or f"promote {name}"
        send(resp, await self._promoting.rank_by(path_identifier("name", name), caller(req), note))


class Pin:
    """The live ranker as it is now is registered, and ranks: the learner goes on, and changes no list."""

    def __init__(self, promoting: Promoting) -> None:
        self._promoting = promoting

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        note = (await _wanted(req)).note or "pin"
        manifest = await self._promoting.snapshot(note)
        send(resp, await self._promoting.rank_by(manifest.name, caller(req), note))


class RollbackModels:
    """What ranked before ranks again, once it is checked like any other."""

    def __init__(self, promoting: Promoting) -> None:
        self._promoting = promoting

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        parse_query(NoQuery, req.params)
        wanted = decode(_rollback_decoder, await read_body(req, _BODY_LIMIT) or b"{}", _BODY_LIMIT)
        documents = self._promoting.documents
        newest = await documents.in_force()
        if newest is None:
            raise ProblemError(409, "no model was ever promoted", field="to")
        to = newest.version - 1 if wanted.to is None else wanted.to
        name = documents.body_of(await documents.version(to, "to")).ranker
        note = wanted.note or f"back to {name}"
        send(resp, await self._promoting.rank_by(name, caller(req), note, restores=to, expected=newest.version))


class ShadowModel:
    """It scores a share of what is served once more, or no longer."""

    def __init__(self, promoting: Promoting) -> None:
        self._promoting = promoting

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str) -> None:
        parse_query(NoQuery, req.params)
        wanted = decode(_shadow_decoder, await read_body(req, _BODY_LIMIT) or b"{}", _BODY_LIMIT)
        note = wanted.note or f"shadow {name}"
        await self._promoting.shadow(path_identifier("name", name), wanted.share, caller(req), note)
        send(resp, Shadow(model=name, share=wanted.share) if wanted.share else Shadow(share=0.0))


def in_force(document: ControlDocument | None, pending: int = 0) -> ModelsInForce:
    """Return what is told of a version; None is what holds before the first one."""
    if document is None:
        return ModelsInForce(version=0, author="", ts=None, note="", restores=None, ranker=ONLINE)
    return ModelsInForce(
        version=document.version,
        author=document.author,
        ts=document.ts,
        note=document.note,
        restores=document.restores,
        ranker=MODELS.parse(document.body).ranker,
        pending=pending,
    )


def differences(before: ModelsDocument, after: ModelsDocument) -> list[str]:
    """Say what ranks instead of what."""
    return [] if before == after else [f"{before.ranker} -> {after.ranker}"]


async def _wanted(req: falcon.asgi.Request) -> WantedModel:
    parse_query(NoQuery, req.params)
    return decode(_wanted_decoder, await read_body(req, _BODY_LIMIT) or b"{}", _BODY_LIMIT)


def _incompatible(manifest: Manifest) -> str | None:
    if manifest.feature_set == inputs.FEATURE_SET:
        return None
    return f"expected feature set {inputs.FEATURE_SET}, got {manifest.feature_set}"


async def _compared(before: Artifact, after: Artifact) -> ModelsDifference:
    scorers = Ranking.of(before).scorer, Ranking.of(after).scorer
    distance: float | None = None
    changed: list[InputDifference] = []
    if isinstance(scorers[0], Scorer) and isinstance(scorers[1], Scorer):
        distance, changed = _weights_compared(scorers[0], scorers[1])
    told_before, told_after = (_flat(msgspec.to_builtins(artifact.manifest)) for artifact in (before, after))
    metrics = (before.manifest.metrics, after.manifest.metrics)
    return ModelsDifference(
        before=before.manifest.name,
        after=after.manifest.name,
        manifest=[
            f"{key} {told_before.get(key)} -> {told_after.get(key)}"
            for key in sorted(told_before.keys() | told_after.keys())
            if told_before.get(key) != told_after.get(key)
        ],
        metrics={
            segment: {name: (of[name], metrics[1][segment][name]) for name in of if name in metrics[1][segment]}
            for segment, of in metrics[0].items()
            if segment in metrics[1]
        },
        weights_distance=distance,
        inputs=changed,
    )


def _weights_compared(*scorers: Scorer) -> tuple[float, list[InputDifference]]:
    old, new = (np.concatenate([layer.ravel() for layer in scorer.layers]) for scorer in scorers)
    linear = [scorer.layers[5][inputs.N_INPUTS :] for scorer in scorers]
    most = np.argsort(-np.abs(linear[1] - linear[0]), kind="stable")[:_SHOWN_INPUTS].tolist()
    return float(np.linalg.norm(new - old) / max(float(np.linalg.norm(old)), 1e-12)), [
        InputDifference(name=inputs.NAMES[k], before=float(linear[0][k]), after=float(linear[1][k])) for k in most
    ]


def _flat(of: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in of.items():
        if key in ("metrics", "beside", "name"):
            continue
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
