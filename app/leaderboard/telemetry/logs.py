"""Logs as JSON lines, each with time, level, logger, message, trace and span where one is under way, and whatever
`extra` was given. No line carries an API key or a password, whoever wrote it (`redact.py`).
"""

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext

from leaderboard.telemetry.redact import redact
from leaderboard.telemetry.sampling import SAMPLED
from leaderboard.telemetry.spans import CURRENT

_encode = msgspec.json.Encoder(enc_hook=str).encode
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}
_SEVERITY = {
    logging.DEBUG: SeverityNumber.DEBUG,
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
    logging.CRITICAL: SeverityNumber.FATAL,
}
# What the exporting itself logs must not be exported: each line would make another.
_OWN = ("leaderboard.telemetry", "opentelemetry", "urllib3", "requests")


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    given = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    span = CURRENT.get()
    if span is not None:
        given.setdefault("trace_id", span.trace_id)
        if given["trace_id"] == span.trace_id:
            given["span_id"] = span.span_id
    return given


class JsonFormatter(logging.Formatter):
    """One JSON object a record, on one line. Exceptions go into ``exception`` with their stack."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON text."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(_extra(record))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return redact(_encode(line).decode())


class OtlpHandler(logging.Handler):
    """Hands records on as OpenTelemetry's; `put` takes them and returns at once."""

    def __init__(
        self, put: Callable[[ReadableLogRecord], None], *, resource: Resource, scope: InstrumentationScope
    ) -> None:
        super().__init__()
        self._put = put
        self._resource = resource
        self._scope = scope
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one record on, but for those of the exporting itself."""
        if record.name.startswith(_OWN):
            return
        try:
            self._put(self._made(record))
        except Exception:  # noqa: BLE001 - logging must not fail its caller; this says so where logging itself does
            self.handleError(record)

    def _made(self, record: logging.LogRecord) -> ReadableLogRecord:
        given = _extra(record)
        trace_id, span_id = given.pop("trace_id", None), given.pop("span_id", None)
        attributes: dict[str, Any] = {
            name: redact(value)
            if isinstance(value, str)
            else value
            if isinstance(value, int | float)
            else redact(str(value))
            for name, value in given.items()
        }
        attributes["code.namespace"] = record.name
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            attributes["exception.type"] = type(error).__qualname__
            attributes["exception.message"] = redact(str(error))
            attributes["exception.stacktrace"] = redact(self._formatter.formatException(record.exc_info))
        made = LogRecord(
            timestamp=int(record.created * 1e9),
            context=_context(trace_id, span_id),
            severity_text=record.levelname,
            severity_number=_SEVERITY.get(record.levelno // 10 * 10, SeverityNumber.UNSPECIFIED),
            body=redact(record.getMessage()),
            attributes=attributes,
        )
        return ReadableLogRecord(made, self._resource, self._scope)


def _context(trace_id: object, span_id: str | None) -> Any:
    if not isinstance(trace_id, str):
        return None
    # A request that is not sampled has a trace id all the same, and no span.
    named = SpanContext(int(trace_id, 16), int(span_id or "0", 16), False, SAMPLED if span_id else None)
    return trace.set_span_in_context(NonRecordingSpan(named))


def set_up(level: str, *, stream: TextIO | None = None) -> None:
    """Send every logger's records of `level` and above to `stream` (standard error) as JSON lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Telemetry that does not get out is counted and told once a minute (`outlet.py`); the SDK would tell every batch.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
