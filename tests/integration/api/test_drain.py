"""A server that is told to stop: what is under way is answered, what is idle is closed, what hangs is given up."""

import asyncio
import contextlib
import os
import socket

import uvicorn

from leaderboard.api.http1 import Connection

REQUEST = b"GET /%b HTTP/1.1\r\nHost: test\r\n\r\n"


@contextlib.asynccontextmanager
async def serving(app, **options):
    """Run uvicorn's server with our protocol over `app`, and give the server, its task and an address."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, http=Connection, lifespan="off", log_config=None, interface="asgi3", **options)
    )
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield server, running, listening.getsockname()
    finally:
        server.should_exit = True
        await running


async def answer(send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


async def test_requests_under_way_are_answered_and_idle_connections_closed():
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            begun.set()
            await go_on.wait()
        await answer(send)

    async with serving(app) as (server, running, address), asyncio.timeout(20):
        idle, slow, piped = [await asyncio.open_connection(*address) for _ in range(3)]
        for reader, writer in (idle, slow, piped):
            writer.write(REQUEST % b"quick")
            assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200 ")
        slow[1].write(REQUEST % b"slow")
        piped[1].write(REQUEST % b"slow" + REQUEST % b"quick")
        await begun.wait()
        server.should_exit = True
        assert await idle[0].read() == b""
        assert not running.done()
        go_on.set()
        last = await slow[0].read()
        assert last.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close\r\n" in last
        both = await piped[0].read()
        assert both.count(b"HTTP/1.1 200 ") == 2, "what had arrived before is answered too"
        assert both.count(b"connection: close\r\n") == 1
        await running
        assert server.server_state.tasks == set()
        for _, writer in (idle, slow, piped):
            writer.close()


async def test_a_request_that_had_just_been_sent_is_answered():
    async def app(scope, receive, send):
        await answer(send)

    async with serving(app) as (server, _, address), asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST % b"first")
        await reader.readuntil(b"{}")
        # It arrives, and nobody has read it yet.
        os.write(writer.get_extra_info("socket").fileno(), REQUEST % b"second")
        next(iter(server.server_state.connections)).shutdown()
        last = await reader.read()
        assert last.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close\r\n" in last
        writer.close()


async def test_a_request_that_hangs_is_given_up_when_the_time_is_over():
    given_up = []

    async def app(scope, receive, send):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            given_up.append(True)
            raise

    async with serving(app, timeout_graceful_shutdown=1) as (server, running, address), asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST % b"")
        while not server.server_state.connections:
            await asyncio.sleep(0.01)
        server.should_exit = True
        assert await reader.read() == b"", "closed without an answer: what was done of it is not known"
        await running
        assert given_up == [True]
        writer.close()


async def test_closed_connections_leave_no_task_behind():
    async def app(scope, receive, send):
        await answer(send)

    async with serving(app) as (server, _, address), asyncio.timeout(20):
        for _ in range(20):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(REQUEST % b"")
            await reader.readuntil(b"{}")
            writer.close()
        while server.server_state.connections or server.server_state.tasks:
            await asyncio.sleep(0.01)
