"""The repositories the API reads from, and a Postgres that goes away and comes back."""

import asyncio
from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest

from leaderboard.domain.names import ProjectId
from leaderboard.store.postgres import migrate, tenants, usage
from leaderboard.store.postgres import pool as pool_module
from leaderboard.store.postgres.pool import DatabaseUnavailable, open_pool
from leaderboard.store.postgres.usage import Counts, Point, Step

DAY = date(2026, 3, 1)
HOUR = datetime(2026, 3, 1, 9, tzinfo=UTC)
PROJECT = ProjectId(1)


@pytest.fixture
async def pool(database):
    pool = await open_pool(database, size=4, timeout=10)
    yield pool
    await pool.close()


async def test_a_flush_counts_once_however_often_it_is_sent(pool):
    async def send():
        return await usage.flush(pool, boot_nonce="n", sequence=1, counts={(HOUR, PROJECT): Counts(5, 1, 2, 0)})

    assert sorted(await asyncio.gather(*(send() for _ in range(4)))) == [False, False, False, True]
    assert await usage.flush(pool, boot_nonce="n", sequence=2, counts={(HOUR, PROJECT): Counts(2, 0, 0, 3)})
    assert await usage.read(pool, PROJECT, first_day=DAY, last_day=DAY) == [
        usage.UsageDay(day=DAY, requests=7, score_updates=0, rate_limited=1)
    ]
    for step, at in ((Step.HOUR, HOUR), (Step.DAY, HOUR.replace(hour=0))):
        points = await usage.series(pool, PROJECT, step=step, first_day=DAY, last_day=DAY, now=HOUR)
        assert points[-1] == Point(at=at, requests=7, rate_limited=1, client_errors=2, server_errors=3)


async def test_hours_and_days_are_those_of_utc_and_empty_ones_are_zeros(pool):
    late = datetime(2026, 3, 2, 1, tzinfo=timezone(timedelta(hours=2)))  # 23 h of the day before
    await usage.flush(pool, boot_nonce="n", sequence=1, counts={(late, PROJECT): Counts(4)})
    now = datetime(2026, 3, 3, 5, 59, tzinfo=UTC)
    two_days = {"first_day": DAY, "last_day": date(2026, 3, 9), "now": now}
    hours = await usage.series(pool, PROJECT, step=Step.HOUR, **two_days)
    assert [point.at for point in hours] == [
        datetime(2026, 3, 1, tzinfo=UTC) + n * timedelta(hours=1) for n in range(54)
    ]
    assert {n: point.requests for n, point in enumerate(hours) if point.requests} == {23: 4}
    days = await usage.series(pool, PROJECT, step=Step.DAY, **two_days)
    assert [(point.at.day, point.requests) for point in days] == [(1, 4), (2, 0), (3, 0)]
    later = await usage.series(
        pool, PROJECT, step=Step.DAY, first_day=date(2026, 3, 4), last_day=date(2026, 3, 9), now=now
    )
    assert later == []


async def test_old_hours_are_forgotten_and_their_days_stay(pool):
    await usage.flush(pool, boot_nonce="n", sequence=1, counts={(HOUR, PROJECT): Counts(4)})
    assert await usage.prune_hours(pool, before=HOUR) == 0
    assert await usage.prune_hours(pool, before=HOUR + timedelta(hours=1)) == 1
    assert [day.requests for day in await usage.read(pool, PROJECT, first_day=DAY, last_day=DAY)] == [4]


async def test_usage_is_read_by_project_and_day(pool):
    days = [DAY + timedelta(days=n) for n in range(4)]
    counts = {
        (datetime.combine(day, time(), UTC), ProjectId(project)): Counts(project) for day in days for project in (1, 2)
    }
    await usage.flush(pool, boot_nonce="n", sequence=1, counts=counts)
    found = await usage.read(pool, ProjectId(2), first_day=days[1], last_day=days[2])
    assert [(day.day, day.requests) for day in found] == [(days[1], 2), (days[2], 2)]


async def test_old_flushes_are_forgotten(pool):
    await usage.flush(pool, boot_nonce="n", sequence=1, counts={})
    assert await usage.prune_flushes(pool, before=datetime.now(UTC) - timedelta(days=1)) == 0
    assert await usage.prune_flushes(pool, before=datetime.now(UTC) + timedelta(days=1)) == 1


async def test_without_migrations_the_message_says_so(postgres):
    pool = await open_pool(postgres.create_database("unmigrated"), size=1, timeout=5)
    with pytest.raises(DatabaseUnavailable, match="leaderboard migrate"):
        await tenants.by_slug(pool, "acme")
    await pool.close()


async def eventually(call, *, seconds=90):
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            return await call()
        except DatabaseUnavailable:
            if asyncio.get_running_loop().time() > deadline:
                raise


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_the_pool_outlives_its_server(make_postgres, end):
    server = make_postgres()
    await asyncio.to_thread(migrate.apply, server.url)
    pool = await open_pool(server.url, size=4, timeout=1)

    async def ask():
        return await tenants.by_slug(pool, "acme")

    try:
        await asyncio.gather(*(ask() for _ in range(8)))
        await asyncio.to_thread(getattr(server, end))
        with pytest.raises(DatabaseUnavailable):
            await ask()
        await asyncio.to_thread(server.start)
        await eventually(ask)
        await asyncio.gather(*(ask() for _ in range(8)))  # every connection is good again
    finally:
        await pool.close()


async def test_the_pool_says_why_it_cannot_connect_and_does_not_repeat_it(caplog):
    pool_module._repeats._last.clear()
    pool = await open_pool("postgresql://x@127.0.0.1:1/x", size=2, timeout=0.2)
    for _ in range(5):
        with pytest.raises(DatabaseUnavailable):
            await tenants.by_slug(pool, "acme")
    await pool.close()
    assert caplog.text.count("error connecting") == 1


async def test_the_pool_opens_before_its_server_is_there(make_postgres):
    server = make_postgres()
    await asyncio.to_thread(migrate.apply, server.url)
    await asyncio.to_thread(server.stop)
    pool = await open_pool(server.url, size=4, timeout=1)
    try:
        with pytest.raises(DatabaseUnavailable):
            await tenants.by_slug(pool, "acme")
        await asyncio.to_thread(server.start)
        await eventually(lambda: tenants.by_slug(pool, "acme"))
    finally:
        await pool.close()
