"""No answer is taken for another kind of document than it says it is: one header in all of them."""

import contextlib
import http.client
import socket
from urllib.parse import urlsplit

import pytest
from api_helpers import Browser, Followed

WORKERS = 1


def the_header(values: list[str] | None) -> None:
    assert values == ["nosniff"]  # and once


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/leaderboards/global/top", 200),
        ("GET", "/v1/plan", 200),
        ("GET", "/v1/leaderboards/none/top", 404),
        ("GET", "/v1/top", 404),
        ("PUT", "/v1/leaderboards", 405),
        ("DELETE", "/v1/leaderboards/global/members/nobody", 404),
        ("POST", "/v1/scores/update", 415),
        ("DELETE", "/v1/leaderboards/global", 204),
        ("GET", "/dashboard/session", 401),
        ("GET", "/dashboard", None),  # 404 where the page was not built
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/healthz", 200),
    ],
)
def test_every_answer_forbids_to_guess_its_kind(served, new_tenant, method, path, status):
    parts = urlsplit(served.url)
    with contextlib.closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)) as connection:
        connection.request(method, path, headers={"X-API-Key": new_tenant().key})
        answer = connection.getresponse()
        answer.read()
    assert status in (None, answer.status)
    the_header(answer.msg.get_all("X-Content-Type-Options"))


def test_a_session_and_a_304_have_it_too(new_tenant, connect):
    client = connect()
    browser = Browser(client, new_tenant().key)
    assert browser.signed_in.headers["x-content-type-options"] == "nosniff"
    assert browser.call("GET", "/dashboard/session").headers["x-content-type-options"] == "nosniff"
    etag = browser.call("GET", "/v1/usage").headers["etag"]
    unchanged = browser.call("GET", "/v1/usage", If_None_Match=etag)
    assert unchanged.status == 304
    assert unchanged.headers["x-content-type-options"] == "nosniff"


def test_a_stream_has_it_too(served, new_tenant):
    path = "/v1/leaderboards/global/stream"
    with contextlib.closing(Followed(served.url, path, {"X-API-Key": new_tenant().key})) as stream:
        the_header(stream.response.msg.get_all("X-Content-Type-Options"))


def test_what_is_not_http_gets_it_in_its_refusal(served):
    parts = urlsplit(served.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/3.0\r\n\r\n")
        head = connection.recv(65_536).partition(b"\r\n\r\n")[0]
    assert b"x-content-type-options: nosniff" in head.split(b"\r\n")
