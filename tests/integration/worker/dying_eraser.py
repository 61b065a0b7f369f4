"""Carries out erasures, and kills itself with SIGKILL after the n-th word with a store.

Run as a program with the URLs of Postgres and Redis. For each number on standard input it forks a child that dies
there, and answers how that ended: -9, or 0 where the erasure was done first.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from leaderboard.control.reconcile import Control
from leaderboard.store.postgres.pool import open_pool

PEPPER = b"p" * 32


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


async def erase(database: str, redis_url: str, number: int) -> None:
    pool = await open_pool(database, size=2, timeout=10)
    redis = Redis.from_url(redis_url)
    await redis.ping()
    control = Control(pool, redis, pepper=PEPPER, drain_seconds=10)
    countdown = Countdown(number)
    psycopg.AsyncConnection.execute = countdown.around(psycopg.AsyncConnection.execute)  # type: ignore[method-assign]
    Redis.execute_command = countdown.around(Redis.execute_command)  # type: ignore[method-assign]
    Pipeline.execute = countdown.around(Pipeline.execute)  # type: ignore[method-assign]
    while not await control.carry_out_erasures(limit=1):
        await asyncio.sleep(0.05)
    await redis.aclose()
    await pool.close()


def main() -> None:
    database, redis_url = sys.argv[1:]
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(erase(database, redis_url, int(line)))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
