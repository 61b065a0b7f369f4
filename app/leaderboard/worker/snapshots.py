"""Snapshots of the boards that are looked at: from Redis to Postgres, once a second each, by one worker at a time."""

import asyncio
import logging

from leaderboard.domain.scores import plain
from leaderboard.store.postgres import standings
from leaderboard.store.postgres.pool import Pool, transaction
from leaderboard.store.postgres.standings import ENTRIES, Entry, Taken, Wanted
from leaderboard.store.redis import keys
from leaderboard.store.redis.errors import UnexpectedReply
from leaderboard.store.redis.scores import Page, Refusal, Scores
from leaderboard.worker.backoff import take_turns

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""How often the worker looks for what is wanted: a first view waits for it."""
INTERVAL_SECONDS = 1.0
"""How often a board is read while it is wanted."""
MOST = 1_000
"""Snapshots of one turn; the others have theirs in the next."""
TOGETHER = 50
"""Reads under way at once: the replies of 100 entries each are some 300 kB."""


async def once(pool: Pool, scores: Scores) -> int:
    """Take the snapshots that are due and return how many there were.

    Raises DatabaseUnavailable, RedisUnavailable, InDoubt; then none of the turn's is kept. A board that is not what we
    write there is passed over.
    """
    async with transaction(pool) as conn:
        if not await standings.hold(conn):
            return 0
        wanted = await standings.due(conn, interval=INTERVAL_SECONDS - LOOK_SECONDS / 2, limit=MOST)
        taken: list[Taken] = []
        for at in range(0, len(wanted), TOGETHER):
            read = await asyncio.gather(*(_take(scores, each) for each in wanted[at : at + TOGETHER]))
            taken += [each for each in read if each is not None]
        if taken:
            await standings.write(conn, taken)
        return len(taken)


async def _take(scores: Scores, wanted: Wanted) -> Taken | None:
    board = keys.board(wanted.tenant_id, wanted.project, wanted.key)
    page: Page | Refusal | None
    try:
        if wanted.member:
            page = await scores.around(board, user=wanted.member, count=ENTRIES, render=lambda page: page)
        else:
            page = await scores.best(board, count=ENTRIES)
    except (UnexpectedReply, ValueError) as error:
        log.warning("no snapshot of %s: %s", board, error)
        return None
    if isinstance(page, Refusal):
        return None  # lost or being rebuilt: the snapshot gets old, and the API says so
    if page is None:
        return Taken(wanted.leaderboard_id, wanted.member, 0, None)
    entries = [Entry(entry.rank, entry.user, plain(entry.score)) for entry in page.entries]
    return Taken(wanted.leaderboard_id, wanted.member, page.total, entries)


async def run(pool: Pool, scores: Scores, *, stop: asyncio.Event) -> None:
    """Take snapshots until `stop` is set."""

    async def turn() -> bool:
        await once(pool, scores)
        return False

    await take_turns("snapshots", turn, stop=stop, pause=LOOK_SECONDS)
