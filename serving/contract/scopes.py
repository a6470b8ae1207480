"""Which scope a call needs: one rule for the middleware that asks for it and for the OpenAPI document that tells it."""

from functools import cache
from typing import Literal, get_args

Scope = Literal["ingest", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_READING_POSTS = frozenset({"/v1/sessions/recommendations"})
"""They send what would be too much for an address, or belongs into no log of addresses, and store nothing."""


@cache
def scope_of(method: str, route: str) -> Scope | None:
    """Return the scope that a call needs, None for what is open: health, the pages and the description.

    A route that nobody thought of here is protected when it is part of the API, by the stricter of what is possible.

    Parameters
    ----------
    method
        In capitals.
    route
        The template, as in `/v1/items/{item_id}`.
    """
    if route == "/metrics":
        return "read"
    if not route.startswith("/v1/") or method == "OPTIONS":
        return None
    if route.startswith("/v1/admin") or (method, route) == ("DELETE", "/v1/users/{user_id}"):
        return "admin"
    if method in ("GET", "HEAD") or (method == "POST" and route in _READING_POSTS):
        return "read"
    return "ingest"
