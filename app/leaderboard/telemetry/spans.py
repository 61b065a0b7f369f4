"""Spans of what is sampled: written with little, handed on as the SDK's own `ReadableSpan`.

The SDK's tracer takes 22 us to start and end a span with six attributes; this takes 3 (docs/adr/0009). What it leaves
out are the SDK's limits and checks, which values of our own do not need; links and stacks are bounded here.
"""

import random
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState

from leaderboard.telemetry.redact import redact
from leaderboard.telemetry.sampling import SAMPLED, Sampler

MAX_LINKS = 128
"""Writes that a ledger batch's span names (the SDK's own default)."""
STACK_CHARS = 16_384

Value = str | int | float | bool
CURRENT: ContextVar["Span | None"] = ContextVar("leaderboard.span", default=None)
"""The span under way, None where what happens is not sampled."""

_FINE = Status(StatusCode.UNSET)


class Span:
    """One sampled operation, from its making until `end`."""

    __slots__ = (
        "_events",
        "_kind",
        "_links",
        "_parent",
        "_started",
        "_status",
        "_tracer",
        "attributes",
        "context",
        "name",
    )

    def __init__(
        self,
        tracer: "Tracer",
        name: str,
        kind: SpanKind,
        *,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: dict[str, Value],
        links: Sequence[Link] = (),
        started: int | None = None,
    ) -> None:
        self._tracer = tracer
        self.name = name
        self.context = context
        self.attributes = attributes
        self._kind = kind
        self._parent = parent
        self._links = links
        self._started = started or time.time_ns()
        self._status = _FINE
        self._events: tuple[Event, ...] = ()

    @property
    def trace_id(self) -> str:
        """The trace's id as 32 hexadecimal digits."""
        return f"{self.context.trace_id:032x}"

    @property
    def span_id(self) -> str:
        """The span's id as 16 hexadecimal digits."""
        return f"{self.context.span_id:016x}"

    def exemplar(self, seconds: float) -> Exemplar:
        """Return what leads from a metric to this span, which took `seconds`."""
        return Exemplar({}, seconds, time.time_ns(), self.context.span_id, self.context.trace_id)

    @property
    def traceparent(self) -> str:
        """What carries this span to where its work goes on."""
        return f"00-{self.context.trace_id:032x}-{self.context.span_id:016x}-01"

    def child(self, name: str, kind: SpanKind, attributes: dict[str, Value]) -> "Span":
        """Begin a part of this span's work."""
        context = SpanContext(
            self.context.trace_id, random.getrandbits(64) or 1, False, SAMPLED, self.context.trace_state
        )
        return Span(self._tracer, name, kind, context=context, parent=self.context, attributes=attributes)

    def fail(self, error: BaseException | None, *, kind: str = "") -> None:
        """Say that it failed: with `error` and its stack, or with the `kind` of error where there is no exception."""
        self._status = Status(StatusCode.ERROR)
        self.attributes["error.type"] = kind or (type(error).__qualname__ if error is not None else "error")
        if error is None:
            return
        stack = "".join(traceback.format_exception(error))
        told: Mapping[str, Value] = {
            "exception.type": f"{type(error).__module__}.{type(error).__qualname__}",
            "exception.message": redact(str(error))[:STACK_CHARS],
            "exception.stacktrace": redact(stack)[-STACK_CHARS:],  # the end says where
        }
        self._events = (*self._events, Event("exception", told))

    def end(self) -> None:
        """Hand the span on."""
        self._tracer.emit(
            ReadableSpan(
                self.name,
                self.context,
                self._parent,
                self._tracer.resource,
                self.attributes,
                self._events,
                self._links,
                self._kind,
                None,
                self._status,
                self._started,
                time.time_ns(),
                self._tracer.scope,
            )
        )


class Tracer:
    """Begins spans; `emit` takes those that ended, from any thread, and returns at once."""

    def __init__(
        self, sampler: Sampler, *, resource: Resource, scope: InstrumentationScope, emit: Callable[[ReadableSpan], None]
    ) -> None:
        self.sampler = sampler
        self.resource = resource
        self.scope = scope
        self.emit = emit

    def begin(
        self,
        name: str,
        kind: SpanKind,
        attributes: dict[str, Value],
        *,
        trace_id: int,
        parent: SpanContext | None = None,
        state: TraceState | None = None,
        links: Sequence[Link] = (),
        started: int | None = None,
    ) -> Span:
        """Begin a sampled span, under a `parent` that came from elsewhere if any; `started` in Unix nanoseconds."""
        context = SpanContext(trace_id, random.getrandbits(64) or 1, False, SAMPLED, state)
        return Span(
            self, name, kind, context=context, parent=parent, attributes=attributes, links=links, started=started
        )

    def work(
        self, name: str, attributes: dict[str, Value], *, links: Sequence[Link] = (), kind: SpanKind = SpanKind.INTERNAL
    ) -> AbstractContextManager[Span | None]:
        """Let the block be a span of its own where that is sampled, or where it links to what is; else give None.

        An exception that leaves the block is its failure.
        """
        trace_id = (random.getrandbits(128) or 1) if links else self.sampler.root()
        if not trace_id:
            return nullcontext()
        return _during(self.begin(name, kind, attributes, trace_id=trace_id, links=links[:MAX_LINKS]))


def part(
    name: str, attributes: dict[str, Value], *, kind: SpanKind = SpanKind.INTERNAL
) -> AbstractContextManager[Span | None]:
    """Let the block be a part of the span under way, as `Tracer.work` does; where there is none it is nothing."""
    above = CURRENT.get()
    return nullcontext() if above is None else _during(above.child(name, kind, attributes))


@contextmanager
def _during(span: Span) -> Iterator[Span]:
    token = CURRENT.set(span)
    try:
        yield span
    except BaseException as error:
        span.fail(error)
        raise
    finally:
        CURRENT.reset(token)
        span.end()
