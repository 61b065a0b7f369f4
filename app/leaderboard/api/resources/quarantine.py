"""Updates that a board holds because they break its bounds: read, released, rejected.

With the scope admin only: what is held accuses somebody of something. A session of the dashboard may read and decide
too, but what it reads is from Postgres alone, without what an update would come to.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

import falcon.asgi
import msgspec

from leaderboard.api import problems, queries
from leaderboard.api.bodies import BodyReader
from leaderboard.api.context import KeyContext
from leaderboard.api.problems import Problem
from leaderboard.api.refusals import Refusals
from leaderboard.control.quarantine import Seen
from leaderboard.control.reconcile import Control
from leaderboard.domain import names
from leaderboard.domain.keys import Scope
from leaderboard.domain.scores import plain
from leaderboard.store.postgres.quarantine import Hold, HoldState
from leaderboard.store.redis.scores import Refusal

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
NOTE_LENGTH = 200

STATES = {"held": None, "released": HoldState.RELEASED, "rejected": HoldState.REJECTED}
"""What may be asked for; None is what waits for a decision."""

_CURSOR = re.compile(r"([0-9]{1,17}) ([0-9]{1,39})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_encode = msgspec.json.Encoder().encode


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why it was decided so, for who reads it later."""

    note: str | None = None


class HoldBody(msgspec.Struct):
    """A held update.

    `score` and `rank` are what it would come to if it were released now; null where it cannot be, and for a session.
    """

    id: str
    user: str
    season: int
    submitted: int | float
    bound: str
    held_at: datetime
    state: HoldState
    score: int | float | None
    rank: int | None
    decided_at: datetime | None
    decided_by: str | None
    note: str | None


class HeldBody(msgspec.Struct):
    """One page of held updates, newest first. `next_cursor` is null on the last."""

    leaderboard: str
    held: list[HoldBody]
    next_cursor: str | None


def body_of(hold: Hold, seen: Seen | None = None) -> HoldBody:
    """Return the held update as the API shows it."""
    outlook = None if seen is None else seen.outlook
    return HoldBody(
        hold.id.hex,
        hold.member,
        hold.season,
        plain(hold.submitted),
        hold.bound,
        hold.held_at,
        hold.state,
        None if outlook is None else plain(outlook.score),
        None if outlook is None else outlook.rank,
        hold.decided_at,
        hold.decided_by,
        hold.note,
    )


class Held:
    """``GET /v1/leaderboards/{leaderboard}/held``."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.ADMIN}
    sessions: ClassVar[bool] = True

    def __init__(self, control: Control) -> None:
        self._control = control

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str) -> None:
        """Answer a page of what waits, or of what was decided with ``state``; of one member with ``user``."""
        queries.known(req, "state", "user", "limit", "cursor")
        state = queries.text_of(req, "state") or "held"
        if state not in STATES:
            raise Problem(problems.INVALID_PARAMETER, f"state must be one of {', '.join(STATES)}, got {state[:40]!r}")
        limit = queries.integer(req, "limit", default=DEFAULT_LIMIT, minimum=1, maximum=MAX_LIMIT)
        cursor = queries.text_of(req, "cursor")
        key, place = _place(req, leaderboard)
        # One more than asked for tells whether there is a next page.
        found = await self._control.held_updates(
            **place,
            state=STATES[state],
            member=queries.user_of(req, "user"),
            before=None if cursor is None else _before(cursor),
            limit=limit + 1,
            outlook=getattr(req.context, "session", None) is None,
        )
        more, found = len(found) > limit, found[:limit]
        resp.set_header("Cache-Control", "no-store")
        resp.data = _encode(
            HeldBody(key, [body_of(seen.hold, seen) for seen in found], _cursor(found[-1].hold) if more else None)
        )


class HeldUpdate:
    """``GET /v1/leaderboards/{leaderboard}/held/{hold}``."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.ADMIN}

    def __init__(self, control: Control) -> None:
        self._control = control

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str, hold: str) -> None:
        """Answer one held update, whatever became of it."""
        queries.known(req)
        _, place = _place(req, leaderboard)
        seen = await self._control.held_update(**place, id=_id(hold))
        resp.set_header("Cache-Control", "no-store")
        resp.data = _encode(body_of(seen.hold, seen))


class Release:
    """``POST /v1/leaderboards/{leaderboard}/held/{hold}/release``."""

    scopes: ClassVar[dict[str, Scope]] = {"POST": Scope.ADMIN}
    sessions: ClassVar[bool] = True

    def __init__(self, control: Control, refusals: Refusals, *, body: BodyReader[Decision]) -> None:
        self._control = control
        self._refusals = refusals
        self._body = body

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str, hold: str) -> None:
        """Apply the held update, once however often it is asked for."""
        queries.known(req)
        context: KeyContext = req.context.key
        key, place = _place(req, leaderboard)
        note = _note(await self._body.read(req))
        released = await self._control.release(**place, id=_id(hold), by=context.key_id, note=note)
        if isinstance(released, Refusal):
            await self._refusals.refuse(released, context, key)
        resp.set_header("Cache-Control", "no-store")
        resp.data = _encode(body_of(released))


class Reject:
    """``POST /v1/leaderboards/{leaderboard}/held/{hold}/reject``."""

    scopes: ClassVar[dict[str, Scope]] = {"POST": Scope.ADMIN}
    sessions: ClassVar[bool] = True

    def __init__(self, control: Control, *, body: BodyReader[Decision]) -> None:
        self._control = control
        self._body = body

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str, hold: str) -> None:
        """Let the held update never count."""
        queries.known(req)
        context: KeyContext = req.context.key
        note = _note(await self._body.read(req))
        rejected = await self._control.reject(
            project_id=context.project_id,
            key=queries.board(leaderboard),
            id=_id(hold),
            by=context.key_id,
            note=note,
        )
        resp.set_header("Cache-Control", "no-store")
        resp.data = _encode(body_of(rejected))


def _place(req: falcon.asgi.Request, leaderboard: str) -> tuple[str, dict[str, Any]]:
    context: KeyContext = req.context.key
    key = queries.board(leaderboard)
    return key, {"project_id": context.project_id, "key": key, "board_key": context.namespace + key}


def _id(text: str) -> UUID:
    if re.fullmatch("[0-9a-f]{32}", text) is None:
        raise Problem(problems.HOLD_NOT_FOUND, f"{text[:40]!r} is not the id of a held update")
    return UUID(text)


def _note(decision: Decision) -> str | None:
    return None if decision.note is None else names.line(decision.note, field="note", longest=NOTE_LENGTH)


def _cursor(hold: Hold) -> str:
    return queries.pack_cursor((hold.held_at - _EPOCH) // _MICROSECOND, hold.id.int)


def _before(cursor: str) -> tuple[datetime, UUID]:
    microseconds, id = queries.unpack_cursor(cursor, _CURSOR, bits=128)
    return _EPOCH + microseconds * _MICROSECOND, UUID(int=id)
