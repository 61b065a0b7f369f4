"""Whether a call is tried again, and when: decided here without I/O, carried out by the clients."""

import dataclasses
import enum
import json
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar

from leaderboard_sdk.answers import UpdateResult
from leaderboard_sdk.errors import ApiError, LeaderboardError, TransportError, of_problem

T = TypeVar("T")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
TRANSIENT = {429, 502, 503, 504}
"""Statuses after which another attempt may go better."""


class Repeat(enum.Enum):
    """What a second attempt does."""

    SAFE = "safe"
    """The same as one: a read, or a write under an Idempotency-Key."""
    DELETE = "delete"
    """The same as one, but that it is answered 404; which is then as good as done."""
    UNSAFE = "unsafe"
    """Perhaps something else: only tried again where nothing was done."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """One call: what to send, the same on each attempt, and how to read the body and headers of a 2xx."""

    method: str
    path: str
    read: Callable[[Any, Mapping[str, str]], T]
    repeat: Repeat
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    content: bytes | None = None
    idempotency_key: str | None = None
    public: bool = False
    """Sent without the API key."""
    whole_key: str | None = None
    """The key of the batch that this request is a part of."""
    updates: int = 0
    """How many a request of a batch has."""


@dataclasses.dataclass(frozen=True)
class Done(Generic[T]):
    """The call's value."""

    value: T


@dataclasses.dataclass(frozen=True)
class Wait:
    """Try again after so many seconds."""

    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a call is tried.

    `max_attempts` in all, at least 1. `max_wait` are the seconds it may spend in pauses in all: one that would be
    longer than what is left of it is not begun, be it the Retry-After of an answer.
    """

    max_attempts: int = 5
    max_wait: float = 30.0


class Attempts(Generic[T]):
    """The state of one call: tell it what each attempt came to, and it says what to do, or raises what to raise."""

    def __init__(self, call: Call[T], patience: Patience, *, uniform: Callable[[float, float], float]) -> None:
        self._call = call
        self._patience = patience
        self._uniform = uniform
        self._made = 0
        self._waited = 0.0
        self._uncertain = False
        self._partial: Done[T] | None = None

    def answered(self, answer: Answer) -> Done[T] | Wait:
        """An attempt was answered."""
        if 200 <= answer.status < 300:
            try:
                body = json.loads(answer.content) if answer.content else None
                done = Done(self._call.read(body, answer.headers))
            except (ValueError, KeyError, TypeError, AttributeError) as unread:
                return self.lost(TransportError(f"the answer cannot be read: {unread!r}", sent=True))
            refused = _transient_item(done.value)
            if refused is None:
                return done
            self._partial = done
            return self._again(refused, uncertain=refused.type == "in-doubt", retry_after=None)

        error = refusal(answer)
        if (
            self._uncertain
            and self._call.repeat is Repeat.DELETE
            and error.type in ("user-not-found", "board-not-found")
        ):
            return Done(self._call.read(None, answer.headers))
        if answer.status not in TRANSIENT:
            return self._give_up(error)
        # Only the API itself can promise that nothing was done; a proxy's 503 (no type) may come after it was.
        nothing_done = answer.status == 429 or (answer.status == 503 and error.type not in ("", "in-doubt"))
        return self._again(error, uncertain=not nothing_done, retry_after=error.retry_after)

    def lost(self, error: TransportError) -> Done[T] | Wait:
        """An attempt was not answered."""
        return self._again(error, uncertain=error.sent, retry_after=None)

    def _again(self, error: LeaderboardError, *, uncertain: bool, retry_after: float | None) -> Done[T] | Wait:
        self._made += 1
        if uncertain:
            self._uncertain = True
            if self._call.repeat is Repeat.UNSAFE:
                return self._give_up(error)
        ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self._made - 1))
        # Full jitter (any pause up to the ceiling) spreads clients that failed together; the server's word is a floor.
        pause = self._uniform(0, ceiling) + (retry_after or 0)
        if self._made >= self._patience.max_attempts or self._waited + pause > self._patience.max_wait:
            return self._give_up(error)
        self._waited += pause
        return Wait(pause)

    def _give_up(self, error: LeaderboardError) -> Done[T]:
        if self._partial is not None:
            return self._partial  # which says for each update what is known of it
        error.idempotency_key = self._call.whole_key or self._call.idempotency_key
        raise error


def refusal(answer: Answer) -> ApiError:
    """Return the error that an answer is."""
    retry_after = _seconds(answer.headers.get("retry-after"), sent=_moment(answer.headers.get("date")))
    return of_problem(answer.status, _document(answer.content), retry_after=retry_after)


def attempts(call: Call[T], patience: Patience) -> Attempts[T]:
    """Begin a call."""
    return Attempts(call, patience, uniform=random.uniform)


def _transient_item(value: object) -> ApiError | None:
    # A batch is repeated whole, under its key: what was applied is answered as it was.
    if not isinstance(value, list):
        return None
    for item in value:
        if not isinstance(item, UpdateResult) and isinstance(item, ApiError) and item.status in TRANSIENT:
            return item
    return None


def _document(content: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _seconds(text: str | None, *, sent: datetime | None) -> float | None:
    if text is not None and text.isascii() and text.isdigit():
        return float(text)  # what the API sends; a proxy's may be a moment
    # Both moments are of the sender's clock, which need not agree with this machine's.
    until = _moment(text)
    return None if until is None or sent is None else max(0.0, (until - sent).total_seconds())


def _moment(text: str | None) -> datetime | None:
    try:
        # HTTP knows no zone but GMT (RFC 9110 5.6.7).
        return None if text is None else parsedate_to_datetime(text).replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
