"""Control documents: what people decide, versioned. Each version is written once and kept."""

import msgspec
from msgspec import Struct

from state.rules import MAX_BYTES, Rules
from state.validation import InvalidInputError, decode

RULES = "rules"

_rules_decoder = msgspec.json.Decoder(Rules)
_encode = msgspec.json.Encoder().encode


class ControlDocument(Struct, array_like=True, frozen=True):
    """One version of a document; the highest one is in force."""

    kind: str
    """`rules`"""
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


def version_field(kind: str, version: int) -> str:
    """Name one version in the history, and its message in Kafka."""
    return f"{kind}/{version}"


def parse_rules(body: bytes | msgspec.Raw) -> Rules:
    """Decode a rules document. Raise `InvalidInputError`; whether filters make sense is `ActiveRules`' to say."""
    return decode(_rules_decoder, body, MAX_BYTES)


def rules_body(rules: Rules) -> bytes:
    """Reverse `parse_rules`."""
    if len(body := _encode(rules)) > MAX_BYTES:
        raise InvalidInputError("rules", f"{len(body)} bytes, at most {MAX_BYTES} are taken")
    return body
