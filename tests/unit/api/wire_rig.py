"""A connection of our protocol over a transport in memory, for the tests of this folder."""

import asyncio
from types import SimpleNamespace

from leaderboard.api.exchange import KEY
from leaderboard.api.http1 import Connection


class Transport:
    """Keeps what is written; `closed` as soon as anybody asks for it."""

    def __init__(self):
        self.written = b""
        self.closed = self.ended = False
        self.reading = True

    def get_extra_info(self, name):
        return {"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 4711)}.get(name)

    def write(self, data):
        assert not self.closed
        self.written += data

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.ended = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


async def echo(scope, receive, send):
    """Answer everything the request said; how its body was cut is not to be seen."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    said = {name: value for name, value in scope.items() if name not in (KEY, "client", "server", "asgi")}
    text = repr((sorted(said.items()), body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


class Rig:
    """One connection to an application. `feed` gives it a piece and lets everything run that it set off."""

    def __init__(self, app=echo):
        config = SimpleNamespace(loaded=True, loaded_app=app, timeout_keep_alive=75)
        self.state = SimpleNamespace(
            connections=set(), tasks=set(), total_requests=0, default_headers=[(b"date", b"D")]
        )
        self.transport = Transport()
        self.connection = Connection(config, self.state, {}, asyncio.get_running_loop())
        self.connection.connection_made(self.transport)

    async def feed(self, *pieces):
        for piece in pieces:
            if self.transport.closed:
                break
            self.connection.data_received(piece)
            await settle()
        return self.transport.written

    async def lose(self):
        self.connection.connection_lost(None)
        await settle()


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


def request(body=b'{"n":1}', *, method=b"POST", path=b"/a?b=1", more=()):
    lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: test", *more]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


def answers(written):
    """The bodies of the answers in what was written, as `echo` makes them."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        found.append(rest[:size])
        written = rest[size:]
    return found
