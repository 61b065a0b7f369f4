"""The short way through Falcon: for requests that came whole over our own protocol and have a route.

Falcon's `__call__` serves every ASGI server and every kind of answer (streams, events, media, cookies), and speaks with
the server in messages that one side makes and the other takes apart. Our answers are bytes in memory and the server is
ours, so 3 us of a write are not for us. The short way is the rest, made of Falcon's public parts: its router, request
and response, and the methods of middleware and resources. Everything else (another server, a body that is still
arriving, a path without a route, another method) goes Falcon's way; a test holds that both give the same answers.

What the short way does not have: `resp.complete` (a step here ends a request by raising), streams, cookies (a resource
that sets one says so: ``sets_cookies``).
"""

from collections.abc import Awaitable, Sequence
from typing import Any

import falcon.asgi
import falcon.routing

from leaderboard.api import errors
from leaderboard.api.exchange import KEY, Exchange

_BODILESS = frozenset({204, 304})


class Router(falcon.routing.CompiledRouter):
    """Falcon's router; a path without parameters is found in a dictionary the second time (0.1 us instead of 0.5)."""

    def __init__(self) -> None:
        super().__init__()
        self._literal: dict[str, tuple[Any, Any, str]] = {}

    def find(self, uri: str, req: Any = None) -> Any:
        """As Falcon's."""
        known = self._literal.get(uri)
        if known is not None:
            resource, methods, template = known
            return resource, methods, {}, template
        route = super().find(uri, req)
        if route is not None and route[3] == uri and not route[2]:
            self._literal[uri] = (route[0], route[1], uri)
        return route


class App(falcon.asgi.App[Any, Any]):
    """Falcon's application with the short way in front. Exceptions become problems, of which `answered` is told."""

    def __init__(self, *, middleware: Sequence[Any], answered: errors.Answered = lambda req, resp: None) -> None:  # noqa: ARG005
        self._routes = Router()
        self._before = [step.process_resource for step in middleware]
        self._after = [step.process_response for step in reversed(middleware) if hasattr(step, "process_response")]
        self._answered = answered
        super().__init__(middleware=list(middleware), router=self._routes)
        errors.install(self, answered)

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:  # type: ignore[override]
        """Serve one request (or the lifespan)."""
        exchange = scope.get(KEY)
        if exchange is not None and exchange.complete and scope["method"] in ("GET", "POST"):
            route = self._routes.find(scope["path"])
            if route is not None and not hasattr(route[0], "sets_cookies"):
                return self._serve(exchange, route, scope, receive)
        return super().__call__(scope, receive, send)

    async def _serve(self, exchange: Exchange, route: Any, scope: Any, receive: Any) -> None:
        resource, methods, params, template = route
        req = falcon.asgi.Request(scope, receive, options=self.req_options)
        req.uri_template = template
        resp = falcon.asgi.Response(options=self.resp_options)
        succeeded = False
        try:
            for step in self._before:
                await step(req, resp, resource, params)
            await methods[req.method](req, resp, **params)
            succeeded = True
        except Exception as error:  # noqa: BLE001 - each kind has its handler, as under Falcon
            await errors.answer(req, resp, error, params)
            self._answered(req, resp)
        for step in self._after:
            try:
                await step(req, resp, resource, succeeded)
            except Exception as error:  # noqa: BLE001
                await errors.answer(req, resp, error, params)
                self._answered(req, resp)
                succeeded = False
        status = 200 if resp.status == falcon.HTTP_200 else resp.status_code
        if status in _BODILESS:
            exchange.answer(status, resp.headers, None)
        else:
            exchange.answer(status, resp.headers, resp.data or await resp.render_body() or b"")
