"""Erasures as rows, and what they do to the tables: a member's rows keep their sums and lose their name.

A board's pseudonym is written down before it is used, so that an erasure that is cut short goes on under the same one.
Nothing of a board is renamed while its ledger has the member on it, be it by name or by pseudonym: a rebuild would
bring the pseudonym to life.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from psycopg import sql

from leaderboard.domain.boards import TiePolicy
from leaderboard.domain.erasures import Erasure, ErasureState, Line, Touched
from leaderboard.domain.names import LeaderboardId, ProjectId, TenantId
from leaderboard.store.postgres import ledger, seasons, standings
from leaderboard.store.postgres.pool import Connection, Database, connection, transaction
from leaderboard.store.postgres.seasons import Seal
from leaderboard.store.redis import keys

_COLUMNS = (
    "e.id, e.project_id, e.digest, e.state, e.member, e.requested_by, e.requested_at, e.attempts, e.waits_for,"
    " e.finished_at, e.mac"
)


def _erasure(row: Sequence[Any]) -> Erasure:
    return Erasure(
        id=row[0],
        project_id=ProjectId(row[1]),
        digest=bytes(row[2]),
        state=ErasureState(row[3]),
        member=row[4],
        requested_by=row[5],
        requested_at=row[6],
        attempts=row[7],
        waits_for=row[8],
        finished_at=row[9],
        mac=None if row[10] is None else bytes(row[10]),
    )


# -- the row


async def begin(
    database: Database,
    *,
    id: UUID,
    project_id: ProjectId,
    member: str,
    digest: bytes,
    requested_by: str,
    now: datetime,
) -> Erasure:
    """Write down that a member is to be erased, and return the erasure; the one that is pending, where one is.

    Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        while True:
            await conn.execute(
                "INSERT INTO erasures (id, project_id, digest, state, member, requested_by, requested_at)"
                " VALUES (%s, %s, %s, 'pending', %s, %s, %s)"
                " ON CONFLICT (project_id, digest) WHERE state = 'pending' DO NOTHING",
                (id, project_id, digest, member, requested_by, now),
            )
            row = await (
                await conn.execute(
                    f"SELECT {_COLUMNS} FROM erasures e WHERE e.id = %s"  # noqa: S608 - a constant of this module
                    " OR (e.project_id = %s AND e.digest = %s AND e.state = 'pending')",
                    (id, project_id, digest),
                )
            ).fetchone()
            if row is not None:  # else the one that was pending was done in between
                return _erasure(row)


async def get(database: Database, id: UUID) -> Erasure | None:
    """Return one erasure, whatever its project. Raises DatabaseUnavailable."""
    async with connection(database) as conn:
        row = await (
            await conn.execute(f"SELECT {_COLUMNS} FROM erasures e WHERE e.id = %s", (id,))  # noqa: S608 - as above
        ).fetchone()
    return None if row is None else _erasure(row)


async def since(database: Database, moment: datetime) -> list[tuple[str, str, Erasure]]:
    """Return (tenant's slug, project's name, erasure) of all that were done since or are pending, oldest first.

    Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        rows = await conn.execute(
            f"SELECT t.slug, p.name, {_COLUMNS} FROM erasures e JOIN projects p ON p.id = e.project_id"  # noqa: S608
            " JOIN tenants t ON t.id = p.tenant_id WHERE e.state = 'pending' OR e.finished_at >= %s"
            " ORDER BY e.requested_at, e.id",
            (moment,),
        )
        return [(row[0], row[1], _erasure(row[2:])) async for row in rows]


async def lines(database: Database, id: UUID) -> list[Line]:
    """Return what an erasure touched, by the boards' ids. Raises DatabaseUnavailable."""
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT leaderboard_id, leaderboard, entries, events, checkpoints, season_lines, snapshots, set_aside, held"
            " FROM erasure_boards WHERE erasure_id = %s ORDER BY leaderboard_id",
            (id,),
        )
        return [
            Line(
                leaderboard_id=LeaderboardId(row[0]),
                leaderboard=row[1],
                touched=Touched(
                    entries=row[2],
                    events=row[3],
                    checkpoints=row[4],
                    season_lines=row[5],
                    snapshots=row[6],
                    set_aside=row[7],
                    held=row[8],
                ),
            )
            async for row in rows
        ]


async def due(database: Database, *, limit: int) -> list[Erasure]:
    """Return erasures that are pending and have their turn, who waits longest first. Raises DatabaseUnavailable.

    One that could not be finished has its next turn after as many seconds as it had turns, a minute at most.
    """
    async with connection(database) as conn:
        rows = await conn.execute(
            f"SELECT {_COLUMNS} FROM erasures e WHERE e.state = 'pending' AND (e.attempted_at IS NULL"  # noqa: S608
            "  OR e.attempted_at < now() - least(e.attempts, 60) * interval '1 second')"
            " ORDER BY e.attempted_at NULLS FIRST, e.requested_at LIMIT %s",
            (limit,),
        )
        return [_erasure(row) async for row in rows]


async def oldest_pending(database: Database) -> datetime | None:
    """Return when the oldest erasure was asked for that is pending, None where none is. Raises DatabaseUnavailable."""
    async with connection(database) as conn:
        row = await (await conn.execute("SELECT min(requested_at) FROM erasures WHERE state = 'pending'")).fetchone()
    return None if row is None else row[0]


async def attempt(database: Database, id: UUID) -> None:
    """Count a turn that begins."""
    async with connection(database) as conn:
        await conn.execute("UPDATE erasures SET attempts = attempts + 1, attempted_at = now() WHERE id = %s", (id,))


async def wait(database: Database, id: UUID, reason: str) -> None:
    """Say what a pending erasure waits for."""
    async with connection(database) as conn:
        await conn.execute("UPDATE erasures SET waits_for = %s WHERE id = %s AND state = 'pending'", (reason, id))


async def finish(conn: Connection, id: UUID, *, finished_at: datetime, mac: bytes) -> None:
    """Make a receipt of a pending erasure: who it was, and which pseudonyms there are, is forgotten."""
    await conn.execute("UPDATE erasure_boards SET pseudonym = NULL WHERE erasure_id = %s", (id,))
    await conn.execute(
        "UPDATE erasures SET state = 'done', member = NULL, waits_for = NULL, finished_at = %s, mac = %s"
        " WHERE id = %s AND state = 'pending'",
        (finished_at, mac, id),
    )


async def drop_empty_lines(conn: Connection, id: UUID) -> None:
    """Forget boards of which nothing was touched after all."""
    await conn.execute(
        "DELETE FROM erasure_boards WHERE erasure_id = %s"
        " AND entries + events + checkpoints + season_lines + snapshots + set_aside + held = 0",
        (id,),
    )


# -- a project's boards


class ProjectBoard(msgspec.Struct, frozen=True, kw_only=True):
    """A board of a project, also a deleted one: its events are in the ledger."""

    id: LeaderboardId
    key: str
    tie: TiePolicy
    deleted: bool
    namespace: str
    """Its key in Redis."""


_PROJECT_BOARD = "b.id, b.key, b.tie_policy, b.state = 'deleted', p.tenant_id, p.name"


def _project_board(row: Sequence[Any]) -> ProjectBoard:
    """Return the board that starts a row of _PROJECT_BOARD."""
    return ProjectBoard(
        id=LeaderboardId(row[0]),
        key=row[1],
        tie=TiePolicy(row[2]),
        deleted=row[3],
        namespace=keys.board(TenantId(row[4]), row[5], row[1]),
    )


async def boards_of(
    database: Database, project_id: ProjectId, *, after: int, limit: int, first: int = 0
) -> list[ProjectBoard]:
    """Return up to `limit` boards of a project, in the order of their ids, past `after` or from `first` on.

    Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        rows = await conn.execute(
            f"SELECT {_PROJECT_BOARD} FROM leaderboards b"  # noqa: S608 - a constant of this module
            " JOIN projects p ON p.id = b.project_id WHERE b.project_id = %s AND b.id > %s AND b.id >= %s"
            " ORDER BY b.id LIMIT %s",
            (project_id, after, first, limit),
        )
        return [_project_board(row) async for row in rows]


async def in_project(
    database: Database, project_id: ProjectId, ids: Sequence[LeaderboardId]
) -> dict[LeaderboardId, str]:
    """Return those of the boards that are the project's, with their keys. Raises DatabaseUnavailable."""
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT id, key FROM leaderboards WHERE project_id = %s AND id = ANY(%s)", (project_id, list(ids))
        )
        return {LeaderboardId(row[0]): row[1] async for row in rows}


class Unarchived(NamedTuple):
    """A season that is over and that Redis may still have. `late_until`: until when it takes late updates, or None."""

    board: ProjectBoard
    season: int
    late_until: datetime | None


async def unarchived(database: Database, project_id: ProjectId) -> list[Unarchived]:
    """Return the project's seasons that Redis may still have. Raises DatabaseUnavailable."""
    async with connection(database) as conn:
        rows = await conn.execute(
            f"SELECT {_PROJECT_BOARD}, s.season, s.late_until FROM seasons s"  # noqa: S608 - a constant of this module
            " JOIN leaderboards b ON b.id = s.leaderboard_id JOIN projects p ON p.id = b.project_id"
            " WHERE s.state <> 'archived' AND b.project_id = %s AND b.state <> 'deleted'",
            (project_id,),
        )
        return [Unarchived(_project_board(row), *row[-2:]) async for row in rows]


# -- what there is

_FOUND = """
SELECT b.id, coalesce(e.n, 0), coalesce(c.n, 0), coalesce(l.n, 0), coalesce(s.n, 0), coalesce(h.n, 0)
FROM unnest(%(boards)s::bigint[]) b (id)
LEFT JOIN (SELECT leaderboard_id, count(*) AS n FROM score_events
           WHERE leaderboard_id = ANY(%(boards)s) AND member = %(member)s GROUP BY 1) e ON e.leaderboard_id = b.id
LEFT JOIN (SELECT leaderboard_id, count(*) AS n FROM score_checkpoints
           WHERE leaderboard_id = ANY(%(boards)s) AND member = %(member)s GROUP BY 1) c ON c.leaderboard_id = b.id
LEFT JOIN (SELECT o.leaderboard_id, count(*) AS n FROM seasons o JOIN season_standings l
             ON l.leaderboard_id = o.leaderboard_id AND l.season = o.season AND l.member = %(member)s
           WHERE o.leaderboard_id = ANY(%(boards)s) GROUP BY 1) l ON l.leaderboard_id = b.id
LEFT JOIN (SELECT leaderboard_id, count(*) AS n FROM standings
           WHERE leaderboard_id = ANY(%(boards)s) AND (member = %(member)s OR strpos(entries, %(entry)s) > 0)
           GROUP BY 1) s ON s.leaderboard_id = b.id
LEFT JOIN (SELECT leaderboard_id, count(*) AS n FROM held_updates
           WHERE leaderboard_id = ANY(%(boards)s) AND member = %(member)s GROUP BY 1) h ON h.leaderboard_id = b.id
WHERE coalesce(e.n, c.n, l.n, s.n, h.n) IS NOT NULL
"""


async def found(database: Database, boards: Sequence[LeaderboardId], member: str) -> dict[LeaderboardId, Touched]:
    """Return what the tables have of a member, for each of the boards where that is something.

    One look into an index per board and partition. Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        rows = await conn.execute(
            _FOUND, {"boards": list(boards), "member": member, "entry": standings.entry_of(member)}
        )
        return {
            LeaderboardId(row[0]): Touched(
                events=row[1], checkpoints=row[2], season_lines=row[3], snapshots=row[4], held=row[5]
            )
            async for row in rows
        }


# -- what is done


async def name(database: Database, id: UUID, boards: Mapping[LeaderboardId, tuple[str, str]]) -> None:
    """Write down the pseudonym that a member gets on each board: id -> (the board's key, pseudonym).

    The first one that was written down stays.
    """
    async with connection(database) as conn:
        await conn.execute(
            "INSERT INTO erasure_boards (erasure_id, leaderboard_id, leaderboard, pseudonym)"
            " SELECT %s, * FROM unnest(%s::bigint[], %s::text[], %s::text[])"
            " ON CONFLICT (erasure_id, leaderboard_id) DO NOTHING",
            (id, list(boards), [key for key, _ in boards.values()], [name for _, name in boards.values()]),
        )


async def note(database: Database, id: UUID, board_id: LeaderboardId, *, entries: int = 0, set_aside: int = 0) -> None:
    """Write down, before Redis is told to remove it, what it has of a member; again changes nothing."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE erasure_boards SET entries = greatest(entries, %s), set_aside = greatest(set_aside, %s)"
            " WHERE erasure_id = %s AND leaderboard_id = %s",
            (entries, set_aside, id, board_id),
        )


async def named(database: Database, id: UUID, *, after: int, limit: int) -> list[tuple[LeaderboardId, str]]:
    """Return boards that an erasure has to do with, past `after`, with the member's pseudonym there."""
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT leaderboard_id, pseudonym FROM erasure_boards WHERE erasure_id = %s AND leaderboard_id > %s"
            " ORDER BY leaderboard_id LIMIT %s",
            (id, after, limit),
        )
        return [(LeaderboardId(row[0]), row[1]) async for row in rows]


def _newest(member: str) -> str:
    return (
        "(SELECT incarnation, seq, score FROM score_events WHERE leaderboard_id = %(board)s"  # noqa: S608 - constants
        f" AND member = {member} ORDER BY incarnation DESC, seq DESC LIMIT 1)"
    )


# One statement, so that all of it is of one moment: what the ledger says of the member, and what is renamed.
_RENAME = f"""
WITH cut AS MATERIALIZED ({ledger.cut_of("%(board)s")}), newest AS MATERIALIZED (
    SELECT incarnation, seq, score FROM (
        {_newest("%(member)s")} UNION ALL {_newest("%(pseudonym)s")} UNION ALL
        SELECT incarnation, seq, score FROM score_checkpoints
        WHERE leaderboard_id = %(board)s AND member IN (%(member)s, %(pseudonym)s)
    ) history ORDER BY incarnation DESC, seq DESC LIMIT 1
), off AS MATERIALIZED (
    SELECT state = 'deleted' OR NOT EXISTS (
        SELECT 1 FROM newest n, cut c WHERE n.score IS NOT NULL AND (n.incarnation, n.seq) > (c.incarnation, c.seq)
    ) AS off FROM leaderboards WHERE id = %(board)s
), events AS (
    UPDATE score_events SET member = %(pseudonym)s
    WHERE leaderboard_id = %(board)s AND member = %(member)s AND (SELECT off FROM off) RETURNING 1
), gone AS (
    DELETE FROM score_checkpoints
    WHERE leaderboard_id = %(board)s AND member = %(member)s AND (SELECT off FROM off)
    RETURNING incarnation, seq, score, order_prefix
), put AS (
    INSERT INTO score_checkpoints AS c (leaderboard_id, member, incarnation, seq, score, order_prefix)
    SELECT %(board)s, %(pseudonym)s, * FROM gone
    ON CONFLICT (leaderboard_id, member) DO UPDATE SET incarnation = excluded.incarnation, seq = excluded.seq,
        score = excluded.score, order_prefix = excluded.order_prefix
    WHERE (c.incarnation, c.seq) < (excluded.incarnation, excluded.seq)
)
UPDATE erasure_boards SET events = events + (SELECT count(*) FROM events),
    checkpoints = checkpoints + (SELECT count(*) FROM gone)
WHERE erasure_id = %(erasure)s AND leaderboard_id = %(board)s
RETURNING (SELECT off FROM off)
"""  # noqa: S608 - constants of this module


async def rename(database: Database, id: UUID, board_id: LeaderboardId, *, member: str, pseudonym: str) -> bool:
    """Give a member's events and checkpoint of one board the pseudonym, in one transaction; count them.

    False, and nothing is done, where the member is on the board by the ledger. Raises DatabaseUnavailable.
    """
    values = {"erasure": id, "board": board_id, "member": member, "pseudonym": pseudonym}
    async with connection(database) as conn:
        row = await (await conn.execute(_RENAME, values)).fetchone()
    return row is not None and bool(row[0])


async def rename_final(database: Database, id: UUID, board_id: LeaderboardId, *, member: str, pseudonym: str) -> None:
    """Give a member's lines in a board's final standings the pseudonym, one season a transaction, with new checksums.

    Reads each season it changes whole. Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT s.season FROM seasons s JOIN season_standings l ON l.leaderboard_id = s.leaderboard_id"
            " AND l.season = s.season AND l.member = %s WHERE s.leaderboard_id = %s ORDER BY s.season",
            (member, board_id),
        )
        for (season,) in await rows.fetchall():
            async with transaction(conn):
                await _rename_final(conn, id, board_id, season, member=member, pseudonym=pseudonym)


async def _rename_final(
    conn: Connection, id: UUID, board_id: LeaderboardId, season: int, *, member: str, pseudonym: str
) -> None:
    # Locked: of two that rename and add up at once, neither would see what the other renamed.
    of = "WHERE leaderboard_id = %s AND season = %s"
    await conn.execute(f"SELECT 1 FROM seasons {of} FOR UPDATE", (board_id, season))  # noqa: S608 - a constant
    renamed = await conn.execute(
        f"UPDATE season_standings SET member = %s {of} AND member = %s",  # noqa: S608 - a constant
        (pseudonym, board_id, season, member),
    )
    if not renamed.rowcount:
        return
    seal = Seal()
    async for line in seasons.read(conn, board_id, season):
        seal.add(line)
    await conn.execute(
        f"UPDATE seasons SET checksum = %s, erased = erased + 1 {of}",  # noqa: S608 - a constant
        (seal.sealed().checksum, board_id, season),
    )
    await conn.execute(
        "UPDATE erasure_boards SET season_lines = season_lines + 1 WHERE erasure_id = %s AND leaderboard_id = %s",
        (id, board_id),
    )


async def drop_held(database: Database, id: UUID, board_id: LeaderboardId, *, member: str) -> None:
    """Delete the updates of a member of a board that were held, and count them. Raises DatabaseUnavailable."""
    async with transaction(database) as conn:
        gone = await conn.execute(
            "DELETE FROM held_updates WHERE leaderboard_id = %s AND member = %s", (board_id, member)
        )
        await conn.execute(
            "UPDATE erasure_boards SET held = held + %s WHERE erasure_id = %s AND leaderboard_id = %s",
            (gone.rowcount, id, board_id),
        )


async def drop_snapshots(database: Database, id: UUID, board_id: LeaderboardId, *, member: str) -> None:
    """Drop the snapshots of a board that show a member, and count them; who looks at the board gets a new one.

    One that is being taken is waited for: it may show the member still. Raises DatabaseUnavailable.
    """
    async with transaction(database) as conn:
        await standings.wait_for_turn(conn)
        asked = await conn.execute(
            "DELETE FROM standings WHERE leaderboard_id = %s AND member = %s", (board_id, member)
        )
        shown = await conn.execute(
            "UPDATE standings SET taken_at = NULL, total = NULL, entries = NULL"
            " WHERE leaderboard_id = %s AND strpos(entries, %s) > 0",
            (board_id, standings.entry_of(member)),
        )
        await conn.execute(
            "UPDATE erasure_boards SET snapshots = snapshots + %s WHERE erasure_id = %s AND leaderboard_id = %s",
            (asked.rowcount + shown.rowcount, id, board_id),
        )


async def refresh_statistics(database: Database, member: str) -> list[str]:
    """Let Postgres forget samples of a member: ANALYZE the tables in whose statistics it is. Returns their names.

    Needs to own the tables, or Postgres only warns. Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT DISTINCT tablename FROM pg_stats WHERE schemaname = current_schema() AND ("
            " (attname = 'member' AND (%(member)s = ANY(most_common_vals::text::text[])"
            "   OR %(member)s = ANY(histogram_bounds::text::text[]))) OR (tablename = 'standings'))",
            {"member": member},
        )
        tables = [row[0] for row in await rows.fetchall()]
        for table in tables:
            await conn.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))
    return tables
