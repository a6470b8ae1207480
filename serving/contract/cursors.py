"""The cursor that chains the pages of one request.

It carries what the pages before have shown, so that any worker continues the chain, with Redis or without, and an
answer that nobody continues costs no memory. It gives no right that `exclude` does not give: a checksum tells a damaged
one, nothing needs to be signed.
"""

import binascii
import struct
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import blake2b
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct

from serving.contract.problems import ProblemError

LIFETIME_S = 600
MAX_SHOWN = 1000
"""Items in one cursor: with more, it would not fit into the request line that proxies take (8 KiB)."""

_VERSION = 1
_HEAD = struct.Struct("<BI8s")
_CHECKSUM = struct.Struct("<I")
_SKEW_S = 300
_FREE = frozenset({"page", "limit", "explain", "fields"})
"""Parameters that may change from page to page."""

_encode = msgspec.msgpack.Encoder().encode
_getters: dict[type[Struct], Callable[[Any], Any]] = {}


def binding(query: Struct, *of_request: str | None) -> bytes:
    """Return what is the same for all pages of a request: 8 bytes from its parameters and what else it is about."""
    getter = _getters.get(type(query))
    if getter is None:
        names = [name for name in query.__struct_fields__ if name not in _FREE]
        getter = _getters[type(query)] = attrgetter(*names)
    return blake2b(_encode((of_request, getter(query))), digest_size=8).digest()


def encode(bound: bytes, shown: bytes, now_s: int) -> str:
    """Return the cursor of the page after those that showed the items with these packed fingerprints."""
    body = _HEAD.pack(_VERSION, now_s, bound) + shown
    return urlsafe_b64encode(body + _CHECKSUM.pack(zlib.crc32(body))).rstrip(b"=").decode()


def decode(cursor: str, bound: bytes, now_s: int, size: int) -> bytes:
    """Return the packed fingerprints, of `size` bytes each, of what was shown. Raise `ProblemError` for `page`."""
    try:
        raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except (binascii.Error, ValueError) as error:
        raise _refused("is no cursor") from error
    body, checksum = raw[: -_CHECKSUM.size], raw[-_CHECKSUM.size :]
    if len(body) < _HEAD.size or _CHECKSUM.pack(zlib.crc32(body)) != checksum:
        raise _refused("is no cursor, or only a part of one")
    version, issued_s, of_request = _HEAD.unpack_from(body)
    shown = body[_HEAD.size :]
    if version != _VERSION or len(shown) % size or len(shown) > MAX_SHOWN * size:
        raise _refused("is a cursor of another version")
    if not -_SKEW_S <= now_s - issued_s <= LIFETIME_S:
        raise _refused(f"this cursor was valid for {LIFETIME_S // 60} minutes and has expired")
    if of_request != bound:
        raise _refused(f"this cursor continues another request: only {', '.join(sorted(_FREE - {'page'}))} may change")
    return shown


def _refused(why: str) -> ProblemError:
    return ProblemError(400, f"page: {why}", field="page", allowed=["`next` of the last answer, unchanged"])


def encode_place(item_id: str) -> str:
    """Return the cursor of what comes behind an item in the order of ids."""
    raw = item_id.encode()
    return urlsafe_b64encode(raw + _CHECKSUM.pack(zlib.crc32(raw))).rstrip(b"=").decode()


def decode_place(cursor: str) -> str:
    """Return the item's id. Raise `ProblemError` that names `page`."""
    try:
        raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        item_id, checksum = raw[: -_CHECKSUM.size], raw[-_CHECKSUM.size :]
        if _CHECKSUM.pack(zlib.crc32(item_id)) == checksum:
            return item_id.decode()
    except (binascii.Error, ValueError) as error:
        raise _refused("is no cursor") from error
    raise _refused("is no cursor, or only a part of one")
