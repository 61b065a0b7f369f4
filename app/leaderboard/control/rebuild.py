"""Does Redis say what the ledger says (`verify`), and if not, make it so (`rebuild`).

The ledger is compared with a board at one moment: when everything the board ever emitted has arrived in it.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum

import msgspec
from redis.asyncio import Redis

from leaderboard.control import namespace
from leaderboard.control.drift import serves
from leaderboard.control.errors import BoardNotFound, NotDrained
from leaderboard.domain.boards import TiePolicy
from leaderboard.store.postgres import boards, ledger
from leaderboard.store.postgres.boards import PlacedBoard
from leaderboard.store.postgres.pool import Pool
from leaderboard.store.redis.boards import BoardAdmin

EXAMPLES = 10
"""Differences shown per board."""
_POLL_SECONDS = 0.05

Member = tuple[float, str]
"""Score and order prefix."""


class Verdict(StrEnum):
    """What `verify` found of one board."""

    SAME = "same"
    DIFFERENT = "different"
    MISSING = "missing"
    """Redis has no meta of it, or a rebuild did not finish: nobody can use it. `rebuild` makes it whole."""
    BEHIND = "behind"
    """Its events did not all reach the ledger in time: no worker, or writes that never paused."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One member on which the two disagree; None where a side does not have it."""

    member: str
    redis: Member | None
    ledger: Member | None


class BoardReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `verify` found of one board; `examples` are at most EXAMPLES of its differences."""

    path: str
    verdict: Verdict
    entries: int = 0
    differences: int = 0
    examples: tuple[Difference, ...] = ()
    detail: str = ""


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `verify` found, board by board."""

    boards: tuple[BoardReport, ...]

    @property
    def same(self) -> bool:
        """Whether every board is as its ledger says."""
        return all(board.verdict is Verdict.SAME for board in self.boards)

    @property
    def differences(self) -> int:
        """How many members differ, over all boards."""
        return sum(board.differences for board in self.boards)


def compare(in_redis: Mapping[str, Member], in_ledger: Mapping[str, Member]) -> list[Difference]:
    """Return the members whose score (bit for bit) or order prefix differs, by name."""
    return [
        Difference(member=member, redis=in_redis.get(member), ledger=in_ledger.get(member))
        for member in sorted(in_redis.keys() | in_ledger.keys())
        if in_redis.get(member) != in_ledger.get(member)
    ]


async def find(pool: Pool, path: str) -> PlacedBoard:
    """Return the board that ``slug/project/key`` names. Raises BoardNotFound, DatabaseUnavailable."""
    for place in await boards.placed(pool):
        if place.path == path:
            return place
    raise BoardNotFound(f"there is no leaderboard {path!r}; name it as tenant/project/key")


board_key = namespace.key_of


async def verify(
    pool: Pool, redis: Redis, *, only: Sequence[PlacedBoard] | None = None, wait_seconds: float = 30.0
) -> VerifyReport:
    """Compare every board (or `only` those) with its ledger.

    Waits up to `wait_seconds` per board for its events to arrive in the ledger and its writes to pause. Holds one board
    in memory at a time, twice. Raises RedisUnavailable, DatabaseUnavailable.
    """
    found = [place for place in (await boards.placed(pool) if only is None else only) if not place.deleting]
    return VerifyReport(boards=tuple([await _verify(pool, redis, place, wait_seconds=wait_seconds) for place in found]))


async def _verify(pool: Pool, redis: Redis, place: PlacedBoard, *, wait_seconds: float) -> BoardReport:
    admin, key, tie = BoardAdmin(redis), board_key(place), place.board.spec.tie_policy
    deadline = asyncio.get_running_loop().time() + wait_seconds
    while True:
        before = await admin.read_meta(key)
        if not serves(before, place.board):
            why = "Redis has no meta of it" if before is None else "its rebuild did not finish"
            return BoardReport(path=place.path, verdict=Verdict.MISSING, detail=why)
        # A number in the ledger says nothing of those below it: a batch that a dead worker held is written last.
        try:
            await namespace.drained(redis, seconds=max(0.0, deadline - asyncio.get_running_loop().time()))
        except NotDrained as error:
            return BoardReport(path=place.path, verdict=Verdict.BEHIND, detail=str(error))
        position = await ledger.max_position(pool, place.board.id)
        # Not `==`: a ledger ahead of Redis will not be waited for, it is the difference to report.
        if position.seq >= before.seq:
            entries = await admin.entries(key, tie)
            orders = await admin.orders(key) if tie is TiePolicy.FIRST_TO_REACH else None
            expected = {row.member: (row.score, row.order_prefix) async for row in ledger.latest(pool, place.board.id)}
            unmoved = await admin.read_meta(key) == before
            if unmoved and await ledger.max_position(pool, place.board.id) == position:
                return _report(place, entries=entries, orders=orders, expected=expected)
        if asyncio.get_running_loop().time() > deadline:
            detail = f"its ledger is at {position.seq}, the board at {before.seq} after {wait_seconds:g} s"
            return BoardReport(path=place.path, verdict=Verdict.BEHIND, detail=detail)
        await asyncio.sleep(_POLL_SECONDS)


def _report(
    place: PlacedBoard,
    *,
    entries: Mapping[str, Member],
    orders: Mapping[str, str] | None,
    expected: Mapping[str, Member],
) -> BoardReport:
    differences = compare(entries, expected)
    detail = ""
    if orders is not None and orders != {user: order for user, (_, order) in entries.items()}:
        stray = len(orders.items() ^ {user: order for user, (_, order) in entries.items()}.items())
        detail = f"the order hash and the board disagree on {stray} members"
    return BoardReport(
        path=place.path,
        verdict=Verdict.DIFFERENT if differences or detail else Verdict.SAME,
        entries=len(entries),
        differences=len(differences) or (1 if detail else 0),
        examples=tuple(differences[:EXAMPLES]),
        detail=detail,
    )


async def rebuild(
    pool: Pool,
    redis: Redis,
    place: PlacedBoard,
    *,
    drain_seconds: float = namespace.DRAIN_SECONDS,
    now: datetime | None = None,
) -> int:
    """Write the board anew from its ledger and return how many entries it has then.

    The board answers 503 meanwhile. After a crash it stays so until this is run again. Raises NotDrained when no worker
    empties the outbox within `drain_seconds`; BoardNotFound, RedisUnavailable, DatabaseUnavailable.
    """
    async with namespace.lock(pool, place.board.id) as conn:
        board = await namespace.as_it_stands(conn, place.board.id, place.path)
        _, entries = await namespace.restore(
            conn,
            redis,
            board,
            board_key=board_key(place),
            now=now or datetime.now(UTC),
            drain_seconds=drain_seconds,
        )
        return entries


async def missing(pool: Pool, redis: Redis) -> list[PlacedBoard]:
    """Return the boards that nobody can use because Redis has no meta of them, or a rebuild did not finish."""
    found = [place for place in await boards.placed(pool) if not place.deleting]
    admin, lost = BoardAdmin(redis), []
    for chunk in _chunks(found, 500):
        metas = await admin.read_metas([board_key(place) for place in chunk])
        lost += [place for place, meta in zip(chunk, metas, strict=True) if not serves(meta, place.board)]
    return lost


def _chunks(items: Sequence[PlacedBoard], size: int) -> Iterable[Sequence[PlacedBoard]]:
    return (items[start : start + size] for start in range(0, len(items), size))
