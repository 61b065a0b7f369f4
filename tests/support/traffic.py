"""Load that counts what became of every request, and what stands between clients and servers that come and go."""

import asyncio
import contextlib
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Self
from urllib.parse import urlsplit


class Traffic:
    """Updates of one board by `callers` clients, each without a pause on a connection of its own.

    A caller does what HTTP/1.1 asks: after `connection: close` it opens another connection, and so it does where the
    server closed the connection before the next request was sent. It never sends a request twice: one that got no
    answer is in `lost`, since nobody knows what became of it. An answer other than 200 is in `refused`.
    """

    def __init__(self, url: str, *, key: str, board: str = "global", callers: int = 16) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._key = key
        self._board = board
        self._users = [f"caller-{number}" for number in range(callers)]
        self._tasks: list[asyncio.Task[None]] = []
        self._on = True
        self.server_goes = False
        """Whether there is to be no server any more: a caller that cannot connect then ends."""
        self.acknowledged: Counter[str] = Counter()
        """Updates answered with 200, by user: each added 1 to the score."""
        self.refused: list[str] = []
        self.lost: list[str] = []
        self.closed_between = 0
        """Connections that the server closed between two requests, without a word before."""
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._call(user)) for user in self._users]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._on = False
        await asyncio.gather(*self._tasks)

    @property
    def done(self) -> int:
        """How many updates were acknowledged."""
        return self.acknowledged.total()

    async def until(self, more: int) -> None:
        """Return when `more` updates than now were acknowledged."""
        goal = self.done + more
        async with asyncio.timeout(60):
            while self.done < goal:
                await asyncio.sleep(0.01)

    async def ended(self) -> None:
        """Return when every caller has found no server any more."""
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)

    async def _call(self, user: str) -> None:
        body = json.dumps({"leaderboard": self._board, "user": user, "increment": 1}).encode()
        request = (
            f"POST /v1/scores/update HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        while self._on:
            try:
                reader, writer = await asyncio.open_connection(*self._address)
            except OSError as error:
                if self.server_goes:
                    return
                self.lost.append(f"{user}: no connection: {error}")
                await asyncio.sleep(0.05)
                continue
            self.connections += 1
            with contextlib.suppress(OSError):
                await self._use(reader, writer, user, request)
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, user: str, request: bytes) -> None:
        """Send requests until the connection is not to be used any more."""
        while self._on:
            await asyncio.sleep(0)  # let what the server may have said of the connection arrive
            if reader.at_eof() or reader.exception() is not None:
                self.closed_between += 1
                return
            try:
                writer.write(request)
                async with asyncio.timeout(30):
                    head = await reader.readuntil(b"\r\n\r\n")
                    lines = head.decode("latin-1").lower().split("\r\n")
                    length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
                    answer = await reader.readexactly(length)
            except (OSError, EOFError, TimeoutError) as error:
                self.lost.append(f"{user}: {error!r}")
                return
            if lines[0].split()[1] == "200":
                self.acknowledged[user] += 1
            else:
                self.refused.append(f"{user}: {lines[0]} {answer.decode()}")
            if "connection: close" in lines:
                return


class Balancer:
    """Passes TCP connections to the servers in `urls` in turn, as a Service of Kubernetes does.

    A server that is taken out of `urls` gets no new connection and keeps those it has.
    """

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.url = ""
        self._turns = itertools.count()
        self._passing: set[asyncio.Task[None]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, *urls: str) -> AsyncIterator["Balancer"]:
        """Run one while the block lasts."""
        balancer = cls()
        balancer.urls = list(urls)
        server = await asyncio.start_server(balancer._serve, "127.0.0.1", 0)
        balancer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield balancer
        finally:
            server.close()
            await asyncio.gather(*balancer._passing)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)
        target = urlsplit(self.urls[next(self._turns) % len(self.urls)])
        try:
            up_reader, up_writer = await asyncio.open_connection(target.hostname, target.port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass(reader, up_writer), _pass(up_reader, writer))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
