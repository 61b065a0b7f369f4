"""One process that asks a Limiter for tokens as fast as it can: ``limiter_process.py <url> <bucket> <rate> <seconds>``.

Says ``ready``, waits for a line, then says ``<admitted> <start> <end>`` by Redis's clock.
"""

import asyncio
import sys
import time

from leaderboard.store.redis.limiter import Limiter
from leaderboard.store.redis.multiplexer import Multiplexer


async def redis_time(redis: Multiplexer) -> float:
    seconds, micros = await redis.call("TIME")
    return int(seconds) + int(micros) / 1e6


async def hammer(redis: Multiplexer, bucket: str, *, rate: int, seconds: float, callers: int = 4) -> int:
    """Ask with `callers` at once for `seconds`, return how many were admitted."""
    limiter = Limiter(redis, clock=time.monotonic)
    end = time.monotonic() + seconds
    admitted = 0

    async def caller() -> None:
        nonlocal admitted
        while time.monotonic() < end:
            held = limiter.take_held(bucket, rate=rate)
            decision = await limiter.take(bucket, rate=rate) if held is None else None
            if decision is None or decision.allowed:
                admitted += 1
                if admitted % 100 == 0:
                    await asyncio.sleep(0)
            else:
                assert decision.retry_after > 0
                await asyncio.sleep(min(decision.retry_after, 0.002))

    await asyncio.gather(*(caller() for _ in range(callers)))
    await limiter.close()
    return admitted


async def main(url: str, bucket: str, rate: str, seconds: str) -> None:
    redis = Multiplexer(url)
    await redis.start(wait=20)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    start = await redis_time(redis)
    admitted = await hammer(redis, bucket, rate=int(rate), seconds=float(seconds))
    print(admitted, start, await redis_time(redis), flush=True)
    await redis.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
