"""10,000 increments through a proxy that cuts, delays, repeats and answers too late: each counts once."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from leaderboard_sdk import AsyncClient, Client
from support.faults import COUNT, EXPECTED, FAULTS, TIMEOUT, USERS, FaultProxy
from support.platform import Platform
from support.tenants import make_tenant

SAFE = {"timeout": TIMEOUT, "max_attempts": 20, "max_wait": 120.0}


def _assert_each_counted_once(served: Platform, key: str, proxy: FaultProxy) -> None:
    assert set(proxy.done) == FAULTS, proxy.done
    with Client(served.url, key) as client:
        assert {entry.user: entry.score for entry in client.iter_top("global")} == EXPECTED


async def test_updates_count_once(served: Platform) -> None:
    key = make_tenant(served).key
    numbers = iter(range(COUNT))
    with FaultProxy(served.url, share=0.05).running() as proxy:
        async with AsyncClient(proxy.url, key, **SAFE) as client:

            async def work() -> None:
                for number in numbers:
                    await client.update("global", f"u{number % USERS}", increment=1)

            await asyncio.gather(*(work() for _ in range(16)))
    _assert_each_counted_once(served, key, proxy)


def test_updates_of_threads_count_once(served: Platform) -> None:
    key = make_tenant(served).key
    with (
        FaultProxy(served.url, share=0.05).running() as proxy,
        Client(proxy.url, key, **SAFE) as client,
        ThreadPoolExecutor(16) as threads,
    ):
        done = threads.map(lambda number: client.update("global", f"u{number % USERS}", increment=1), range(COUNT))
        assert all(result.leaderboard == "global" for result in done)
    _assert_each_counted_once(served, key, proxy)


def test_updates_through_the_batcher_count_once(served: Platform) -> None:
    key = make_tenant(served).key
    with (
        FaultProxy(served.url, share=0.3).running() as proxy,
        Client(proxy.url, key, **SAFE) as client,
        client.batcher(max_batch=100) as batcher,
    ):
        futures = [batcher.submit("global", f"u{number % USERS}", increment=1) for number in range(COUNT)]
        assert all(future.result(60).leaderboard == "global" for future in futures)
    _assert_each_counted_once(served, key, proxy)


async def test_updates_through_the_async_batcher_count_once(served: Platform) -> None:
    key = make_tenant(served).key
    with FaultProxy(served.url, share=0.3).running() as proxy:
        async with AsyncClient(proxy.url, key, **SAFE) as client, client.batcher(max_batch=100) as batcher:
            futures = [await batcher.submit("global", f"u{number % USERS}", increment=1) for number in range(COUNT)]
            await asyncio.gather(*futures)
    _assert_each_counted_once(served, key, proxy)
