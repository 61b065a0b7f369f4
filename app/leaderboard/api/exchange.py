"""One request and its answer, between the wire (`http1.py`) and the application.

To the application it is ASGI's `receive` and `send`. An application that knows of it (`dispatch.py`, `bodies.py`) finds
it in the scope and says the same in fewer words: `whole` for the body, `answer` for the answer. What
has no end (`live.py`) is `open_stream`, then `push` for each piece, and it ends with the connection.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from leaderboard.api import problems
from leaderboard.api.problems import ProblemType

log = logging.getLogger(__name__)

BODY_BUFFER = 65_536
"""Bytes of a body held for a handler that does not read; then the client has to wait."""
KEY = "leaderboard.exchange"
"""Where the scope has its exchange."""

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

App = Callable[[Any, Any, Any], Awaitable[None]]


class Wire(Protocol):
    """What an exchange needs of its connection."""

    loop: asyncio.AbstractEventLoop
    closing: bool
    """Whether no request is to come after those that have."""

    def common_head(self) -> bytes:
        """Return the header lines of every answer."""

    def may_go_on(self) -> bool:
        """Whether the connection is to stay open after the answer that is being written."""

    def resume_reading(self) -> None:
        """Read on, where reading was paused."""

    def write(self, data: bytes) -> None:
        """Send bytes that are not the answer."""

    def answer(self, exchange: "Exchange", data: bytes) -> None:
        """Send the answer of the exchange and go on."""

    def is_unread(self) -> bool:
        """Whether the client leaves unread what was sent."""

    def close(self) -> None:
        """Close the connection when what was written is sent."""


class Exchange:
    """One request and its answer."""

    # What most requests never touch is set here, once for all of them.
    answered = False
    disconnected = False
    streaming = False
    _on_gone: Callable[[], None] | None = None
    _expect = False
    _given = False
    _size = 0
    _start: Any = None
    _waiter: asyncio.Future[None] | None = None

    def __init__(self, wire: Wire, scope: dict[str, Any], *, keep_alive: bool, body: bytes | None = None) -> None:
        self._wire = wire
        self.scope = scope
        self.keep_alive = keep_alive
        self.complete = body is not None
        """Whether the whole request has arrived."""
        self._body = body
        self._pieces: list[bytes] = []

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
            # The scope names us and we name it. Left standing, such rings are freed by the collector alone: 12 us a
            # request, in pauses of 30 ms.
            del self.scope[KEY]
            if self.streaming:
                self.scope = {}  # it may live for days, and needs no headers

    # -- the request

    def expect_continue(self) -> None:
        """The client waits for a word before it sends the body; it gets one when somebody reads."""
        self._expect = True

    def feed(self, data: bytes) -> bool:
        """Take a piece of the body; return False when the client should wait."""
        if self.answered:
            return True  # nobody reads it any more; it only has to pass
        self._pieces.append(data)
        self._size += len(data)
        if self._waiter is not None:
            self.wake()
        return self._size <= BODY_BUFFER

    def end(self) -> None:
        """The request is whole."""
        self.complete = True
        if self._waiter is not None:
            self.wake()

    def wake(self) -> None:
        """Let `receive` look again."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def gone(self) -> None:
        """Take note that nobody waits for the answer any more."""
        self.disconnected = True
        self.wake()
        on_gone, self._on_gone = self._on_gone, None
        if on_gone is not None:
            on_gone()

    def whole(self) -> bytes | None:
        """Return the body where it has arrived whole, None where it (or the rest of it) is to be had from `receive`."""
        if self._body is None and self.complete and not self._given:
            pieces = self._pieces
            self._body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self._body

    async def receive(self) -> dict[str, Any]:
        """Return the next ASGI message of the request."""
        if self._expect:
            self._expect = False
            self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            if self.disconnected or self.answered:
                return {"type": "http.disconnect"}
            if self._pieces or self.complete:
                break
            self._waiter = self._wire.loop.create_future()
            await self._waiter
        data = None if self._given else self.whole()
        if data is None:
            data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        self._given = True
        self._wire.resume_reading()
        return {"type": "http.request", "body": data, "more_body": not self.complete}

    # -- the answer

    async def send(self, message: Any) -> None:
        """Take one ASGI message of the answer. The head waits for the body, so that both leave in one write."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        start = self._start
        if start is None or message.get("more_body"):
            raise RuntimeError("answers here are one start and one body: nothing streams")
        self._start = None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
        self._answer(start["status"], headers, "", message.get("body", b""))

    def answer(self, status: int, headers: Mapping[str, str], body: bytes | None) -> None:
        """Answer: JSON where the headers (their names in lower case) say nothing else, without a body where it is None.

        Nobody is told where the client has gone. Raises RuntimeError for a header that brings a line of its own.
        """
        if body is None:
            self._answer(status, headers, "", b"")
        elif "content-type" in headers:
            self._answer(status, headers, f"content-length: {len(body)}\r\n", body)
        else:
            self._answer(status, headers, f"content-type: application/json\r\ncontent-length: {len(body)}\r\n", body)

    def open_stream(self, headers: Mapping[str, str], first: bytes, *, on_gone: Callable[[], None]) -> None:
        """Answer 200 without an end, beginning with `first`. `on_gone` is called when the client is gone.

        The end of the connection is the end of the answer (RFC 9112, 6.3).
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = (_STATUS_LINES[200], self._wire.common_head(), lines.encode("latin-1"), b"connection: close\r\n\r\n")
        self.keep_alive = False
        self.answered = self.streaming = True
        self._on_gone = on_gone
        self._wire.write(b"".join((*head, first)))

    def push(self, data: bytes) -> bool:
        """Send a piece of the stream; return False, with nothing sent, where the client has not read the last ones."""
        if self._wire.is_unread():
            return False
        self._wire.write(data)
        return True

    def end_stream(self, data: bytes) -> None:
        """Send a last piece and close."""
        self._wire.write(data)
        self._wire.close()

    def answer_problem(self, kind: ProblemType, detail: str | None) -> None:
        """Answer with a problem of the server's own."""
        body = problems.render(kind, detail, trace_id=f"{random.getrandbits(128):032x}")
        self.answer(kind.status, {"content-type": problems.MEDIA_TYPE, "cache-control": "no-store"}, body)

    def _answer(self, status: int, headers: Mapping[str, str], about: str, body: bytes) -> None:
        if self.disconnected or self.answered:  # the latter: a stream has begun
            return
        wire = self._wire
        if "connection" in headers:  # whoever says something of the connection asks to close it
            headers = {name: value for name, value in headers.items() if name != "connection"}
            self.keep_alive = False
        if wire.closing and not wire.may_go_on():
            self.keep_alive = False
        head = ""
        for name, value in headers.items():
            if "\n" in value:
                raise RuntimeError(f"the header {name} contains a line break")
            head += f"{name}: {value}\r\n"
        end = "\r\n" if self.keep_alive else "connection: close\r\n\r\n"
        if self.scope["method"] == "HEAD":
            body = b""
        lines = f"{head}{about}{end}".encode("latin-1")
        data = b"".join((_STATUS_LINES[status], wire.common_head(), lines, body))
        self.answered = True  # not before: whatever fails above is answered with a 500
        wire.answer(self, data)
