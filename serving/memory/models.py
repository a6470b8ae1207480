"""The registered models that lists are ranked by in this process: loaded beside requests, checked, swapped whole."""

import asyncio
import logging
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from online_models.versions.ranking import Ranking
from serving.memory.tasks import stop
from state.artifacts import ONLINE, ArtifactError, chunk_id, chunks_of, decode, joined
from state.entries import MODEL_CHUNK, StateDecodeError
from state.registry import Registry, RegistryError, UnknownModelError
from state.settings import Settings
from state.store import AsyncStore, StoreUnavailableError

_RETRY_S = 1.0
_log = logging.getLogger("serving")


class _Loaded(NamedTuple):
    ranking: Ranking
    content: bytes


class Models:
    """Follows which model is wanted; one that cannot be used changes nothing: the one before goes on to rank.

    Parameters
    ----------
    in_force
        Returns the name of what is to rank, `ONLINE` for the live learner.
    others
        Returns the names of what arms of experiments rank by.
    """

    def __init__(
        self,
        settings: Settings,
        store: AsyncStore,
        registry: Registry,
        in_force: Callable[[], str],
        others: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._store = store
        self._registry = registry
        self._in_force = in_force
        self._others = others
        self._path = settings.home / f"model-{settings.namespace or 'default'}.bin"
        self._loaded: dict[str, _Loaded] = {}
        self.ranking: Ranking | None = None
        """What ranks; None: the online ranker."""
        self._problems: dict[str, str] = {}
        self._woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def wake(self) -> None:
        """Say that other models may be wanted."""
        self._woken.set()

    @property
    def degraded(self) -> dict[str, str]:
        """Return what is wrong, when not the model that is to rank does."""
        problem = self._problems.get(self._in_force())
        return {} if problem is None else {"models": problem}

    def find(self, name: str) -> Ranking | None:
        """Return a model that an arm asks for, if it is loaded."""
        found = self._loaded.get(name)
        return None if found is None else found.ranking

    async def start(self) -> None:
        """Take the copy on disk, before the first list is made, and load what is wanted in the background."""
        await asyncio.to_thread(self._recall)
        self._tasks = [asyncio.create_task(self._follow())]

    async def aclose(self) -> None:
        await stop(*self._tasks)

    async def publish(self, name: str) -> Ranking:
        """Put a registered model where all processes find it, once it is checked that it can be used.

        Raise `UnknownModelError`, `ArtifactError`, `RegistryError` or `StoreUnavailableError`.
        """
        content = await asyncio.to_thread(self._registry.read, name)
        ranking = Ranking.of(decode(content, name))
        await self._share(name, content)
        return ranking

    async def _follow(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._load()
            except Exception:
                # A bug here must not end the following: a rollback would never come.
                _log.exception("following the models failed")
            try:
                async with asyncio.timeout(_RETRY_S if self._problems else None):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _load(self) -> None:
        first = self._in_force()
        wanted = {name for name in (first, *self._others()) if name != ONLINE}
        self._problems = {name: problem for name, problem in self._problems.items() if name in wanted}
        if first == ONLINE:
            await self._rank(first, None)
        for name in sorted(wanted, key=lambda name: name != first):
            if name not in self._loaded:
                try:
                    self._loaded[name] = await self._fetched(name)
                except (ArtifactError, UnknownModelError, RegistryError, StoreUnavailableError) as error:
                    if self._problems.get(name) != str(error):
                        _log.error("model %s is not used: %s", name, error)
                    self._problems[name] = str(error)
                    continue
                self._problems.pop(name, None)
            if name == self._in_force():
                await self._rank(name, self._loaded[name])
        self._loaded = {name: loaded for name, loaded in self._loaded.items() if name in wanted}

    async def _rank(self, name: str, loaded: _Loaded | None) -> None:
        ranking = None if loaded is None else loaded.ranking
        if self.ranking is ranking:
            return
        self.ranking = ranking  # a list that is begun keeps its own
        _log.info("lists are ranked by %s from now on", name)
        if loaded is not None:
            await asyncio.to_thread(self._save, loaded.content)

    async def _fetched(self, name: str) -> _Loaded:
        """Return a model from Redis, or where that has none that can be used, from the registry."""
        try:
            content = await self._shared(name)
            return _Loaded(Ranking.of(decode(content, name)), content)
        except (ArtifactError, StateDecodeError, StoreUnavailableError) as error:
            _log.info("the registry is asked for %s, Redis does not have it: %s", name, error)
        content = await asyncio.to_thread(self._registry.read, name)
        ranking = Ranking.of(decode(content, name))
        try:
            await self._share(name, content)
        except StoreUnavailableError as error:
            _log.info("%s is not put into Redis: %s", name, error)
        return _Loaded(ranking, content)

    async def _shared(self, name: str) -> bytes:
        first = await self._store.get(MODEL_CHUNK, chunk_id(name, 0))
        n_chunks = 1 if first is None else first.n_chunks
        others = await self._store.get_many(MODEL_CHUNK, [chunk_id(name, k) for k in range(1, n_chunks)])
        return joined(name, [first, *others])

    async def _share(self, name: str, content: bytes) -> None:
        for number, chunk in enumerate(chunks_of(content)):
            await self._store.put(MODEL_CHUNK, chunk_id(name, number), chunk)

    def _recall(self) -> None:
        """Rank by the model that ranked last, whole as it was, until what is wanted now is loaded."""
        if self._in_force() == ONLINE:
            return
        try:
            content = self._path.read_bytes()
            self.ranking = Ranking.of(decode(content))
        except FileNotFoundError:
            return
        except (OSError, ArtifactError) as error:
            _log.warning("%s is not used: %s", self._path.name, error)
            return
        self._loaded[self.ranking.version] = _Loaded(self.ranking, content)

    def _save(self, content: bytes) -> None:
        """Keep what ranks: a start without Redis and registry ranks by it."""
        partial = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(partial).replace(self._path)
        except OSError as error:
            _log.warning("%s is not saved: %s", self._path.name, error)
