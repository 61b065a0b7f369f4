"""HTTP/1.1 on the wire: uvicorn's httptools protocol, with what it leaves to a proxy in front and with leaner answers.

- A request has `REQUEST_SECONDS` to arrive whole, headers and body, from connecting or from its first byte; its head
  may have `HEAD_BYTES`. Past that the connection is closed with 408 or 431. A request that arrives in one piece, as
  almost all do, never starts a timer.
- An answer leaves in one write, head and body together: one system call less a request, 8 us of 77 (docs/adr/0001).
- What cannot be parsed is answered with a problem document, like every other error.
"""

import asyncio
import random
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from leaderboard.api import problems
from leaderboard.api.problems import ProblemType

REQUEST_SECONDS = 10.0
HEAD_BYTES = 32_768
"""Our longest request line is 500 bytes and a browser's headers a few kilobytes."""
LINGER_SECONDS = 1.0
"""How long a refused client may go on sending: closed at once, the connection is reset and the answer is lost."""
_VERSIONS = frozenset({"1.0", "1.1"})


class Cycle(RequestResponseCycle):
    """One request and its answer. The head waits for the body; what streams goes uvicorn's own way."""

    _start: Any = None

    async def send(self, message: Any) -> None:
        """Take one ASGI message of the answer."""
        start = self._start
        if start is None:
            if message["type"] == "http.response.start" and not self.response_started:
                self._start = message
                return
        else:
            self._start = None
            if self.disconnected or self.transport.is_closing():
                self.disconnected = True  # uvicorn tells only the last of several pipelined requests
                return
            if not message.get("more_body") and not self.flow.write_paused and self.scope["method"] != "HEAD":
                self._answer(start["status"], start["headers"], message.get("body", b""))
                return
            await super().send(start)
        await super().send(message)

    def _answer(self, status: int, headers: Any, body: bytes) -> None:
        parts = [STATUS_LINE[status]]
        for name, value in self.default_headers:
            parts += (name, b": ", value, b"\r\n")
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
            if name == b"connection":  # the application only ever asks to close
                self.keep_alive = False
        lines = len(parts) // 4 + 2
        if self.keep_alive:
            parts.append(b"\r\n")
        else:
            parts.append(b"connection: close\r\n\r\n")
            lines += 1
        head = b"".join(parts)
        # No value may bring a line of its own. Counting once is cheaper than a pattern per header.
        if head.count(b"\n") != lines:
            raise RuntimeError("a header contains a line break")
        self.response_started = True
        self.transport.write(head + body)
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class Protocol(HttpToolsProtocol):
    """One connection."""

    _head_open = True
    _arriving = True
    _head_bytes = 0
    _long = False
    _refused = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock of the first request: a client that connects and says nothing is closed too."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(REQUEST_SECONDS, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; where a request is not whole afterwards, watch its size and time."""
        if self._refused:
            return
        self._long = self._head_bytes + len(data) > HEAD_BYTES
        super().data_received(data)
        if self._arriving:
            if self._head_open:
                self._head_bytes += len(data)
                if self._head_bytes > HEAD_BYTES:
                    self._refuse(problems.HEADERS_TOO_LARGE, f"the limit is {HEAD_BYTES} bytes")
            if self._timer is None:
                self._timer = self.loop.call_later(REQUEST_SECONDS, self._late)

    def on_message_begin(self) -> None:
        """A new request begins to arrive."""
        super().on_message_begin()
        self._head_open = self._arriving = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """The head is in: start the request."""
        self._head_open = False
        if self._long:
            self._check_head()
        scope = self.scope
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = version = self.parser.get_http_version()
        if version not in _VERSIONS:
            raise ValueError("HTTP/1.1 or 1.0, please")  # a 400: the parser lets 0.9 and 2.0 through
        url = httptools.parse_url(self.url)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = url.query or b""
        previous = self.cycle
        self.cycle = cycle = Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if previous is None or previous.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            # A pipelined request waits for the one before it.
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._arriving = False
        self._stop_timer()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, and close."""
        self._refuse(problems.MALFORMED_REQUEST, msg)

    def _check_head(self) -> None:
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > HEAD_BYTES:
            self._refuse(problems.HEADERS_TOO_LARGE, f"the limit is {HEAD_BYTES} bytes")
            raise ValueError("refused")  # ends the parsing; the connection is closing

    def _late(self) -> None:
        self._timer = None
        if self._arriving:
            self._refuse(problems.REQUEST_TIMEOUT, f"the request took longer than {REQUEST_SECONDS:g} s to arrive")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, kind: ProblemType, detail: str) -> None:
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._stop_timer()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started or self.pipeline or not cycle.more_body:
                # A request that arrived whole is being done. What is wrong came after it and must not pass for its
                # answer; nor is there a way to say more: after garbage nothing can be matched to a request.
                self.transport.close()
                return
            cycle.disconnected = True  # the handler, waiting for the rest of the body, learns that none will come
            cycle.message_event.set()
        body = problems.render(kind, detail, trace_id=f"{random.getrandbits(128):032x}")
        head = (
            f"content-type: {problems.MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            "cache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[kind.status] + head.encode() + body)
        # Closed in stages (RFC 9112, 9.6): our half now, the rest when the client has closed its own, or after a while.
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)
