"""Log lines are JSON objects that a collector can read without a parser of its own."""

import io
import json
import logging

import pytest

from leaderboard.telemetry.logs import JsonFormatter


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
