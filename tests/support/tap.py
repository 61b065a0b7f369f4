"""A proxy in a thread of its own that sees each request: to let an answer hang, or to strike at an exact moment."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import urlsplit, urlunsplit

from leaderboard.local.kubernetes import EmbeddedKubernetes
from leaderboard.local.process import LOOPBACK

_CHUNK = 1 << 16


class Tap:
    """Passes bytes between clients and the server of `target` (a URL). Use ``with tap.open()`` and `url`.

    With `authority`, a PEM file, the way to the server is TLS, and that of the clients is plain: then requests can be
    told from each other. Others can only be counted: one piece of data from a client is one request, or one pipeline
    of them. `struck` is called for each, in the proxy's thread, before it is passed on: False drops it, and the
    connection with it.
    """

    def __init__(
        self, target: str, *, authority: str | None = None, struck: Callable[[bytes], bool] = lambda _: True
    ) -> None:
        self._parts = urlsplit(target)
        self._ssl = None if authority is None else ssl.create_default_context(cafile=authority)
        self._struck = struck
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._watches: set[asyncio.StreamWriter] = set()
        self._stuck = False
        self.url = ""

    @classmethod
    def of_cluster(cls, cluster: EmbeddedKubernetes, *, struck: Callable[[bytes], bool] = lambda _: True) -> "Tap":
        """Return one in front of a Kubernetes API."""
        return cls(cluster.url, authority=str(cluster.ca), struck=struck)

    @contextlib.contextmanager
    def open(self) -> Iterator["Tap"]:
        """Run while the block lasts."""
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, LOOPBACK, 0))
        login, _, _ = self._parts.netloc.rpartition("@")
        here = f"{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        scheme = "http" if self._ssl else self._parts.scheme
        self.url = urlunsplit(self._parts._replace(scheme=scheme, netloc=f"{login}@{here}" if login else here))
        thread = threading.Thread(target=self._loop.run_forever, name="tap")
        thread.start()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.run_until_complete(self._close(server))
            self._loop.close()

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        self._cut(self._clients)
        await asyncio.gather(*self._tasks)

    def let_watches_hang(self) -> None:
        """Pass nothing on to who watches from now on, as a connection does whose other end vanished without a word."""
        self._stuck = True

    def cut_watches(self) -> None:
        """Cut what hangs, and let new watches pass."""
        self._stuck = False
        self._loop.call_soon_threadsafe(self._cut, self._watches)

    @staticmethod
    def _cut(clients: Iterable[asyncio.StreamWriter]) -> None:
        for writer in clients:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            up_reader, up_writer = await asyncio.open_connection(self._parts.hostname, self._parts.port, ssl=self._ssl)
        except OSError:
            writer.transport.abort()
            return
        self._clients.add(writer)
        try:
            await asyncio.gather(self._requests(reader, up_writer, writer), self._answers(up_reader, writer))
        finally:
            self._clients.discard(writer)
            self._watches.discard(writer)
            for each in (writer, up_writer):
                each.transport.abort()

    async def _requests(
        self, reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if b"watch=true" in data.partition(b"\r\n")[0]:
                    self._watches.add(writer)
                if not self._struck(data):
                    break
                up_writer.write(data)
                await up_writer.drain()
        up_writer.transport.abort()

    async def _answers(self, up_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await up_reader.read(_CHUNK):
                if self._stuck and writer in self._watches:
                    continue
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
