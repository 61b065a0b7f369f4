"""HTTP/1.1 on the wire: uvicorn's httptools protocol, with the bounds it leaves to a proxy in front.

A client gets `HEAD_SECONDS` from connecting, or from the first byte of a request, to the end of its headers, and
`HEAD_BYTES` for them; past that the connection is closed with 408 or 431. The body's bounds are in `bodies.py`.
"""

import asyncio
import random
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from leaderboard.api import problems
from leaderboard.api.problems import ProblemType

HEAD_SECONDS = 10.0
HEAD_BYTES = 32_768
"""Our longest request line is 500 bytes and a browser's headers a few kilobytes."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    _head_open = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock of the first request: a client that connects and says nothing is closed too."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; where a head is still open afterwards, watch its size and time."""
        super().data_received(data)
        if self._head_open:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(problems.HEADERS_TOO_LARGE, f"the limit is {HEAD_BYTES} bytes")
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_late)

    def on_message_begin(self) -> None:
        """A new request starts with an open head."""
        super().on_message_begin()
        self._head_open = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """The head is in: stop its clock, and start the request."""
        self._head_open = False
        if self._head_timer is not None:
            self._stop_timer()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed is answered like every other error."""
        self._refuse(problems.MALFORMED_REQUEST, msg)

    def _head_late(self) -> None:
        self._head_timer = None
        if self._head_open and not self.transport.is_closing():
            self._refuse(problems.REQUEST_TIMEOUT, f"the headers took longer than {HEAD_SECONDS:g} s")

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, kind: ProblemType, detail: str) -> None:
        if self.transport.is_closing():
            return
        body = problems.render(kind, detail, trace_id=f"{random.getrandbits(128):032x}")
        head = (
            f"HTTP/1.1 {kind.status} \r\ncontent-type: {problems.MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            "cache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
