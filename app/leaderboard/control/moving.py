"""Moving in and out: a source's members onto a board, a board compared with a source, a board written out.

An import goes chunk by chunk, the best members first. What puts a chunk on the board appends its events to the outbox
and writes down how far the import is, in one step of Redis. So the importer may be killed anywhere: the same command
goes on where it was. See docs/adr/0014-moving-in.md.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from redis.asyncio import Redis

from leaderboard.control import namespace
from leaderboard.control.drift import serves
from leaderboard.control.errors import ImportRefused
from leaderboard.control.seasons import ranked
from leaderboard.domain.moving import Comparison, Diff, Roster
from leaderboard.store.postgres import ledger
from leaderboard.store.postgres.boards import PlacedBoard
from leaderboard.store.postgres.pool import DatabaseUnavailable, Pool
from leaderboard.store.postgres.seasons import Final
from leaderboard.store.redis.boards import BoardAdmin, best_first
from leaderboard.store.redis.errors import RedisUnavailable
from leaderboard.store.redis.events import EventIds
from leaderboard.store.redis.imports import CHUNK, Chunk, Imports, Plan, Progress

IN_FLIGHT = 100
"""Chunks that may wait in the outbox: 50,000 members (half as many where the script takes them), a second or two of the
worker's time, at which live writes queue behind them, and about 2 MB."""
PATIENCE_SECONDS = 60.0
"""How long to wait for a Redis that is away, or a board that is being restored."""
_PAUSE_SECONDS = 0.1  # while the worker moves some thousand members; each look costs Redis as much as ten of them
_AWAY_PAUSE_SECONDS = 0.25

_Answer = TypeVar("_Answer")
Say = Callable[[int, str], None]
"""Told how many members are done, and why it waits, '' where it does not."""


class Importer:
    """Puts a roster on a board; `source` says what it is, for people. The class does nothing to the roster."""

    def __init__(
        self,
        pool: Pool,
        redis: Redis,
        place: PlacedBoard,
        roster: Roster,
        *,
        source: str,
        overwrite: bool,
        ids: EventIds,
        outbox_max: int,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._pool = pool
        self._roster = roster
        self._path = place.path
        self._imports = Imports(redis, ids=ids, outbox_max=outbox_max)
        self._patience = patience_seconds
        board = place.board
        self.plan = Plan(
            id=roster.digest(str(board.id), str(board.season), "overwrite" if overwrite else ""),
            source=source,
            total=roster.wanted,
            board_key=namespace.key_of(place),
            board_id=board.id,
            season=board.season,
            overwrite=overwrite,
        )

    async def begin(self, *, restart: bool = False) -> Progress | None:
        """Return how far this import is already; with `restart` forget that, and any other that is under way.

        Raises ImportRefused where another source's import into the board was not finished; DatabaseUnavailable,
        RedisUnavailable.
        """
        if not await ledger.takes_imports(self._pool):
            raise DatabaseUnavailable("the database is older than this program: run `leaderboard migrate`")
        if restart:
            await self._imports.forget(self.plan.board_key)
        found = await self._imports.progress(self.plan.board_key)
        if found is None or found.board != self.plan.board:
            return None  # none, or into a board that was deleted since, or a season that is over
        if found.id == self.plan.id:
            return found
        if not found.done:
            raise self._another(found)
        return None

    async def run(self, say: Say) -> Progress:
        """Import what is left, and return what came of all of it.

        Goes no faster than the worker moves events to the ledger, and waits for a worker that is away. Raises
        ImportRefused; RedisUnavailable where Redis is away for longer than the patience: run it again then.
        """
        if not self.plan.total:
            return Progress(id=self.plan.id, source=self.plan.source, board=self.plan.board, began=0, at=0, total=0)
        waiting: list[bytes] = []
        found = await self._insist(lambda: self._imports.progress(self.plan.board_key), 0, say)
        at, alone = (found.at, found.alone != "") if found is not None and found.id == self.plan.id else (0, False)
        while at < self.plan.total:
            if len(waiting) >= IN_FLIGHT:
                if await self._insist(lambda: self._imports.waits(waiting[IN_FLIGHT // 2]), at, say):
                    say(at, "waiting for the worker, which moves events to the ledger (`leaderboard work`)")
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                # Half at a time, so that chunks come one after another: Redis takes a tenth to a third less for them
                # than for as many with pauses between, after which nothing is in the caches of its core (ADR 0014).
                del waiting[: IN_FLIGHT // 2 + 1]
            done = await self._insist(partial(self._step, at, alone=alone), at, say)
            if done is None:
                say(at, "waiting: the outbox is full, is a worker running (`leaderboard work`)?")
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if done.entry:
                waiting.append(done.entry)
            at, alone = done.at, done.alone
            say(at, "")
        finished = await self._insist(lambda: self._imports.progress(self.plan.board_key), at, say)
        if finished is None or finished.id != self.plan.id:
            raise ImportRefused(f"another import into {self._path} began meanwhile; look at the difference with --diff")
        return finished

    async def _insist(self, call: Callable[[], Awaitable[_Answer]], at: int, say: Say) -> _Answer:
        """Call until Redis answers, for as long as the patience lasts."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        while True:
            try:
                return await call()
            except RedisUnavailable as error:
                if loop.time() > deadline:
                    raise RedisUnavailable(
                        f"{error}. {at:,} of {self.plan.total:,} members are done; run the same command again to go on"
                    ) from error
                say(at, f"waiting: {error}")
                await asyncio.sleep(_AWAY_PAUSE_SECONDS)

    async def _step(self, at: int, *, alone: bool) -> Chunk | None:
        """Apply the chunk after the first `at` members; None where the outbox is full."""
        users, scores = self._roster.chunk(at, CHUNK)
        reply = await self._imports.apply(self.plan, at=at, users=users, scores=scores, alone=alone)
        if isinstance(reply, Chunk):
            return reply
        match reply:
            case "outbox-full":
                return None
            case "board-unavailable":
                raise RedisUnavailable(f"{self._path} is not in Redis, or is being restored")
            case "board-changed":
                raise ImportRefused(
                    f"{self._path} was reset or made again meanwhile, after {at:,} members. Run the command again to "
                    "import into the board as it is now"
                )
            case "another-import":
                found = await self._imports.progress(self.plan.board_key)
                raise self._another(found)
        raise RuntimeError(f"the script answered {reply!r}")

    def _another(self, found: Progress | None) -> ImportRefused:
        if found is None:
            return ImportRefused(f"another import into {self._path} is under way")
        began = datetime.fromtimestamp(found.began, tz=UTC)
        return ImportRefused(
            f"an import of {found.source} into {self._path}, begun {began:%Y-%m-%d %H:%M:%S} UTC, stands at "
            f"{found.at:,} of {found.total:,} members, and what you name is not the same any more: another source, a "
            "source that changed, or other options. Run that one to its end, or begin anew with --restart (what it put "
            "on the board stays)"
        )


async def compare(redis: Redis, place: PlacedBoard, roster: Roster) -> Diff:
    """Return how the board differs from the roster. Under writes it is not of one moment. Raises RedisUnavailable."""
    await _there(redis, place)
    comparison: Comparison = roster.compare()
    async for user, score in best_first(redis, namespace.key_of(place), place.board.spec):
        comparison.see(user, score)
    return comparison.finish()


async def lines(redis: Redis, place: PlacedBoard) -> AsyncIterator[Final]:
    """Yield the board's lines, best first. Under writes they are not of one moment; see `version`.

    Raises RedisUnavailable.
    """
    await _there(redis, place)
    spec = place.board.spec
    async for line in ranked(best_first(redis, namespace.key_of(place), spec), spec.tie_policy):
        yield line


async def version(redis: Redis, place: PlacedBoard) -> tuple[int, int] | None:
    """Return what changes with every write to the board; None where there is no board. Raises RedisUnavailable."""
    meta = await BoardAdmin(redis).read_meta(namespace.key_of(place))
    return None if meta is None else (meta.incarnation, meta.seq)


async def _there(redis: Redis, place: PlacedBoard) -> None:
    if not serves(await BoardAdmin(redis).read_meta(namespace.key_of(place)), place.board):
        raise RedisUnavailable(
            f"{place.path} is not in Redis, or is being restored: `leaderboard rebuild --board {place.path}` makes it "
            "whole"
        )
