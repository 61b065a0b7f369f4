"""The JavaScript SDK in a page of another origin: the one of its own page in the docs, in a real browser."""

import contextlib
import json
import shutil
import threading
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from visits import Visit

from leaderboard.local.process import LOOPBACK
from leaderboard_sdk import Client
from support.docs import snippets
from support.js_package import build_package
from support.platform import Platform
from support.tenants import make_tenant


class Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextlib.contextmanager
def site(folder: Path) -> Iterator[str]:
    """Serve the folder; gives the origin of its pages."""
    with ThreadingHTTPServer((LOOPBACK, 0), partial(Files, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def folder(chromium_path: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both sites serve: the SDK as it was built, and for now no page."""
    folder = tmp_path_factory.mktemp("site")
    package = build_package(tmp_path_factory.mktemp("js") / "sdk")
    shutil.copytree(package.folder / "dist/esm", folder / "leaderboard-sdk")
    return folder


@pytest.fixture(scope="module")
def listed(folder: Path) -> Iterator[str]:
    with site(folder) as origin:
        yield origin


@pytest.fixture(scope="module")
def unlisted(folder: Path) -> Iterator[str]:
    with site(folder) as origin:
        yield origin


@pytest.fixture(scope="module")
def game(served: Platform, folder: Path, listed: str) -> Iterator[Client]:
    """The game's own client, which may write; the page has a key that may read."""
    tenant = make_tenant(served, boards=["season-1"], origins=[listed])
    headers = {"Authorization": f"Bearer {tenant.key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{served.url}/v1/keys", json.dumps({"scope": "read"}).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        key = json.load(answer)["secret"]
    (page,) = [text for language, text in snippets("sdk/js/README.md") if language == "html"]
    page = page.replace("https://leaderboards.example.com", served.url).replace("lb_live_of_scope_read", key)
    (folder / "index.html").write_text(page)
    with Client(served.url, tenant.key) as client:
        client.update("season-1", "ann", increment=7)
        client.update("season-1", "u42", increment=5)
        yield client


def test_a_listed_origins_page_shows_a_rank_and_a_top_that_is_live(
    game: Client, listed: str, open_page: Callable[..., Visit]
) -> None:
    page = open_page(listed).page
    page.goto(f"{listed}/")
    expect(page.locator("h1")).to_have_text("2 players")
    expect(page.locator("p")).to_have_text("You have 5 points: number 2")
    expect(page.locator("li")).to_have_text(["ann 7", "u42 5"])
    game.update("season-1", "u42", increment=10)
    expect(page.locator("li")).to_have_text(["u42 15", "ann 7"])


def test_another_origins_page_is_refused_by_the_browser(
    game: Client, unlisted: str, open_page: Callable[..., Visit]
) -> None:
    visit = open_page(unlisted)
    # What the SDK rejected with in the end, which the page does not catch.
    with visit.page.expect_event("pageerror") as error:
        visit.page.goto(f"{unlisted}/")
    assert error.value.name == "TransportError"
    assert visit.page.locator("h1").text_content() == ""
    visit.expected("blocked by CORS policy")
    visit.expected("net::ERR_FAILED")
    visit.expected(str(error.value))
