"""The documentation as a site: it builds without a warning, leads nowhere that is not there, and has every call."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from leaderboard.api.pages import METHODS
from leaderboard.api.resources.docs import document
from support.docs import ROOT


class Page(HTMLParser):
    """The ids and the links of one page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if "id" in given:
            self.ids.add(given["id"])
        self.links += [given[name] for name in ("href", "src") if given.get(name)]

    def handle_data(self, data):
        self.text += data


def build(folder: Path, *options: str) -> dict[Path, Page]:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html", *options]
    done = subprocess.run([*command, str(ROOT / "docs"), str(folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {path: Page(path.read_text()) for path in folder.rglob("*.html")}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> tuple[Path, dict[Path, Page]]:
    folder = tmp_path_factory.mktemp("site")
    return folder, build(folder)


def test_every_internal_link_and_anchor_resolves(site):
    folder, pages = site
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = target.is_file() and target.is_relative_to(folder)
            anchor = unquote(parts.fragment)
            if not there or (anchor and target in pages and anchor not in pages[target].ids):
                broken.append(f"{path.relative_to(folder)}: {link}")
    assert broken == []


def test_every_page_is_reached_from_the_front_page(site):
    folder, pages = site
    links = {(folder / urlsplit(link).path).resolve() for link in pages[folder / "index.html"].links}
    sources = {
        (folder / page.relative_to(ROOT / "docs")).with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")
    }
    assert sources - links <= {folder / "index.html"}


def test_every_operation_is_on_the_api_page(site):
    folder, pages = site
    text = pages[folder / "api.html"].text
    calls = [(m, path, op) for path, item in document()["paths"].items() for m, op in item.items() if m in METHODS]
    assert calls
    assert [op["operationId"] for m, path, op in calls if f"{m.upper()} {path}\n" not in text + "\n"] == []
    assert [op["operationId"] for _, _, op in calls if op["summary"] not in text] == []


def test_links_to_the_source_lead_to_the_repository_where_it_is_known(site, tmp_path):
    folder, pages = site
    shown = "https://git.example.com/kit/main/app/leaderboard/api/openapi.yaml"
    assert shown not in pages[folder / "api.html"].links
    assert shown in build(tmp_path, "-D", "source_url=https://git.example.com/kit/main")[tmp_path / "api.html"].links
