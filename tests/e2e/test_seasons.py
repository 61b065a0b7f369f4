"""Every acknowledged write is in exactly one season, whatever is killed while boards are reset.

Each user is written to by one connection, one increment of 1 at a time, with an Idempotency-Key and until it is
acknowledged. The scores it is answered go 1, 2, 3 and start at 1 again after a reset: the ends of these runs are what
the user's seasons have to say, whatever the platform thinks. Ranks and ties are compared with a replay of the ledger.
"""

import asyncio
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Iterator

import psycopg
import pytest
import redis

from leaderboard.local.process import wait_until
from support.client import Connection, write_until_taken
from support.platform import Platform

pytestmark = [pytest.mark.chaos]

CONNECTIONS = 16
USERS = 12
"""Of each connection."""
PER_SECOND = 20_000 / 60
TIES = ("FirstToReach", "UserId", "Shared")

Runs = dict[tuple[str, str], list[int]]
Line = tuple[int, int, str, float]


async def write(platform: Platform, key: str, keys: list[str], runs: Runs, *, number: int, stop: asyncio.Event) -> None:
    """Write to random boards until `stop`, and add to `runs`, per board and user, the last score of each season."""
    chance = random.Random(number)
    http = Connection(platform.url)
    loop = asyncio.get_running_loop()
    due = loop.time()
    for count in itertools.count():
        if stop.is_set():
            break
        board, user = chance.choice(keys), f"c{number}-u{chance.randrange(USERS)}"
        body = {"leaderboard": board, "user": user, "increment": 1}
        answer, _ = await write_until_taken(http, key, body, idempotency_key=f"{number}-{count}")
        score, seen = answer.json()["score"], runs[board, user]
        if score == 1:
            seen.append(1)
        else:
            assert seen, answer
            assert score == seen[-1] + 1, answer
            seen[-1] = score
        due += CONNECTIONS / PER_SECOND
        await asyncio.sleep(due - loop.time())
    await http.close()


async def reset(platform: Platform, key: str, board: str, season: int) -> None:
    """End a season of a board, whatever happens to the API meanwhile."""
    http = Connection(platform.url)
    for tries in itertools.count(1):
        try:
            answer = await http.request("POST", f"/v1/leaderboards/{board}/reset", key=key, body={"season": season})
        except (OSError, EOFError):
            await asyncio.sleep(0.1)
            continue
        if answer.status == 200 or (answer.status == 409 and tries > 1):
            break
        assert answer.status == 503, answer
        await asyncio.sleep(0.2)
    await http.close()


def replayed(database: str, board_id: int, tie: str) -> Iterator[list[Line]]:
    """Yield what each season ended with, the running one last, by the ledger: best first."""
    with psycopg.connect(database) as conn:
        events = conn.execute(
            "SELECT kind, member, score FROM score_events WHERE leaderboard_id = %s ORDER BY incarnation, seq",
            (board_id,),
        ).fetchall()
    scores: dict[str, float] = {}
    for kind, member, score in [*events, ("x", None, None)]:
        if kind == "u":
            # Each update changes the score: who had it first is who stands further ahead in the dict.
            scores.pop(member, None)
            scores[member] = score
            continue
        assert kind == "x", kind
        if tie == "FirstToReach":
            order = sorted(scores, key=lambda member: -scores[member])
        else:
            order = sorted(scores, key=lambda member: (scores[member], member.encode()), reverse=True)
        lines: list[Line] = []
        for place, user in enumerate(order, start=1):
            shares = tie == "Shared" and bool(lines) and lines[-1][3] == scores[user]
            lines.append((place, lines[-1][1] if shares else place, user, scores[user]))
        yield lines
        scores = {}


@pytest.mark.parametrize(
    ("boards", "rounds"),
    [
        pytest.param(25, 6, marks=pytest.mark.timeout(900)),
        pytest.param(100, 50, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
async def test_boards_are_reset_under_writes_while_workers_are_killed(make_platform, tenant, redis_url, boards, rounds):
    platform = make_platform(workers=2)
    specs = [{"key": f"b{number}", "tiePolicy": TIES[number % 3]} for number in range(boards)]
    acme = tenant(platform, boards=specs, quotas={"requestsPerSecond": 1_000_000})
    keys = [spec["key"] for spec in specs]
    runs: Runs = defaultdict(list)
    stop, chance, began = asyncio.Event(), random.Random(boards), time.monotonic()
    writing = [
        asyncio.create_task(write(platform, acme.key, keys, runs, number=number, stop=stop))
        for number in range(CONNECTIONS)
    ]
    for season in range(1, rounds + 1):

        async def die() -> None:
            await asyncio.sleep(chance.uniform(0, 2))
            await asyncio.to_thread(platform.restart_worker)
            if chance.random() < 0.5:
                platform.kill_api_worker()

        dying = asyncio.create_task(die())
        for at in range(0, boards, 10):
            await asyncio.gather(*(reset(platform, acme.key, key, season) for key in keys[at : at + 10]))
            await asyncio.sleep(chance.uniform(0, 0.2))
        await dying
    stop.set()
    await asyncio.gather(*writing)
    print(f"{sum(map(sum, runs.values())) / (time.monotonic() - began) * 60:,.0f} writes a minute")
    await asyncio.to_thread(assert_every_write_is_in_one_season, platform, redis_url, acme.id, specs, rounds, runs)


def assert_every_write_is_in_one_season(
    platform: Platform, redis_url: str, tenant_id: int, specs: list[dict[str, str]], rounds: int, runs: Runs
) -> None:
    with redis.Redis.from_url(redis_url) as client, psycopg.connect(platform.database, autocommit=True) as conn:

        def archived() -> bool:
            row = conn.execute("SELECT count(*) FROM seasons WHERE state = 'archived'").fetchone()
            return row == (len(specs) * rounds,) and client.xlen("outbox") == 0

        assert wait_until(archived, seconds=600), conn.execute(
            "SELECT state, count(*) FROM seasons GROUP BY state"
        ).fetchall()
        of_users: Runs = defaultdict(list)
        for spec in specs:
            row = conn.execute("SELECT id, season FROM leaderboards WHERE key = %s", (spec["key"],)).fetchone()
            assert row is not None
            board_id, season = row
            assert season == rounds + 1
            expected = list(replayed(platform.database, board_id, spec["tiePolicy"]))
            assert len(expected) == rounds + 1
            for number, lines in enumerate(expected[:-1], start=1):
                final = conn.execute(
                    "SELECT place, rank, member, score FROM season_standings"
                    " WHERE leaderboard_id = %s AND season = %s ORDER BY place",
                    (board_id, number),
                ).fetchall()
                assert final == lines, (spec, number)
                for _, _, member, score in final:
                    of_users[spec["key"], member].append(int(score))
            running = client.zrange(f"l:{tenant_id}:default:{spec['key']}", 0, -1, desc=True, withscores=True)
            cut = 12 if spec["tiePolicy"] == "FirstToReach" else 0
            assert [(member[cut:].decode(), score) for member, score in running] == [
                (member, score) for _, _, member, score in expected[-1]
            ]
            for _, _, member, score in expected[-1]:
                of_users[spec["key"], member].append(int(score))
        assert of_users == runs
        total = sum(map(sum, runs.values()))
        assert conn.execute("SELECT count(*) FROM score_events WHERE kind = 'u'").fetchone() == (total,)
        print(f"{total} writes, {len(specs)} boards, {rounds} seasons each")
        # What is a board's in Redis is its own three keys and the idempotency records, which go by themselves.
        boards = [f"l:{tenant_id}:default:{spec['key']}" for spec in specs]
        own = {name for board in boards for name in (board, f"meta:{{{board}}}", f"order:{{{board}}}")}
        there = {name.decode() for name in client.scan_iter(count=1000)}
        assert {name for name in there if ":default:" in name and not name.startswith("idem:")} <= own
