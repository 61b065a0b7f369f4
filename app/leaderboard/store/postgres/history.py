"""What a board was at a moment of the past, from the ledger.

As of a time T counts every event that Redis stamped with T or earlier: of each member the newest of them by place,
after the newest reset or deletion among them. Stamps never go back on one Redis, whose stream numbers them on, so this
is what the board was when the clock showed T. Only where Redis lost its memory and came back with a clock that is
behind are there moments that the clock showed twice; as of one of those, the events of both times count.

An answer is final: a moment is refused while events of it may still be on their way (`NotYet`), and where not all of
it is left (`Gone`). What it costs grows with the events that the board had between the last reset before T and T;
`STATEMENT_SECONDS` bounds it (`TooCostly`).
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import errors

from leaderboard.domain.boards import BoardSpec, SortOrder, TiePolicy
from leaderboard.domain.names import LeaderboardId
from leaderboard.store.postgres import ledger
from leaderboard.store.postgres.pool import Connection, Database, connection, transaction
from leaderboard.store.postgres.seasons import Final

STATEMENT_SECONDS = 3.0
"""How long one statement may take. Less than `ledger.DROP_LOCK_TIMEOUT`, so that a drop waits it out."""
WORK_MEM = "64MB"
"""Memory of a hash table or sort (half of what a table may have, by default); beyond that it goes to disk."""


class HistoryError(Exception):
    """A moment that cannot be told of."""


class NotYet(HistoryError):
    """Events up to that moment may not be in the ledger yet. They are up to `complete_until`; None is not known."""

    def __init__(self, complete_until: datetime | None) -> None:
        super().__init__(f"the ledger is complete up to {complete_until}")
        self.complete_until = complete_until


class Gone(HistoryError):
    """The ledger does not have all of that moment any more; it does from `earliest` on."""

    def __init__(self, earliest: datetime) -> None:
        super().__init__(f"the ledger begins at {earliest}")
        self.earliest = earliest


class TooCostly(HistoryError):
    """Reading it took longer than STATEMENT_SECONDS, and was given up."""


class Standing(NamedTuple):
    """One member's rank and score among `total`."""

    rank: int
    score: float
    total: int


_CUT = ledger.cut_of("%(board)s", such_as="event_time <= %(at)s")


def _state(spec: BoardSpec) -> str:
    """Return the WITH queries for the state of every member: `state`, of member, score and `reached`.

    `reached` is what the order prefix says, as a number; 0 where the tie policy keeps none.
    """
    # A member's newest event is the greatest array that begins with its place; what it says comes after. All of them
    # are exact as doubles: a sequence and a prefix have 48 bits. Grouped by a hash table rather than sorted (DISTINCT
    # ON, as `ledger.latest`): with 1,000,000 events of 10,000 members 0.8-1.8 s instead of 5.3-7.3 s.
    prefix = "('x' || order_prefix)::bit(48)::bigint" if spec.tie_policy is TiePolicy.FIRST_TO_REACH else "0"
    said = f"member, ARRAY[incarnation, seq, score, {prefix}]::float8[] AS said"
    # Two values, not a row: a row of a sub-select would be compared event by event and not by the index.
    after = "(incarnation, seq) > ((SELECT incarnation FROM cut), (SELECT seq FROM cut))"
    return f"""
WITH cut AS MATERIALIZED ({_CUT}),
state AS MATERIALIZED (
    SELECT member, newest[3] AS score, newest[4] AS reached FROM (
        SELECT member, max(said) AS newest FROM (
            SELECT {said} FROM score_events
            WHERE leaderboard_id = %(board)s AND member IS NOT NULL AND {after} AND event_time <= %(at)s
            UNION ALL
            SELECT {said} FROM score_checkpoints WHERE leaderboard_id = %(board)s AND {after}
        ) events GROUP BY member
    ) members WHERE newest[3] IS NOT NULL
)"""  # noqa: S608 - constants


def top_query(spec: BoardSpec) -> str:
    """Return the query of `top`; a test looks at its plan."""
    way, better, best = ("DESC", ">", "max") if spec.sort_order is SortOrder.DESCENDING else ("ASC", "<", "min")
    # How many are better than the first of the page, where that is not what its place says.
    ahead = "0"
    if spec.tie_policy is TiePolicy.SHARED:
        ahead = f"(SELECT count(*) FROM state WHERE score {better} (SELECT {best}(score) FROM page))"  # noqa: S608
    # As Redis orders them: by score, then by the bytes of the member with its prefix.
    order = f'score {way}, reached {way}, member COLLATE "C" {way}'
    return f"""{_state(spec)},
page AS MATERIALIZED (SELECT * FROM state ORDER BY {order} LIMIT %(limit)s OFFSET %(after)s)
SELECT (SELECT count(*) FROM state), {ahead}, member, score FROM (SELECT) one LEFT JOIN page ON true ORDER BY {order}
"""  # noqa: S608 - constants


def rank_query(spec: BoardSpec) -> str:
    """Return the query of `rank`; a test looks at its plan."""
    better = ">" if spec.sort_order is SortOrder.DESCENDING else "<"
    ahead = f"s.score {better} m.score"
    if spec.tie_policy is not TiePolicy.SHARED:
        same = f'(s.reached, s.member COLLATE "C") {better} (m.reached, m.member COLLATE "C")'
        ahead += f" OR s.score = m.score AND {same}"
    return f"""{_state(spec)}
SELECT m.score, count(*), count(*) FILTER (WHERE {ahead})
FROM state m CROSS JOIN state s WHERE m.member = %(member)s GROUP BY m.score
"""  # noqa: S608 - constants


async def top(
    database: Database, board_id: LeaderboardId, spec: BoardSpec, *, at: datetime, after: int, limit: int
) -> tuple[int, list[Final]]:
    """Return how many were on the board as of `at`, and up to `limit` of its lines past place `after`.

    Raises NotYet, Gone, TooCostly; DatabaseUnavailable.
    """
    values = {"board": board_id, "at": at, "after": after, "limit": limit}
    async with _moment(database, board_id, at=at) as conn:
        rows = await _all(conn, top_query(spec), values)
    total, ahead = rows[0][:2]
    lines: list[Final] = []
    for place, (_, _, member, score) in enumerate(rows, after + 1):
        if member is None:
            break  # past the end
        rank = place
        if spec.tie_policy is TiePolicy.SHARED:
            if not lines:
                rank = ahead + 1
            elif score == lines[-1].score:
                rank = lines[-1].rank
        lines.append(Final(place, rank, member, score))
    return total, lines


async def rank(
    database: Database, board_id: LeaderboardId, spec: BoardSpec, *, at: datetime, member: str
) -> Standing | None:
    """Return one member's standing as of `at`, None where it was not on the board.

    Raises NotYet, Gone, TooCostly; DatabaseUnavailable.
    """
    async with _moment(database, board_id, at=at) as conn:
        rows = await _all(conn, rank_query(spec), {"board": board_id, "at": at, "member": member})
    if not rows:
        return None
    score, total, ahead = rows[0]
    return Standing(ahead + 1, score, total)


@asynccontextmanager
async def _moment(database: Database, board_id: LeaderboardId, *, at: datetime) -> AsyncIterator[Connection]:
    """Lend a connection inside a transaction in which the ledger has all of `at`."""
    async with transaction(database) as conn:
        # One core, and no compiler: it would take longer than what it compiles.
        await conn.execute(
            "SELECT set_config('lock_timeout', %s, true), set_config('work_mem', %s, true),"
            " set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true)",
            (_milliseconds(STATEMENT_SECONDS), WORK_MEM),
        )
        # Whoever drops a partition waits for this lock, so none goes between the look at what is left and the reading.
        await conn.execute("LOCK TABLE ONLY score_events IN ACCESS SHARE MODE")
        row = await (
            await conn.execute(
                "SELECT (SELECT complete_until FROM ledger_progress),"
                " (SELECT dropped_until FROM score_checkpoint_heads WHERE leaderboard_id = %s)",
                (board_id,),
            )
        ).fetchone()
        assert row is not None
        complete_until, earliest = row
        if complete_until is None or at > complete_until:
            raise NotYet(complete_until)
        if earliest is not None and at < earliest:
            raise Gone(earliest)
        yield conn


async def _all(conn: Connection, query: str, values: Mapping[str, Any]) -> list[Any]:
    await conn.execute("SELECT set_config('statement_timeout', %s, true)", (_milliseconds(STATEMENT_SECONDS),))
    try:
        return await (await conn.execute(query, values)).fetchall()
    except errors.QueryCanceled as error:
        raise TooCostly(f"it took longer than {STATEMENT_SECONDS:g} s") from error


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


async def set_complete_until(database: Database, moment: datetime) -> None:
    """Say that every event up to `moment` is in the ledger. Raises DatabaseUnavailable."""
    # Not the greatest of what is said: where Redis's clock went back, what was said before is not true any more.
    async with connection(database) as conn:
        await conn.execute(
            "INSERT INTO ledger_progress (complete_until) VALUES (%s)"
            " ON CONFLICT (single) DO UPDATE SET complete_until = excluded.complete_until",
            (moment,),
        )
