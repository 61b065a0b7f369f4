"""What the tests of the Redis store share: a TCP proxy that misbehaves, connections, and boards."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import Redis

from leaderboard.domain.boards import Board, BoardSpec
from leaderboard.store.redis import events, keys
from leaderboard.store.redis.boards import BoardAdmin, BoardState
from leaderboard.store.redis.events import EventIds
from leaderboard.store.redis.multiplexer import Multiplexer
from leaderboard.store.redis.scores import Scores

LOOPBACK = "127.0.0.1"
_numbers = itertools.count(1)


class Proxy:
    """Stands between a client and a Redis, on loopback.

    `stall()` holds bytes back in both directions until `resume()`; `stall_replies()` only those to the client;
    `drop()` cuts every connection with a reset; `refuse` answers new connections with a reset; `split` cuts what goes
    to the client into pieces of at most so many bytes, and what goes to the server as well.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self.refuse = False
        self.split = 0
        self.delay = 0.0
        self._replies, self._requests = asyncio.Event(), asyncio.Event()
        self.resume()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.accepted = 0
        self.url = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        port = self._server.sockets[0].getsockname()[1]
        login = self._target.netloc.rpartition("@")[0]
        self.url = urlunsplit(self._target._replace(netloc=f"{login}@{LOOPBACK}:{port}"))

    async def close(self) -> None:
        self._server.close()
        self.drop()
        self.resume()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stall(self) -> None:
        self._replies.clear()
        self._requests.clear()

    def stall_replies(self) -> None:
        self._replies.clear()

    def resume(self) -> None:
        self._replies.set()
        self._requests.set()

    def drop(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refuse:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        pipes = [
            asyncio.create_task(self._pipe(reader, back, self._requests)),
            asyncio.create_task(self._pipe(there, writer, self._replies)),
        ]
        self._tasks.update(pipes)
        for pipe in pipes:
            pipe.add_done_callback(self._tasks.discard)
            # Either end gone: both are.
            pipe.add_done_callback(lambda _: (writer.transport.abort(), back.transport.abort()))

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if not self.split:
                    await gate.wait()
                    writer.write(data)
                    await writer.drain()
                    continue
                start = 0
                while start < len(data):
                    await gate.wait()
                    end = start + random.randint(1, self.split)
                    writer.write(data[start:end])
                    start = end
                    await asyncio.sleep(0)  # let it arrive on its own


@contextlib.asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    """A proxy in front of the Redis at `url`."""
    proxy = Proxy(url)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()


@contextlib.asynccontextmanager
async def connected(url: str, **settings) -> AsyncIterator[Multiplexer]:
    """A multiplexer that is connected to `url`."""
    redis = Multiplexer(url, **settings)
    await redis.start(wait=20)
    try:
        assert redis.connected
        yield redis
    finally:
        await redis.close()


async def until(condition, *, seconds=20.0):
    """Return when `condition()` is true, fail when it never is."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, "it never became true"
        await asyncio.sleep(0.005)


class Rig:
    """One Redis with the hot path's store (`scores` over `redis`), control's (`admin`) and a plain client."""

    def __init__(self, redis: Multiplexer, client: Redis, *, outbox_max: int = 10**6, ttl: int = 60) -> None:
        self.redis = redis
        self.client = client
        self.admin = BoardAdmin(client)
        self.ids = EventIds(next(_numbers).to_bytes(8))
        self.scores = Scores(redis, ids=self.ids, outbox_max=outbox_max, idempotency_ttl=ttl)

    async def board(self, *, state=BoardState.ACTIVE, id=None, incarnation=1, name=None, **spec) -> str:
        """Make a board and return its Redis key."""
        number = next(_numbers)
        spec = BoardSpec(key=name or f"board-{number}", **spec)
        board_key = keys.board(7, "race_app", spec.key)
        board = Board(id=id or number, spec=spec, incarnation=incarnation)
        await self.admin.write_meta(board_key, board, state=state)
        return board_key

    async def set_state(self, board_key: str, state: BoardState) -> None:
        """Change what the scripts may do with the board."""
        await self.client.hset(keys.meta(board_key), "state", str(state))

    async def events(self) -> list[events.ScoreEvent]:
        """What is in the outbox."""
        return [events.decode(id, fields[events.FIELD]) for id, fields in await self.client.xrange(keys.OUTBOX)]

    async def page(self, board, *, start=0, count=1000, after=None, public=False):
        return await self.scores.top(
            board, start=start, count=count, after=after, public=public, render=lambda page: page
        )

    async def everything(self) -> dict[bytes, bytes]:
        """All of Redis, byte for byte: two of them are equal when nothing was written in between."""
        names = sorted(await self.client.keys("*"))
        return {name: await self.client.dump(name) for name in names}


@contextlib.asynccontextmanager
async def rig_on(url: str, *, outbox_max: int = 10**6, ttl: int = 60, **settings) -> AsyncIterator[Rig]:
    """A rig on the Redis at `url`."""
    client = Redis.from_url(url)
    try:
        async with connected(url, **settings) as redis:
            yield Rig(redis, client, outbox_max=outbox_max, ttl=ttl)
    finally:
        await client.aclose()
