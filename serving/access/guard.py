"""The middleware that asks for keys, and the headers that every answer has."""

import base64
import hashlib
import re
from math import ceil

import falcon.asgi

from serving.access.keys import KeyRing
from serving.access.rates import Rates
from serving.contract.problems import ProblemError
from serving.contract.scopes import scope_of

_SCHEME = "bearer "
_CHALLENGE = {"www-authenticate": 'Bearer realm="freshet"'}
_POLICY = "content-security-policy"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    _POLICY: "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
"""Of what is no page: pages say their own."""


class Guard:
    """Falcon middleware: a call needs a key with its scope, and a key calls as often as it may.

    Parameters
    ----------
    keys
        None where everything is open: only this machine can call then.
    rates
        Counts the calls of each key.
    rate
        Calls a second of a key that has no rate of its own; 0: as many as it likes.
    """

    def __init__(self, keys: KeyRing | None, rates: Rates | None, rate: float) -> None:
        self._keys = keys
        self._rates = rates
        self._rate = rate

    async def process_resource(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, params: dict[str, object]
    ) -> None:
        if self._keys is None:
            return
        scope = scope_of(req.method, req.uri_template or "")
        if scope is None:
            return
        given = req.get_header("authorization", default="")
        if given[: len(_SCHEME)].lower() != _SCHEME:
            raise ProblemError(401, "this call needs an API key, as in `Authorization: Bearer KEY`", headers=_CHALLENGE)
        holder = self._keys.holder(given[len(_SCHEME) :].strip())
        if holder is None:
            raise ProblemError(401, "the API key is unknown or revoked", headers=_CHALLENGE)
        place, key = holder
        if scope not in key.scopes:
            raise ProblemError(403, f"the API key has no scope {scope!r}, only {', '.join(key.scopes)}")
        req.context.caller = f"{key.name} ({key.id})"
        rate = self._rate if key.rate is None else key.rate
        if rate and self._rates is not None and (wait_s := self._rates.wait_s(place, rate)):
            raise ProblemError(429, f"more than {rate:g} calls a second with this API key", retry_after_s=ceil(wait_s))

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, req_succeeded: bool
    ) -> None:
        # Behind `set_headers`, which checks names and values anew at each call, for more than a key check costs.
        headers = resp._headers
        if _POLICY not in headers:
            headers.update(_HEADERS)


def page_policy(html: bytes) -> str:
    """Return the content security policy of a page whose scripts and styles are all within it."""
    sources = {
        f"{kind}-src": " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"
            for content in re.findall(rb"<%s>(.*?)</%s>" % (tag, tag), html, re.DOTALL)
        )
        for kind, tag in (("script", b"script"), ("style", b"style"))
    }
    allowed = "; ".join(f"{name} {hashes}" for name, hashes in sources.items())
    return f"default-src 'none'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; {allowed}"
