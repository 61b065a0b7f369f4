"""The key cache with a clock that is set by hand; with a real Redis it is in tests/integration/store_redis."""

import asyncio

import msgspec
import pytest

from leaderboard.store.redis import key_cache
from leaderboard.store.redis.errors import RedisUnavailable
from leaderboard.store.redis.key_cache import FOUND_TTL, MAX_ATTEMPTS, MAX_LOOKUPS, UNKNOWN_TTL, KeyCache
from leaderboard.store.redis.multiplexer import Multiplexer
from leaderboard.store.redis.revocations import SILENCE_S, RevocationTail


class Context(msgspec.Struct, frozen=True):
    key_id: str
    tenant_id: int


class Database:
    """What the look-ups ask: `rows` by name, `down` to refuse, `hold` to let answers wait."""

    def __init__(self):
        self.rows = {"one": Context("k1", 1), "two": Context("k2", 2), "also-one": Context("k3", 1)}
        self.down = False
        self.asked = []
        self.under_way = self.most = 0
        self.hold = asyncio.Event()
        self.hold.set()

    async def __call__(self, name):
        self.asked.append(name)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.down:
                raise ConnectionError("the database is down")
            found = self.rows.get(name)
            await self.hold.wait()
            return found
        finally:
            self.under_way -= 1


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tail(clock):
    tail = RevocationTail(Multiplexer("redis://127.0.0.1:1"), clock=clock)  # never started: heard by hand
    tail.heard_at = float("inf")
    return tail


@pytest.fixture
async def database():
    return Database()


@pytest.fixture
async def cache(tail, database, clock):
    return KeyCache(tail, lookup=database, clock=clock)


async def test_a_found_key_is_served_from_memory_until_its_time_is_up(cache, database, clock):
    assert cache.get("one") == (False, None)
    assert await cache.fetch("one") == Context("k1", 1)
    database.down = True
    clock.now += FOUND_TTL - 1
    assert cache.get("one") == (True, Context("k1", 1))
    clock.now += 1
    assert cache.get("one") == (False, None)
    with pytest.raises(ConnectionError):
        await cache.fetch("one")


async def test_an_unknown_key_is_remembered_briefly(cache, database, clock):
    assert await cache.fetch("nobody") is None
    clock.now += UNKNOWN_TTL - 1
    assert cache.get("nobody") == (True, None)
    clock.now += 1
    assert cache.get("nobody") == (False, None)


async def test_a_failed_look_up_is_not_remembered(cache, database):
    database.down = True
    with pytest.raises(ConnectionError):
        await cache.fetch("one")
    database.down = False
    assert await cache.fetch("one") == Context("k1", 1)


async def test_a_silent_tail_makes_old_entries_unusable_and_fresh_ones_last_as_long(cache, tail, clock):
    await cache.fetch("one")
    tail.heard_at = clock.now
    clock.now += SILENCE_S
    assert cache.get("one") == (True, Context("k1", 1))
    clock.now += 0.01
    assert cache.get("one") == (False, None)
    await cache.fetch("one")
    clock.now += SILENCE_S
    assert cache.get("one") == (True, Context("k1", 1))
    clock.now += 0.01
    assert cache.get("one") == (False, None)
    tail.heard_at = clock.now
    assert cache.get("one") == (True, Context("k1", 1))


async def test_the_age_of_an_answer_counts_from_when_it_was_asked_for(cache, database, tail, clock):
    tail.heard_at = 0.0
    database.hold.clear()
    fetch = asyncio.create_task(cache.fetch("one"))
    while not database.asked:
        await asyncio.sleep(0)
    clock.now += SILENCE_S + 0.01
    database.hold.set()
    assert await fetch == Context("k1", 1)
    assert cache.get("one") == (False, None)


async def test_a_revocation_drops_what_it_names_and_nothing_else(cache):
    for name in ("one", "two", "also-one"):
        await cache.fetch(name)
    cache.forget({("key", "k1")})
    assert [cache.get(name)[0] for name in ("one", "two", "also-one")] == [False, True, True]
    cache.forget({("tenant", "1"), ("key", "unheard-of"), ("colour", "red")})
    assert [cache.get(name)[0] for name in ("one", "two", "also-one")] == [False, True, False]
    cache.forget_all()
    assert cache.get("two") == (False, None)


async def test_any_revocation_drops_unknown_names_so_that_a_new_key_is_good_at_once(cache, database):
    await cache.fetch("new")
    database.rows["new"] = Context("k9", 9)
    cache.forget({("tenant", "9")})
    assert cache.get("new") == (False, None)
    assert await cache.fetch("new") == Context("k9", 9)


async def test_a_key_that_turns_out_revoked_is_no_longer_served(cache, database, clock):
    await cache.fetch("one")
    clock.now += FOUND_TTL
    database.rows["one"] = None
    assert await cache.fetch("one") is None
    assert cache.get("one") == (True, None)


@pytest.mark.parametrize("revocation", [{("key", "k1")}, {("tenant", "1")}, "all"])
async def test_a_revocation_during_a_look_up_is_not_lost(cache, database, revocation):
    database.hold.clear()
    fetch = asyncio.create_task(cache.fetch("one"))
    while not database.asked:
        await asyncio.sleep(0)
    database.rows["one"] = None
    cache.forget_all() if revocation == "all" else cache.forget(revocation)
    database.hold.set()
    assert await fetch is None
    assert cache.get("one")[1] is None


async def test_one_tenants_revocations_do_not_hold_up_anothers_look_ups(cache, database):
    database.hold.clear()
    fetch = asyncio.create_task(cache.fetch("two"))
    while not database.asked:
        await asyncio.sleep(0)
    cache.forget({("tenant", "1"), ("key", "k1")})
    database.hold.set()
    assert await fetch == Context("k2", 2)
    assert database.asked == ["two"]


async def test_a_key_revoked_again_and_again_while_it_is_looked_up_is_refused(tail, clock):
    asked = []

    async def lookup(name):
        asked.append(name)
        cache.forget({("key", "k1")})
        return Context("k1", 1)

    cache = KeyCache(tail, lookup=lookup, clock=clock)
    with pytest.raises(RedisUnavailable):
        await cache.fetch("one")
    assert len(asked) == MAX_ATTEMPTS
    assert cache.get("one") == (False, None)


async def test_an_unknown_name_is_not_remembered_when_keys_changed_meanwhile(cache, database):
    database.hold.clear()
    fetch = asyncio.create_task(cache.fetch("new"))
    while not database.asked:
        await asyncio.sleep(0)
    database.rows["new"] = Context("k9", 9)
    cache.forget({("tenant", "9")})
    database.hold.set()
    assert await fetch is None
    assert cache.get("new") == (False, None)


async def test_callers_of_one_name_share_one_look_up(cache, database):
    found = await asyncio.gather(*(cache.fetch("one") for _ in range(100)))
    assert found == [Context("k1", 1)] * 100
    assert database.asked == ["one"]


async def test_a_caller_that_goes_away_does_not_take_the_look_up_with_it(cache, database):
    database.hold.clear()
    leaver, stayer = asyncio.create_task(cache.fetch("one")), asyncio.create_task(cache.fetch("one"))
    while not database.asked:
        await asyncio.sleep(0)
    leaver.cancel()
    database.hold.set()
    assert await stayer == Context("k1", 1)
    assert database.asked == ["one"]


async def test_look_ups_under_way_are_bounded(cache, database):
    await asyncio.gather(*(cache.fetch(f"name-{n}") for n in range(10 * MAX_LOOKUPS)))
    assert len(database.asked) == 10 * MAX_LOOKUPS
    assert database.most <= MAX_LOOKUPS


async def test_made_up_names_are_bounded_and_push_out_no_real_key(cache, monkeypatch):
    monkeypatch.setattr(key_cache, "MAX_UNKNOWN", 50)
    await cache.fetch("one")
    for number in range(200):
        await cache.fetch(f"made-up-{number}")
    assert sum(cache.get(f"made-up-{number}")[0] for number in range(200)) == 50
    assert cache.get("made-up-199") == (True, None)
    assert cache.get("one") == (True, Context("k1", 1))


async def test_found_keys_are_bounded(cache, database, monkeypatch):
    monkeypatch.setattr(key_cache, "MAX_ENTRIES", 50)
    for number in range(200):
        database.rows[f"key-{number}"] = Context(f"k{number}", number)
        await cache.fetch(f"key-{number}")
    assert sum(cache.get(f"key-{number}")[0] for number in range(200)) == 50


async def test_the_cache_does_not_hold_the_text_of_keys(cache):
    await cache.fetch("one")
    assert all(isinstance(name, bytes) and len(name) >= 32 and b"one" not in name for name in cache._entries)


async def test_odd_text_in_a_header_is_only_an_unknown_name(cache):
    for name in ("", "\ud800", "\x00", "k" * 100_000):
        assert cache.get(name) == (False, None)
        assert await cache.fetch(name) is None
