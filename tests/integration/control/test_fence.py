"""Two leaders: what the one that was deposed writes is refused, and it cannot keep the other from taking over."""

import asyncio
import contextlib
import itertools
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import psycopg
import pytest

from leaderboard.control.reconcile import BoardRequest
from leaderboard.store.postgres import leadership, tenants
from leaderboard.store.postgres.pool import DatabaseUnavailable, Deposed, connection, locked, open_pool, transaction
from support.world import eventually, leaderboard, tenant

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TABLES = ("tenants", "projects", "api_keys", "leaderboards")
WRITES = (
    "INSERT INTO {0} OVERRIDING SYSTEM VALUE SELECT * FROM {0} WHERE false",
    "UPDATE {0} SET id = DEFAULT WHERE false",
    "DELETE FROM {0} WHERE false",
    "TRUNCATE {0} CASCADE",
)
# The bound on a take-over that a stopped leader is in the way of; the transaction is ended after 5 s.
TAKE_OVER_SECONDS = 6.5


@pytest.fixture
async def lead(world, database):
    """Make a leader: a fenced pool of its own, in office."""
    async with contextlib.AsyncExitStack() as stack:

        async def lead(holder="one", size=4):
            epoch = await leadership.take(world.pool, holder=holder, now=NOW)
            pool = await open_pool(database, size=size, timeout=10, epoch=epoch)
            stack.push_async_callback(pool.close)
            return pool

        yield lead


async def waiting_for_the_fence(world):
    return await world.one("SELECT count(*) FROM pg_locks WHERE relation = 'leadership'::regclass AND NOT granted") != (
        0,
    )


async def test_each_take_over_has_a_number_of_its_own(world):
    epochs = await asyncio.gather(*(leadership.take(world.pool, holder=f"pod-{n}", now=NOW) for n in range(5)))
    assert sorted(epochs) == [1, 2, 3, 4, 5]
    assert await world.one("SELECT epoch, taken_at FROM leadership") == (5, NOW)


async def test_the_leader_in_office_writes(world, lead):
    control = world.another_control(pool=await lead())
    await control.reconcile(tenant(), sink=world.sink, owner="uid-t")
    made = await control.reconcile(leaderboard(), owner="uid-b")
    assert await world.update(made.namespace, ("a", "i1")) == [b"A 1 1 - -"]


async def test_every_write_of_a_deposed_leader_is_refused(world, lead):
    first = await lead()
    await lead("two")
    for table, statement in itertools.product(TABLES, WRITES):
        with pytest.raises(Deposed, match="leader 1 was deposed: 2 is in office"):
            await write(first, statement.format(table))


async def write(pool, statement):
    async with connection(pool) as conn:
        await conn.execute(statement)


async def test_control_says_deposed_whatever_it_is_asked(world, lead):
    first = await lead()
    control = world.another_control(pool=first)
    await control.reconcile(tenant(), sink=world.sink, owner="uid-t")
    await control.reconcile(leaderboard(), owner="uid-b")
    await world.apply(tenant("plain"))
    await lead("two")
    before = await world.redis.dbsize()

    def request(document, owner):
        return BoardRequest(document=document, tenant_slug="acme", owner=owner)

    for call in (
        control.reconcile(tenant("other"), sink=world.sink, owner="uid-o"),
        control.reconcile(tenant(displayName="Acme"), sink=world.sink, owner="uid-t"),
        control.reconcile(tenant(projects=[{"name": "default"}, {"name": "new"}]), sink=world.sink, owner="uid-t"),
        control.reconcile(tenant(apiKey={"rotationTrigger": "1"}), sink=world.sink, owner="uid-t"),
        control.reconcile(leaderboard("new"), owner="uid-n"),
        control.reconcile(leaderboard(maxEntries=3), owner="uid-b"),
        control.reconcile_boards([request(leaderboard("new"), "uid-n")], positions=False),
        control.reconcile_boards([request(leaderboard(maxEntries=3), "uid-b")], positions=False),
        control.delete_boards_of("uid-b", retain=True, namespace="games"),
        control.delete_boards_of("uid-b", retain=False, namespace="games"),
        control.delete_tenant("acme", owner="uid-t"),
        control.offer("plain", namespace="games"),
        control.revoke(world.sink.delivered[0].key.id),
    ):
        with pytest.raises(Deposed):
            await call
    assert await world.redis.dbsize() == before
    assert await world.one("SELECT count(*) FROM leaderboards WHERE max_entries = 0 AND managed_by = 'uid-b'") == (1,)
    assert await world.one("SELECT count(*) FROM api_keys WHERE state = 'active'") == (2,)


async def test_a_deposed_leader_may_look(world, lead):
    first = await lead()
    await world.apply(tenant())
    await lead("two")
    assert (await tenants.by_slug(first, "acme")).slug == "acme"


async def test_a_leader_waits_for_nothing_for_ever(lead):
    async with connection(await lead()) as conn:
        for setting, value in (("lock_timeout", "10s"), ("idle_in_transaction_session_timeout", "5s")):
            assert await (await conn.execute(f"SHOW {setting}")).fetchone() == (value,)


async def test_everybody_else_writes_on(world, lead):
    """The API, the worker and the command line have no epoch."""
    await lead()
    await world.apply(tenant())
    await lead("two")
    await world.apply(tenant(displayName="Acme"))
    assert (await tenants.by_slug(world.pool, "acme")).display_name == "Acme"


async def test_a_take_over_waits_for_what_is_being_committed(world, lead):
    first = await lead()
    async with transaction(first) as conn:
        await conn.execute("UPDATE tenants SET suspended = true WHERE false")
        successor = asyncio.create_task(leadership.take(world.pool, holder="two", now=NOW))
        await eventually(lambda: waiting_for_the_fence(world))
        # Nobody else waits for the two: not even for a moment is the API kept from writing.
        await world.apply(tenant())
        assert not successor.done()
        await conn.execute("UPDATE tenants SET display_name = 'in time'")
    assert await successor == 2
    assert (await tenants.by_slug(world.pool, "acme")).display_name == "in time"


async def test_a_write_that_comes_while_the_successor_waits_is_refused(world, lead):
    first = await lead()
    async with transaction(first) as conn:
        await conn.execute("UPDATE tenants SET suspended = true WHERE false")
        successor = asyncio.create_task(leadership.take(world.pool, holder="two", now=NOW))
        await eventually(lambda: waiting_for_the_fence(world))
        late = asyncio.create_task(world.another_control(pool=first).reconcile(tenant(), sink=world.sink))

        async def both_wait():
            return await world.one(
                "SELECT count(*) FROM pg_locks WHERE relation = 'leadership'::regclass AND NOT granted"
            ) == (2,)

        await eventually(both_wait)
    assert await successor == 2
    with pytest.raises((Deposed, DatabaseUnavailable)):  # its session may be closed before it has the answer
        await late
    assert await tenants.by_slug(world.pool, "acme") is None


async def test_a_busy_leader_cannot_keep_its_successor_waiting(world, lead):
    first = await lead()

    async def write_on():
        with contextlib.suppress(DatabaseUnavailable):  # the successor closes its sessions
            while True:
                async with transaction(first) as conn:
                    await conn.execute("UPDATE tenants SET suspended = true WHERE false")
                    await conn.execute("SELECT pg_sleep(0.02)")

    writers = [asyncio.create_task(write_on()) for _ in range(4)]
    assert await leadership.take(world.pool, holder="two", now=NOW) == 2
    for writer in writers:
        with contextlib.suppress(Deposed):
            await writer


async def test_a_transaction_that_is_left_lying_is_ended(world, lead):
    first = await lead()
    await world.apply(tenant())

    async def leave_it_lying():
        async with transaction(first) as conn:
            await conn.execute("UPDATE tenants SET display_name = 'too late'")
            began = time.monotonic()
            await leadership.take(world.pool, holder="two", now=NOW)
            assert time.monotonic() - began < TAKE_OVER_SECONDS
            await conn.execute("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        await leave_it_lying()
    assert (await tenants.by_slug(world.pool, "acme")).display_name is None


STOPPED_LEADER = """
import asyncio, sys
from leaderboard.store.postgres.pool import Deposed, DatabaseUnavailable, locked, open_pool, transaction

async def main():
    pool = await open_pool(sys.argv[1], size=2, timeout=5, epoch=int(sys.argv[2]))
    try:
        async with locked(pool, kind=1, id=int(sys.argv[3])) as conn:
            if sys.argv[4] == "in a transaction":
                async with transaction(conn):
                    await conn.execute("UPDATE tenants SET display_name = 'stopped'")
                    print("holding", flush=True)
                    sys.stdin.readline()
            else:
                print("holding", flush=True)
                sys.stdin.readline()
                await conn.execute("UPDATE tenants SET display_name = 'stopped'")
    except (Deposed, DatabaseUnavailable) as error:
        print(type(error).__name__, flush=True)
    try:
        async with transaction(pool) as conn:
            await conn.execute("UPDATE tenants SET display_name = 'stopped'")
    except Deposed:
        print("Deposed", flush=True)
    await pool.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("where", ["in a transaction", "between two"])
async def test_a_stopped_leader_is_in_nobodys_way(world, database, where):
    """SIGSTOP: the connection lives, the process does not answer, and it still believes that it leads."""
    made = await world.apply(tenant(), owner="uid-t")
    epoch = await leadership.take(world.pool, holder="one", now=NOW)
    leader = subprocess.Popen(
        [sys.executable, "-c", STOPPED_LEADER, database, str(epoch), str(made.tenant_id), where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert leader.stdout.readline() == "holding\n"
        leader.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        second = await leadership.take(world.pool, holder="two", now=NOW)
        assert time.monotonic() - began < TAKE_OVER_SECONDS
        pool = await open_pool(database, size=2, timeout=10, epoch=second)
        # Its lock on the tenant went with its session.
        control = world.another_control(pool=pool)
        await control.reconcile(tenant(displayName="Acme"), sink=world.sink, owner="uid-t")
        await pool.close()
        leader.send_signal(signal.SIGCONT)
        output, _ = await asyncio.to_thread(leader.communicate, "\n", timeout=30)
    finally:
        leader.kill()
        leader.wait()
    assert output.splitlines()[-1] == "Deposed"
    assert (await tenants.by_slug(world.pool, "acme")).display_name == "Acme"


async def test_a_take_over_leaves_others_sessions_alone(world, lead, database):
    with psycopg.connect(database) as other, psycopg.connect(database, application_name="leaderboard leader x") as odd:
        first = await lead()
        async with locked(first, kind=1, id=7) as conn:
            await lead("two")
            with pytest.raises(psycopg.OperationalError):
                await conn.execute("SELECT 1")
        assert other.execute("SELECT 1").fetchone() == odd.execute("SELECT 1").fetchone() == (1,)


async def test_a_database_without_the_table_says_what_to_do(postgres):
    url = postgres.create_database("without_leadership")
    pool = await open_pool(url, size=1, timeout=5)
    with pytest.raises(DatabaseUnavailable, match="leaderboard migrate"):
        await leadership.take(pool, holder="one", now=NOW)
    await pool.close()
