"""Housekeeping: partitions ahead, retention behind a checkpoint, forgotten flushes."""

from datetime import UTC, date, datetime, timedelta

from leaderboard.api.resources.usage import MAX_DAYS_OF_HOURS
from leaderboard.domain.names import ProjectId
from leaderboard.store.postgres import ledger, usage
from leaderboard.store.postgres.usage import Counts
from leaderboard.worker import maintenance

NOW = datetime(2026, 5, 31, 23, 59, tzinfo=UTC)


async def test_today_and_two_days_ahead_have_partitions(world):
    for _ in range(2):
        await maintenance.once(world.pool, retention_days=0, now=NOW)
    assert await ledger.partitions(world.pool) == [date(2026, 5, 31), date(2026, 6, 1), date(2026, 6, 2)]


async def test_retention_drops_what_is_older_and_zero_keeps_all(world):
    days = [NOW.date() - timedelta(days=n) for n in range(10)]
    await ledger.ensure_partitions(world.pool, days)
    await maintenance.once(world.pool, retention_days=0, now=NOW)
    assert len(await ledger.partitions(world.pool)) == 12
    await maintenance.once(world.pool, retention_days=3, now=NOW)
    assert (await ledger.partitions(world.pool))[0] == date(2026, 5, 28)


async def test_hours_of_usage_outlive_what_the_api_answers_and_no_more(world):
    hour = NOW.replace(minute=0)
    await usage.flush(world.pool, boot_nonce="n", sequence=1, counts={(hour, ProjectId(1)): Counts(1)})
    await maintenance.once(world.pool, retention_days=0, now=NOW + timedelta(days=MAX_DAYS_OF_HOURS + 1))
    assert await world.one("SELECT count(*) FROM usage_hours") == (1,)
    await maintenance.once(world.pool, retention_days=0, now=hour + maintenance.KEEP_HOURS + timedelta(seconds=1))
    assert await world.one("SELECT count(*) FROM usage_hours") == (0,)


async def test_flushes_are_forgotten_after_a_day(world):
    await usage.flush(world.pool, boot_nonce="n", sequence=1, counts={})
    await maintenance.once(world.pool, retention_days=0, now=datetime.now(UTC) + timedelta(hours=23))
    assert await world.one("SELECT count(*) FROM usage_flushes") == (1,)
    await maintenance.once(world.pool, retention_days=0, now=datetime.now(UTC) + timedelta(hours=25))
    assert await world.one("SELECT count(*) FROM usage_flushes") == (0,)
