"""The storefront's files as a browser gets them."""

import re
from importlib import resources

import falcon.asgi
import pytest
from falcon import testing

from serving.contract import problems
from serving.resources import pages


@pytest.fixture
def client() -> testing.TestClient:
    html, files, version = pages.load()
    app: falcon.asgi.App = falcon.asgi.App()
    problems.install(app)
    app.add_route("/", pages.Page(html[pages.STOREFRONT]))
    app.add_route("/dashboard", pages.Page(html[pages.DASHBOARD]))
    app.add_route(pages.ASSETS + "/{version}/{name}", pages.Assets(files, version))
    return testing.TestClient(app)


@pytest.mark.parametrize(
    ("path", "files"),
    [
        ("/", {"app.js", "icon.svg", "storefront.css"}),
        (
            "/dashboard",
            {"dashboard.css", "dashboard.js", "icon.svg", "storefront.css", "uplot.min.css", "uplot.min.js"},
        ),
    ],
)
def test_everything_the_page_names_is_served_and_kept(client: testing.TestClient, path: str, files: set[str]) -> None:
    """R29: no file comes from elsewhere, and a browser asks for each once."""
    page = client.simulate_get(path, query_string="user=anna")
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-cache")
    named = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert [name for name in named if not name.startswith("/")] == []
    assets = {name for name in named if name.startswith(pages.ASSETS)}
    assert {name.rpartition("/")[2] for name in assets} == files
    folder = next(iter(assets)).rpartition("/")[0]
    for entry in resources.files("serving").joinpath("pages").iterdir():
        if entry.name.endswith((".html", ".LICENSE")):
            continue
        answer = client.simulate_get(f"{folder}/{entry.name}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        for imported in re.findall(r'from "\./([^"]+)"', answer.text):
            assert client.simulate_get(f"{folder}/{imported}").status_code == 200


@pytest.mark.parametrize("path", ["/", "/dashboard"])
def test_nothing_from_elsewhere_and_nothing_inline_is_allowed(client: testing.TestClient, path: str) -> None:
    """R16"""
    page = client.simulate_get(path)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; ")
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "<style" not in page.text
    assert " style=" not in page.text
    assert re.findall(r"<script(?![^>]* src=)", page.text) == []


def test_a_browser_that_has_a_file_is_not_sent_it_again(client: testing.TestClient) -> None:
    """R29"""
    first = client.simulate_get("/")
    again = client.simulate_get("/", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert client.simulate_get("/", headers={"if-none-match": '"another"'}).status_code == 200


@pytest.mark.parametrize("path", ["/assets/0123/app.js", "/assets/{version}/none.js", "/assets/{version}/index.html"])
def test_what_is_not_there_is_a_problem_document(client: testing.TestClient, path: str) -> None:
    """R9"""
    answer = client.simulate_get(path.format(version=pages.load()[2]))
    assert (answer.status_code, answer.headers["content-type"]) == (404, problems.CONTENT_TYPE)
