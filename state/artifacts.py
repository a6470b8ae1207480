"""Model artifacts: one immutable piece of bytes that says what it is, where it comes from, and whether it is whole.

magic | SHA-256 of what follows | length of the manifest | manifest (JSON) | weights
"""

import re
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

ONLINE = "online"
"""Instead of an artifact's name: the live learner's newest weights."""

_MAGIC = b"freshet-model-1\n"
_LENGTH = struct.Struct("<I")
_HEAD = len(_MAGIC) + sha256().digest_size + _LENGTH.size

_NAME = r"[a-z][a-z0-9-]{0,31}@\d{4}-\d\d-\d\dT\d\d:\d\dZ-[0-9a-f]{4}"
ArtifactName = Annotated[str, Meta(pattern=f"^{_NAME}$", max_length=64)]
"""As in `ranker@2026-11-22T10:00Z-3f2a`: what it is, when it was made, and the beginning of its weights' SHA-256."""

RankerName = Annotated[str, Meta(pattern=f"^({ONLINE}|{_NAME})$", max_length=64)]
"""What may rank."""


class ArtifactError(ValueError):
    """Bytes that are no artifact, not a whole one, or one that this code cannot use; the message says which."""


class Lineage(Struct, frozen=True, kw_only=True):
    """What a model was learned from."""

    source: Literal["online", "lake", "kafka"]
    """Where it was read: `online` is the live learner, which reads Kafka all the time."""
    offsets: dict[str, tuple[int, int]] = {}
    """`<topic>/<partition>` -> the first offset learned and the one behind the last."""
    since: str | None = None
    """Date and time (ISO, UTC) from which on events were learned."""
    until: str | None = None
    began_with: str = "default"
    """The weights that learning began with."""


class Manifest(Struct, frozen=True, kw_only=True):
    """All that is told of an artifact."""

    name: ArtifactName
    model: str = "ranker"
    created_ms: int
    feature_set: str
    """Version of the inputs' definitions, `online_models.engine.inputs.FEATURE_SET`."""
    code: str
    """Release and digest of the sources that learned it, `online_models.versions.revision.revision`."""
    n_lists: int
    """That were learned."""
    lineage: Lineage
    parameters: dict[str, bool | int | float | str] = {}
    metrics: dict[str, dict[str, float]] = {}
    """Segment -> metric -> value, on events that were held out; empty for a snapshot of the live model."""
    beside: dict[str, dict[str, float]] = {}
    """The same of the model that was live then, on the same events."""
    note: str = ""


class Artifact(NamedTuple):
    """A manifest and the weights that it is of."""

    manifest: Manifest
    weights: bytes
    """See `online_models.engine.scorer.Weights`."""


def is_name(name: str) -> bool:
    """Return whether an artifact may have that name."""
    return re.fullmatch(_NAME, name, re.ASCII) is not None


def name_of(model: str, created_ms: int, weights: bytes) -> str:
    """Return the name of an artifact made at that time."""
    made = datetime.fromtimestamp(created_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")
    return f"{model}@{made}-{sha256(weights).hexdigest()[:4]}"


def encode(artifact: Artifact) -> bytes:
    """Return the bytes of an artifact."""
    manifest = msgspec.json.encode(artifact.manifest)
    body = _LENGTH.pack(len(manifest)) + manifest + artifact.weights
    return _MAGIC + sha256(body).digest() + body


_decode_manifest = msgspec.json.Decoder(Manifest).decode


def decode(content: bytes, name: str | None = None) -> Artifact:
    """Reverse `encode`; `name`: the one that it is expected to have. Raise `ArtifactError`."""
    called = name or "model"
    if len(content) < _HEAD:
        raise ArtifactError(f"{called}: truncated: {len(content)} bytes, and the head alone has {_HEAD}")
    if not content.startswith(_MAGIC):
        raise ArtifactError(f"{called}: expected {_MAGIC!r} at the beginning, got {content[: len(_MAGIC)]!r}")
    digest, body = content[len(_MAGIC) : _HEAD - _LENGTH.size], content[_HEAD - _LENGTH.size :]
    if sha256(body).digest() != digest:
        raise ArtifactError(f"{called}: damaged or truncated: its checksum is wrong ({len(content)} bytes)")
    (length,) = _LENGTH.unpack_from(body)
    try:
        manifest = _decode_manifest(body[_LENGTH.size : _LENGTH.size + length])
    except msgspec.MsgspecError as error:
        raise ArtifactError(f"{called}: its manifest is not understood: {error}") from error
    if name is not None and manifest.name != name:
        raise ArtifactError(f"{name}: it is {manifest.name}, under another name")
    return Artifact(manifest, body[_LENGTH.size + length :])


class ModelChunk(Struct, array_like=True, frozen=True):
    """A part of an artifact's bytes, in Redis."""

    n_chunks: int
    """Of the artifact."""
    content: bytes


_CHUNK_BYTES = 256 * 1024


def chunks_of(content: bytes, size: int = _CHUNK_BYTES) -> list[ModelChunk]:
    """Return an artifact's bytes in parts of at most `size` bytes."""
    parts = [content[begin : begin + size] for begin in range(0, len(content), size)]
    return [ModelChunk(len(parts), part) for part in parts]


def chunk_id(name: str, number: int) -> str:
    """Name a chunk, counted from 0."""
    return f"{name}/{number}"


def joined(name: str, chunks: Sequence[ModelChunk | None]) -> bytes:
    """Reverse `chunks_of`. Raise `ArtifactError` when one is missing."""
    found = [chunk for chunk in chunks if chunk is not None]
    if not found or len(found) != found[0].n_chunks:
        raise ArtifactError(f"{name}: {len(found)} of {found[0].n_chunks if found else 'its'} chunks are there")
    return b"".join(chunk.content for chunk in found)
