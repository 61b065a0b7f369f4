"""A TCP proxy that misbehaves on request: it drops, swallows, stalls or cuts what passes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Passes bytes between clients and one server. Use ``async with Proxy.to(url) as proxy`` and `proxy.url`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._swallow = False
        self.swallowed = 0
        """Bytes of answers that were thrown away."""
        self.url = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator["Proxy"]:
        """Run a proxy in front of the server of `url` while the block lasts."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        proxy = cls(parts.hostname, parts.port)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        login = parts.netloc.rpartition("@")[0]
        proxy.url = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}" if login else f"127.0.0.1:{port}"))
        try:
            yield proxy
        finally:
            server.close()
            proxy.cut()
            await asyncio.gather(*proxy._handlers)

    def cut(self) -> None:
        """Cut every connection that passes through; what is still on its way is lost, never delivered with a gap."""
        for writer in self._writers:
            writer.transport.abort()

    async def cut_after_request(self) -> None:
        """Throw answers away until some were lost, then cut the connections they belonged to."""
        before, self._swallow = self.swallowed, True
        async with asyncio.timeout(10):
            while self.swallowed == before:
                await asyncio.sleep(0.001)
        self.cut()
        self._swallow = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        pair = {writer, up_writer}
        self._writers |= pair
        try:
            await asyncio.gather(
                self._pass(reader, up_writer, answers=False), self._pass(up_reader, writer, answers=True)
            )
        finally:
            self._writers -= pair

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(OSError):  # a cut connection
            while data := await reader.read(65536):
                if answers and self._swallow:
                    self.swallowed += len(data)
                    continue
                writer.write(data)
                await writer.drain()
        writer.close()
