"""The control documents as this process knows them: followed in Redis, kept on disk, never forgotten."""

import asyncio
import logging
import os
from pathlib import Path

import msgspec

from online_models.rules import ActiveRules
from serving.memory.tasks import stop
from state.control import RULES, ControlDocument, parse_rules
from state.entries import CONTROL, StateDecodeError
from state.settings import Settings
from state.store import AsyncStore, StoreUnavailableError
from state.validation import InvalidInputError

_RETRY_S = 0.25
_log = logging.getLogger("serving")


class Control:
    """Follows the rules document.

    What was known once holds until a newer version is read: an emptied Redis takes no block away. A process that
    knows more than Redis writes it back. Without Redis the copy on disk holds, at first.
    """

    def __init__(self, settings: Settings, store: AsyncStore) -> None:
        self._store = store
        self._path = settings.home / f"rules-{settings.namespace or 'default'}.bin"
        self.document: ControlDocument | None = None
        """As it is in force."""
        self.rules = ActiveRules()
        self.degraded: str | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take the copy on disk, if there is one, and follow the store in the background."""
        try:
            self.take(msgspec.msgpack.decode(self._path.read_bytes(), type=ControlDocument), save=False)
        except FileNotFoundError:
            pass
        except (OSError, msgspec.MsgspecError) as error:
            _log.warning("%s is not used: %s", self._path.name, error)
        self._tasks = [asyncio.create_task(self._follow())]

    async def aclose(self) -> None:
        await stop(*self._tasks)

    def take(self, document: ControlDocument, save: bool = True) -> None:
        """Let a document hold from now on, if it is newer than what holds."""
        if self.document is not None and document.version <= self.document.version:
            return
        try:
            rules = ActiveRules(parse_rules(document.body), document.version)
        except InvalidInputError as error:
            # Written by a newer release, say: what is understood stays in force.
            self.degraded = f"version {document.version} is not understood: {error}"
            _log.error("rules: %s", self.degraded)
            return
        self.document, self.rules, self.degraded = document, rules, None
        _log.info("rules: version %d by %s is in force", document.version, document.author)
        if save:
            self._save(document)

    async def _follow(self) -> None:
        while True:
            try:
                async for changes in self._store.follow((CONTROL,)):
                    stored = changes.rows.get(CONTROL, {}).get(RULES)
                    if stored is not None:
                        self.take(stored)
                    if changes.complete or RULES in changes.rows.get(CONTROL, {}):
                        await self._write_back(stored)
            except (StoreUnavailableError, StateDecodeError) as error:
                _log.debug("control documents are not followed: %s", error)
            except Exception:
                # A bug here must not end the following: rules that are withdrawn would hold for ever.
                _log.exception("following control documents failed")
            await asyncio.sleep(_RETRY_S)

    async def _write_back(self, stored: ControlDocument | None) -> None:
        """Give the store what this process knows and the store has lost."""
        known = self.document
        if known is not None and (stored is None or stored.version < known.version):
            await self._store.replace_document(known, None if stored is None else stored.version)

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
