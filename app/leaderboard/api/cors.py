"""Pages of other origins (Fetch Standard, CORS): a project names those that may read with its keys of scope `read`.

A browser asks first (preflight) without the key, so that answer cannot know the project: it allows GET with a key to
everybody, and gives nothing away. Whether a page sees an answer is decided with the key. No cookie ever counts here,
and a key that may write is for backends: its answers are shown to no page.
"""

from typing import Any

import falcon.asgi

from leaderboard.api import headers

Request = falcon.asgi.Request
Response = falcon.asgi.Response

PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET",
    "Access-Control-Allow-Headers": "Authorization, X-API-Key, If-None-Match, Last-Event-ID, traceparent, tracestate",
    "Access-Control-Max-Age": "7200",
    "Vary": "Origin",
}
EXPOSED = "ETag, RateLimit, RateLimit-Policy, Retry-After"
"""What a page's script may read besides the few headers that are always shown."""


class Cors:
    """Between the tenant context, which knows the project, and what follows: its refusals are shown too."""

    async def process_request(self, req: Request, resp: Response) -> None:
        """Answer a preflight. It has no route of its own: it asks for another method's."""
        if req.method != "OPTIONS" or not req.path.startswith("/v1/"):
            return
        origin = req.get_header("Origin")
        if origin is None or req.get_header("Access-Control-Request-Method") is None:
            return
        resp.set_header("Access-Control-Allow-Origin", origin)
        for name, value in PREFLIGHT.items():
            resp.set_header(name, value)
        resp.status = 204
        resp.complete = True

    async def process_resource(self, req: Request, resp: Response, resource: Any, params: dict[str, str]) -> None:  # noqa: ARG002
        """Let the page that sent the request see its answer, where the key's project allows it."""
        if req.method != "GET":
            return
        context = getattr(req.context, "key", None)
        if context is None or not context.origins:
            return
        resp.append_header("Vary", "Origin")
        origin = headers.optional(req, b"origin")
        if origin is not None and origin in context.origins:
            resp.set_header("Access-Control-Allow-Origin", origin)
            resp.set_header("Access-Control-Expose-Headers", EXPOSED)
