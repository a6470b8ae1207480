"""The storefront at `/`, the dashboard, and their files: read once, named by their content, cached by browsers."""

import hashlib
from importlib import resources

import falcon
import falcon.asgi

from serving.contract.problems import ProblemError
from serving.contract.queries import NoQuery, parse_query

ASSETS = "/assets"
_PLACE = b"{{assets}}"
STOREFRONT = "index.html"
DASHBOARD = "dashboard.html"
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_REVALIDATE = "no-cache"
_FOREVER = "public, max-age=31536000, immutable"
_HEADERS = {
    # Nothing from elsewhere, nothing inline: what a catalogue's texts contain cannot become script.
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class File:
    """Bytes that do not change while the process lives."""

    def __init__(self, content: bytes, content_type: str, caching: str) -> None:
        self.content = content
        self.version = hashlib.sha256(content).hexdigest()[:16]
        self._content_type = content_type
        self._caching = caching

    def send(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answer with the file, or with 304 to a browser that has it."""
        resp.set_headers(_HEADERS)
        resp.cache_control = [self._caching]
        resp.etag = self.version
        if any(known in ("*", self.version) for known in req.if_none_match or ()):
            resp.status = 304
            return
        resp.content_type = self._content_type
        resp.data = self.content


def load() -> tuple[dict[str, File], dict[str, File], str]:
    """Return the pages and the files beside them by name, and the version that is part of the files' addresses."""
    folder = resources.files("serving").joinpath("pages")
    files = {
        entry.name: File(entry.read_bytes(), _TYPES[entry.name.rpartition(".")[2]], _FOREVER)
        for entry in folder.iterdir()
        if entry.name.rpartition(".")[2] in _TYPES
    }
    names = "".join(f"{name} {file.version}\n" for name, file in sorted(files.items()))
    version = hashlib.sha256(names.encode()).hexdigest()[:16]
    found = {
        name: folder.joinpath(name).read_bytes().replace(_PLACE, f"{ASSETS}/{version}".encode())
        for name in (STOREFRONT, DASHBOARD)
    }
    return {name: File(page, falcon.MEDIA_HTML, _REVALIDATE) for name, page in found.items()}, files, version


class Page:
    """A page itself: always asked for again, answered with 304 when it is the same."""

    def __init__(self, page: File) -> None:
        self._page = page

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        self._page.send(req, resp)  # its parameters are the page's own


class Assets:
    """Styles, scripts and the icon, at addresses that change with them: kept by browsers for good."""

    def __init__(self, files: dict[str, File], version: str) -> None:
        self._files = files
        self._version = version

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, version: str, name: str) -> None:
        parse_query(NoQuery, req.params)
        if version != self._version or name not in self._files:
            raise ProblemError(404, f"there is no {name!r} of this version")
        self._files[name].send(req, resp)
