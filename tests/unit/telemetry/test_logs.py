"""Log lines are JSON objects that a collector can read without a parser of its own."""

import io
import json
import logging

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from leaderboard.domain.keys import make_key
from leaderboard.telemetry.logs import JsonFormatter, OtlpHandler
from leaderboard.telemetry.sampling import Sampler
from leaderboard.telemetry.spans import Tracer


@pytest.fixture
def lines():
    """A logger of its own, and a function that gives what it wrote, decoded."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("test.logs")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)
    return logger, lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_line_with_level_logger_and_message(lines):
    logger, written = lines
    logger.warning("the outbox has %d events", 12)
    (line,) = written()
    assert {name: line[name] for name in ("level", "logger", "message")} == {
        "level": "warning",
        "logger": "test.logs",
        "message": "the outbox has 12 events",
    }
    assert line["time"].endswith("+00:00")


def test_extra_fields_stand_beside_the_message(lines):
    logger, written = lines
    logger.info("done", extra={"trace_id": "ab" * 16, "events": 3})
    assert (written()[0]["trace_id"], written()[0]["events"]) == ("ab" * 16, 3)


def test_a_message_of_several_lines_stays_one_line(lines):
    logger, written = lines
    logger.info("first\nsecond")
    assert [line["message"] for line in written()] == ["first\nsecond"]


def test_an_exception_brings_its_stack(lines):
    logger, written = lines
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("failed")
    assert "ValueError: broken" in written()[0]["exception"]
    assert "Traceback" in written()[0]["exception"]


def test_what_json_cannot_hold_is_written_as_text(lines):
    logger, written = lines
    logger.info("odd", extra={"value": {1, 2}.__class__})
    assert "set" in written()[0]["value"]


def test_a_line_inside_a_span_carries_its_trace_and_span(lines):
    logger, written = lines
    tracer = Tracer(Sampler(1.0), resource=Resource({}), scope=InstrumentationScope("test"), emit=lambda _: None)
    logger.info("before")
    with tracer.work("reconcile", {}) as span:
        logger.info("inside")
        logger.info("of another", extra={"trace_id": "ab" * 16})
    logger.info("after")
    before, inside, another, after = written()
    assert (inside["trace_id"], inside["span_id"]) == (span.trace_id, span.span_id)
    assert (another["trace_id"], another.get("span_id")) == ("ab" * 16, None)
    assert "trace_id" not in before | after


KEY = make_key(bytes(range(44))).text
SECRETS = (KEY.rpartition("_")[2], "hunter2")
LEAK = f"{KEY} redis://:hunter2@cache:6379"


class Leaky(Exception):
    def __init__(self, key):
        super().__init__(f"no such key: {key}")
        self.key = key


class Thing:
    def __repr__(self):
        return f"Thing({LEAK})"

    __str__ = __repr__


def raise_deep(key):
    try:
        raise KeyError(key)
    except KeyError as error:
        raise Leaky(key) from error


def by_exception(logger):
    try:
        raise_deep(LEAK)
    except Leaky:
        logger.exception("failed")


def by_group(logger):
    try:
        raise ExceptionGroup("several", [Leaky(LEAK), ValueError(LEAK)])
    except ExceptionGroup as error:
        logger.error("failed", exc_info=error)


PATHS = {
    "message": lambda logger: logger.warning(LEAK),
    "argument": lambda logger: logger.warning("key %s", LEAK),
    "object": lambda logger: logger.warning("thing %s %r", Thing(), Thing()),
    "extra": lambda logger: logger.warning("x", extra={"key": LEAK}),
    "extra object": lambda logger: logger.warning("x", extra={"thing": Thing(), "many": [LEAK], "deep": {"k": LEAK}}),
    "exception": by_exception,
    "exception group": by_group,
    "stack": lambda logger: logger.warning("x", stack_info=True, extra={"key": LEAK}),
    "bytes": lambda logger: logger.warning("%s", LEAK.encode()),
    "format": lambda logger: logger.warning("%(key)s", {"key": LEAK}),
}


@pytest.mark.parametrize("path", PATHS)
def test_no_path_into_the_log_lets_a_secret_through(lines, path):
    logger, written = lines
    kept = []
    logger.addHandler(OtlpHandler(kept.append, resource=Resource({}), scope=InstrumentationScope("test")))
    PATHS[path](logger)
    stderr, exported = json.dumps(written()), str(encode_logs(kept))
    assert "***" in stderr
    assert "***" in exported
    for secret in SECRETS:
        assert secret not in stderr
        assert secret not in exported


def test_an_exceptions_stack_on_a_span_has_no_secret():
    ended = []
    tracer = Tracer(Sampler(1.0), resource=Resource({}), scope=InstrumentationScope("test"), emit=ended.append)
    with pytest.raises(Leaky), tracer.work("reconcile", {}):
        raise_deep(LEAK)
    shown = str(encode_spans(ended))
    assert "raise_deep" in shown
    for secret in SECRETS:
        assert secret not in shown


def test_what_the_exporting_itself_says_is_not_exported():
    kept = []
    handler = OtlpHandler(kept.append, resource=Resource({}), scope=InstrumentationScope("test"))
    for name in ("leaderboard.telemetry.outlet", "opentelemetry.exporter", "urllib3.connectionpool", "leaderboard.api"):
        handler.handle(logging.makeLogRecord({"name": name, "msg": "x", "levelno": logging.ERROR}))
    assert [one.log_record.attributes["code.namespace"] for one in kept] == ["leaderboard.api"]
