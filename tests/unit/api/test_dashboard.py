"""The page and its files, without a socket."""

import gzip

import falcon.testing
import pytest

from leaderboard.api.dispatch import App
from leaderboard.api.resources.dashboard import Dashboard

PAGE = b"<!doctype html>" + b"<p>boards</p>" * 50
SCRIPT = b"console.log(1)"


@pytest.fixture
def client(tmp_path):
    (tmp_path / "built" / "assets").mkdir(parents=True)
    (tmp_path / "built" / "index.html").write_bytes(PAGE)
    (tmp_path / "built" / "assets" / "index-1a2b.js").write_bytes(SCRIPT)
    (tmp_path / "secret").write_text("not for anybody")
    return serving(Dashboard(tmp_path / "built"))


def serving(page: Dashboard) -> falcon.testing.TestClient:
    app = App(middleware=[])
    app.add_route("/dashboard", page)
    app.add_route("/dashboard/{path:path}", page)
    return falcon.testing.TestClient(app)


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/", "/dashboard/boards", "/dashboard/boards/global"])
def test_every_view_is_the_page(client, path):
    answer = client.simulate_get(path)
    assert (answer.status_code, answer.content) == (200, PAGE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"


def test_a_file_with_a_hash_in_its_name_is_kept_for_ever(client):
    answer = client.simulate_get("/dashboard/assets/index-1a2b.js")
    assert (answer.status_code, answer.content) == (200, SCRIPT)
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_no_inline_script_and_nothing_from_elsewhere(client):
    for path in ("/dashboard", "/dashboard/assets/index-1a2b.js"):
        headers = client.simulate_get(path).headers
        policy = dict(rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"


def test_a_browser_that_has_it_is_told_so(client):
    etag = client.simulate_get("/dashboard").headers["etag"]
    answer = client.simulate_get("/dashboard", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.content) == (304, b"")


def test_it_is_packed_for_who_takes_that(client):
    answer = client.simulate_get("/dashboard", headers={"Accept-Encoding": "gzip, br"})
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.content) == PAGE
    assert "content-encoding" not in client.simulate_get("/dashboard").headers


@pytest.mark.parametrize("path", ["/dashboard/../secret", "/dashboard/assets/../../secret", "/dashboard//secret"])
def test_nothing_outside_the_folder_is_a_file(client, path):
    assert b"not for anybody" not in client.simulate_get(path).content


def test_an_unknown_asset_is_not_the_page(client):
    assert client.simulate_get("/dashboard/assets/index-old.js").status_code == 404


def test_an_installation_without_a_dashboard_says_so(tmp_path):
    answer = serving(Dashboard(tmp_path / "none")).simulate_get("/dashboard")
    assert answer.status_code == 404
    assert answer.json["detail"] == "this installation has no dashboard: `make web` builds it"
