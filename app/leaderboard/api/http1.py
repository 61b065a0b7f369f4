"""HTTP/1.1 on the wire: an ASGI server's connection over httptools, with only what this API needs.

It takes the place of uvicorn's own protocol class under uvicorn's server, which keeps accepting, signals, graceful
shutdown and the clock. Per request it does less than half of that class's work (docs/adr/0001 has the measurement):
one task for all requests of a connection, one write for head and body, no timer, no event object, and a head that came
before is not parsed again (`heads.py`). And it bounds what a client may do:

- A request has `REQUEST_SECONDS` to arrive whole, from connecting or from its first byte; its head may have
  `HEAD_BYTES`. Past that it is answered 408 or 431 and the connection closed.
- What cannot be parsed is answered with a problem document, like every other error, where it can still be told whose
  answer that is. After garbage nothing more is read.
- Requests in a pipeline are answered in their order, one at a time.
"""

import asyncio
from collections import deque
from typing import Any
from urllib.parse import unquote

import httptools

from leaderboard.api import problems
from leaderboard.api.exchange import KEY, App, Exchange
from leaderboard.api.heads import KnownHead
from leaderboard.api.problems import ProblemType

REQUEST_SECONDS = 10.0
HEAD_BYTES = 32_768
"""Our longest request line is 500 bytes and a browser's headers a few kilobytes."""
LINGER_SECONDS = 1.0
"""How long a refused client may go on sending: closed at once, the connection is reset and the answer is lost."""
LAST_SECONDS = 1.0
"""How long a connection without a request stays open once the server is to stop: what its client has just sent is
answered, with `connection: close`. Closed at once it would be reset, and nobody could say what became of that."""
CHECK_SECONDS = 1.0
"""How often a connection looks at its clock. One slow timer a connection, instead of two set and cleared a request."""
LESSONS = 4
"""Heads learned in a row of which none came again: then they differ (an Idempotency-Key), and no more are learned."""

_VERSIONS = frozenset({"1.0", "1.1"})


class Connection(asyncio.Protocol):
    """One connection. The signature and the sets it keeps are those that uvicorn's server expects of a protocol."""

    def __init__(
        self, config: Any, server_state: Any, app_state: Any, _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:  # `app_state` is the lifespan's; we have none
        if not config.loaded:
            config.load()
        del app_state
        self.loop = _loop or asyncio.get_running_loop()
        self._app: App = config.loaded_app
        self._server = server_state
        # What the connection's one task waits for: its next request, or None when there will be none.
        self._turn: asyncio.Future[Exchange | None] = self.loop.create_future()
        self._keep_alive_seconds = config.timeout_keep_alive
        self._parser: Any = httptools.HttpRequestParser(self)
        # A client may send more after asking to close; that must not spoil the answer to what it asked.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._transport: Any = None
        self._scope: dict[str, Any] = {}
        self._current: Exchange | None = None
        self._pipeline: deque[Exchange] = deque()
        self._receiving: Exchange | None = None
        self._since = 0.0
        """When the request began to arrive, or the connection became idle."""
        self._arriving = True
        self._head_open = True
        self._head_bytes = 0
        self._long = False
        self._refused = False
        self.closing = False
        self._reading = True
        self._unread = False
        """Whether the client leaves its answers unread."""
        self._timer: asyncio.TimerHandle | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expect = False
        self._known: KnownHead | None = None
        self._lessons = LESSONS
        self._common: list[tuple[bytes, bytes]] | None = None
        self._common_head = b""

    # -- asyncio's side

    def connection_made(self, transport: Any) -> None:
        """Start the clock: a client that connects and says nothing is closed too."""
        self._transport = transport
        self._server.connections.add(self)
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
            "server": _address(transport.get_extra_info("sockname")),
            "client": _address(transport.get_extra_info("peername")),
            "root_path": "",
        }
        self._since = self.loop.time()
        self._timer = self.loop.call_later(CHECK_SECONDS, self._check)
        task = self.loop.create_task(self._serve())
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell every request that nobody waits for its answer."""
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        for one in (self._current, *self._pipeline, self._receiving):
            if one is not None:
                one.gone()
        self._current = self._receiving = None
        self._pipeline.clear()
        if not self._turn.done():
            self._turn.set_result(None)
        self._parser = None  # it refers to us

    def data_received(self, data: bytes) -> None:
        """Parse; where a head is not whole afterwards, watch its size."""
        if self._refused:
            return
        between = not self._arriving  # two requests: nothing of the next one has come yet
        if between:
            self._receiving = None
            if self._known is not None and self._current is None:
                known = self._known.match(data)
                if known is not None:
                    self._begin_known(*known)
                    return
        self._long = self._head_bytes + len(data) > HEAD_BYTES
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # To a protocol we do not speak: the request is answered as HTTP/1.1, and what follows is not read.
            if self._receiving is not None:
                self._receiving.keep_alive = False
            self._refused = True
        except httptools.HttpParserError as error:
            kind = error.__context__
            if isinstance(kind, _Refused):
                self._refuse(kind.type, kind.detail)
            else:
                self._refuse(problems.MALFORMED_REQUEST, "the request cannot be parsed")
        else:
            if self._head_open and self._arriving:
                self._head_bytes += len(data)
                if self._head_bytes > HEAD_BYTES:
                    self._refuse(problems.HEADERS_TOO_LARGE, f"the limit is {HEAD_BYTES} bytes")
            elif between and self._lessons:
                self._learn(data)

    def eof_received(self) -> bool:
        """The client has sent all it will: answer what is under way, then close."""
        self.closing = True
        return self._current is not None and self._current.complete and not self._current.streaming

    def pause_writing(self) -> None:
        """The client does not read its answers: do not read its requests."""
        self._unread = True
        self.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._unread = False
        self.resume_reading()

    # -- heads that come again

    def _begin_known(self, scope: dict[str, Any], body: bytes) -> None:
        self._lessons = LESSONS
        scope[KEY] = self._receiving = one = Exchange(self, scope, keep_alive=True, body=body)
        self._begin(one)

    def _learn(self, data: bytes) -> None:
        # Only where the piece was one request and all of it, and the next one would be treated alike.
        one = self._receiving
        body = None if one is None else one.whole()
        if one is None or body is None or not one.keep_alive or self._expect or self._pipeline:
            return
        self._lessons -= 1
        scope = one.scope.copy()
        del scope[KEY]
        self._known = KnownHead.of(data, body=body, scope=scope)

    # -- httptools' side

    def on_message_begin(self) -> None:
        """A new request begins to arrive."""
        self._url = b""
        self._headers = []
        self._expect = False
        self._head_open = self._arriving = True
        self._head_bytes = 0
        self._since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._expect = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is in: start the request, or let it wait for the one before it."""
        self._head_open = False
        if self._long and len(self._url) + sum(len(n) + len(v) + 4 for n, v in self._headers) > HEAD_BYTES:
            raise _Refused(problems.HEADERS_TOO_LARGE, f"the limit is {HEAD_BYTES} bytes")
        parser = self._parser
        version = parser.get_http_version()
        if version not in _VERSIONS:  # the parser lets 0.9 and 2.0 through
            raise _Refused(problems.MALFORMED_REQUEST, "only HTTP/1.1 and 1.0 are spoken here")
        raw_path, query = _target(self._url)
        path = raw_path.decode("ascii")
        scope = self._scope.copy()
        scope["http_version"] = version
        scope["method"] = parser.get_method().decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = query
        scope["headers"] = self._headers
        keep_alive = version == "1.1" and parser.should_keep_alive()
        # Spares those who know of it the messages and streams in between; see dispatch.py and bodies.py.
        scope[KEY] = self._receiving = one = Exchange(self, scope, keep_alive=keep_alive)
        if self._expect:
            one.expect_continue()
        if self._current is None:
            self._begin(one)
        else:
            self._pipeline.append(one)
            self.pause_reading()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self._receiving is not None and not self._receiving.feed(data):
            self.pause_reading()

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._arriving = False
        if self._receiving is not None:
            self._receiving.end()

    # -- the server's and the exchanges' side

    def shutdown(self) -> None:
        """Let the next answer be the last one, and do not wait for it long. Streams end now."""
        self.closing = True
        if self._current is not None and self._current.streaming:
            self._transport.close()
        self.loop.call_later(LAST_SECONDS, self._close_idle)

    def common_head(self) -> bytes:
        """Return the header lines of every answer: the date and what server.py adds, a new list each second."""
        headers = self._server.default_headers
        if headers is not self._common:
            self._common = headers
            self._common_head = b"".join([b"%b: %b\r\n" % header for header in headers])
        return self._common_head

    def may_go_on(self) -> bool:
        """Whether the connection is to stay open after the answer that is being written."""
        return not self.closing or bool(self._pipeline)

    def write(self, data: bytes) -> None:
        """Send bytes that are not an answer."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def is_unread(self) -> bool:
        """Whether the client leaves unread what was sent."""
        return self._unread

    def close(self) -> None:
        """Close the connection when what was written is sent."""
        self._transport.close()

    def pause_reading(self) -> None:
        """Let the client wait."""
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless the client does not read."""
        if not self._reading and not self._unread and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def answer(self, exchange: Exchange, data: bytes) -> None:
        """Send an answer, then go on with the next request, or close."""
        if not self._transport.is_closing():
            self._transport.write(data)
        self._server.total_requests += 1
        self._current = None
        if not exchange.keep_alive:
            self._pipeline.clear()
            if exchange.complete:
                self._transport.close()
            else:
                self._close_in_stages()
            return
        if not self._arriving:
            self._since = self.loop.time()
        if self._pipeline:
            self._begin(self._pipeline.popleft())
        if not self._reading and not self._pipeline:
            self.resume_reading()

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        self._turn.set_result(exchange)

    async def _serve(self) -> None:
        # One task for all requests of the connection, in turn: making one for each took 12,000 instructions, waiting
        # in this one takes 7,000 (0.5 us less a request).
        try:
            while True:
                exchange = await self._turn
                if exchange is None or exchange.disconnected:
                    return
                self._turn = self.loop.create_future()
                await exchange.run(self._app)
        except asyncio.CancelledError:
            self._transport.close()  # nobody would answer on it any more
            raise

    def _check(self) -> None:
        if self._current is not None and self._current.streaming:
            return  # whoever writes to it watches it
        waited = self.loop.time() - self._since
        if self._arriving:
            if waited > REQUEST_SECONDS:
                self._refuse(problems.REQUEST_TIMEOUT, f"the request took longer than {REQUEST_SECONDS:g} s to arrive")
                return
        elif self._current is None and waited > self._keep_alive_seconds:
            self._transport.close()
            return
        self._timer = self.loop.call_later(CHECK_SECONDS, self._check)

    def _close_idle(self) -> None:
        if self._current is None:
            self._transport.close()

    def _refuse(self, kind: ProblemType, detail: str) -> None:
        if self._refused or self._transport.is_closing():
            return
        self._refused = True
        current = self._current
        if current is not None:
            if current.complete or self._pipeline:
                # A request that arrived whole is being done. What is wrong came after it and must not pass for its
                # answer; after garbage nothing more can be matched to a request.
                self._pipeline.clear()
                current.keep_alive = False
                return
            current.gone()  # the handler, waiting for the rest of the body, learns that none will come
        refusal = Exchange(self, {"method": "GET"}, keep_alive=False)
        refusal.answer_problem(kind, detail)

    def _close_in_stages(self) -> None:
        # Our half now, the rest when the client has closed its own, or after a while (RFC 9112, 9.6).
        self._refused = True
        self.resume_reading()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(LINGER_SECONDS, self._transport.close)


class _Refused(Exception):
    """Raised inside the parser's callbacks to end the parsing with an answer of its own."""

    def __init__(self, type: ProblemType, detail: str) -> None:
        super().__init__(detail)
        self.type = type
        self.detail = detail


_SLASH, _HASH = b"/#"


def _target(url: bytes) -> tuple[bytes, bytes]:
    """Return path and query of a request target; for the usual form, which needs no parser (0.5 us), find them here."""
    if url[0] == _SLASH and _HASH not in url:
        path, _, query = url.partition(b"?")
        return path, query
    parsed = httptools.parse_url(url)
    return parsed.path or b"/", parsed.query or b""


def _address(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
