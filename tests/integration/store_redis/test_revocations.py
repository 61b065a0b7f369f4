"""Revoked keys are refused by every worker within a second, whatever fails meanwhile."""

import asyncio
import contextlib
import time

import msgspec
import pytest
from redis.asyncio import Redis
from redis_rig import until

from leaderboard.store.redis import keys, revocations
from leaderboard.store.redis.errors import RedisUnavailable
from leaderboard.store.redis.key_cache import KeyCache
from leaderboard.store.redis.multiplexer import Multiplexer
from leaderboard.store.redis.revocations import MAX_READ, RevocationTail, publish

BOUND = 1.0  # seconds: the contract


class Context(msgspec.Struct, frozen=True):
    key_id: str
    tenant_id: int


class Database:
    """Postgres, as far as the cache sees it: `rows` by the key's text, `down` when it does not answer."""

    def __init__(self):
        self.rows = {f"key-{n}": Context(f"id-{n}", n % 3) for n in range(9)}
        self.down = False
        self.asked = 0

    async def lookup(self, name):
        self.asked += 1
        if self.down:
            raise ConnectionError("the database is down")
        return self.rows.get(name)


class Worker:
    """What one API process has: a tail on a connection of its own, and a cache."""

    def __init__(self, url, database):
        self.redis = Multiplexer(url, timeout=1.0)
        self.tail = RevocationTail(self.redis, clock=time.monotonic)
        self.cache = KeyCache(self.tail, lookup=database.lookup, clock=time.monotonic)

    async def __aenter__(self):
        await self.redis.start()
        await self.tail.start()
        await until(lambda: self.tail.live)
        return self

    async def __aexit__(self, *_):
        await self.tail.close()
        await self.redis.close()

    async def admits(self, name):
        """Whether a request with this key passes, as the API decides it."""
        known, context = self.cache.get(name)
        if not known:
            try:
                context = await self.cache.fetch(name)
            except (ConnectionError, RedisUnavailable):
                return False
        return context is not None


@pytest.fixture
def database():
    return Database()


@pytest.fixture
async def workers(redis_url, database):
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(Worker(redis_url, database)) for _ in range(4)]
        for worker in workers:
            for name in database.rows:
                assert await worker.admits(name)
        yield workers


@pytest.fixture
async def client(redis_url):
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


async def refused_by_all(workers, name, *, since):
    """Ask every worker as requests do, until all refuse; fail past the bound."""
    while True:
        asked_at = time.monotonic()
        if not any([await worker.admits(name) for worker in workers]):
            return
        assert asked_at - since <= BOUND
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("down", [False, True], ids=["database up", "database down"])
@pytest.mark.parametrize("kind", ["key", "tenant"])
async def test_a_revoked_key_is_refused_everywhere_within_a_second(workers, client, database, down, kind):
    of_tenant = [name for name, context in database.rows.items() if context.tenant_id == 1]
    gone = ["key-4"] if kind == "key" else of_tenant
    stays = [name for name in database.rows if name not in gone]
    for name in gone:
        database.rows[name] = None
    database.down = down
    await publish(client, kind=kind, id="id-4" if kind == "key" else "1")
    since = time.monotonic()
    for name in gone:
        await refused_by_all(workers, name, since=since)
    for worker in workers:
        for name in stays:
            assert await worker.admits(name)


async def test_cached_keys_stay_good_without_the_database_while_the_tail_is_heard(workers, database):
    database.down = True
    heard = workers[0].tail.heard_at
    while workers[0].tail.heard_at < heard + 1.2:
        assert all([await worker.admits("key-1") for worker in workers])
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("how", ["stall", "stall_replies", "drop"])
async def test_a_revocation_that_cannot_be_heard_holds_all_the_same(proxy, client, database, how):
    """The tail is cut off, then the key is revoked: what is cached may be used for 750 ms more and not after."""
    async with Worker(proxy.url, database) as worker:
        assert await worker.admits("key-1")
        assert await worker.admits("key-2")
        proxy.refuse = how == "drop"
        getattr(proxy, how)()
        database.rows["key-1"] = None
        await publish(client, kind="key", id="id-1")
        await refused_by_all([worker], "key-1", since=time.monotonic())
        # Others are checked again before each use, as long as nothing is heard.
        assert await worker.admits("key-2")
        database.down = True
        await until(lambda: worker.cache.get("key-2") == (False, None))
        assert not await worker.admits("key-2")
        database.down = False
        proxy.refuse = False
        proxy.resume()
        proxy.drop()
        await until(lambda: worker.tail.live)
        assert await worker.admits("key-2")
        assert not await worker.admits("key-1")


async def test_silence_with_the_database_down_refuses_everybody(proxy, database):
    async with Worker(proxy.url, database) as worker:
        assert await worker.admits("key-1")
        proxy.stall()
        database.down = True
        since = time.monotonic()
        await refused_by_all([worker], "key-1", since=since)
        assert not worker.tail.live
        proxy.resume()


async def test_a_revocation_that_races_a_look_up_is_not_lost(redis_url, client, database):
    """The database is read, the key revoked and the revocation heard, and only then the look-up's answer arrives."""
    reading, hold = asyncio.Event(), asyncio.Event()

    async def slow_lookup(name):
        found = await database.lookup(name)
        reading.set()
        await hold.wait()
        return found

    class Heard:
        told = frozenset()

        def forget(self, revoked):
            self.told = revoked

        def forget_all(self):
            pass

    async with Worker(redis_url, database) as worker:
        cache = KeyCache(worker.tail, lookup=slow_lookup, clock=time.monotonic)
        heard = Heard()
        worker.tail.subscribe(heard)
        fetch = asyncio.create_task(cache.fetch("key-1"))
        await reading.wait()
        database.rows["key-1"] = None
        await publish(client, kind="key", id="id-1")
        await until(lambda: ("key", "id-1") in heard.told)
        hold.set()
        assert await fetch is None


async def test_a_restarted_redis_makes_all_be_forgotten(make_redis, database):
    server = make_redis()
    async with Worker(server.url, database) as worker:
        for name in database.rows:
            await worker.admits(name)
        before = worker.redis.connects
        server.kill()
        server.start()
        await until(lambda: worker.redis.connects > before and not worker.cache._entries)
        await until(lambda: worker.tail.live)
        # And it follows the new server's stream.
        assert await worker.admits("key-1")
        database.rows["key-1"] = None
        async with Redis.from_url(server.url) as client:
            await publish(client, kind="key", id="id-1")
        await refused_by_all([worker], "key-1", since=time.monotonic())


async def test_an_emptied_redis_makes_all_be_forgotten(redis_url, client, database):
    await publish(client, kind="key", id="of the past")
    async with Worker(redis_url, database) as worker:
        assert await worker.admits("key-1")
        await client.flushall()
        await until(lambda: not worker.cache._entries)
        await until(lambda: worker.tail.live)
        assert await worker.admits("key-1")
        database.rows["key-1"] = None
        await publish(client, kind="key", id="id-1")
        await refused_by_all([worker], "key-1", since=time.monotonic())


async def test_a_flood_of_revocations_reaches_everybody(workers, client, database):
    """More than the stream keeps: what was trimmed away before it was read must not stay good."""
    database.rows["key-1"] = None
    pipe = client.pipeline(transaction=False)
    pipe.xadd(keys.REVOCATIONS, {"kind": "key", "id": "id-1"})
    for number in range(3 * MAX_READ):
        pipe.xadd(keys.REVOCATIONS, {"kind": "key", "id": f"other-{number}"}, maxlen=MAX_READ // 2, approximate=False)
    await pipe.execute()
    await refused_by_all(workers, "key-1", since=time.monotonic())
    assert all([await worker.admits("key-2") for worker in workers])


async def test_an_entry_that_is_not_ours_does_not_end_the_tail(workers, client, database):
    await client.xadd(keys.REVOCATIONS, {"something": "else", b"\xff": b"\xff"})
    await client.xadd(keys.REVOCATIONS, {"kind": b"\xff", "id": b"\xff"})
    database.rows["key-1"] = None
    await publish(client, kind="key", id="id-1")
    await refused_by_all(workers, "key-1", since=time.monotonic())
    assert all(worker.tail.live for worker in workers)


async def test_a_revocation_that_redis_did_not_take_is_said(make_redis):
    server = make_redis()
    async with Redis.from_url(server.url) as client:
        await client.ping()
        server.kill()
        with pytest.raises(RedisUnavailable, match="not taken"):
            await publish(client, kind="key", id="id-1")


async def test_the_stream_does_not_grow_without_bound(client):
    pipe = client.pipeline(transaction=False)
    for number in range(revocations.MAX_LENGTH):
        pipe.xadd(keys.REVOCATIONS, {"kind": "key", "id": str(number)})
    await pipe.execute()
    for number in range(200):
        await publish(client, kind="key", id=str(number))
    assert await client.xlen(keys.REVOCATIONS) <= revocations.MAX_LENGTH + 200
