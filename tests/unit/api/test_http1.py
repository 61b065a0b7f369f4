"""The protocol class over a transport in memory: what it takes for a request, and what it does with the connection."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_rig import Rig, answers, echo, request, settle

from leaderboard.api import exchange, http1
from leaderboard.api.exchange import KEY, Exchange
from leaderboard.api.http1 import Connection

# --- heads that are known


def parsings(monkeypatch):
    """Count what is parsed."""
    counted = []
    parse = Connection.on_headers_complete
    monkeypatch.setattr(Connection, "on_headers_complete", lambda self: counted.append(1) or parse(self))
    return counted


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (request(), request()),
        (request(b"x" * 9), request(b"y" * 10)),
        (request(b"x" * 1000), request(b"y")),
        (request(b"", method=b"GET"), request(b"", method=b"GET")),
    ],
)
async def test_a_head_that_comes_again_is_not_parsed_again(monkeypatch, first, second):
    counted, rig = parsings(monkeypatch), Rig()
    await rig.feed(request(path=b"/other"))
    await rig.feed(first, second, first)
    assert len(counted) == 2
    assert answers(await rig.feed())[1:] == [answers(await Rig().feed(r))[0] for r in (first, second, first)]


@pytest.mark.parametrize(
    "other",
    [
        request(more=[b"X: 1"]),
        request(path=b"/a?b=2"),
        request(method=b"PUT"),
        request().replace(b"Content-Length: 7", b"Content-Length: 6")[:-1],
        request().replace(b"Content-Length: 7", b"Content-Length:  7"),
        request().replace(b"test", b"Test"),
        b"\r\n" + request(),
        request() + b"\r\n",
        request() + request(),
        request()[:-1],
    ],
)
async def test_another_head_is_parsed_or_gives_what_parsing_gives(monkeypatch, other):
    rig = Rig()
    await rig.feed(request(b"first"), request())
    before = len(rig.transport.written)
    got = (await rig.feed(other))[before:]
    assert got == await Rig().feed(other)


async def test_what_differs_after_the_length_is_another_head():
    rig = Rig()
    first, second = (request(body, more=[b"Content-Length: 3", b"X: %b" % body]) for body in (b"one", b"two"))
    first, second = (piece.replace(b"Content-Length: 3\r\n\r\n", b"\r\n") for piece in (first, second))
    await rig.feed(request(), first)
    before = len(rig.transport.written)
    got = (await rig.feed(second))[before:]
    assert b"(b'x', b'two')" in got
    assert got == await Rig().feed(second)


async def test_a_client_whose_heads_all_differ_is_not_learned_from_for_long(monkeypatch):
    rig, learned = Rig(), []
    of = http1.KnownHead.of
    monkeypatch.setattr(http1.KnownHead, "of", lambda *args, **more: learned.append(1) or of(*args, **more))
    for number in range(50):
        await rig.feed(request(more=[b"Idempotency-Key: %d" % number]))
    assert len(learned) == http1.LESSONS
    assert len(answers(rig.transport.written)) == 50


async def test_what_asks_for_more_than_an_answer_is_not_learned():
    for more in ([b"Expect: 100-continue"], [b"Connection: close"]):
        rig = Rig()
        await rig.feed(request(), request(more=more))
        assert rig.connection._known is None or b"close" not in rig.connection._known._head
        assert rig.connection._known is None or b"Expect" not in rig.connection._known._head


HEADS = st.sampled_from(
    [
        [b"POST /a HTTP/1.1", b"Host: h"],
        [b"POST /a HTTP/1.1", b"Host: h", b"X-Content-Length: 3"],
        [b"POST /a?x HTTP/1.1", b"Host: h", b"Connection: keep-alive"],
        [b"GET / HTTP/1.1"],
        [b"POST /a HTTP/1.0", b"Host: h"],
        [b"POST /a HTTP/1.1", b"Transfer-Encoding: chunked"],
        [b"POST /a HTTP/1.1", b"Expect: 100-continue"],
        [b"POST /a HTTP/1.1", b"Connection: close"],
    ]
)
BODIES = st.sampled_from(
    [
        b"",
        b"0123456789",
        b"012345678",
        b"\r\n",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"x" * 300,
    ]
)


@st.composite
def one_request(draw):
    lines, body = list(draw(HEADS)), draw(BODIES)
    length = draw(st.sampled_from([None, None, None, 0, 1, -1]))
    if b"chunked" not in lines[-1] and (body or draw(st.booleans())):
        name = draw(
            st.sampled_from([b"Content-Length: ", b"content-length:", b"Content-Length: 0", b"Content-Length:\t"])
        )
        lines.insert(draw(st.integers(1, len(lines))), name + b"%d" % (len(body) + (length or 0)))
    return b"\r\n".join([*lines, b"", body])


@st.composite
def stream(draw):
    """Pieces of a stream: requests that repeat themselves, now and then cut, joined or spoilt."""
    some = draw(st.lists(one_request(), min_size=1, max_size=3))
    pieces = draw(st.lists(st.sampled_from(some), min_size=2, max_size=6))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(pieces) - 1))
        piece = pieces[at]
        cut = draw(st.integers(0, len(piece)))
        how = draw(st.sampled_from(["cut", "join", "spoil", "before", "after"]))
        if how == "cut":
            pieces[at : at + 1] = [part for part in (piece[:cut], piece[cut:]) if part]
        elif how == "join":
            pieces[at : at + 2] = [b"".join(pieces[at : at + 2])]
        elif how == "spoil":
            pieces[at] = piece[:cut] + draw(st.binary(min_size=1, max_size=2)) + piece[cut + 1 :]
        else:
            pieces[at] = b"\r\n" + piece if how == "before" else piece + b"\r\n"
    return [piece for piece in pieces if piece]


@given(stream())
@settings(max_examples=400)
def test_to_know_heads_changes_no_answer(pieces):
    """The same stream to a connection that learns and to one that parses everything."""

    async def both():
        learning, parsing = Rig(), Rig()
        parsing.connection._lessons = 0
        for rig in (learning, parsing):
            await rig.feed(*pieces)
            await rig.lose()
            assert rig.state.tasks == set()
        assert parsing.connection._known is None
        return [(rig.transport.written, rig.transport.closed, rig.transport.ended) for rig in (learning, parsing)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange.random, "getrandbits", lambda bits: 1)  # the trace id of a problem
        learning, parsing = asyncio.run(both())
    assert learning == parsing


# --- the connection's task


async def test_one_task_serves_the_connection_and_ends_with_it():
    rig = Rig()
    (task,) = rig.state.tasks
    await rig.feed(request(), request(), request(path=b"/other"))
    assert rig.state.tasks == {task}
    assert rig.state.total_requests == 3
    await rig.lose()
    assert rig.state.tasks == set() == rig.state.connections
    assert task.done()


async def test_a_request_under_way_is_finished_when_its_client_has_gone():
    went_on, finished = asyncio.Event(), []

    async def app(scope, receive, send):
        await went_on.wait()
        await echo(scope, receive, send)
        finished.append(True)

    rig = Rig(app)
    await rig.feed(request())
    await rig.lose()
    assert rig.state.tasks
    went_on.set()
    await settle()
    assert finished == [True]
    assert rig.transport.written == b""
    assert rig.state.tasks == set()


async def test_a_request_whose_client_has_gone_before_it_was_begun_is_not_begun():
    begun = []

    async def app(scope, receive, send):
        begun.append(True)

    rig = Rig(app)
    await settle()
    rig.connection.data_received(request())
    rig.connection.connection_lost(None)
    await settle()
    assert begun == []
    assert rig.state.tasks == set()


async def test_cancelling_the_task_closes_the_connection():
    rig = Rig(lambda scope, receive, send: asyncio.sleep(60))
    await rig.feed(request())
    (task,) = rig.state.tasks
    task.cancel()
    await settle()
    assert rig.transport.closed
    assert rig.transport.written == b""


async def test_a_request_in_a_pipeline_gets_the_rest_of_its_body():
    first, second = request(b"first"), request(b"second")
    rig = Rig()
    await rig.feed(first + second[:-3])
    assert rig.transport.reading  # or the rest would never come
    await rig.feed(second[-3:])
    assert [body[-9:] for body in answers(rig.transport.written)] == [b"b'first')", b"'second')"]


async def test_a_client_that_does_not_read_is_not_read_either():
    rig = Rig()
    rig.connection.pause_writing()
    await rig.feed(request() + request())  # what had come already
    assert len(answers(rig.transport.written)) == 2
    assert not rig.transport.reading
    rig.connection.resume_writing()
    assert rig.transport.reading


# --- answers


async def raw(rig, headers, *, status=200, body=b"{}"):
    """What is written of an answer with these headers, given in the short way."""

    async def app(scope, receive, send):
        scope[KEY].answer(status, headers, body)

    rig.connection._app = app
    return await rig.feed(request())


async def test_an_answer_is_json_with_its_length_unless_it_says_otherwise():
    assert await raw(Rig(), {"x": "1"}) == (
        b"HTTP/1.1 200 OK\r\ndate: D\r\nx: 1\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    )
    assert await raw(Rig(), {"content-type": "text/html"}, status=404) == (
        b"HTTP/1.1 404 Not Found\r\ndate: D\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\n{}"
    )
    assert await raw(Rig(), {"etag": '"1"'}, status=304, body=None) == (
        b'HTTP/1.1 304 Not Modified\r\ndate: D\r\netag: "1"\r\n\r\n'
    )


async def test_an_answer_that_asks_to_close_says_so_once_and_closes():
    rig = Rig()
    assert (await raw(rig, {"connection": "close"})).count(b"onnection: close\r\n") == 1
    assert rig.transport.closed


@pytest.mark.parametrize("value", ["a\r\nset-cookie: b", "a\nb", "\u20ac"])
async def test_a_header_that_cannot_be_sent_is_an_internal_error(value, caplog):
    got = await raw(Rig(), {"x": value})
    assert got.startswith(b"HTTP/1.1 500 ")
    assert json.loads(answers(got)[0])["type"] == "/problems/internal-error"
    assert b"set-cookie" not in got
    assert "failed outside its handlers" in caplog.text


async def test_the_date_of_the_server_is_followed():
    rig = Rig()
    await rig.feed(request())
    rig.state.default_headers = [(b"date", b"E")]
    assert (await rig.feed(request())).count(b"date: E\r\n") == 1


async def test_an_exchange_gives_its_body_whole_or_in_messages():
    rig = Rig()
    one = Exchange(rig.connection, {"method": "POST"}, keep_alive=True)
    assert one.whole() is None
    one.feed(b"a")
    assert one.whole() is None
    one.feed(b"b")
    one.end()
    assert one.whole() == b"ab"
    assert await one.receive() == {"type": "http.request", "body": b"ab", "more_body": False}
    assert one.whole() == b"ab"
    parts = Exchange(rig.connection, {"method": "POST"}, keep_alive=True)
    parts.feed(b"a")
    assert await parts.receive() == {"type": "http.request", "body": b"a", "more_body": True}
    parts.feed(b"b")
    parts.end()
    assert parts.whole() is None  # a part of it is gone
    assert await parts.receive() == {"type": "http.request", "body": b"b", "more_body": False}


async def stream(rig, *, gone=lambda: None):
    """The exchange of a request that is answered with a stream."""
    opened = []

    async def app(scope, receive, send):
        opened.append(scope[KEY])
        scope[KEY].open_stream({"content-type": "text/event-stream"}, b"first", on_gone=gone)
        scope[KEY].answer(200, {}, b"what Falcon would say besides")

    rig.connection._app = app
    await rig.feed(request())
    return opened[0]


async def test_a_stream_is_a_head_without_a_length_and_what_is_pushed():
    rig = Rig()
    opened = await stream(rig)
    assert opened.push(b" second")
    opened.end_stream(b" last")
    assert rig.transport.written == (
        b"HTTP/1.1 200 OK\r\ndate: D\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nfirst second last"
    )
    assert rig.transport.closed


async def test_nothing_is_pushed_to_a_client_that_does_not_read():
    rig = Rig()
    opened = await stream(rig)
    rig.connection.pause_writing()
    before = rig.transport.written
    assert not opened.push(b"more")
    assert rig.transport.written == before
    rig.connection.resume_writing()
    assert opened.push(b"more")


async def test_a_stream_learns_that_its_client_is_gone():
    told = []
    rig = Rig()
    await stream(rig, gone=lambda: told.append("gone"))
    assert rig.connection.eof_received() is False, "half a connection is no use to a stream"
    await rig.lose()
    assert told == ["gone"]


async def test_a_stream_outlives_the_idle_time_and_ends_with_the_server():
    rig = Rig()
    await stream(rig)
    rig.connection._since -= 1_000
    rig.connection._check()
    assert not rig.transport.closed
    rig.connection.shutdown()
    assert rig.transport.closed
