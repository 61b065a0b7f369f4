"""The migrations and what they promise to the code above them."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import psycopg
import pytest

from leaderboard.domain.bills import PRICES, Prices
from leaderboard.domain.plans import PLANS, Quotas
from leaderboard.store.postgres import ledger, migrate
from leaderboard.store.postgres.pool import DatabaseUnavailable, open_pool

MIGRATIONS = [
    "0001.initial",
    "0002.leadership",
    "0003.api_keys",
    "0004.member_events",
    "0005.origins",
    "0006.prices",
    "0007.usage_hours",
    "0008.standings",
    "0009.seasons",
    "0010.history",
    "0011.erasures",
    "0012.imports",
    "0013.tiers",
    "0014.quarantine",
    "0015.late",
    "0016.waiting",
]


@pytest.fixture
def empty_database(postgres, request):
    name = f"empty_{abs(hash(request.node.name))}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


def test_applying_twice_applies_once(empty_database):
    assert migrate.apply(empty_database) == MIGRATIONS
    assert migrate.apply(empty_database) == []


def test_concurrent_first_runs_apply_once(empty_database):
    with ThreadPoolExecutor(4) as threads:
        applied = list(threads.map(migrate.apply, [empty_database] * 4))
    assert sorted(applied) == [[], [], [], MIGRATIONS]


def test_a_stale_lock_is_named_and_can_be_broken(empty_database):
    migrate.apply(empty_database)
    with psycopg.connect(empty_database) as conn:
        conn.execute("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 4711)")
    with pytest.raises(migrate.MigrationLocked, match=r"process 4711 since .*leaderboard migrate --break-lock"):
        migrate.apply(empty_database, lock_timeout=0.1)
    assert migrate.break_lock(empty_database)
    assert not migrate.break_lock(empty_database)
    assert migrate.apply(empty_database) == []


def test_the_partitions_of_before_imports_and_those_after_take_imports(empty_database, monkeypatch):
    older = MIGRATIONS.index("0012.imports")
    with monkeypatch.context() as patch:
        read = migrate.read_migrations
        patch.setattr(migrate, "read_migrations", lambda folder: read(folder)[:older])
        migrate.apply(empty_database)
    event = (
        "INSERT INTO score_events (event_time, event_id, leaderboard_id, incarnation, seq, kind, member)"
        " VALUES ('2026-01-0{day}', gen_random_uuid(), 1, 1, 1, '{kind}', 'ann')"
    )

    async def partition(day):
        pool = await open_pool(empty_database, size=1, timeout=10)
        try:
            await ledger.ensure_partitions(pool, [date(2026, 1, day)])
            return await ledger.takes_imports(pool)
        finally:
            await pool.close()

    with psycopg.connect(empty_database, autocommit=True) as conn:
        assert not asyncio.run(partition(1))
        conn.execute(event.format(day=1, kind="u"))
        with pytest.raises(psycopg.errors.CheckViolation):
            conn.execute(event.format(day=1, kind="i"))
        assert migrate.apply(empty_database)[0] == "0012.imports"
        assert asyncio.run(partition(2))
        for day in (1, 2):
            conn.execute(event.format(day=day, kind="i"))
            with pytest.raises(psycopg.errors.CheckViolation):
                conn.execute(event.format(day=day, kind="?"))


def test_a_keyword_string_is_a_dsn_too(empty_database):
    keywords = " ".join(f"{k}='{v}'" for k, v in psycopg.conninfo.conninfo_to_dict(empty_database).items())
    assert migrate.apply(keywords) == MIGRATIONS


def test_no_server_is_database_unavailable():
    with pytest.raises(DatabaseUnavailable):
        migrate.apply("postgresql://nobody@127.0.0.1:1/none")


def test_the_seeded_plans_are_the_domains(database):
    with psycopg.connect(database) as conn:
        rows = conn.execute("SELECT name, max_leaderboards, requests_per_second FROM plans").fetchall()
        prices = conn.execute("SELECT name, monthly_price, included_updates, price_per_million FROM plans").fetchall()
    assert {name: Quotas(max_leaderboards=boards, requests_per_second=rate) for name, boards, rate in rows} == PLANS
    assert {
        name: Prices(monthly=monthly, included_updates=included, per_million=more)
        for name, monthly, included, more in prices
    } == PRICES
