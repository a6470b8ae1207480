"""Bodies in and out."""

from typing import Any

import falcon.asgi
import msgspec

from serving.contract.problems import ProblemError
from state.validation import InvalidInputError, decode

MIB = 1024 * 1024
_MAX_DISCARDED = 32 * MIB
_CHUNK = 64 * 1024
_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_elements = msgspec.json.Decoder(list[msgspec.Raw])


async def read_body(req: falcon.asgi.Request, limit: int) -> bytes:
    """Return the whole body. Raise `ProblemError` 413 when it is longer than `limit` bytes."""
    if (req.content_length or 0) <= limit:
        body: bytes = await req.stream.read(limit + 1)
        if len(body) <= limit:
            return body
    await _discard(req)
    raise ProblemError(413, f"the body is longer than {limit} bytes")


async def _discard(req: falcon.asgi.Request) -> None:
    """Read what is still to come, within reason: a client that is answered while it sends sees a reset connection."""
    left = _MAX_DISCARDED
    while left > 0 and (chunk := await req.stream.read(_CHUNK)):
        left -= len(chunk)


def send(resp: falcon.asgi.Response, answer: Any, status: int = 200) -> None:
    """Answer with a JSON document."""
    resp.status = status
    resp.content_type = "application/json"
    resp.data = _encode(answer)


def one_or_many(body: bytes, name: str, limit: int) -> list[msgspec.Raw] | None:
    """Return the elements of `{"<name>": [...]}`, None when the body is another object: a single element.

    Raise `InvalidInputError` for what is not an object, `ProblemError` for more than `limit` elements.
    """
    members = decode(_members, body, len(body))
    if name not in members:
        return None
    for other in members:
        if other != name:
            raise InvalidInputError(other, f"unknown field beside {name}")
    try:
        elements = _elements.decode(members[name])
    except msgspec.ValidationError as error:
        raise InvalidInputError(name, str(error)) from error
    if len(elements) > limit:
        raise ProblemError(413, f"{name}: {len(elements)} elements, at most {limit} are taken at once", field=name)
    return elements
