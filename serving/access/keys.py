"""API keys. The file holds hashes only: who reads it can call nothing.

A key is `fr_<id>_<secret>`. The id finds the entry, the whole is compared as SHA-256. A secret has 256 random bits, so
a slow hash would protect it no better, and each request would pay for it.
"""

import hashlib
import hmac
import ipaddress
import logging
import os
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from serving.contract.scopes import Scope
from state.settings import Settings

_PREFIX = "fr"
_LOOK_EVERY_S = 1.0
MAX_KEYS = 4096
_log = logging.getLogger("serving")


class KeyFileError(Exception):
    """The file of keys cannot be used."""


class NotProtectedError(Exception):
    """Serving would be reachable from elsewhere, for everybody."""


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the file. Entries stay when they are revoked: their place in the file is that of their rate."""

    id: str
    name: str
    scopes: list[Scope]
    sha256: str
    rate: float | None = None
    """Requests a second; None: what the settings say."""
    created: str
    revoked: str | None = None


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    keys: list[Key] = []


_decoder = msgspec.json.Decoder(KeyFile)


def read(path: Path) -> list[Key]:
    """Return the entries, none when there is no file. Raise `KeyFileError`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    try:
        return _decoder.decode(content).keys
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path} is no file of keys: {error}") from error


def write(path: Path, keys: Sequence[Key]) -> None:
    """Replace the file as a whole, readable for its owner only. Raise `KeyFileError`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(msgspec.json.format(msgspec.json.encode(KeyFile(list(keys))), indent=1) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error


def make(name: str, scopes: Sequence[Scope], rate: float | None) -> tuple[str, Key]:
    """Return a new key, which is nowhere else, and its entry."""
    key_id = secrets.token_hex(6)
    key = f"{_PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
    return key, Key(id=key_id, name=name, scopes=list(scopes), sha256=_hash(key).hex(), rate=rate, created=now())


def now() -> str:
    """Return the time of an entry."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


class KeyRing:
    """The keys of the file as it is now: a change is noticed within a second or so.

    A file that has become unreadable changes nothing, and is logged: neither is everybody shut out nor let in.

    Raises
    ------
    KeyFileError
        If there is no key in the file, or no file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_id: dict[str, tuple[bytes, int, Key]] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._trouble = ""
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        self._stamp = self._stamp_of_file()
        self._take(read(path))
        if not self._by_id:
            raise KeyFileError(f"{path} holds no key: make one with `freshet keys create NAME --scope read`")

    def holder(self, given: str) -> tuple[int, Key] | None:
        """Return the place and the entry of a key, None for one that is unknown or revoked."""
        if time.monotonic() >= self._look_at:
            self._look()
        prefix, _, rest = given.partition("_")
        found = self._by_id.get(rest.partition("_")[0])
        if found is None or prefix != _PREFIX:
            return None
        digest, place, key = found
        return (place, key) if hmac.compare_digest(digest, _hash(given)) else None

    def _look(self) -> None:
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        try:
            stamp = self._stamp_of_file()
            if stamp != self._stamp:
                self._take(read(self._path))
                self._stamp = stamp
                self._trouble = ""
                _log.info("API keys: %d are valid", len(self._by_id))
        except KeyFileError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                _log.error("API keys stay as they were: %s", error)

    def _stamp_of_file(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise KeyFileError(f"{self._path}: {error.strerror}") from error
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _take(self, keys: Sequence[Key]) -> None:
        if len(keys) > MAX_KEYS:
            raise KeyFileError(f"{self._path}: {len(keys)} keys, at most {MAX_KEYS}")
        try:
            self._by_id = {
                key.id: (bytes.fromhex(key.sha256), place, key) for place, key in enumerate(keys) if key.revoked is None
            }
        except ValueError as error:
            raise KeyFileError(f"{self._path}: a hash is no hexadecimal number") from error


def ring(settings: Settings) -> KeyRing | None:
    """Return the keys, None when no file is named and only this machine can call.

    Raises
    ------
    NotProtectedError
        If others could call, and there are no keys.
    KeyFileError
        If the file that is named holds none.
    """
    if settings.api_keys is not None:
        return KeyRing(settings.api_keys)
    if not is_loopback(settings.host):
        raise NotProtectedError(
            f"{settings.host} can be reached from elsewhere, and there are no API keys, so that everybody could write "
            "events and read users. Make a key with `freshet keys create NAME --scope read --file keys.json` and set "
            "FRESHET_API_KEYS=keys.json, or listen on 127.0.0.1."
        )
    return None


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
