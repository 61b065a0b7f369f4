"""Step 5: the JSON body, read within a bound of size and decoded straight into a typed struct.

msgspec refuses what JSON does not have (NaN, Infinity), what the struct does not have (unknown fields) and what does
not fit, before anything else sees it. Nesting cannot run deep: no struct here nests twice, so a deep body fails at its
first wrong type.
"""

from typing import Any, Generic, TypeVar

import falcon.asgi
import msgspec

from leaderboard.api import problems, queries
from leaderboard.api.exchange import KEY
from leaderboard.api.problems import Problem
from leaderboard.domain.bounds import Bounds
from leaderboard.domain.schedules import ResetSpec
from leaderboard.domain.tiers import Tier

MAX_BATCH = 1_000

T = TypeVar("T")


class Update(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One score update: `increment` for a sum board, `score` for a best or latest one."""

    leaderboard: str
    user: str
    increment: float | None = None
    score: float | None = None
    season: int | float | None = None
    """The season it is for; in another it is refused."""


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several updates, each decoded on its own so that one bad item does not refuse the others."""

    updates: list[msgspec.Raw]


class ResetBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a board's seasons come and go; `ResetSpec` says what the fields are."""

    schedule: str | None = None
    time_zone: str = "UTC"
    keep_seasons: int | float = 0
    grace_seconds: int | float = 0

    def asked(self) -> ResetSpec:
        """Return what this asks for, or raise Problem 422."""
        keep = queries.whole(self.keep_seasons, field="reset.keep_seasons")
        grace = queries.whole(self.grace_seconds, field="reset.grace_seconds")
        return ResetSpec(schedule=self.schedule, time_zone=self.time_zone, keep_seasons=keep, grace_seconds=grace)


class BoundsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a board believes; `Bounds` says what the fields are."""

    min_score: float | None = None
    max_score: float | None = None
    max_gain: float | None = None
    per_seconds: int | float | None = None

    def asked(self) -> Bounds:
        """Return what this asks for, or raise Problem 422."""
        seconds = None if self.per_seconds is None else queries.whole(self.per_seconds, field="bounds.per_seconds")
        return Bounds(min_score=self.min_score, max_score=self.max_score, max_gain=self.max_gain, per_seconds=seconds)


class TierBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tier of a board; `Tier` says what the fields are."""

    name: str
    top: int | float | msgspec.UnsetType = msgspec.UNSET
    percent: float | msgspec.UnsetType = msgspec.UNSET

    def asked(self) -> Tier:
        """Return what this asks for, or raise Problem 422."""
        top = None if self.top is msgspec.UNSET else queries.whole(self.top, field="tiers: top")
        return Tier(name=self.name, top=top, percent=None if self.percent is msgspec.UNSET else self.percent)


class NewBoard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A board to be made. Enumerations are checked with the other rules, to name what they take."""

    key: str
    score_update: str = "sum"
    sort_order: str = "descending"
    tie_policy: str = "first_to_reach"
    max_entries: int | float = 0
    public_read: bool = False
    reset: ResetBody | None = None
    bounds: BoundsBody | None = None
    tiers: list[TierBody] | None = None


class BoardChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change of a board. What is fixed at creation may be sent as it is, and is refused where it differs."""

    score_update: str | msgspec.UnsetType = msgspec.UNSET
    sort_order: str | msgspec.UnsetType = msgspec.UNSET
    tie_policy: str | msgspec.UnsetType = msgspec.UNSET
    max_entries: int | float | msgspec.UnsetType = msgspec.UNSET
    public_read: bool | msgspec.UnsetType = msgspec.UNSET
    reset: ResetBody | msgspec.UnsetType | None = msgspec.UNSET
    bounds: BoundsBody | msgspec.UnsetType | None = msgspec.UNSET
    tiers: list[TierBody] | msgspec.UnsetType | None = msgspec.UNSET


class BodyReader(Generic[T]):
    """Reads one kind of body of at most `limit` bytes. How long it may take to arrive is the protocol's business."""

    def __init__(self, kind: type[T], *, limit: int) -> None:
        self._decode = msgspec.json.Decoder(kind).decode
        self._limit = limit

    async def read(self, req: falcon.asgi.Request) -> T:
        """Return the decoded body, or raise Problem: 400, 413, 415 or 422."""
        content_type = req.content_type
        if content_type != "application/json" and (
            content_type is None or content_type.partition(";")[0].strip().lower() != "application/json"
        ):
            raise Problem(problems.UNSUPPORTED_MEDIA_TYPE, f"Content-Type is {content_type or 'missing'}")
        exchange = req.scope.get(KEY)
        # Under our own server the body has, as a rule, arrived whole with the head: no stream is needed.
        data = None if exchange is None else exchange.whole()
        if data is None:
            length = req.content_length
            if length is not None and length > self._limit:
                raise Problem(problems.BODY_TOO_LARGE, f"the body is {length} bytes, the limit is {self._limit}")
            # One byte more than the limit: a chunked body has no length to check before.
            data = await req.stream.read(self._limit + 1)
        if len(data) > self._limit:
            raise Problem(problems.BODY_TOO_LARGE, f"the limit is {self._limit} bytes", Connection="close")
        body: T = decode(self._decode, data)
        return body


def decode(decoder: Any, data: bytes | msgspec.Raw) -> Any:
    """Return what `decoder` makes of `data`, or raise Problem 400 (not JSON) or 422 (not this schema)."""
    try:
        return decoder(data)
    except msgspec.ValidationError as error:
        raise Problem(problems.INVALID_REQUEST, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(problems.MALFORMED_JSON, str(error)) from error
