"""The ledger: every change of every board, once, in partitions of one UTC day.

A member's state is what its newest event says, by (incarnation, seq), unless a reset or deletion of the board is
newer. Sums are never added up again: float addition depends on its order, so each event carries its result.

Dropping old partitions writes that state to ``score_checkpoints`` first, so `latest` gives the same before and after.
"""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection, errors, sql

from leaderboard.domain.bounds import Broken
from leaderboard.domain.names import LeaderboardId
from leaderboard.store.postgres import quarantine
from leaderboard.store.postgres.pool import Connection, Database, connection, transaction
from leaderboard.store.redis.events import EventKind, ScoreEvent

# Who makes or drops partitions holds this; it lets readers and writers pass. An advisory lock would not do: getting
# one does not refresh what the session believes about tables.
_LOCK_PARTITIONS = "LOCK TABLE score_events IN SHARE UPDATE EXCLUSIVE MODE"
FETCH_ROWS = 10_000
"""Rows a server-side cursor hands over at once: about 1 MB of memory."""
DROP_LOCK_TIMEOUT = "5s"
"""How long a drop may wait for readers of the ledger. While it waits, appends queue behind it, so it gives up early."""


class Latest(NamedTuple):
    """The state of one member: its score and order prefix (empty where the tie policy keeps none)."""

    member: str
    score: float
    order_prefix: str


class Position(NamedTuple):
    """A place in a board's history; positions compare in the order of events."""

    incarnation: int
    seq: int


class LedgerEvent(NamedTuple):
    """One event as it is read back; see `ScoreEvent`. `member` is None for what concerns the whole board."""

    id: UUID
    time: datetime
    kind: EventKind
    position: Position
    member: str | None
    submitted: float | None
    score: float | None


# One statement: what ON CONFLICT let through is what is counted, so a batch written twice counts once.
# Arrays rather than (text) COPY into a temporary table. 2,000 events a batch, Postgres 18 with fsync on, two cores
# shared with others, four runs each: 63,000-76,000 events/s at 3.4-4.6 us of our CPU an event.
# COPY: 48,000-68,000 at 5.3-6.8 us.
_APPEND = """
WITH inserted AS (
    INSERT INTO score_events
        (event_time, event_id, leaderboard_id, incarnation, seq, kind, member, submitted, score, order_prefix)
    SELECT * FROM unnest(%b::timestamptz[], %b::uuid[], %b::bigint[], %b::int[], %b::bigint[], %b::text[]::"char"[],
                         %b::text[], %b::float8[], %b::float8[], %b::text[])
    ON CONFLICT (event_time, event_id) DO NOTHING
    RETURNING event_time, leaderboard_id, kind
), counted AS (
    SELECT date_trunc('hour', i.event_time, 'UTC') AS hour, b.project_id, count(*) AS updates
    FROM inserted i JOIN leaderboards b ON b.id = i.leaderboard_id
    WHERE i.kind = 'u'
    GROUP BY 1, 2
), hours AS (
    INSERT INTO usage_hours AS u (hour, project_id, score_updates)
    SELECT hour, project_id, updates FROM counted ORDER BY 1, 2
    ON CONFLICT (project_id, hour) DO UPDATE SET score_updates = u.score_updates + excluded.score_updates
    RETURNING 1
), days AS (
    INSERT INTO usage_rollups AS u (day, project_id, score_updates)
    SELECT (hour AT TIME ZONE 'UTC')::date, project_id, sum(updates) FROM counted
    WHERE (SELECT count(*) FROM hours) >= 0  -- hours first, as in usage.flush: two that wait for each other would fail
    GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (day, project_id) DO UPDATE SET score_updates = u.score_updates + excluded.score_updates
)
SELECT count(*) FROM inserted
"""


async def append(
    database: Database, events: Sequence[ScoreEvent], *, quarantined: Counter[Broken] | None = None
) -> int:
    """Write `events` and count their score updates in the usage of their hour and day, in one transaction.

    Returns how many were new; events that are in the ledger already change nothing, so a batch may be sent again.
    Updates that were held are none of the ledger's: they go to the quarantine, and are not counted. Those that were new
    there are added to `quarantined`, by the bound that they broke.
    Days without a partition get one. Raises DatabaseUnavailable; psycopg.DataError for a value Postgres cannot hold.
    """
    held = [event for event in events if event.kind is EventKind.HELD]
    if held:
        events = [event for event in events if event.kind is not EventKind.HELD]
    if not events and not held:
        return 0
    columns = (
        [event.time for event in events],
        [event.id for event in events],
        [event.leaderboard_id for event in events],
        [event.incarnation for event in events],
        [event.seq for event in events],
        [event.kind.value for event in events],
        [event.user or None for event in events],
        [event.submitted for event in events],
        [event.score for event in events],
        [event.order for event in events],
    )
    async with connection(database) as conn:
        for _ in range(3):
            try:
                async with conn.transaction():
                    new = await quarantine.add(conn, held) if held else None
                    row = await (await conn.execute(_APPEND, columns)).fetchone()
                    assert row is not None
                if quarantined is not None and new:  # now that it is committed
                    quarantined.update(new)
                return int(row[0])
            except errors.CheckViolation as error:
                # "no partition of relation found for row" has no constraint name; a broken CHECK has one.
                if error.diag.constraint_name is not None:
                    raise
            await ensure_partitions(conn, {_day(event.time) for event in events})
    raise RuntimeError("a partition of score_events was dropped three times while its events were being written")


def _day(time: datetime) -> date:
    return time.astimezone(UTC).date()


def partition_name(day: date) -> str:
    """Return the table that holds the events of the UTC day `day`."""
    return f"score_events_{day:%Y%m%d}"


async def ensure_partitions(database: Database, days: Sequence[date] | set[date]) -> list[str]:
    """Make the partitions of `days` that are missing, and return their names. Safe under concurrency.

    A new table is made apart and then attached: ATTACH blocks neither readers nor writers of the ledger, while
    CREATE ... PARTITION OF would wait for, and then hold up, all of them.
    """
    made = []
    async with transaction(database) as conn:
        if await _missing(conn, days):
            await conn.execute(_LOCK_PARTITIONS)
            for day in await _missing(conn, days):
                name, parent = sql.Identifier(partition_name(day)), sql.Identifier("score_events")
                await conn.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(name, parent))
                await conn.execute(
                    sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                        parent, name, _midnight(day), _midnight(day + timedelta(days=1))
                    )
                )
                made.append(partition_name(day))
    return made


async def _missing(conn: Connection, days: Sequence[date] | set[date]) -> list[date]:
    found = await conn.execute(
        "SELECT day FROM unnest(%s::date[]) day WHERE to_regclass('score_events_' || to_char(day, 'YYYYMMDD')) IS NULL"
        " ORDER BY day",
        (sorted(days),),
    )
    return [row[0] async for row in found]


def _midnight(day: date) -> sql.Literal:
    return sql.Literal(f"{day:%Y-%m-%d} 00:00:00+00")


def cut_of(board: str, *, such_as: str = "true", before: str = "true") -> str:
    """Return the query for the place of the board's newest reset or deletion, whether its partition is there or not.

    `board` is SQL for the board's id; `such_as` a condition that those in partitions have to meet, `before` one on
    (incarnation, seq) that all have to. It is (0, 0) where there is none.
    """
    return f"""
    SELECT incarnation, seq FROM (
        (SELECT incarnation, seq FROM score_events
         WHERE leaderboard_id = {board} AND kind IN ('x', 'd') AND {such_as} AND {before}
         ORDER BY incarnation DESC, seq DESC LIMIT 1)
        UNION ALL
        SELECT incarnation, seq FROM (SELECT cut_incarnation AS incarnation, cut_seq AS seq
         FROM score_checkpoint_heads WHERE leaderboard_id = {board}) head WHERE {before}
        UNION ALL
        SELECT 0, 0::bigint
    ) cuts ORDER BY incarnation DESC, seq DESC LIMIT 1
"""  # noqa: S608 - constants of this package


def _latest_of(board: str, *, before: str = "true") -> str:
    """Return the query for the state of every member; `board` is SQL for the board's id.

    `before` is a condition on (incarnation, seq) that all events have to meet: what it was at an earlier place.
    """
    return f"""
WITH cut AS MATERIALIZED ({cut_of(board, before=before)})
SELECT member, score, order_prefix FROM (
    SELECT DISTINCT ON (member) member, score, order_prefix FROM (
        SELECT e.member, e.incarnation, e.seq, e.score, e.order_prefix FROM score_events e
        WHERE e.leaderboard_id = {board} AND e.member IS NOT NULL
          AND (e.incarnation, e.seq) > (SELECT incarnation, seq FROM cut) AND {before}
        UNION ALL
        SELECT c.member, c.incarnation, c.seq, c.score, c.order_prefix FROM score_checkpoints c
        WHERE c.leaderboard_id = {board} AND (c.incarnation, c.seq) > (SELECT incarnation, seq FROM cut) AND {before}
    ) history
    ORDER BY member, incarnation DESC, seq DESC
) newest WHERE score IS NOT NULL
"""  # noqa: S608 - constants of this module


_LATEST = _latest_of("%(board)s")
_INHABITED = f"SELECT b.id FROM unnest(%s::bigint[]) b (id) WHERE EXISTS ({_latest_of('b.id')})"  # noqa: S608 - as above


async def latest(database: Database, leaderboard_id: LeaderboardId) -> AsyncIterator[Latest]:
    """Yield the state of every member the board has by the ledger, in the order of the members' bytes.

    Removed and trimmed members do not appear. The rows stay on the server and come `FETCH_ROWS` at a time.
    Raises DatabaseUnavailable.
    """
    async with transaction(database) as conn, conn.cursor("latest", scrollable=False) as cursor:
        cursor.itersize = FETCH_ROWS
        await cursor.execute(_LATEST, {"board": leaderboard_id})
        async for member, score, order_prefix in cursor:
            yield Latest(member, score, order_prefix)


_BEFORE = _latest_of("%(board)s", before="(incarnation, seq) < (%(incarnation)s, %(seq)s)")


async def final(
    database: Database, leaderboard_id: LeaderboardId, *, before: Position, descending: bool
) -> AsyncIterator[Latest]:
    """Yield the state of every member as it was right before a place, best first.

    What a dropped partition held of that time is known only as far as no later season went over it. Raises
    DatabaseUnavailable.
    """
    way = "DESC" if descending else "ASC"
    # As Redis orders them: by score, then by the bytes of the member with its prefix.
    query = f'SELECT * FROM ({_BEFORE}) final ORDER BY score {way}, (order_prefix || member) COLLATE "C" {way}'  # noqa: S608
    async with transaction(database) as conn, conn.cursor("final_ledger", scrollable=False) as cursor:
        cursor.itersize = FETCH_ROWS
        await cursor.execute(query, {"board": leaderboard_id, "incarnation": before.incarnation, "seq": before.seq})
        async for member, score, order_prefix in cursor:
            yield Latest(member, score, order_prefix)


async def place_of_reset(database: Database, leaderboard_id: LeaderboardId, event_id: UUID) -> Position | None:
    """Return where a reset of the board stands in its history, None where the ledger does not have it (yet)."""
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                "SELECT incarnation, seq FROM score_events"
                " WHERE leaderboard_id = %s AND kind IN ('x', 'd') AND event_id = %s",
                (leaderboard_id, event_id),
            )
        ).fetchone()
    return None if row is None else Position(*row)


async def last_before(database: Database, leaderboard_id: LeaderboardId, place: Position) -> int:
    """Return the number of the last event of the same incarnation before `place`, 0 where there is none."""
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                "SELECT max(seq) FROM score_events WHERE leaderboard_id = %s AND incarnation = %s AND seq < %s",
                (leaderboard_id, *place),
            )
        ).fetchone()
    return 0 if row is None or row[0] is None else int(row[0])


async def has(database: Database, leaderboard_id: LeaderboardId, member: str, event_id: UUID) -> bool:
    """Whether the ledger has an event of the member. Looks through all of the member's. Raises DatabaseUnavailable."""
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                "SELECT 1 FROM score_events WHERE leaderboard_id = %s AND member = %s AND event_id = %s LIMIT 1",
                (leaderboard_id, member, event_id),
            )
        ).fetchone()
    return row is not None


async def takes_imports(database: Database) -> bool:
    """Whether the table takes events of imports: whether migration 0012 was applied. Raises DatabaseUnavailable."""
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = 'score_events'::regclass AND conname = 'score_events_kind_check'"
        )
        return any(f"'{EventKind.IMPORT}'" in row[0] for row in await rows.fetchall())


async def inhabited(database: Database, leaderboard_ids: Collection[LeaderboardId]) -> set[LeaderboardId]:
    """Return those of the boards that have members by the ledger."""
    async with connection(database) as conn:
        rows = await conn.execute(_INHABITED, (list(leaderboard_ids),))
        return {LeaderboardId(row[0]) async for row in rows}


def history_query(*, of_member: bool, paged: bool) -> LiteralString:
    """Return the query of `newest`; a test looks at its plan."""
    return (
        "SELECT event_id, event_time, kind, incarnation, seq, member, submitted, score FROM score_events"  # noqa: S608
        " WHERE leaderboard_id = %(board)s"
        + (" AND member = %(member)s" if of_member else "")
        + (" AND (incarnation, seq) < (%(incarnation)s, %(seq)s)" if paged else "")
        + " ORDER BY incarnation DESC, seq DESC LIMIT %(limit)s"
    )


async def newest(
    database: Database, leaderboard_id: LeaderboardId, *, member: str | None, before: Position | None, limit: int
) -> list[LedgerEvent]:
    """Return up to `limit` events of the board (of `member` only, where given) before a place, the newest first.

    Costs one look into an index per partition. What dropped partitions held is not there. Raises DatabaseUnavailable.
    """
    values: dict[str, Any] = {"board": leaderboard_id, "limit": limit, "member": member}
    if before is not None:
        values |= {"incarnation": before.incarnation, "seq": before.seq}
    async with connection(database) as conn:
        rows = await conn.execute(history_query(of_member=member is not None, paged=before is not None), values)
        return [
            LedgerEvent(
                id=row[0],
                time=row[1],
                kind=EventKind(row[2]),
                position=Position(row[3], row[4]),
                member=row[5],
                submitted=row[6],
                score=row[7],
            )
            async for row in rows
        ]


async def max_position(database: Database, leaderboard_id: LeaderboardId) -> Position:
    """Return the place of the board's newest event in the ledger, (0, 0) where it has none."""
    return (await max_positions(database, [leaderboard_id]))[leaderboard_id]


async def max_positions(
    database: Database, leaderboard_ids: Collection[LeaderboardId]
) -> dict[LeaderboardId, Position]:
    """Return for each of the boards what `max_position` does, in one statement."""
    found = dict.fromkeys(leaderboard_ids, Position(0, 0))
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT b.id, p.incarnation, p.seq FROM unnest(%s::bigint[]) b (id) CROSS JOIN LATERAL ("
            " SELECT incarnation, seq FROM ("
            "  (SELECT incarnation, seq FROM score_events WHERE leaderboard_id = b.id"
            "   ORDER BY incarnation DESC, seq DESC LIMIT 1)"
            "  UNION ALL SELECT incarnation, seq FROM score_checkpoint_heads WHERE leaderboard_id = b.id"
            " ) q ORDER BY incarnation DESC, seq DESC LIMIT 1) p",
            (list(leaderboard_ids),),
        )
        found.update([(LeaderboardId(id), Position(incarnation, seq)) async for id, incarnation, seq in rows])
    return found


async def partitions(database: Database) -> list[date]:
    """Return the days that have a partition, oldest first."""
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT to_date(right(c.relname, 8), 'YYYYMMDD') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'score_events'::regclass AND c.relname ~ '^score_events_[0-9]{8}$' ORDER BY 1"
        )
        return [row[0] async for row in rows]


async def drop_partitions_before(database: Database, day: date) -> list[str]:
    """Drop the partitions of the days before `day`, oldest first, and return their names.

    Each is one transaction: the checkpoint takes over what the partition says, then the partition goes. Raises
    DatabaseUnavailable, also where readers of the ledger did not let it happen within 5 s: try again later.
    """
    dropped = []
    for old in [found for found in await partitions(database) if found < day]:
        async with transaction(database) as conn:
            await _drop(conn, old)
        dropped.append(partition_name(old))
    return dropped


async def _drop(conn: AsyncConnection, day: date) -> None:
    name = sql.Identifier(partition_name(day))
    await conn.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(DROP_LOCK_TIMEOUT)))
    await conn.execute(_LOCK_PARTITIONS)
    # A late event must not slip in between the checkpoint and the drop. (Its writer and this may then wait for each
    # other; Postgres ends one after a second, and both are repeated by whoever called.)
    await conn.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(name))
    await conn.execute(
        sql.SQL(
            "INSERT INTO score_checkpoint_heads AS h"
            " (leaderboard_id, incarnation, seq, cut_incarnation, cut_seq, dropped_until)"
            " SELECT n.leaderboard_id, n.incarnation, n.seq, coalesce(c.incarnation, 0), coalesce(c.seq, 0), {end}"
            " FROM (SELECT DISTINCT ON (leaderboard_id) leaderboard_id, incarnation, seq FROM {day}"
            "       ORDER BY leaderboard_id, incarnation DESC, seq DESC) n"
            " LEFT JOIN (SELECT DISTINCT ON (leaderboard_id) leaderboard_id, incarnation, seq FROM {day}"
            "       WHERE kind IN ('x', 'd') ORDER BY leaderboard_id, incarnation DESC, seq DESC) c"
            " USING (leaderboard_id)"
            " ON CONFLICT (leaderboard_id) DO UPDATE SET"
            " (incarnation, seq) = (SELECT * FROM (VALUES (h.incarnation, h.seq),"
            "   (excluded.incarnation, excluded.seq)) v(i, s) ORDER BY i DESC, s DESC LIMIT 1),"
            " (cut_incarnation, cut_seq) = (SELECT * FROM (VALUES (h.cut_incarnation, h.cut_seq),"
            "   (excluded.cut_incarnation, excluded.cut_seq)) v(i, s) ORDER BY i DESC, s DESC LIMIT 1),"
            " dropped_until = greatest(h.dropped_until, excluded.dropped_until)"
        ).format(day=name, end=sql.SQL("{}::timestamptz").format(_midnight(day + timedelta(days=1))))
    )
    await conn.execute(
        sql.SQL(
            "INSERT INTO score_checkpoints AS c (leaderboard_id, member, incarnation, seq, score, order_prefix)"
            " SELECT DISTINCT ON (leaderboard_id, member)"
            "        leaderboard_id, member, incarnation, seq, score, order_prefix"
            " FROM {day} WHERE member IS NOT NULL ORDER BY leaderboard_id, member, incarnation DESC, seq DESC"
            " ON CONFLICT (leaderboard_id, member) DO UPDATE SET incarnation = excluded.incarnation,"
            " seq = excluded.seq, score = excluded.score, order_prefix = excluded.order_prefix"
            " WHERE (c.incarnation, c.seq) < (excluded.incarnation, excluded.seq)"
        ).format(day=name)
    )
    await conn.execute(
        "DELETE FROM score_checkpoints c USING score_checkpoint_heads h WHERE h.leaderboard_id = c.leaderboard_id"
        " AND (c.incarnation, c.seq) <= (h.cut_incarnation, h.cut_seq)"
    )
    await conn.execute(sql.SQL("DROP TABLE {}").format(name))
    # A removed member needs its row only while an older event, in a later partition because a clock went back,
    # could bring it to life again.
    await conn.execute(
        "DELETE FROM score_checkpoints c WHERE c.score IS NULL AND NOT EXISTS (SELECT 1 FROM score_events e"
        " WHERE e.leaderboard_id = c.leaderboard_id AND (e.incarnation, e.seq) < (c.incarnation, c.seq))"
    )
