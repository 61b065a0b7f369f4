"""The rate limiter's promise: what several workers admit together stays within the documented bound."""

import asyncio
import contextlib
import subprocess
import sys

import limiter_process
import pytest
from redis_rig import connected, until

from leaderboard.store.redis.errors import RedisUnavailable
from leaderboard.store.redis.limiter import LEASE_TTL, Limiter, lease_size

WORKERS = 4
BUCKET = "rl:7"


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def bound(rate, *, elapsed):
    """What the limiter's documentation allows."""
    held = 0 if lease_size(rate) == 1 else WORKERS * 1.5 * lease_size(rate)
    return rate + rate * elapsed + held


@pytest.mark.parametrize("rate", [20, 100, 500, 20_000])
async def test_four_workers_stay_within_the_bound_and_are_not_starved(redis_url, rig, rate):
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(connected(redis_url)) for _ in range(WORKERS)]
        start = await limiter_process.redis_time(rig.redis)
        admitted = sum(
            await asyncio.gather(*(limiter_process.hammer(redis, BUCKET, rate=rate, seconds=1.5) for redis in workers))
        )
        elapsed = await limiter_process.redis_time(rig.redis) - start
    assert admitted <= bound(rate, elapsed=elapsed)
    assert admitted >= 0.8 * rate * elapsed


@pytest.mark.parametrize("rate", [50, 5_000])
def test_four_processes_stay_within_the_bound_and_are_not_starved(redis_url, rate):
    command = [sys.executable, limiter_process.__file__, redis_url, BUCKET, str(rate), "2"]
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            )
            for _ in range(WORKERS)
        ]
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        lines = [worker.stdout.readline().split() for worker in workers]
    counts, starts, ends = zip(*((int(n), float(start), float(end)) for n, start, end in lines), strict=True)
    assert sum(counts) <= bound(rate, elapsed=max(ends) - min(starts))
    assert sum(counts) >= 0.8 * rate * (min(ends) - max(starts))


async def test_at_low_rates_it_is_exact(rig):
    limiters = [Limiter(rig.redis, clock=Clock()) for _ in range(WORKERS)]
    start = await limiter_process.redis_time(rig.redis)
    decisions = await asyncio.gather(*(limiter.take(BUCKET, rate=10) for limiter in limiters * 20))
    elapsed = await limiter_process.redis_time(rig.redis) - start
    admitted = sum(decision.allowed for decision in decisions)
    assert 10 <= admitted <= 10 + 10 * elapsed


async def test_a_refusal_says_when_to_come_back_and_redis_is_not_asked_until_then(rig):
    clock = Clock()
    limiter = Limiter(rig.redis, clock=clock)
    while (decision := await limiter.take(BUCKET, rate=2)).allowed:
        assert decision.limit == 2
    assert 0 < decision.retry_after <= 0.5
    before = (await rig.client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    for _ in range(50):
        assert not (await limiter.take(BUCKET, rate=2)).allowed
    assert (await rig.client.info("commandstats"))["cmdstat_evalsha"]["calls"] == before
    clock.now += decision.retry_after + 0.01
    await until_allowed(limiter, rate=2, clock=clock)


async def until_allowed(limiter, *, rate, clock):
    for _ in range(2000):
        decision = await limiter.take(BUCKET, rate=rate)
        if decision.allowed:
            return
        await asyncio.sleep(0.005)
        clock.now += 0.005
    raise AssertionError("never admitted again")


async def test_many_tokens_are_taken_all_or_none(rig):
    clock = Clock()
    limiter = Limiter(rig.redis, clock=clock)
    assert (await limiter.take_many(BUCKET, 60, rate=100)).allowed
    refused = await limiter.take_many(BUCKET, 90, rate=100)
    assert not refused.allowed
    assert 0 < refused.retry_after <= 0.5
    # The refused call took nothing.
    assert (await limiter.take_many(BUCKET, 40, rate=100)).allowed
    assert not (await limiter.take_many("rl:8", 101, rate=100)).allowed
    assert (await limiter.take_many("rl:8", 100, rate=100)).allowed


async def test_many_tokens_come_from_the_lease_where_it_holds_them(rig):
    limiter = Limiter(rig.redis, clock=Clock())
    await limiter.take(BUCKET, rate=50_000)
    before = (await rig.client.info("commandstats"))["cmdstat_time"]["calls"]
    assert (await limiter.take_many(BUCKET, 499, rate=50_000)).allowed
    assert (await rig.client.info("commandstats"))["cmdstat_time"]["calls"] == before
    await limiter.close()


async def test_a_lease_that_was_not_used_is_dropped(rig):
    clock = Clock()
    limiter = Limiter(rig.redis, clock=clock)
    assert (await limiter.take(BUCKET, rate=5_000)).allowed
    clock.now += LEASE_TTL - 0.01
    assert limiter.take_held(BUCKET, rate=5_000) is not None
    clock.now += 0.02
    assert limiter.take_held(BUCKET, rate=5_000) is None
    await limiter.close()


async def test_without_redis_nobody_passes_once_the_lease_is_used_up(make_redis):
    server = make_redis()
    async with connected(server.url) as redis:
        for rate in (50, 5_000):
            clock = Clock()
            limiter = Limiter(redis, clock=clock)
            await limiter.take(BUCKET, rate=rate)
            server.kill()
            await until(lambda: not redis.connected)
            passed = 0
            while limiter.take_held(BUCKET, rate=rate) is not None:
                passed += 1
            await asyncio.sleep(0)  # the fetch ahead, if there was one, finds no connection
            assert passed <= 1.5 * lease_size(rate)
            for _ in range(20):
                with pytest.raises(RedisUnavailable):
                    await limiter.take(BUCKET, rate=rate)
                with pytest.raises(RedisUnavailable):
                    await limiter.take_many(BUCKET, 5, rate=rate)
            server.start()
            await until(lambda: redis.connected)
            assert (await limiter.take(BUCKET, rate=rate)).allowed
            await limiter.close()


async def test_a_new_plan_takes_effect_at_the_next_request(rig):
    limiter = Limiter(rig.redis, clock=Clock())
    assert (await limiter.take(BUCKET, rate=50_000)).allowed
    start = await limiter_process.redis_time(rig.redis)
    # The lease of the old plan is not carried over.
    decisions = [await limiter.take(BUCKET, rate=5) for _ in range(50)]
    elapsed = await limiter_process.redis_time(rig.redis) - start
    assert sum(decision.allowed for decision in decisions) <= 5 + 5 * elapsed
    assert {decision.limit for decision in decisions} == {5}
    await limiter.close()


async def test_tenants_do_not_share_a_bucket(rig):
    limiter = Limiter(rig.redis, clock=Clock())
    while (await limiter.take("rl:1", rate=3)).allowed:
        pass
    assert (await limiter.take("rl:2", rate=3)).allowed


async def test_a_bucket_left_alone_fills_up_and_leaves_no_key_for_ever(rig):
    limiter = Limiter(rig.redis, clock=Clock())
    await limiter.take(BUCKET, rate=10)
    assert 0 < await rig.client.pttl(BUCKET) <= 2_000
