"""HTTP/1.1 on the wire: an ASGI server's connection over httptools, with only what this API needs.

It takes the place of uvicorn's own protocol class under uvicorn's server, which keeps accepting, signals, graceful
shutdown and the clock. Per request it does half of that class's work (docs/adr/0001 has the measurement): one task and
no further callbacks, one write for head and body, no timer, no event object. And it bounds what a client may do:

- A request has `REQUEST_SECONDS` to arrive whole, from connecting or from its first byte; its head may have
  `HEAD_BYTES`. Past that it is answered 408 or 431 and the connection closed.
- What cannot be parsed is answered with a problem document, like every other error, where it can still be told whose
  answer that is. After garbage nothing more is read.
- Requests in a pipeline are answered in their order, one at a time.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools

from leaderboard.api import problems
from leaderboard.api.problems import ProblemType

log = logging.getLogger(__name__)

REQUEST_SECONDS = 10.0
HEAD_BYTES = 32_768
"""Our longest request line is 500 bytes and a browser's headers a few kilobytes."""
BODY_BUFFER = 65_536
"""Bytes of a body held for a handler that does not read; then the client has to wait."""
LINGER_SECONDS = 1.0
"""How long a refused client may go on sending: closed at once, the connection is reset and the answer is lost."""
CHECK_SECONDS = 1.0
"""How often a connection looks at its clock. One slow timer a connection, instead of two set and cleared a request."""

_VERSIONS = frozenset({"1.0", "1.1"})
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

App = Callable[[Any, Any, Any], Awaitable[None]]


class Exchange:
    """One request and its answer: the ASGI `receive` and `send` of one task."""

    __slots__ = (
        "_connection",
        "_expect",
        "_given",
        "_pieces",
        "_size",
        "_start",
        "_waiter",
        "answered",
        "body",
        "complete",
        "disconnected",
        "keep_alive",
        "scope",
        "task",
    )

    def __init__(self, connection: "Connection", scope: dict[str, Any], *, keep_alive: bool, expect: bool) -> None:
        self._connection = connection
        self._pieces: list[bytes] = []
        self.body: bytes | None = None
        """The body, once `receive` has given it whole: for a reader that knows of us."""
        self._size = 0
        self._given = False
        self._expect = expect
        self._start: Any = None
        self._waiter: asyncio.Future[None] | None = None
        self.scope = scope
        self.keep_alive = keep_alive
        self.complete = False
        """Whether the whole request has arrived."""
        self.answered = False
        self.disconnected = False
        self.task: asyncio.Task[None] | None = None

    async def run(self, app: App) -> None:
        """Let `app` answer; an application that fails or says nothing gets a 500 said for it."""
        try:
            await app(self.scope, self.receive, self.send)
            if not self.answered and not self.disconnected:
                raise RuntimeError("the application ended without an answer")
        except Exception:
            log.exception("%s %s failed outside its handlers", self.scope["method"], self.scope["path"])
            if not self.answered and not self.disconnected:
                self.keep_alive = False
                self.answer_problem(problems.INTERNAL_ERROR, None)
        finally:
            self._connection.tasks.discard(self.task)
            # The scope names us and we name it. Left standing, such rings are freed by the collector alone: 12 us a
            # request, in pauses of 30 ms.
            self.scope.pop("leaderboard.exchange", None)
            self.task = None

    def feed(self, data: bytes) -> bool:
        """Take a piece of the body; return False when the client should wait."""
        if self.answered:
            return True  # nobody reads it any more; it only has to pass
        self._pieces.append(data)
        self._size += len(data)
        self.wake()
        return self._size <= BODY_BUFFER

    def wake(self) -> None:
        """Let `receive` look again."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def receive(self) -> dict[str, Any]:
        """Return the next ASGI message of the request."""
        if self._expect:
            self._expect = False
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            if self.disconnected or self.answered:
                return {"type": "http.disconnect"}
            if self._pieces or self.complete:
                break
            self._waiter = self._connection.loop.create_future()
            await self._waiter
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._size = 0
        if self.complete and not self._given:
            self.body = data
        self._given = True
        self._connection.resume_reading()
        return {"type": "http.request", "body": data, "more_body": not self.complete}

    async def send(self, message: Any) -> None:
        """Take one ASGI message of the answer. The head waits for the body, so that both leave in one write."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        start = self._start
        if start is None or message.get("more_body"):
            raise RuntimeError("answers here are one start and one body: nothing streams")
        self._start = None
        if not self.disconnected:
            self._answer(start["status"], start["headers"], message.get("body", b""))

    def answer_problem(self, kind: ProblemType, detail: str | None) -> None:
        """Answer with a problem of the server's own."""
        body = problems.render(kind, detail, trace_id=f"{random.getrandbits(128):032x}")
        headers = [
            (b"content-type", problems.MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        self._answer(kind.status, headers, body)

    def _answer(self, status: int, headers: Any, body: bytes) -> None:
        connection = self._connection
        parts = [_STATUS_LINES[status]]
        for name, value in connection.default_headers():
            parts += (name, b": ", value, b"\r\n")
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
            if name == b"connection":  # the application only ever asks to close
                self.keep_alive = False
        lines = len(parts) // 4 + 2
        if self.keep_alive and connection.may_go_on():
            parts.append(b"\r\n")
        else:
            self.keep_alive = False
            parts.append(b"connection: close\r\n\r\n")
            lines += 1
        head = b"".join(parts)
        # No value may bring a line of its own. Counting once is cheaper than a pattern per header.
        if head.count(b"\n") != lines:
            raise RuntimeError("a header contains a line break")
        self.answered = True
        connection.write(head if self.scope["method"] == "HEAD" else head + body)
        connection.finished(self)


class Connection(asyncio.Protocol):
    """One connection. The signature and the sets it keeps are those that uvicorn's server expects of a protocol."""

    def __init__(
        self, config: Any, server_state: Any, app_state: Any, _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:  # `app_state` is the lifespan's; we have none
        if not config.loaded:
            config.load()
        del app_state
        self.loop = _loop or asyncio.get_running_loop()
        self.tasks = server_state.tasks
        self._app: App = config.loaded_app
        self._server = server_state
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
        self._closing = False
        self._reading = True
        self._timer: asyncio.TimerHandle | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expect = False

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

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell every request that nobody waits for its answer."""
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        for exchange in (self._current, *self._pipeline, self._receiving):
            if exchange is not None:
                exchange.disconnected = True
                exchange.wake()
        self._pipeline.clear()
        self._parser = None  # it refers to us

    def data_received(self, data: bytes) -> None:
        """Parse; where a head is not whole afterwards, watch its size."""
        if self._refused:
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

    def eof_received(self) -> bool:
        """The client has sent all it will: answer what is under way, then close."""
        self._closing = True
        return self._current is not None and self._current.complete

    def pause_writing(self) -> None:
        """The client does not read its answers: do not read its requests."""
        self.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self.resume_reading()

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
        url = httptools.parse_url(self._url)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        scope = self._scope.copy()
        scope["http_version"] = version
        scope["method"] = parser.get_method().decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = url.query or b""
        scope["headers"] = self._headers
        exchange = Exchange(
            self, scope, keep_alive=version == "1.1" and parser.should_keep_alive(), expect=self._expect
        )
        # Spares a reader of the body the streams in between; see bodies.py.
        scope["leaderboard.exchange"] = self._receiving = exchange
        if self._current is None:
            self._begin(exchange)
        else:
            self._pipeline.append(exchange)
            self.pause_reading()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self._receiving is not None and not self._receiving.feed(data):
            self.pause_reading()

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._arriving = False
        exchange = self._receiving
        if exchange is not None:
            exchange.complete = True
            exchange.wake()

    # -- the server's and the exchanges' side

    def shutdown(self) -> None:
        """Close when nothing is under way, else after the answer."""
        self._closing = True
        if self._current is None:
            self._transport.close()

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers of every answer: the date, made anew each second by the server."""
        headers: list[tuple[bytes, bytes]] = self._server.default_headers
        return headers

    def may_go_on(self) -> bool:
        """Whether the connection is to stay open after the answer that is being written."""
        return not self._closing or bool(self._pipeline)

    def write(self, data: bytes) -> None:
        """Send bytes of an answer."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Let the client wait."""
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def finished(self, exchange: Exchange) -> None:
        """The current request is answered: go on with the next, or close."""
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
        elif not self._reading:
            self.resume_reading()

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        exchange.task = task = self.loop.create_task(exchange.run(self._app))
        self.tasks.add(task)

    def _check(self) -> None:
        waited = self.loop.time() - self._since
        if self._arriving:
            if waited > REQUEST_SECONDS:
                self._refuse(problems.REQUEST_TIMEOUT, f"the request took longer than {REQUEST_SECONDS:g} s to arrive")
                return
        elif self._current is None and waited > self._keep_alive_seconds:
            self._transport.close()
            return
        self._timer = self.loop.call_later(CHECK_SECONDS, self._check)

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
            current.disconnected = True  # the handler, waiting for the rest of the body, learns that none will come
            current.wake()
        refusal = Exchange(self, {"method": "GET"}, keep_alive=False, expect=False)
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


def _address(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
