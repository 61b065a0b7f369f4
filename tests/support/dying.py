"""Does one thing of control's and kills itself with SIGKILL after the n-th word with a store.

Run as a program with the URLs of Postgres and Redis. For each line on standard input, a number and what is to be done,
it forks a child that dies there, and answers how that ended: -9, or 0 where it was done first.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from leaderboard.control.reconcile import Control
from leaderboard.store.postgres.pool import open_pool

PEPPER = b"p" * 32


class Erasure(msgspec.Struct, tag=True):
    """Carry out an erasure that is pending."""


class Release(msgspec.Struct, tag=True):
    """Release a held update."""

    project_id: int
    key: str
    board_key: str
    id: UUID


class Countdown:
    """Kills the process at the n-th call of `tick`."""

    def __init__(self, number: int) -> None:
        self._left = number

    def tick(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., Awaitable[Any]]) -> Any:
        async def counted(*args: Any, **kwargs: Any) -> Any:
            answer = await call(*args, **kwargs)
            self.tick()
            return answer

        return counted


async def work(database: str, redis_url: str, number: int, what: Erasure | Release) -> None:
    pool = await open_pool(database, size=2, timeout=10)
    redis = Redis.from_url(redis_url)
    await redis.ping()
    control = Control(pool, redis, pepper=PEPPER, drain_seconds=10)
    countdown = Countdown(number)
    psycopg.AsyncConnection.execute = countdown.around(psycopg.AsyncConnection.execute)  # type: ignore[method-assign]
    Redis.execute_command = countdown.around(Redis.execute_command)  # type: ignore[method-assign]
    Pipeline.execute = countdown.around(Pipeline.execute)  # type: ignore[method-assign]
    match what:
        case Erasure():
            while not await control.carry_out_erasures(limit=1):
                await asyncio.sleep(0.05)
        case Release():
            await control.release(**msgspec.structs.asdict(what), by="k" * 16, note=None)
    await redis.aclose()
    await pool.close()


@asynccontextmanager
async def mortals(database: str, redis_url: str) -> AsyncIterator[Callable[[int, Erasure | Release], Awaitable[int]]]:
    """Give a function (number, what) -> how a process ended that was to do it and dies at its `number`-th word."""
    program = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "support.dying", database, redis_url],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    assert program.stdin is not None
    assert program.stdout is not None
    told, heard = program.stdin, program.stdout

    async def die_at(number: int, what: Erasure | Release) -> int:
        told.write(b"%d %b\n" % (number, msgspec.json.encode(what)))
        return int(await heard.readline())

    try:
        yield die_at
    finally:
        told.close()
        await program.wait()


def main() -> None:
    database, redis_url = sys.argv[1:]
    for line in sys.stdin:
        number, _, what = line.partition(" ")
        child = os.fork()
        if child == 0:
            asyncio.run(work(database, redis_url, int(number), msgspec.json.decode(what, type=Erasure | Release)))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
