"""Knowing a head again. A client that keeps its connection sends the same head with every request but for the length of
the body, and what was parsed once need not be parsed again: 1 us instead of 4.

Only what the parser could not tell apart is taken for the same: every byte of the head is equal but the digits of
Content-Length, and these say exactly how many bytes follow in the same piece of the stream. All else is parsed.
"""

import re
from typing import Any

LONGEST = 65_536
"""Bytes of a request that this is for: beside reading and handling a longer one, parsing its head is nothing."""

_length = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,6})\r\n", re.IGNORECASE).search


class KnownHead:
    """The head of a request that was parsed, and the ASGI scope it gave."""

    __slots__ = ("_after", "_before", "_head", "_place", "_scope", "_size")

    def __init__(self, head: bytes, scope: dict[str, Any], *, size: int, digits: tuple[int, int], place: int) -> None:
        start, stop = digits
        self._head = head
        self._size = size
        self._before = head[:start]
        self._after = head[stop:]
        self._scope = scope
        self._place = place

    @classmethod
    def of(cls, data: bytes, *, body: bytes, scope: dict[str, Any]) -> "KnownHead | None":
        """Return the head of `data`, a piece of the stream that was parsed into one request with this body and scope.

        None where the piece is more than that request to the byte (chunks, empty lines before or after it).
        """
        head = data[: data.find(b"\r\n\r\n") + 4]
        if len(head) + len(body) != len(data) or len(data) > LONGEST:
            return None
        if not body:
            return cls(head, scope, size=len(data), digits=(0, 0), place=-1)
        found = _length(head)
        if found is None or int(found[1]) != len(body):
            return None
        place = [name for name, _ in scope["headers"]].index(b"content-length")  # the parser allows only one
        return cls(head, scope, size=len(data), digits=found.span(1), place=place)

    def match(self, data: bytes) -> tuple[dict[str, Any], bytes] | None:
        """Return scope and body where `data` is one whole request with this head, else None.

        The scope is the caller's; its list of headers may be shared with other requests and is not to be changed.
        """
        if len(data) == self._size and data.startswith(self._head):
            return self._scope.copy(), data[len(self._head) :]
        before, after = self._before, self._after
        if not (before and data.startswith(before)):
            return None
        start = len(before)
        stop = data.find(b"\r", start, start + 7)
        digits = data[start:stop]
        if not (digits.isdigit() and data.startswith(after, stop)):
            return None
        body = data[stop + len(after) :]
        if int(digits) != len(body):
            return None
        scope = self._scope.copy()
        headers = scope["headers"] = scope["headers"].copy()
        headers[self._place] = (b"content-length", digits)
        return scope, body
