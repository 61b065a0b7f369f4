"""A proxy that cuts, delays, repeats and answers too late, and increments to send through it."""

import asyncio
import collections
import contextlib
import random
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

COUNT = 10_000
USERS = 7
EXPECTED = {f"u{user}": len(range(user, COUNT, USERS)) for user in range(USERS)}
_KINDS = ("cut before", "cut after", "delay", "late", "repeat")
FAULTS = {"none", *_KINDS}
TIMEOUT = 1.0
"""Seconds that a client is to wait for an answer."""
_LATE = 1.5  # seconds: the client has asked again by then, and has its answer


class FaultProxy:
    """Passes one HTTP request at a time per connection, and does a fault to a share of them."""

    def __init__(self, url: str, *, share: float) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._share = share
        self._random = random.Random(7)
        self.done: collections.Counter[str] = collections.Counter()
        self.url = ""

    @contextlib.contextmanager
    def running(self) -> Iterator["FaultProxy"]:
        """Run in a thread of its own, so that a client that blocks can use it."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()

        async def begin() -> asyncio.Server:
            return await asyncio.start_server(self._serve, "127.0.0.1", 0)

        server = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        async def finish() -> None:
            server.close()
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(finish(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._target)
        try:
            while True:
                request = await _message(reader)
                fault = self._random.choice(_KINDS) if self._random.random() < self._share else "none"
                self.done[fault] += 1
                if fault == "cut before":
                    return
                if fault == "delay":
                    await asyncio.sleep(0.02)
                for _ in range(2 if fault == "repeat" else 1):
                    up_writer.write(request)
                    answer = await _message(up_reader)
                if fault == "cut after":
                    return
                if fault == "late":
                    await asyncio.sleep(_LATE)
                writer.write(answer)
                await writer.drain()
        except (OSError, EOFError, asyncio.CancelledError):
            return
        finally:
            writer.transport.abort()
            up_writer.transport.abort()


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return head + await reader.readexactly(length)
