"""The short way through Falcon against Falcon's own: the same resources, the same answers."""

import random

import falcon
import pytest
from wire_rig import Rig, request

from leaderboard.api import errors, problems
from leaderboard.api.dispatch import App
from leaderboard.api.exchange import KEY
from leaderboard.api.problems import Problem
from leaderboard.domain.errors import InvalidName
from leaderboard.store.redis.errors import InDoubt, RedisUnavailable


class Thing:
    """Answers in every way our resources do, by what the request's path says."""

    async def on_get(self, req, resp, how="data"):
        match how:
            case "data":
                resp.data = b'{"a":1}'
            case "text":
                resp.text = "<p>ü</p>"
                resp.content_type = "text/html; charset=utf-8"
            case "media":
                resp.media = {"a": 1}
            case "empty":
                resp.data = b""
            case "nothing":
                pass
            case "cached":
                resp.status = 304
                resp.set_header("ETag", '"1"')
            case "removed":
                resp.status = 204
            case "typed-204":
                resp.status = falcon.HTTP_204
                resp.content_type = "text/plain"
            case "made":
                resp.status = 201
                resp.set_header("Location", "/x")
                resp.data = b"{}"
            case "problem":
                raise Problem(problems.RATE_LIMITED, "slow down", retry_after=1.5)
            case "closing":
                raise Problem(problems.BODY_TOO_LARGE, "no", Connection="close")
            case "name":
                raise InvalidName("not a name")
            case "away":
                raise RedisUnavailable("away")
            case "doubt":
                raise InDoubt("lost")
            case "falcon":
                raise falcon.HTTPInvalidParam("wrong", "limit")
            case "bug":
                raise KeyError("bug")
            case "half":
                resp.data = b"half"
                raise Problem(problems.BOARD_NOT_FOUND)

    async def on_post(self, req, resp, how="data"):
        resp.data = repr((req.method, req.path, req.uri_template, req.params, req.content_type, how)).encode()
        resp.data += await req.stream.read()


HOWS = [
    "data",
    "text",
    "media",
    "empty",
    "nothing",
    "cached",
    "removed",
    "typed-204",
    "made",
    "problem",
    "closing",
    "name",
    "away",
    "doubt",
    "falcon",
    "bug",
    "half",
]


class Step:
    """A step of the middleware that writes down when it ran; `fails` names where it raises."""

    def __init__(self, name, log, fails=""):
        self.name, self.log, self.fails = name, log, fails

    async def process_resource(self, req, resp, resource, params):
        self.log.append((self.name, "before", type(resource).__name__, dict(params), req.uri_template))
        resp.set_header(f"X-{self.name}", "1")
        if self.fails == "before":
            raise Problem(problems.MISSING_API_KEY)

    async def process_response(self, req, resp, resource, succeeded):
        self.log.append((self.name, "after", type(resource).__name__, succeeded, resp.status_code))
        if self.fails == "after":
            raise Problem(problems.INTERNAL_ERROR)


class First:
    """A step without a second half, as most are."""

    def __init__(self, log):
        self.log = log

    async def process_resource(self, req, resp, resource, params):
        self.log.append("first")


def make(log, *, fails=""):
    app = App(middleware=[First(log), Step("one", log), Step("two", log, fails)])
    app.add_route("/v1/thing", Thing())
    app.add_route("/v1/things/{how}", Thing())
    return app


def parted(written):
    """Status line, headers in no order, body."""
    head, _, body = written.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    return line, sorted(lines), body


async def both(data, monkeypatch, **options):
    """Send one request each way and return what came and what the steps saw."""
    monkeypatch.setattr(random, "getrandbits", lambda bits: 1)  # the trace id of a problem
    monkeypatch.setattr(errors, "_last_logged", {})
    seen = []
    for short in (True, False):
        log = []
        app = make(log, **options)

        def falcons_way(scope, receive, send, app=app):
            return app({name: value for name, value in scope.items() if name != KEY}, receive, send)

        rig = Rig(app if short else falcons_way)
        seen.append((parted(await rig.feed(data)), rig.transport.closed, log))
    return seen


@pytest.mark.parametrize("fails", ["", "before", "after"])
@pytest.mark.parametrize("how", HOWS)
async def test_both_ways_give_the_same_answer(how, fails, monkeypatch):
    for data in (request(b"", method=b"GET", path=b"/v1/things/" + how.encode()), request(path=b"/v1/thing?a=1&b=%20")):
        short, falcons = await both(data, monkeypatch, fails=fails)
        assert short == falcons
        assert short[0][0].startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize(
    "data",
    [
        request(path=b"/v1/thing", more=[b"Content-Type: application/json; charset=utf-8", b"X: 1", b"X: 2"]),
        request(b"", path=b"/v1/things/a%2Fb%20c"),
        request(b"x" * 100_000, path=b"/v1/thing"),
        request(b"", method=b"GET", path=b"/v1/things/{how}"),
        request(b"", method=b"GET", path=b"//v1/thing"),
        request(b"", method=b"GET", path=b"/v1/thing/"),
        request(b"", method=b"GET", path=b"/nowhere"),
        request(b"", method=b"DELETE", path=b"/v1/thing"),
        request(b"", method=b"HEAD", path=b"/v1/thing"),
        request(b"", method=b"OPTIONS", path=b"/v1/thing"),
        request(b"", method=b"GET", path=b"/v1/thing?limit=5&limit=6&x="),
    ],
)
async def test_both_ways_see_the_same_request(data, monkeypatch):
    short, falcons = await both(data, monkeypatch)
    assert short == falcons


async def test_a_body_that_is_still_arriving_goes_falcons_way():
    log = []
    rig = Rig(make(log))
    data = request(path=b"/v1/thing")
    assert await rig.feed(data[:-3]) == b""
    assert parted(await rig.feed(data[-3:])) == parted(await Rig(make([])).feed(data))


async def test_what_fails_in_the_handling_of_an_error_is_an_internal_error(monkeypatch, caplog):
    async def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setitem(errors._HANDLERS, Problem, broken)
    got = await Rig(make([])).feed(request(b"", method=b"GET", path=b"/v1/things/problem"))
    assert got.startswith(b"HTTP/1.1 500 ")
    assert b"connection: close" in got


def test_the_router_gives_each_request_parameters_of_its_own():
    router = make([])._routes
    first, second = router.find("/v1/thing"), router.find("/v1/thing")
    assert first == second
    assert (type(first[0]), first[2], first[3]) == (Thing, {}, "/v1/thing")
    assert first[2] is not second[2]
    for _ in range(2):
        assert router.find("/v1/things/{how}")[2] == {"how": "{how}"}
        assert router.find("/v1/things/x")[2] == {"how": "x"}
        assert router.find("/v1") is None
