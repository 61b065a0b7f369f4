"""HTTP caching of reads (RFC 9110, 9111): entity tags, 304, and who may keep an answer.

A read with a key is ``private, no-cache``: a browser may keep it but asks each time, and no shared cache may hold one
tenant's answer for another. Only the public route lets a CDN keep it, for a second.
"""

import hashlib

import falcon.asgi

from leaderboard.api import headers

PRIVATE = "private, no-cache"
PUBLIC = "public, max-age=1, stale-while-revalidate=5"


def etag_of(body: bytes) -> str:
    """Return the strong entity tag of `body`, quoted."""
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def answer(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, body: bytes, etag: str, *, public: bool = False
) -> None:
    """Answer `body`, or 304 where the client has it already, with the headers of its kind of read."""
    resp.set_header("ETag", etag)
    if public:
        resp.set_header("Cache-Control", PUBLIC)
    else:
        resp.set_header("Cache-Control", PRIVATE)
        resp.append_header("Vary", "Authorization, X-API-Key")
    known = headers.optional(req, b"if-none-match")
    if known is not None and _matches(known, etag):
        resp.status = 304
        return
    resp.data = body


def _matches(if_none_match: str, etag: str) -> bool:
    # Weak comparison, as RFC 9110 13.1.2 asks of If-None-Match.
    return if_none_match.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
