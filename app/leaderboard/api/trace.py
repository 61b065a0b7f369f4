"""The trace id of a request: from its `traceparent` header (W3C Trace Context), else made here, at first need.

It exists before the key is looked at, so a 401 has one too; a request that nobody reports on never pays for it.
"""

import random
import re

import falcon.asgi

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?").fullmatch


def trace_id(req: falcon.asgi.Request) -> str:
    """Return the request's trace id, 32 hexadecimal digits; the same one each time."""
    known: str | None = getattr(req.context, "trace_id", None)
    if known is None:
        match = _TRACEPARENT(req.get_header("traceparent") or "")
        known = match[1] if match and match[1] != "0" * 32 else f"{random.getrandbits(128):032x}"
        req.context.trace_id = known
    return known
