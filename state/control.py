"""Control documents: what people decide, versioned. Each version is written once and kept."""

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from state import experiments, rules
from state.experiments import MAX_EXPERIMENTS_BYTES, Experiments
from state.models import MAX_MODELS_BYTES, Models, Shadow
from state.rules import MAX_BYTES, Rules
from state.validation import InvalidInputError, decode

B = TypeVar("B", bound=Struct)

_encode = msgspec.json.Encoder().encode


class ControlDocument(Struct, array_like=True, frozen=True):
    """One version of a document; the highest one is in force."""

    kind: str
    """The name of a `Kind`."""
    version: int
    """From 1, without gaps."""
    body: bytes
    """JSON"""
    author: str
    ts: int
    """Of its writing, epoch ms."""
    note: str = ""
    restores: int | None = None
    """The version that a rollback took it from."""


class Kind(Generic[B]):
    """A kind of document. Until somebody has written one, `nothing` holds, as version 0.

    `without_user` takes a user's name out of a body; None for kinds that name nobody.
    """

    def __init__(
        self, name: str, body: type[B], max_bytes: int, without_user: Callable[[B, str], B] | None = None
    ) -> None:
        self.name = name
        self.nothing = body()
        self.without_user = without_user
        self._max_bytes = max_bytes
        self._decoder = msgspec.json.Decoder(body)

    def parse(self, body: bytes | msgspec.Raw) -> B:
        """Decode a body. Raise `InvalidInputError`; whether it makes sense is for those who put it in force to say."""
        return decode(self._decoder, body, self._max_bytes)

    def encode(self, body: B) -> bytes:
        """Reverse `parse`. Raise `InvalidInputError` when it is too large."""
        if len(encoded := _encode(body)) > self._max_bytes:
            raise InvalidInputError(self.name, f"{len(encoded)} bytes, at most {self._max_bytes} are taken")
        return encoded


RULES = Kind("rules", Rules, MAX_BYTES, rules.without_user)
EXPERIMENTS = Kind("experiments", Experiments, MAX_EXPERIMENTS_BYTES, experiments.without_user)
MODELS = Kind("models", Models, MAX_MODELS_BYTES)
SHADOW = Kind("shadow", Shadow, MAX_MODELS_BYTES)


def version_field(kind: str, version: int) -> str:
    """Name one version in the history, and its message in Kafka."""
    return f"{kind}/{version}"
