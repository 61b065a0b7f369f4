"""A live top, followed over cuts: what to ask, what came, and when to ask again. No I/O; the clients carry it out."""

import json
import random
import re
from collections.abc import Callable, Iterator

from leaderboard_sdk import answers
from leaderboard_sdk.answers import Top
from leaderboard_sdk.errors import LeaderboardError, TransportError, of_problem
from leaderboard_sdk.retries import FIRST_PAUSE, LONGEST_PAUSE, TRANSIENT, Answer, Patience, refusal

SILENCE = 45.0
"""Seconds without a byte after which a connection counts as dead: the API sends something every 15 s."""
_LINE_END = re.compile(r"\r\n|\r|\n")


class EventParser:
    """Parses text/event-stream (WHATWG HTML 9.2.6) from pieces of text cut anywhere.

    `last_id` is that of the last event, `retry` the server's last wish in seconds, 0.0 before there was one.
    """

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry = 0.0
        self._id = last_id
        self._rest = ""
        self._event = ""
        self._data: list[str] = []

    def feed(self, piece: str) -> Iterator[tuple[str, str]]:
        """Give (type, data) of each event that the piece completes. One that the stream ends within is none."""
        text = self._rest + piece
        # A \r at the very end may be the first half of \r\n.
        held = text.endswith("\r")
        *lines, self._rest = _LINE_END.split(text[:-1] if held else text)
        if held:
            self._rest += "\r"
        for line in lines:
            if line:
                self._field(line)
                continue
            event, data = self._event or "message", self._data
            self._event, self._data = "", []
            # Not before: of an event that was cut off after its id, the rest is still to come.
            self.last_id = self._id
            if data:
                yield event, "\n".join(data)

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value) / 1000


class Watch:
    """One followed top. For each connection: `headers`, then `received` for what comes, then `ended` or `refused`."""

    def __init__(
        self, path: str, patience: Patience, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self.path = path
        self._patience = patience
        self._uniform = uniform
        self._parser = EventParser()
        self._connected = False
        self._failures = 0

    def headers(self, api_key: str | None) -> dict[str, str]:
        """Return the headers of the next connection's request, and forget what the last one left unfinished."""
        retry = self._parser.retry
        self._parser = EventParser(self._parser.last_id)
        self._parser.retry = retry
        given = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if api_key is not None:
            given["Authorization"] = f"Bearer {api_key}"
        if self._parser.last_id:
            given["Last-Event-ID"] = self._parser.last_id
        return given

    def received(self, piece: str) -> Iterator[Top]:
        """Give the tops in a piece of text. Raises ApiError where the API says why it ends the stream for good.

        Where it ends it for now (an outage), that is a lost connection like any other: `ended` is next.
        """
        self._connected = True
        for event, data in self._parser.feed(piece):
            body = json.loads(data)
            if event == "problem":
                if body.get("status", 0) in TRANSIENT:
                    continue
                raise of_problem(body.get("status", 0), body)
            self._failures = 0
            if event == "top":
                yield answers.top({**body, "next_cursor": None})

    def refused(self, answer: Answer) -> float:
        """The API answered no stream: return the pause in seconds before the next attempt, or raise ApiError."""
        error = refusal(answer)
        if answer.status not in TRANSIENT:
            raise error
        return self._pause(error, at_least=error.retry_after or 0.0)

    def ended(self, error: TransportError | None) -> float:
        """The connection ended, or none came about: return the pause in seconds, or raise the error."""
        return self._pause(error)

    def _pause(self, error: LeaderboardError | None, *, at_least: float = 0.0) -> float:
        self._failures += 1
        # Who was connected once goes on for good: a deployment may take longer than the patience for one call.
        if error is not None and not self._connected and self._failures >= self._patience.max_attempts:
            raise error
        ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures - 1, 10))
        return max(self._parser.retry, at_least) + self._uniform(0, ceiling)
