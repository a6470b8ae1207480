"""The control documents as this process knows them: followed in Redis, kept on disk, never forgotten."""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from online_models.experiments.active import ActiveExperiments
from online_models.reranking.rules import ActiveRules
from serving.memory.tasks import stop
from state.control import EXPERIMENTS, MODELS, RULES, SHADOW, ControlDocument, Kind
from state.entries import CONTROL, StateDecodeError
from state.settings import Settings
from state.store import AsyncStore, StoreUnavailableError
from state.validation import InvalidInputError

A = TypeVar("A")
B = TypeVar("B", bound=Struct)

_RETRY_S = 0.25
_log = logging.getLogger("serving")


class Held(Generic[B, A]):
    """One kind of document, as it is in force in this process.

    Parameters
    ----------
    understand
        Makes of a body and its version what requests use; raises `InvalidInputError`.
    """

    def __init__(self, kind: Kind[B], understand: Callable[[B, int], A], settings: Settings) -> None:
        self.kind = kind
        self._understand = understand
        self._path = settings.home / f"{kind.name}-{settings.namespace or 'default'}.bin"
        self.document: ControlDocument | None = None
        self.active = understand(kind.nothing, 0)
        self.degraded: str | None = None
        self.on_change: Callable[[], None] = lambda: None

    def recall(self) -> None:
        """Take the copy on disk, if there is one."""
        try:
            self.take(msgspec.msgpack.decode(self._path.read_bytes(), type=ControlDocument), save=False)
        except FileNotFoundError:
            pass
        except (OSError, msgspec.MsgspecError) as error:
            _log.warning("%s is not used: %s", self._path.name, error)

    def take(self, document: ControlDocument, save: bool = True) -> None:
        """Let a document hold from now on, if it is newer than what holds."""
        if self.document is not None and document.version <= self.document.version:
            return
        try:
            active = self._understand(self.kind.parse(document.body), document.version)
        except InvalidInputError as error:
            # Written by a newer release, say: what is understood stays in force.
            self.degraded = f"version {document.version} is not understood: {error}"
            _log.error("%s: %s", self.kind.name, self.degraded)
            return
        self.document, self.active, self.degraded = document, active, None
        self.on_change()
        _log.info("%s: version %d by %s is in force", self.kind.name, document.version, document.author)
        if save:
            self._save(document)

    def _save(self, document: ControlDocument) -> None:
        partial = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(msgspec.msgpack.encode(document))
                file.flush()
                os.fsync(file.fileno())
            Path(partial).replace(self._path)
        except OSError as error:
            _log.warning("%s is not saved: %s", self._path.name, error)


class Control:
    """Follows the documents.

    What was known once holds until a newer version is read: an emptied Redis takes no block away. A process that
    knows more than Redis writes it back. Without Redis the copies on disk hold, at first.
    """

    def __init__(self, settings: Settings, store: AsyncStore) -> None:
        self._store = store
        self.rules = Held(RULES, ActiveRules, settings)
        self.experiments = Held(EXPERIMENTS, ActiveExperiments, settings)
        self.models = Held(MODELS, lambda body, version: body, settings)
        self.shadow = Held(SHADOW, lambda body, version: body, settings)
        self._kinds: tuple[Held[Any, Any], ...] = (self.rules, self.experiments, self.models, self.shadow)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def degraded(self) -> dict[str, str]:
        """Return kind -> why its newest document is not in force here."""
        return {held.kind.name: held.degraded for held in self._kinds if held.degraded is not None}

    async def start(self) -> None:
        """Take the copies on disk, and follow the store in the background."""
        for held in self._kinds:
            held.recall()
        self._tasks = [asyncio.create_task(self._follow())]

    async def aclose(self) -> None:
        await stop(*self._tasks)

    async def _follow(self) -> None:
        while True:
            try:
                async for changes in self._store.follow((CONTROL,)):
                    rows = changes.rows.get(CONTROL, {})
                    for held in self._kinds:
                        if changes.complete or held.kind.name in rows:
                            await self._compare(held, rows.get(held.kind.name))
            except (StoreUnavailableError, StateDecodeError) as error:
                _log.debug("control documents are not followed: %s", error)
            except Exception:
                # A bug here must not end the following: rules that are withdrawn would hold for ever.
                _log.exception("following control documents failed")
            await asyncio.sleep(_RETRY_S)

    async def _compare(self, held: Held[Any, Any], stored: ControlDocument | None) -> None:
        """Take what the store knows, or give it what this process knows and the store has lost."""
        if stored is not None:
            held.take(stored)
        known = held.document
        if known is not None and (stored is None or stored.version < known.version):
            await self._store.replace_document(known, None if stored is None else stored.version)
