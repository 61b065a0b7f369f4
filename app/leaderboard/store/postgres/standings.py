"""Snapshots of boards: the API says which are wanted, the worker writes them, and the dashboard reads nothing else.

A snapshot is the top of a board, or the entries around one member. `taken_at` is a moment before Redis was read.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from leaderboard.domain.names import LeaderboardId, TenantId
from leaderboard.store.postgres.pool import Connection, Database, connection

ENTRIES = 100
"""Entries of a snapshot at most."""
WANTED_SECONDS = 10.0
"""How long one wish keeps the snapshot of a top coming."""
KEPT_SECONDS = 5.0
"""How long a snapshot that nobody wants any more is kept: longer than it may be shown."""
OF_TENANT = 100
"""Snapshots of one tenant in one turn at most; a turn comes about every third of a second."""
_LOCK = 0x7374616E64  # "stand": an advisory lock's number


class Entry(msgspec.Struct, frozen=True):
    """One line of a board."""

    rank: int
    user: str
    score: int | float


class Snapshot(NamedTuple):
    """A board as it was. `entries` is None where the member was not on it; `age` is in seconds."""

    total: int
    entries: list[Entry] | None
    taken_at: datetime
    age: float


class Wanted(NamedTuple):
    """A snapshot to take: of the top, or around `member` where that is not empty."""

    leaderboard_id: LeaderboardId
    member: str
    tenant_id: TenantId
    project: str
    key: str


class Taken(NamedTuple):
    """What a snapshot came to."""

    leaderboard_id: LeaderboardId
    member: str
    total: int
    entries: list[Entry] | None


_decode = msgspec.json.Decoder(list[Entry]).decode
_encode = msgspec.json.Encoder().encode


async def wish(database: Database, leaderboard_id: LeaderboardId, *, member: str, seconds: float) -> None:
    """Say that the snapshot is wanted for the next `seconds`: of a top again and again, around a member once.

    Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        await conn.execute(
            "INSERT INTO standings (leaderboard_id, member, wanted_until)"
            " VALUES (%s, %s, now() + %s * interval '1 second')"
            " ON CONFLICT (leaderboard_id, member) DO UPDATE SET wanted_until = excluded.wanted_until",
            (leaderboard_id, member, seconds),
        )


async def read(database: Database, leaderboard_id: LeaderboardId, *, member: str, max_age: float) -> Snapshot | None:
    """Return the snapshot, None where there is none that is at most `max_age` seconds old.

    Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                "SELECT total, entries, taken_at, extract(epoch FROM now() - taken_at)::float8 FROM standings"
                " WHERE leaderboard_id = %s AND member = %s AND taken_at >= now() - %s * interval '1 second'",
                (leaderboard_id, member, max_age),
            )
        ).fetchone()
    if row is None:
        return None
    return Snapshot(row[0] or 0, None if row[1] is None else _decode(row[1]), row[2], row[3])


async def hold(conn: Connection) -> bool:
    """Become the one that takes snapshots until the transaction ends; False where another worker does."""
    row = await (await conn.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))).fetchone()
    return row is not None and bool(row[0])


async def wait_for_turn(conn: Connection) -> None:
    """Keep every worker from taking snapshots until the transaction ends; waits for the turn that is under way."""
    await conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))


def entry_of(member: str) -> str:
    """Return the text by which the entries of a snapshot show a member, and no other."""
    return '"user":' + _encode(member).decode()


async def due(conn: Connection, *, interval: float, limit: int) -> list[Wanted]:
    """Return what is wanted and older than `interval` seconds; forget what is long unwanted.

    The tenants take turns, each with at most `OF_TENANT`: its boards' tops before what is around a member, the oldest
    first. So nobody's wishes, however many, make another's wait.
    """
    await conn.execute("DELETE FROM standings WHERE wanted_until < now() - %s * interval '1 second'", (KEPT_SECONDS,))
    rows = await conn.execute(
        "SELECT leaderboard_id, member, tenant_id, name, key FROM ("
        "  SELECT s.leaderboard_id, s.member, p.tenant_id, p.name, b.key, s.taken_at, row_number() OVER"
        "   (PARTITION BY p.tenant_id ORDER BY s.member <> '', s.taken_at NULLS FIRST) AS turn FROM standings s"
        "  JOIN leaderboards b ON b.id = s.leaderboard_id AND b.state = 'active'"
        "  JOIN projects p ON p.id = b.project_id"
        "  WHERE s.wanted_until > now() AND (s.taken_at IS NULL OR s.taken_at < now() - %s * interval '1 second')"
        " ) wanted WHERE turn <= %s ORDER BY turn, taken_at NULLS FIRST LIMIT %s",
        (interval, OF_TENANT, limit),
    )
    return [Wanted(LeaderboardId(row[0]), row[1], TenantId(row[2]), row[3], row[4]) async for row in rows]


async def write(conn: Connection, taken: Sequence[Taken]) -> None:
    """Keep snapshots, as of the begin of the transaction. One around a member is not wanted any more then."""
    rows = sorted(taken)
    await conn.execute(
        "UPDATE standings s SET taken_at = now(), total = t.total, entries = t.entries,"
        " wanted_until = CASE WHEN s.member = '' THEN s.wanted_until ELSE least(s.wanted_until, now()) END"
        " FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::text[]) t (leaderboard_id, member, total, entries)"
        " WHERE s.leaderboard_id = t.leaderboard_id AND s.member = t.member",
        (
            [row.leaderboard_id for row in rows],
            [row.member for row in rows],
            [row.total for row in rows],
            [None if row.entries is None else _encode(row.entries).decode() for row in rows],
        ),
    )
