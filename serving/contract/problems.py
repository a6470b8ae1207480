"""Every error an API client can see: RFC 9457 problem documents, made here and nowhere else."""

import http
import logging
from collections.abc import Mapping, Sequence

import falcon
import falcon.asgi
import msgspec

from state.validation import InvalidInputError

CONTENT_TYPE = "application/problem+json"
_log = logging.getLogger("serving")
_encode = msgspec.json.Encoder().encode


class Problem(msgspec.Struct, omit_defaults=True, kw_only=True):
    """RFC 9457, section 3.1; `field`, `allowed` and `index` are extension members."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    instance: str | None = None
    field: str | None = None
    """The parameter, or the path of the field in the body, that is refused."""
    allowed: list[str] | None = None
    """What would have been accepted there."""
    index: int | None = None
    """Which element of a batch."""


class ProblemError(Exception):
    """Ends a request with a problem document."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        allowed: Sequence[str] | None = None,
        index: int | None = None,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.allowed = None if allowed is None else list(allowed)
        self.index = index
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["retry-after"] = str(retry_after_s)


def install(app: falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]) -> None:
    """Make every exception that leaves a resource a problem document."""
    app.add_error_handler(Exception, _on_bug)
    app.add_error_handler(falcon.HTTPError, _on_http_error)
    app.add_error_handler(InvalidInputError, _on_invalid_input)
    app.add_error_handler(ProblemError, _on_problem)


async def _on_problem(req: falcon.asgi.Request, resp: falcon.asgi.Response, error: ProblemError, _: object) -> None:
    resp.set_headers(error.headers)
    _render(
        req,
        resp,
        Problem(
            title=_title(error.status),
            status=error.status,
            detail=error.detail,
            field=error.field,
            allowed=error.allowed,
            index=error.index,
        ),
    )


async def _on_invalid_input(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: InvalidInputError, _: object
) -> None:
    _render(req, resp, Problem(title=_title(400), status=400, detail=str(error), field=error.field or None))


async def _on_http_error(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: falcon.HTTPError, _: object
) -> None:
    resp.set_headers(error.headers or {})
    detail = error.description or (f"nothing is at {req.path}" if error.status_code == 404 else None)
    _render(req, resp, Problem(title=_title(error.status_code), status=error.status_code, detail=detail))


async def _on_bug(req: falcon.asgi.Request, resp: falcon.asgi.Response, error: Exception, _: object) -> None:
    _log.error("unexpected error: %s %s", req.method, req.uri_template, exc_info=error)
    _render(req, resp, Problem(title=_title(500), status=500, detail="an unexpected error; it was logged"))


def _render(req: falcon.asgi.Request, resp: falcon.asgi.Response, problem: Problem) -> None:
    problem.instance = req.path
    resp.status = problem.status
    resp.content_type = CONTENT_TYPE
    resp.data = _encode(problem)


def _title(status: int) -> str:
    return http.HTTPStatus(status).phrase
