"""An import with importer, worker and Redis killed under it, again and again: every member once."""

import asyncio
import contextlib
import os
import random
import subprocess
import sys

import pytest
import redis as redis_py
from redis.exceptions import RedisError

from leaderboard.store.redis import keys
from support.moving import on_board, once_in_the_ledger, verified
from support.world import eventually, leaderboard, open_world, tenant

LEADERBOARD = [sys.executable, "-m", "leaderboard.cli"]

ROUNDS = 24
MEMBERS = 40_000
SEED = int.from_bytes(os.urandom(4), "big")

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


async def test_kills_at_random_points_lose_and_repeat_nothing(
    database, make_redis, csv_file, members, environment, tmp_path
):
    print(f"seed {SEED}")
    log = tmp_path / "worker.log"
    chance = random.Random(SEED)
    server = make_redis(appendfsync="always")
    # The outbox is small, so that it is full now and then as well, and the batches too: more moments to die in.
    environment |= {
        "LEADERBOARD_REDIS_URL": server.url,
        "LEADERBOARD_OUTBOX_MAX": "30",
        "LEADERBOARD_LEDGER_BATCH": "600",
    }
    source = members(MEMBERS, seed=SEED)
    command = [*LEADERBOARD, "import", "--board", "acme/default/global", "csv", str(csv_file(source))]

    def start(*what):
        return subprocess.Popen(what, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    async with open_world(database, server.url) as world:
        await world.apply(tenant())
        made = await world.apply(leaderboard())
        client = redis_py.Redis.from_url(server.url)

        def done():
            with contextlib.suppress(RedisError):
                return int(client.hget(keys.importing(made.namespace), "at") or 0)
            return 0

        def work():
            with log.open("a") as written:
                return subprocess.Popen([*LEADERBOARD, "work"], env=environment, stdout=written, stderr=written)

        async def moved():
            assert worker.poll() is None, f"the worker exited with {worker.returncode}"
            return await world._empty()

        worker, killed, reached = work(), {"importer": 0, "worker": 0, "Redis": 0}, []
        for number in range(ROUNDS):
            importer = await asyncio.to_thread(start, *command)
            until = done() + chance.randint(1, 2 * MEMBERS // (ROUNDS + 8))
            while importer.poll() is None and done() < until:
                await asyncio.sleep(0.001)
            await asyncio.sleep(chance.uniform(0, 0.005))
            victim = chance.choice(["importer", "importer", "worker", "Redis"])
            killed[victim] += 1
            if victim == "worker":
                worker.kill()
                worker.wait()
                worker = work()
            if victim == "Redis":
                server.kill()
                server.start()
            importer.kill()  # in any case, so that the next round has something to resume
            said = importer.communicate()[0]
            assert number == 0 or "goes on where it was" in said or "finished already" in said or said == "", said
            reached.append(done())
        print(killed, reached)
        assert reached == sorted(reached)
        assert sum(1 for at in reached if 0 < at < MEMBERS) >= 5, "too few kills came in the middle"
        last = await asyncio.to_thread(start, *command)
        said = (await asyncio.to_thread(last.communicate))[0]
        assert last.returncode == 0, said
        assert f"{MEMBERS:,} members added, 0 scores replaced, 0 kept another score" in said
        assert f"0 missing, 0 extra, 0 with another score, 0 out of order; {MEMBERS:,} the same" in said
        await world.redis.connection_pool.disconnect()  # what it has are of a Redis that was killed
        assert await on_board(world, made) == sorted(source, key=lambda member: member[1], reverse=True)
        try:
            await eventually(moved, seconds=300)
        except AssertionError:
            # What only a busy machine shows must be told there.
            print(*log.read_text().splitlines()[-40:], sep="\n")
            print(await world.redis.xinfo_stream(keys.OUTBOX, full=True))
            print(await world.one("SELECT json_agg(a) FROM pg_stat_activity a WHERE datname = current_database()"))
            raise
        await verified(world, entries=MEMBERS)
        await once_in_the_ledger(world, entries=MEMBERS)
        client.close()
        worker.terminate()
        worker.wait(timeout=30)
