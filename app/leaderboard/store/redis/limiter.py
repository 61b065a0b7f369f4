"""The rate limiter: one token bucket per tenant in Redis, drawn on through leases held in each process.

A worker takes tokens in leases sized to the rate, so that in the steady state a request costs no call: it takes from
the lease in memory, and the next lease is fetched in the background when half is left. Under `EXACT_BELOW` tokens a
second the lease is one token: exact, at one more call a request.

Error bound. Redis never hands out more than capacity + rate x time. A worker may spend tokens up to `LEASE_TTL` after
they were taken, and holds at most 1.5 leases, so over any stretch of T seconds W workers admit at most::

    capacity + rate * T + W * 1.5 * lease(rate)

which is 3% of a second's rate per worker (lease = rate / 50). The other way, an idle worker forfeits what it
held when `LEASE_TTL` has passed: at most 1.5 leases a worker a second are not admitted that could have been.

Redis away means RedisUnavailable, never an unlimited pass.
"""

import asyncio
from collections.abc import Callable

import msgspec

from leaderboard.store.redis import scripts
from leaderboard.store.redis.errors import RedisFailure
from leaderboard.store.redis.multiplexer import Multiplexer

EXACT_BELOW = 100
"""Requests per second up to which a lease is a single token."""
LEASE_FRACTION = 50
"""A lease is this part of a second's tokens: 50 calls a second a worker at full rate, whatever the rate is."""
LEASE_TTL = 1.0
"""Seconds after which an unused lease is dropped."""
MAX_BUCKETS = 10_000
"""Tenants remembered per process; the oldest is dropped, which costs it one call."""


class Decision(msgspec.Struct, frozen=True):
    """Whether a request passes, with what the RateLimit headers say.

    `remaining`: tokens left in the shared bucket when last seen plus those held here. `retry_after`: seconds, 0 when
    allowed.
    """

    allowed: bool
    limit: int
    remaining: int
    retry_after: float


class _Bucket:
    """What this process knows of one bucket in Redis."""

    __slots__ = ("expires", "fetching", "held", "low", "rate", "refused_until", "shared_left")

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.held = 0
        self.low = lease_size(rate) // 2
        """What is held when the next lease is fetched."""
        self.expires = 0.0
        self.shared_left = rate
        self.refused_until = 0.0
        self.fetching: asyncio.Task[None] | None = None


def lease_size(rate: int) -> int:
    """Return how many tokens one call takes at `rate` requests per second."""
    return 1 if rate <= EXACT_BELOW else max(1, rate // LEASE_FRACTION)


class Limiter:
    """Admits requests by tenant. `clock` gives monotonic seconds. Use from one event loop."""

    def __init__(self, redis: Multiplexer, *, clock: Callable[[], float]) -> None:
        self._redis = redis
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.granted = 0
        """Tokens that Redis gave."""
        self.refused = 0
        """Requests and batches that got none."""
        self.unavailable = 0
        """Times that Redis did not say."""

    def take_held(self, bucket_key: str, *, rate: int) -> int | None:
        """Take one token from the lease in memory and return what remains (as Decision has it), 0 and up.

        None when there is none and `take` must ask Redis. Not a coroutine: this is every request of the steady state.
        """
        bucket = self._buckets.get(bucket_key)
        if bucket is None or bucket.rate != rate or bucket.held == 0 or self._clock() >= bucket.expires:
            return None
        held = bucket.held = bucket.held - 1
        if held <= bucket.low and bucket.fetching is None:
            self._fetch_ahead(bucket_key, bucket)
        return held + bucket.shared_left

    async def take(self, bucket_key: str, *, rate: int) -> Decision:
        """Take one token, from the lease or from Redis. Raises RedisUnavailable or InDoubt when Redis does not say."""
        while True:
            remaining = self.take_held(bucket_key, rate=rate)
            if remaining is not None:
                return Decision(True, rate, remaining, 0.0)
            bucket = self._bucket(bucket_key, rate=rate)
            now = self._clock()
            if now < bucket.refused_until:
                # Redis said when the next token comes; until then it need not be asked again.
                self.refused += 1
                return Decision(False, rate, 0, bucket.refused_until - now)
            if lease_size(rate) == 1:
                granted, left, wait = await self._lease(bucket_key, rate=rate, want=1, all_or_none=False)
                bucket.shared_left = left
                if granted:
                    return Decision(True, rate, left, 0.0)
                bucket.refused_until = self._clock() + wait
                self.refused += 1
                return Decision(False, rate, 0, wait)
            # One fetch at a time; everybody who finds the lease empty waits for the same one, then looks again.
            if bucket.fetching is None:
                self._fetch_ahead(bucket_key, bucket)
            assert bucket.fetching is not None
            await asyncio.shield(bucket.fetching)

    async def take_many(self, bucket_key: str, count: int, *, rate: int) -> Decision:
        """Take `count` tokens or none: from the lease when it holds them all, else from Redis in one call."""
        bucket = self._bucket(bucket_key, rate=rate)
        usable = bucket.held if self._clock() < bucket.expires else 0
        if usable >= count:
            bucket.held = usable - count
            return Decision(True, rate, bucket.held + bucket.shared_left, 0.0)
        granted, left, wait = await self._lease(bucket_key, rate=rate, want=count, all_or_none=True)
        bucket.shared_left = left
        self.refused += granted != count
        return Decision(granted == count, rate, left, wait)

    async def close(self) -> None:
        """Stop fetching ahead."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _bucket(self, bucket_key: str, *, rate: int) -> _Bucket:
        bucket = self._buckets.get(bucket_key)
        if bucket is None or bucket.rate != rate:
            if len(self._buckets) >= MAX_BUCKETS:
                self._buckets.pop(next(iter(self._buckets)))
            bucket = self._buckets[bucket_key] = _Bucket(rate)
        return bucket

    def _fetch_ahead(self, bucket_key: str, bucket: _Bucket) -> None:
        bucket.fetching = asyncio.create_task(self._fetch(bucket_key, bucket))
        self._tasks.add(bucket.fetching)
        bucket.fetching.add_done_callback(self._fetched)

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: who waited for it has raised it, and a fetch ahead is tried again by need

    async def _fetch(self, bucket_key: str, bucket: _Bucket) -> None:
        try:
            granted, left, wait = await self._lease(
                bucket_key, rate=bucket.rate, want=lease_size(bucket.rate), all_or_none=False
            )
        finally:
            bucket.fetching = None
        now = self._clock()
        still_held = bucket.held if now < bucket.expires else 0
        bucket.held = still_held + granted
        bucket.shared_left = left
        if granted:
            bucket.expires = now + LEASE_TTL
        elif not still_held:
            bucket.refused_until = now + wait

    async def _lease(self, bucket_key: str, *, rate: int, want: int, all_or_none: bool) -> tuple[int, int, float]:
        try:
            granted, left, wait_ms = await self._redis.run(
                scripts.LEASE, [bucket_key], [rate, rate, want, 1 if all_or_none else 0]
            )
        except RedisFailure:
            self.unavailable += 1
            raise
        self.granted += granted
        return granted, left, wait_ms / 1000
