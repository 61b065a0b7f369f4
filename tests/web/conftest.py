"""A real Chromium on the real page."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parent))  # for `visits`; importlib mode leaves sys.path alone

from visits import AXE, Visit

from support.chromium import ARGUMENTS, find_chromium
from support.platform import Platform, served_platform
from support.programs import say_to
from support.servers import PostgresServer
from support.tenants import Tenant, make_tenant

SOON_MS = 30_000
"""How long a page has until it shows what a test expects of it."""


@pytest.fixture(scope="session")
def chromium_path(pytestconfig: pytest.Config) -> str:
    """Where Chromium is. Asked before servers are started: nothing is, for tests that skip."""
    try:
        return find_chromium(say=say_to(pytestconfig))
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def chromium(chromium_path: str) -> Iterator[Browser]:
    # Of the module, not the session: while Playwright's synchronous API is started, this thread has a running event
    # loop, and no other test could start its own.
    with sync_playwright() as playwright:
        # The machine may be busy, and a stream pauses before it is opened again; nothing is claimed of how soon it is.
        expect.set_options(timeout=SOON_MS)
        browser = playwright.chromium.launch(executable_path=chromium_path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(
    chromium_path: str,
    request: pytest.FixtureRequest,
    postgres: PostgresServer,
    _template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Platform]:
    """API and worker on stores of the module's own."""
    folder = tmp_path_factory.mktemp("web_" + request.module.__name__.rpartition(".")[2])
    with served_platform(folder, postgres, template=_template) as platform:
        yield platform


@pytest.fixture
def new_tenant(served: Platform) -> Callable[..., Tenant]:
    """(**wanted) -> a new tenant on `served` (see support/tenants.py)."""
    return lambda **wanted: make_tenant(served, **wanted)


@pytest.fixture
def tenant(new_tenant: Callable[..., Tenant]) -> Tenant:
    return new_tenant()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Visit]]:
    """(url, **context) -> a Visit in a browser profile of its own; at the end, no page may have complained."""
    visits: list[Visit] = []

    def open_one(url: str, **context: Any) -> Visit:
        given: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce"}
        profile = chromium.new_context(**(given | context))
        # Before the page's own scripts, since the page's Content-Security-Policy lets no other in later.
        profile.add_init_script(path=AXE)
        visits.append(Visit(profile.new_page(), url))
        return visits[-1]

    yield open_one
    for visit in visits:
        visit.page.context.close()
    assert [complaint for visit in visits for complaint in visit.complaints] == []


@pytest.fixture
def visit(served: Platform, open_page: Callable[..., Visit]) -> Visit:
    """A visit that is not signed in."""
    return open_page(served.url)
