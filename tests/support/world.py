"""Control and worker on real stores, without the API: what their tests share."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis

from leaderboard.control import rebuild
from leaderboard.control.keys import KeyDelivery
from leaderboard.control.reconcile import Control
from leaderboard.domain import documents
from leaderboard.domain.keys import digest
from leaderboard.store.postgres import tenants
from leaderboard.store.postgres.pool import open_pool
from leaderboard.store.redis import keys, scripts
from leaderboard.store.redis.boards import BoardAdmin
from leaderboard.worker import seasons
from leaderboard.worker.outbox import OutboxWorker

PEPPER = b"p" * 32
_nonces = itertools.count(0xABC)


class Sink:
    """Keeps what was delivered; `crash` raises instead of, or after, keeping it. With `keeps` it is like a Secret, of
    which `lose` is the deletion: it has the last key of each project.
    """

    def __init__(self, *, keeps=False):
        self.keeps = keeps
        self.delivered: list[KeyDelivery] = []
        self.crash: str | None = None
        self._lost: set[str] = set()

    def lose(self, *, project="default"):
        """Forget the keys of the project that were delivered so far."""
        self._lost |= {given.key.id for given in self.delivered if given.project == project}

    async def deliver(self, delivery):
        if self.crash == "before":
            raise RuntimeError("crashed before delivering")
        self.delivered.append(delivery)
        if self.crash == "after":
            raise RuntimeError("crashed after delivering")

    async def holds(self, project, key_id, hmac):
        given = [given for given in self.delivered if given.project == project and given.key.id not in self._lost]
        if self.keeps:
            given = given[-1:]
        return any(one.key.id == key_id and digest(one.key, pepper=PEPPER) == hmac for one in given)


def tenant(slug="acme", **spec):
    return documents.parse(
        {
            "apiVersion": documents.API_VERSION,
            "kind": "Tenant",
            "metadata": {"name": slug},
            "spec": {"slug": slug, **spec},
        }
    )


def leaderboard(key="global", *, of="acme", **spec):
    return documents.parse(
        {
            "apiVersion": documents.API_VERSION,
            "kind": "Leaderboard",
            "metadata": {"name": key},
            "spec": {"tenantRef": {"name": of}, "key": key, **spec},
        }
    )


class World:
    """One Postgres, one Redis, a clock that moves when told, and Control on them."""

    def __init__(self, pool, redis):
        self.pool = pool
        self.redis = redis
        self.admin = BoardAdmin(redis)
        self.now = datetime.now(UTC)
        self.sink = Sink()
        self.control = self.another_control()
        self.nonce = f"{next(_nonces):016x}"
        self._count = itertools.count()

    def another_control(self, *, pool=None, redis=None, drain_seconds=10.0):
        return Control(
            pool or self.pool,
            redis or self.redis,
            pepper=PEPPER,
            clock=lambda: self.now,
            drain_seconds=drain_seconds,
        )

    def pass_time(self, **delta):
        self.now += timedelta(**delta)

    async def apply(self, document, **options):
        return await self.control.reconcile(document, **{"sink": self.sink, **options})

    async def project(self, slug="acme", name="default"):
        """The keyword arguments that say where a board is."""
        row = await tenants.by_slug(self.pool, slug)
        (found,) = [project for project in await tenants.projects(self.pool, row.id) if project.name == name]
        return {"tenant_id": row.id, "project_id": found.id, "project": name}

    async def place(self, path="acme/default/global"):
        return await rebuild.find(self.pool, path)

    async def update(self, board_key, *updates, nonce=None):
        """Send updates (user, 'i1' or 's1') through the real script; return its answers."""
        names = [board_key, keys.meta(board_key), keys.order(board_key), keys.OUTBOX]
        start = next(self._count)
        for _ in updates[1:]:
            next(self._count)
        args = [10**6, 60, nonce or self.nonce, start, *itertools.chain.from_iterable(updates)]
        return await self.redis.eval(scripts.UPDATE.text, len(names), *names, *args)

    async def remove(self, board_key, user):
        names = [board_key, keys.meta(board_key), keys.order(board_key), keys.OUTBOX]
        return await self.redis.eval(
            scripts.REMOVE.text, len(names), *names, 10**6, self.nonce, next(self._count), user
        )

    async def one(self, query, *args):
        async with self.pool.connection() as conn:
            return await (await conn.execute(query, args)).fetchone()

    async def revocations(self):
        """What was told to forget, oldest first, each once."""
        entries = await self.redis.xrange(keys.REVOCATIONS)
        told = [(fields[b"kind"].decode(), fields[b"id"].decode()) for _, fields in entries]
        return list(dict.fromkeys(told))

    @asynccontextmanager
    async def worker(self, *, batch=100) -> AsyncIterator[OutboxWorker]:
        """A worker that runs inside the block, and has stopped after it."""
        stop = asyncio.Event()
        worker = OutboxWorker(self.pool, self.redis, batch=batch, stop=stop)
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            stop.set()
            await task

    async def drain(self):
        """Move everything that is in the outbox to the ledger."""
        async with self.worker():
            await eventually(self._empty)

    async def _empty(self):
        return await self.redis.xlen(keys.OUTBOX) == 0


async def eventually(condition, *, seconds=90):
    """Wait until `condition` (async) is true."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline, "it never became true"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def open_world(database, redis_url, *, pool_size=8, timeout=10):
    pool = await open_pool(database, size=pool_size, timeout=timeout)
    redis = Redis.from_url(redis_url)
    try:
        yield World(pool, redis)
    finally:
        await redis.aclose()
        await pool.close()


async def turn_of_seasons(world, *, now):
    """What the worker does about seasons at one moment; returns what came of the archive."""
    await seasons.reset(world.pool, world.redis, now=now)
    return await seasons.Archive(world.pool, world.redis).turn(now=now)
