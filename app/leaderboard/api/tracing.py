"""Step 3 of the middleware: the request's span, if it is sampled, and its metrics. Only where telemetry is on.

What is not sampled makes nothing: its metrics are a few additions (`telemetry/metrics.py`).
"""

import logging
import time
from collections.abc import Awaitable
from typing import Any

import falcon
import falcon.asgi
from opentelemetry.trace import SpanContext, SpanKind, TraceState

from leaderboard.api import headers
from leaderboard.api.dispatch import App
from leaderboard.telemetry.metrics import Duration
from leaderboard.telemetry.otel import Telemetry
from leaderboard.telemetry.redact import redact_keys
from leaderboard.telemetry.sampling import parse
from leaderboard.telemetry.spans import CURRENT, Value

log = logging.getLogger(__name__)

SLOW_SECONDS = 0.01
"""What the platform promises. A sampled request that took longer has a log line, one a second at most."""
_ARRIVED = "leaderboard.arrived"
"""Where the scope has the time at which the request came, of time.perf_counter."""


class SeenApp(App):
    """The application with the time at which each request arrived: before step 1, so that a 401 has a duration too."""

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:  # type: ignore[override]
        """Serve one request (or the lifespan)."""
        scope[_ARRIVED] = time.perf_counter()
        return super().__call__(scope, receive, send)


class Tracing:
    """Opens the span of a sampled request once its tenant is known; calls made meanwhile are its children."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._tracer = telemetry.tracer
        self._root = telemetry.tracer.sampler.root
        self._tenants = telemetry.tenants
        self._durations = telemetry.metrics.durations(
            "http.server.request.duration",
            "Time to answer a request",
            "http.request.method",
            "http.route",
            "http.response.status_code",
            "url.scheme",
            "error.type",
        )
        self._series: dict[tuple[str, str, int], Duration] = {}
        self._next_line = 0.0

    async def process_resource(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,  # noqa: ARG002
        resource: Any,  # noqa: ARG002
        params: dict[str, str],  # noqa: ARG002
    ) -> None:
        """Decide, and open the span: as a child of the caller's where it sent a traceparent."""
        sent = headers.optional(req, b"traceparent")
        parent = None if sent is None else parse(sent)
        if parent is None:
            trace_id = self._root()
            if trace_id:
                self._open(req, trace_id, None)
        elif self._tracer.sampler.continued(parent):
            self._open(req, parent.trace_id, parent)

    def _open(self, req: falcon.asgi.Request, trace_id: int, parent: SpanContext | None) -> None:
        attributes: dict[str, Value] = {
            "http.request.method": req.method,
            "http.route": req.uri_template or "",
            "url.path": redact_keys(req.path),
            "url.scheme": "http",
        }
        context = getattr(req.context, "key", None)
        if context is not None:
            attributes["leaderboard.tenant"] = context.tenant
            attributes["leaderboard.project"] = context.project
        state = headers.optional(req, b"tracestate") if parent is not None else None
        span = self._tracer.begin(
            f"{req.method} {req.uri_template}",
            SpanKind.SERVER,
            attributes,
            trace_id=trace_id,
            parent=parent,
            state=None if state is None else TraceState.from_header([state]),
            # It covers the steps before it too.
            started=time.time_ns() - int((time.perf_counter() - req.scope[_ARRIVED]) * 1e9),
        )
        req.context.trace_id = span.trace_id
        req.context.span = span
        req.context.span_token = CURRENT.set(span)

    async def process_response(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: Any,  # noqa: ARG002
        req_succeeded: bool,  # noqa: ARG002
    ) -> None:
        """Record the request, also one that was refused before step 3, and close its span where it has one."""
        seconds = time.perf_counter() - req.scope[_ARRIVED]
        status = 200 if resp.status == falcon.HTTP_200 else resp.status_code
        span = getattr(req.context, "span", None)
        key = (req.method, req.uri_template or "", status)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._durations.of(*key, "http", str(status) if status >= 500 else "")
        exemplar = None if span is None else span.exemplar(seconds)
        series.record(seconds, exemplar)
        context = getattr(req.context, "key", None)
        if context is not None:
            self._tenants.record(context, seconds, status, exemplar)
        if span is not None:
            span.attributes["http.response.status_code"] = status
            if seconds > SLOW_SECONDS and (now := time.monotonic()) >= self._next_line:
                self._next_line = now + 1.0
                about = {"route": req.uri_template, "status": status, "milliseconds": round(seconds * 1000, 1)}
                log.info("slow request", extra=about)
            if status >= 500:
                span.fail(getattr(req.context, "error", None), kind=str(status))
            CURRENT.reset(req.context.span_token)
            span.end()
