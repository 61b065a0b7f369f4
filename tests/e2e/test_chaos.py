"""Nothing acknowledged is lost and nothing counts twice, whatever is killed while scores are written.

Every write has an Idempotency-Key and is sent until it is acknowledged, so the exact result is known beforehand: each
user's sum is the number of writes sent for it, and the ledger has one update event per write.
"""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable

import psycopg
import pytest
import redis

from leaderboard.local.process import wait_until
from leaderboard.store.postgres import migrate
from support.client import Connection, write_until_taken
from support.platform import Platform
from support.proxy import Proxy

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

CONNECTIONS = 32
USERS = 2_000
RATE = {"requestsPerSecond": 1_000_000}


async def write_all(
    platform: Platform, key: str, *, count: int, at: dict[float, Callable[[], Awaitable[None]]]
) -> tuple[Counter[str], int]:
    """Send `count` increments of 1 over all connections; run each action of `at` once that share is acknowledged.

    Return how many writes each user got, and how many tries were answered by nobody or with 503.
    """
    numbers = iter(range(count))
    written: Counter[str] = Counter()
    done, retries = 0, 0
    due = sorted(at.items())
    running: list[asyncio.Task[None]] = []

    async def connection() -> None:
        nonlocal done, retries
        http = Connection(platform.url)
        for number in numbers:
            user = f"u{number * 7919 % USERS}"
            body = {"leaderboard": "global", "user": user, "increment": 1}
            _, tries = await write_until_taken(http, key, body, idempotency_key=f"w{number}")
            written[user] += 1
            done += 1
            retries += tries - 1
            while due and done >= due[0][0] * count:
                running.append(asyncio.create_task(due.pop(0)[1]()))
        await http.close()

    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    await asyncio.gather(*running)
    assert not due
    return written, retries


def command(platform: Platform, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `leaderboard` on the platform's stores."""
    return subprocess.run(
        [sys.executable, "-m", "leaderboard.cli", *words], env=platform.env, capture_output=True, text=True, timeout=120
    )


def assert_exact(platform: Platform, tenant_id: int, written: Counter[str]) -> None:
    """The ledger has each write once, the board every sum, and `verify` says that they agree."""
    with redis.Redis.from_url(platform.redis_url) as client:
        assert wait_until(lambda: client.xlen("outbox") == 0, seconds=60)
    verify = command(platform, "verify")
    assert verify.returncode == 0, verify.stdout + verify.stderr
    with psycopg.connect(platform.database) as conn:
        updates = conn.execute(
            "SELECT count(*), count(DISTINCT event_id) FROM score_events WHERE kind = 'u'"
        ).fetchone()
        seqs = conn.execute("SELECT count(DISTINCT seq), min(seq), max(seq) FROM score_events").fetchone()
        billed = conn.execute("SELECT sum(score_updates) FROM usage_rollups").fetchone()
    total = written.total()
    assert updates == (total, total)
    assert seqs == (total, 1, total)
    assert billed == (total,)
    with redis.Redis.from_url(platform.redis_url) as client:
        entries = client.zrange(f"l:{tenant_id}:default:global", 0, -1, withscores=True)
    assert {member[12:].decode(): score for member, score in entries} == dict(written)


async def test_200_000_writes_survive_the_death_of_the_worker_an_api_worker_and_postgres(
    make_platform, make_postgres, database_on, tenant
):
    postgres = make_postgres()
    platform = make_platform(workers=2, database=database_on(postgres))
    acme = tenant(platform, quotas=RATE)

    async def kill_the_worker() -> None:
        await asyncio.to_thread(platform.kill_worker)
        await asyncio.to_thread(platform.start_worker)

    async def kill_an_api_worker() -> None:
        platform.kill_api_worker()

    async def kill_postgres() -> None:
        await asyncio.to_thread(postgres.kill)
        await asyncio.sleep(2)  # long enough for both processes to run into it
        await asyncio.to_thread(postgres.start)

    written, retries = await write_all(
        platform,
        acme.key,
        count=200_000,
        at={0.2: kill_the_worker, 0.45: kill_an_api_worker, 0.7: kill_postgres},
    )
    assert retries > 0  # the API worker's death was felt: the test does what it says
    await asyncio.to_thread(assert_exact, platform, acme.id, written)


async def test_no_acknowledged_write_is_lost_when_redis_is_killed_with_appendfsync_always(
    make_platform, make_redis, tenant
):
    server = make_redis(appendfsync="always")
    platform = make_platform(redis_url=server.url)
    acme = tenant(platform, quotas=RATE)

    async def kill_redis() -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)

    written, retries = await write_all(
        platform, acme.key, count=20_000, at={0.3: kill_redis, 0.6: kill_redis, 0.9: kill_redis}
    )
    assert retries > 0
    await asyncio.to_thread(assert_exact, platform, acme.id, written)


async def test_writes_in_doubt_count_once_when_sent_again(make_platform, redis_url, tenant):
    async with Proxy.to(redis_url) as proxy:
        platform = await asyncio.to_thread(make_platform, redis_url=proxy.url)
        acme = await asyncio.to_thread(tenant, platform, quotas=RATE)

        async def cut() -> None:
            for _ in range(10):
                # The request reaches Redis, the answer never comes back.
                await proxy.cut_after_request()
                await asyncio.sleep(0.2)

        written, retries = await write_all(platform, acme.key, count=10_000, at={0.1: cut})
        assert retries >= 10
        assert proxy.swallowed > 0  # answers were lost on the way: some writes really were in doubt
        await asyncio.to_thread(assert_exact, platform, acme.id, written)


async def test_an_emptied_redis_says_board_unavailable_and_rebuild_makes_it_whole(make_platform, redis_url, tenant):
    platform = make_platform()
    acme = tenant(
        platform,
        quotas=RATE,
        boards=["global", {"key": "laps", "scoreUpdate": "Best", "sortOrder": "Ascending", "maxEntries": 20}],
    )
    http = Connection(platform.url)
    updates = [{"leaderboard": "global", "user": f"u{i}", "increment": 1 + i % 3} for i in range(60)]
    updates += [{"leaderboard": "laps", "user": f"u{i}", "score": 30 + i * 37 % 50} for i in range(60)]
    for update in updates:
        assert (await http.request("POST", "/v1/scores/update", key=acme.key, body=update)).status == 200
    for user in ("u3", "u7", "u59"):
        removed = await http.request("DELETE", f"/v1/leaderboards/global/members/{user}", key=acme.key)
        assert removed.status == 204
    pages = [f"/v1/leaderboards/{board}/top?limit=100" for board in ("global", "laps")]
    before = [(await http.request("GET", page, key=acme.key)).json() for page in pages]
    assert before[0]["total"] == 57
    assert before[1]["total"] == 20

    with redis.Redis.from_url(redis_url) as client:
        assert await asyncio.to_thread(wait_until, lambda: client.xlen("outbox") == 0, seconds=30)
        client.flushall()

    write = {"leaderboard": "global", "user": "u1", "increment": 1}
    refused = await http.request("POST", "/v1/scores/update", key=acme.key, body=write)
    read = await http.request("GET", pages[0], key=acme.key)
    assert (refused.status, refused.json()["type"]) == (503, "/problems/board-unavailable")
    assert (read.status, read.json()["type"]) == (503, "/problems/board-unavailable")

    rebuilt = await asyncio.to_thread(command, platform, "rebuild", "--all-missing")
    assert rebuilt.returncode == 0, rebuilt.stderr
    after = [(await http.request("GET", page, key=acme.key)).json() for page in pages]
    assert after == before
    gone = await http.request("GET", "/v1/leaderboards/global/rank/u3", key=acme.key)
    assert (gone.status, gone.json()["type"]) == (404, "/problems/user-not-found")

    # It goes on where it was: the next to reach a score stands behind those who did before.
    joined = {"leaderboard": "global", "user": "new", "increment": 3}
    answer = (await http.request("POST", "/v1/scores/update", key=acme.key, body=joined)).json()
    assert answer["rank"] == 1 + sum(entry["score"] >= 3 for entry in before[0]["entries"])
    verify = await asyncio.to_thread(command, platform, "verify")
    assert verify.returncode == 0, verify.stdout + verify.stderr
    await http.close()


async def test_a_full_outbox_refuses_writes_and_loses_none(make_platform, redis_url, tenant):
    platform = make_platform(env={"LEADERBOARD_OUTBOX_MAX": "500"})
    acme = tenant(platform, quotas=RATE)
    platform.stop_worker()
    http = Connection(platform.url)
    body = {"leaderboard": "global", "user": "u1", "increment": 1}
    answers = [await http.request("POST", "/v1/scores/update", key=acme.key, body=body) for _ in range(510)]
    assert [answer.status for answer in answers] == [200] * 500 + [503] * 10
    assert answers[-1].json()["type"] == "/problems/outbox-full"
    assert int(answers[-1].headers["retry-after"]) >= 1
    platform.start_worker()
    with redis.Redis.from_url(redis_url) as client:
        assert await asyncio.to_thread(wait_until, lambda: client.xlen("outbox") == 0, seconds=30)
    last = await http.request("POST", "/v1/scores/update", key=acme.key, body=body)
    assert (last.status, last.json()["score"]) == (200, 501)
    await http.close()


@pytest.fixture
def database_on() -> Callable[..., str]:
    """Make a migrated database on a server of the test's own."""

    def make(server) -> str:
        dsn: str = server.create_database("chaos")
        migrate.apply(dsn)
        return dsn

    return make
