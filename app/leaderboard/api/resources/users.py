"""A user's data over all boards of the key's project: export, erasure, and the receipts of erasures.

With API keys only, not with sessions of the dashboard: these are a back end's, which knows whose ids they are.
"""

import re
from datetime import datetime
from typing import ClassVar
from uuid import UUID

import falcon.asgi
import msgspec

from leaderboard.api import problems, queries
from leaderboard.api.bodies import BodyReader
from leaderboard.api.context import KeyContext
from leaderboard.api.problems import Problem
from leaderboard.api.resources.events import KINDS
from leaderboard.api.resources.reads import user_in_path
from leaderboard.control import exports
from leaderboard.control.erasures import Receipt
from leaderboard.control.errors import NotDrained
from leaderboard.control.exports import Cursor, Stage
from leaderboard.control.reconcile import Control
from leaderboard.domain.erasures import ErasureState, Touched
from leaderboard.domain.keys import Scope
from leaderboard.domain.names import user_id
from leaderboard.domain.scores import plain

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000
MAX_LINES = 1_000
"""Boards that one answer lists of an erasure; all are in its sums."""

# -1 only in stage 1, the seasons: before the first of them.
_CURSOR = re.compile(r"([0-9]{1,18}) ([0-3]) ((?<=1 )-1|[0-9]{1,20}) ([0-9]{1,20})")
_encode = msgspec.json.Encoder().encode


class StandingRecord(msgspec.Struct, tag_field="kind", tag="standing"):
    """The user's place on a leaderboard now."""

    leaderboard: str
    deleted: bool
    score: int | float
    rank: int


class CheckpointRecord(msgspec.Struct, tag_field="kind", tag="checkpoint"):
    """The user's score as it was when old events were dropped."""

    leaderboard: str
    deleted: bool
    score: int | float


class SeasonRecord(msgspec.Struct, tag_field="kind", tag="season"):
    """The user's line in the final standings of a season."""

    leaderboard: str
    deleted: bool
    season: int
    score: int | float
    rank: int


class EventRecord(msgspec.Struct, tag_field="kind", tag="event"):
    """One event; see `events.EventBody`."""

    leaderboard: str
    deleted: bool
    id: str
    time: datetime
    event: str
    submitted: int | float | None
    score: int | float | None


class HeldRecord(msgspec.Struct, tag_field="kind", tag="held"):
    """An update that was held, and what became of it; see `quarantine.HoldBody`."""

    leaderboard: str
    deleted: bool
    id: str
    time: datetime
    season: int
    submitted: int | float
    bound: str
    state: str
    note: str | None


_AnyRecord = StandingRecord | CheckpointRecord | SeasonRecord | EventRecord | HeldRecord


class DataBody(msgspec.Struct):
    """One page of a user's data. `next_cursor` is null on the last."""

    user: str
    records: list[_AnyRecord]
    next_cursor: str | None


class LineBody(msgspec.Struct):
    """What was touched of one leaderboard."""

    leaderboard: str
    entries: int
    events: int
    checkpoints: int
    season_lines: int
    snapshots: int
    set_aside: int
    held: int


class ErasureBody(msgspec.Struct):
    """An erasure; once it is done, its receipt. `subject` and `mac` are hexadecimal."""

    id: str
    state: ErasureState
    subject: str
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None
    attempts: int
    waits_for: str | None
    touched: Touched
    leaderboards_touched: int
    leaderboards: list[LineBody]
    mac: str | None


class CheckBody(msgspec.Struct):
    """What a look at a receipt came to; see `control.erasures.Check`."""

    id: str
    state: ErasureState
    verified: bool
    intact: bool
    subject: bool
    found: Touched


class Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose receipt it should be."""

    user: str


class MemberData:
    """``GET /v1/users/{user}/data``."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.ADMIN}

    def __init__(self, control: Control) -> None:
        self._control = control

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, user: str) -> None:
        """Answer a page of all that there is of the user; empty where that is nothing."""
        context: KeyContext = req.context.key
        queries.known(req, "limit", "cursor")
        name = user_in_path(req, user)
        limit = queries.integer(req, "limit", default=DEFAULT_LIMIT, minimum=1, maximum=MAX_LIMIT)
        text = queries.text_of(req, "cursor")
        found, on = await self._control.data_of_member(
            project_id=context.project_id,
            member=name,
            cursor=Cursor() if text is None else _decode_cursor(text),
            limit=limit,
        )
        resp.set_header("Cache-Control", "no-store")
        resp.data = _encode(
            DataBody(name, [_record(each) for each in found], None if on is None else queries.pack_cursor(*on))
        )


class MemberErasure:
    """``POST /v1/users/{user}/erasure``."""

    scopes: ClassVar[dict[str, Scope]] = {"POST": Scope.ADMIN}

    def __init__(self, control: Control) -> None:
        self._control = control

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, user: str) -> None:
        """Write down that the user is to be erased; the worker does it."""
        context: KeyContext = req.context.key
        queries.known(req)
        receipt = await self._control.request_erasure(
            project_id=context.project_id, member=user_in_path(req, user), requested_by=context.key_id
        )
        resp.status = 202
        resp.set_header("Location", f"/v1/erasures/{receipt.erasure.id.hex}")
        _answer(resp, receipt)


class Erasure:
    """``GET /v1/erasures/{erasure}``."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.ADMIN}

    def __init__(self, control: Control) -> None:
        self._control = control

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, erasure: str) -> None:
        """Answer how far the erasure is, or its receipt."""
        queries.known(req)
        context: KeyContext = req.context.key
        _answer(resp, await self._control.erasure(_id(erasure), project_id=context.project_id))


class ErasureCheck:
    """``POST /v1/erasures/{erasure}/check``. A POST, so that the user's id is in no log of URLs."""

    scopes: ClassVar[dict[str, Scope]] = {"POST": Scope.ADMIN}

    def __init__(self, control: Control, *, body: BodyReader[Subject]) -> None:
        self._control = control
        self._body = body

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, erasure: str) -> None:
        """Look again: is the receipt as it was written, is it this user's, and is there nothing of the user."""
        queries.known(req)
        context: KeyContext = req.context.key
        asked = await self._body.read(req)
        try:
            check = await self._control.check_erasure(
                _id(erasure), project_id=context.project_id, member=user_id(asked.user)
            )
        except NotDrained as error:
            raise Problem(
                problems.OUTBOX_FULL, "the ledger is behind, so nothing can be said", retry_after=2
            ) from error
        resp.set_header("Cache-Control", "no-store")
        resp.data = _encode(
            CheckBody(
                check.receipt.erasure.id.hex,
                check.receipt.erasure.state,
                check.verified,
                check.intact,
                check.subject,
                check.found,
            )
        )


def _id(text: str) -> UUID:
    if re.fullmatch("[0-9a-f]{32}", text) is None:
        raise Problem(problems.ERASURE_NOT_FOUND, f"{text[:40]!r} is not the id of an erasure")
    return UUID(text)


def _answer(resp: falcon.asgi.Response, receipt: Receipt) -> None:
    erasure = receipt.erasure
    resp.set_header("Cache-Control", "no-store")
    resp.data = _encode(
        ErasureBody(
            erasure.id.hex,
            erasure.state,
            erasure.digest.hex(),
            erasure.requested_by,
            erasure.requested_at,
            erasure.finished_at,
            erasure.attempts,
            erasure.waits_for,
            receipt.touched,
            len(receipt.lines),
            [LineBody(line.leaderboard, **msgspec.structs.asdict(line.touched)) for line in receipt.lines[:MAX_LINES]],
            None if erasure.mac is None else erasure.mac.hex(),
        )
    )


def _record(found: exports.Record) -> _AnyRecord:
    match found:
        case exports.Standing():
            return StandingRecord(found.leaderboard, found.deleted, plain(found.score), found.rank)
        case exports.Checkpoint():
            return CheckpointRecord(found.leaderboard, found.deleted, plain(found.score))
        case exports.FinalStanding():
            return SeasonRecord(found.leaderboard, found.deleted, found.season, plain(found.score), found.rank)
        case exports.Event():
            return EventRecord(
                found.leaderboard,
                found.deleted,
                found.id,
                found.time,
                KINDS[found.kind],
                None if found.submitted is None else plain(found.submitted),
                None if found.score is None else plain(found.score),
            )
        case exports.Held(hold=hold):
            return HeldRecord(
                found.leaderboard,
                found.deleted,
                hold.id.hex,
                hold.held_at,
                hold.season,
                plain(hold.submitted),
                hold.bound,
                hold.state,
                hold.note,
            )
    raise TypeError(f"{type(found).__name__} is no record of the API")


def _decode_cursor(text: str) -> Cursor:
    board, stage, first, second = queries.unpack_cursor(text, _CURSOR, bits=64)
    return Cursor(board, Stage(stage), first, second)
