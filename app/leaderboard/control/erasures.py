"""Erasures: a member of a project is taken out of everything there is, and a receipt is left.

The API writes down what is wanted; the worker does it, in rounds that may be cut short anywhere and done again:

1. Redis: the member leaves each board by a removal, whose event goes to the ledger like any other;
2. seasons that were ended meanwhile reach the archive, those that take late updates only where the member is in them,
   and what was in the outbox reaches the ledger;
3. Postgres: its rows get a pseudonym per board that follows from nothing, so that counts and sums stay;
4. everything is looked through again. Only where nothing is left does the receipt take the row's place; else another
   round follows. So what is written while the erasure is pending goes too, and what is written later is a new member's.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from uuid import UUID

import msgspec

from leaderboard.control import namespace
from leaderboard.control.errors import ErasureNotFound, NotDrained
from leaderboard.control.tools import Tools
from leaderboard.domain.erasures import (
    PSEUDONYM_BYTES,
    Erasure,
    ErasureState,
    Line,
    Touched,
    member_digest,
    pseudonym,
    receipt_mac,
    sealed,
)
from leaderboard.domain.names import LeaderboardId, ProjectId
from leaderboard.store.postgres import erasures, standings
from leaderboard.store.postgres.erasures import ProjectBoard
from leaderboard.store.postgres.pool import Connection, Database, lockable, transaction, try_lock
from leaderboard.store.redis.boards import BoardAdmin
from leaderboard.store.redis.members import MemberStore, Unavailable

log = logging.getLogger(__name__)

ERASURE_LOCK = 4
"""The kind of the lock under which one process at a time erases members of a project."""
ROUNDS = 3
"""Rounds of one turn; then the other erasures have theirs."""
BOARDS = 1_000
"""Boards looked into at once."""
SEASON_SECONDS = 15.0
"""How long a turn waits for seasons that are over to be archived; a reset that was cut short is finished after 10."""
CHECK_DRAIN_SECONDS = 2.0
"""How long a check waits for the outbox."""
_POLL_SECONDS = 0.1


class _Waits(Exception):
    """A round cannot go on now; the message says what for."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """An erasure with what it touched so far, board by board."""

    erasure: Erasure
    lines: list[Line]

    @property
    def touched(self) -> Touched:
        """All of it."""
        return sum((line.touched for line in self.lines), Touched())


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at a receipt and at everything there is came to.

    `intact`: the receipt is as it was written; `subject`: it is this user's; `found`: what there is of the user now.
    """

    receipt: Receipt
    intact: bool
    subject: bool
    found: Touched

    @property
    def verified(self) -> bool:
        """Whether the receipt is true, and still so."""
        return self.intact and self.subject and not self.found


async def request(tools: Tools, *, project_id: ProjectId, member: str, requested_by: str) -> Receipt:
    """Write down that a member is to be erased; see `Control.request_erasure`."""
    begun = await erasures.begin(
        tools.pool,
        id=UUID(bytes=tools.entropy(16), version=4),
        project_id=project_id,
        member=member,
        digest=member_digest(tools.pepper, project_id, member),
        requested_by=requested_by,
        now=tools.clock(),
    )
    return Receipt(erasure=begun, lines=await erasures.lines(tools.pool, begun.id))


async def read(tools: Tools, id: UUID, *, project_id: ProjectId | None) -> Receipt:
    """Return an erasure; see `Control.erasure`."""
    found = await erasures.get(tools.pool, id)
    if found is None or project_id not in (None, found.project_id):
        raise ErasureNotFound(f"there is no erasure {id}")
    return Receipt(erasure=found, lines=await erasures.lines(tools.pool, id))


async def check(tools: Tools, id: UUID, *, project_id: ProjectId | None, member: str) -> Check:
    """Look whether a receipt is true; see `Control.check_erasure`."""
    receipt = await read(tools, id, project_id=project_id)
    erasure = receipt.erasure
    return Check(
        receipt=receipt,
        intact=sealed(tools.pepper, erasure, receipt.lines),
        subject=member_digest(tools.pepper, erasure.project_id, member) == erasure.digest,
        found=await _scan(tools, tools.pool, erasure.project_id, member, drain_seconds=CHECK_DRAIN_SECONDS),
    )


async def since(tools: Tools, moment: datetime) -> list[tuple[str, Receipt, bool]]:
    """Return (tenant/project, erasure, whether it is intact) of all that were done since `moment` or are pending."""
    found = []
    for slug, project, erasure in await erasures.since(tools.pool, moment):
        receipt = Receipt(erasure=erasure, lines=await erasures.lines(tools.pool, erasure.id))
        found.append((f"{slug}/{project}", receipt, sealed(tools.pepper, erasure, receipt.lines)))
    return found


async def carry_out(tools: Tools, *, limit: int, finished: Callable[[], None] = lambda: None) -> int:
    """Go on with erasures that are pending; see `Control.carry_out_erasures`. `finished` is called for each one done:
    who is cut short by an error knows then of those before it.
    """
    done = 0
    for pending in await erasures.due(tools.pool, limit=limit):
        async with lockable(tools.pool) as conn:
            if not await try_lock(conn, kind=ERASURE_LOCK, ids=[pending.project_id]):
                continue  # another worker is at it
            erasure = await erasures.get(conn, pending.id)
            if erasure is None or erasure.state is not ErasureState.PENDING:
                continue  # another worker was
            if await _turn(tools, conn, erasure):
                done += 1
                finished()
    return done


async def _turn(tools: Tools, conn: Connection, erasure: Erasure) -> bool:
    """Do up to ROUNDS rounds of one erasure, and say whether it is done."""
    await erasures.attempt(conn, erasure.id)
    still_on: set[LeaderboardId] = set()
    reason = ""
    for _ in range(ROUNDS):
        try:
            still_on = await _round(tools, conn, erasure, still_on=still_on)
            assert erasure.member is not None
            left = await _scan(tools, conn, erasure.project_id, erasure.member, drain_seconds=tools.drain_seconds)
        except (_Waits, NotDrained) as error:
            reason = str(error)
            break
        if not left:
            await _finish(tools, conn, erasure)
            return True
        reason = "the member was written again meanwhile, or Redis and the ledger disagree: see leaderboard verify"
    await erasures.wait(conn, erasure.id, reason)
    log.warning("erasure %s is not done yet: %s", erasure.id, reason)
    return False


async def _round(
    tools: Tools, conn: Connection, erasure: Erasure, *, still_on: set[LeaderboardId]
) -> set[LeaderboardId]:
    """Do everything once. Returns the boards on which the member is by the ledger only.

    On those that an earlier round returned the removal gets its event also where Redis does not have the member.
    """
    member, project = erasure.member, erasure.project_id
    assert member is not None
    store = MemberStore(tools.redis)
    await _leave_redis(tools, conn, store, erasure, still_on=still_on)
    await _archived(tools, conn, store, erasure)
    await namespace.drained(tools.redis, seconds=tools.drain_seconds)
    async with transaction(conn):
        await standings.wait_for_turn(conn)  # one that was taken before may be written still
    async for boards in _boards(conn, project):
        there = await erasures.found(conn, [board.id for board in boards], member)
        await _name(tools, conn, erasure, [board for board in boards if board.id in there])
        for board_id, touched in there.items():
            if touched.snapshots:
                await erasures.drop_snapshots(conn, erasure.id, board_id, member=member)
            if touched.held:
                await erasures.drop_held(conn, erasure.id, board_id, member=member)
    await _leave_what_was_set_aside(tools, conn, store, erasure)
    unclear: set[LeaderboardId] = set()
    after = 0
    while named := await erasures.named(conn, erasure.id, after=after, limit=BOARDS):
        for board_id, name in named:
            if await erasures.rename(conn, erasure.id, board_id, member=member, pseudonym=name):
                await erasures.rename_final(conn, erasure.id, board_id, member=member, pseudonym=name)
            else:
                unclear.add(board_id)
        after = named[-1][0]
    return unclear


async def _leave_redis(
    tools: Tools, conn: Connection, store: MemberStore, erasure: Erasure, *, still_on: set[LeaderboardId]
) -> None:
    assert erasure.member is not None
    async for boards in _boards(conn, erasure.project_id):
        live = [board for board in boards if not board.deleted]
        places = await store.look([board.namespace for board in live], erasure.member)
        present = [board for board, place in zip(live, places, strict=True) if _is_there(board, place)]
        await _name(tools, conn, erasure, present)
        for board in present:
            # Before it is removed: who is cut short in between does not find it there any more.
            await erasures.note(conn, erasure.id, board.id, entries=1)
        leave = {board.namespace: board.id in still_on for board in live if board in present or board.id in still_on}
        await store.erase(leave, erasure.member, ids=tools.ids)


def _is_there(board: ProjectBoard, place: object) -> bool:
    if isinstance(place, Unavailable):
        if place.restoring:
            raise _Waits(f"the leaderboard {board.key!r} is being restored: see leaderboard rebuild")
        return False
    return place is not None


async def _archived(tools: Tools, conn: Connection, store: MemberStore, erasure: Erasure) -> None:
    """Wait until no season that is over can bring the member back: the worker archives them.

    Not for one that takes late updates, perhaps for a day, and in which Redis does not have the member.
    """
    assert erasure.member is not None
    project_id, admin, seasons = erasure.project_id, BoardAdmin(tools.redis), set[tuple[LeaderboardId, int]]()
    for board, season, late_until in await erasures.unarchived(conn, project_id):
        waits = (
            late_until is None
            or late_until <= tools.clock()
            # One that Redis lost is made of the ledger, perhaps just now, and with the member's name.
            or not await admin.knows_season(board.namespace, season)
            or await store.in_season(board.namespace, season, erasure.member, board.tie)
        )
        if waits:
            seasons.add((board.id, season))
    deadline = asyncio.get_running_loop().time() + SEASON_SECONDS
    while seasons:
        left = seasons & {(each.board.id, each.season) for each in await erasures.unarchived(conn, project_id)}
        if left and asyncio.get_running_loop().time() > deadline:
            raise _Waits(f"{len(left)} seasons that are over are not archived yet")
        seasons = left
        if seasons:
            await asyncio.sleep(_POLL_SECONDS)


async def _leave_what_was_set_aside(tools: Tools, conn: Connection, store: MemberStore, erasure: Erasure) -> None:
    assert erasure.member is not None
    entries = await store.set_aside(erasure.member)
    if not entries:
        return
    ours = await erasures.in_project(conn, erasure.project_id, [entry.leaderboard_id for entry in entries])
    for board_id, key in ours.items():
        await erasures.name(conn, erasure.id, {board_id: (key, _pseudonym(tools))})
        count = sum(entry.leaderboard_id == board_id for entry in entries)
        await erasures.note(conn, erasure.id, board_id, set_aside=count)
    await store.drop_set_aside(entry for entry in entries if entry.leaderboard_id in ours)


async def _scan(
    tools: Tools, database: Database, project_id: ProjectId, member: str, *, drain_seconds: float
) -> Touched:
    """Return what there is of a member. Raises NotDrained.

    Redis first, then the ledger when everything that happened before has arrived there: so whatever was there when it
    began is found.
    """
    store, found = MemberStore(tools.redis), Touched()
    async for boards in _boards(database, project_id):
        live = [board for board in boards if not board.deleted]
        places = await store.look([board.namespace for board in live], member)
        found += Touched(entries=sum(place is not None and not isinstance(place, Unavailable) for place in places))
    for board, season, _ in await erasures.unarchived(database, project_id):
        if await store.in_season(board.namespace, season, member, board.tie):
            found += Touched(season_lines=1)
    await namespace.drained(tools.redis, seconds=drain_seconds)
    async for boards in _boards(database, project_id):
        there = await erasures.found(database, [board.id for board in boards], member)
        found = sum(there.values(), found)
    entries = await store.set_aside(member)
    ours = await erasures.in_project(database, project_id, [entry.leaderboard_id for entry in entries])
    return found + Touched(set_aside=sum(entry.leaderboard_id in ours for entry in entries))


async def _finish(tools: Tools, conn: Connection, erasure: Erasure) -> None:
    assert erasure.member is not None
    analyzed = await erasures.refresh_statistics(conn, erasure.member)
    async with transaction(conn):
        await erasures.drop_empty_lines(conn, erasure.id)
        lines = await erasures.lines(conn, erasure.id)
        done = msgspec.structs.replace(erasure, state=ErasureState.DONE, member=None, finished_at=tools.clock())
        assert done.finished_at is not None
        mac = receipt_mac(tools.pepper, done, lines)
        await erasures.finish(conn, erasure.id, finished_at=done.finished_at, mac=mac)
    touched = Receipt(erasure=done, lines=lines).touched
    log.info("erasure %s is done: %d boards, %s; analyzed %s", erasure.id, len(lines), touched, analyzed)


async def _boards(database: Database, project_id: ProjectId) -> AsyncIterator[list[ProjectBoard]]:
    after = 0
    while boards := await erasures.boards_of(database, project_id, after=after, limit=BOARDS):
        yield boards
        after = boards[-1].id


async def _name(tools: Tools, conn: Connection, erasure: Erasure, boards: list[ProjectBoard]) -> None:
    if boards:
        await erasures.name(conn, erasure.id, {board.id: (board.key, _pseudonym(tools)) for board in boards})


def _pseudonym(tools: Tools) -> str:
    return pseudonym(tools.entropy(PSEUDONYM_BYTES))
