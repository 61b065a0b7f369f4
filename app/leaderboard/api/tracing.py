"""Step 3 of the middleware: the request's span and its metrics. Installed only where telemetry is on."""

import time
from typing import Any

import falcon.asgi
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from leaderboard.telemetry.otel import Telemetry, parent_of


class Tracing:
    """Opens a span once the tenant is known, closes it with the answer. Calls made meanwhile are its children."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    async def process_resource(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,  # noqa: ARG002
        resource: Any,  # noqa: ARG002
        params: dict[str, str],  # noqa: ARG002
    ) -> None:
        """Open the span, as a child of the caller's where it sent a traceparent."""
        context = getattr(req.context, "key", None)
        attributes: dict[str, str | int] = {
            "http.request.method": req.method,
            "http.route": req.uri_template or "",
            "url.path": req.path,
        }
        if context is not None:
            attributes["leaderboard.tenant"] = context.tenant_id
            attributes["leaderboard.project"] = context.project
        span = self._telemetry.tracer.start_span(
            f"{req.method} {req.uri_template}",
            context=parent_of(req.get_header("traceparent"), req.get_header("tracestate")),
            kind=SpanKind.SERVER,
            attributes=attributes,
        )
        req.context.trace_id = format(span.get_span_context().trace_id, "032x")
        req.context.span = span
        req.context.span_token = otel_context.attach(trace.set_span_in_context(span))
        req.context.span_started = time.perf_counter()

    async def process_response(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: Any,  # noqa: ARG002
        req_succeeded: bool,  # noqa: ARG002
    ) -> None:
        """Close the span and record the request. What was refused before step 3 has no span."""
        span = getattr(req.context, "span", None)
        if span is None:
            return
        status = resp.status_code
        self._telemetry.request_duration.record(
            time.perf_counter() - req.context.span_started,
            {
                "http.request.method": req.method,
                "http.route": req.uri_template or "",
                "http.response.status_code": status,
            },
        )
        context = getattr(req.context, "key", None)
        if context is not None:
            counter = self._telemetry.rate_limited if status == 429 else self._telemetry.requests
            counter.add(1, {"leaderboard.tenant": context.tenant_id})
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            error = getattr(req.context, "error", None)
            if error is not None:
                span.record_exception(error)
            span.set_status(StatusCode.ERROR)
        otel_context.detach(req.context.span_token)
        span.end()
