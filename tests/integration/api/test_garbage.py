"""A request leaves no rings of objects behind: what only the collector can free, it frees in pauses everybody feels."""

import asyncio
import gc
import secrets
import socket

import pytest
import uvicorn

from leaderboard.api.app import create_app, open_parts
from leaderboard.api.http1 import Connection
from leaderboard.config import Config
from support.tenants import apply_tenant

COUNT = 300


class World:
    def __init__(self, redis_url, database):
        self.redis_url, self.database, self.pepper = redis_url, database, secrets.token_hex(32)


def send(address, request, count):
    """Send `request` over one connection, from plain sockets that leave nothing behind themselves."""
    with socket.create_connection(address) as connection:
        for _ in range(count):
            connection.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(65536)
            head, _, body = answer.partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            while len(body) < length:
                body += connection.recv(65536)
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("POST /v1/scores/update", b'{"leaderboard":"global","user":"u1","increment":1}', 200),
        ("POST /v1/scores/batch", b'{"updates":[{"leaderboard":"global","user":"u2","increment":1}]}', 200),
        ("GET /v1/leaderboards/global/top?limit=5", b"", 200),
        ("GET /v1/leaderboards/global/rank/u1", b"", 200),
        ("GET /healthz", b"", 200),
    ],
)
async def test_a_request_leaves_nothing_for_the_collector(redis_url, database, path, body, status):
    world = World(redis_url, database)
    tenant = await apply_tenant(world)
    config = Config(redis_url=redis_url, database_url=database, pepper=world.pepper)
    parts = await open_parts(config)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(create_app(config, parts), http=Connection, lifespan="off", log_config=None, interface="asgi3")
    )
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    head = f"{path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {tenant.key}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    address = listening.getsockname()
    try:
        await asyncio.to_thread(send, address, b"POST /v1/scores/update" + _rest(head) + _one(), 1)
        await asyncio.to_thread(send, address, request, 20)
        gc.collect()
        gc.disable()
        got = await asyncio.to_thread(send, address, request, COUNT)
        found = gc.collect()
    finally:
        gc.enable()
        server.should_exit = True
        await serving
        await parts.close()
    assert got == status
    assert found < COUNT  # less than one object a request: what the pool and the tail did meanwhile


def _rest(head: str) -> bytes:
    return f" HTTP/1.1{head.split(' HTTP/1.1', 1)[1]}".encode()


def _one() -> bytes:
    body = b'{"leaderboard":"global","user":"u1","increment":1}'
    return f"Content-Length: {len(body)}\r\n\r\n".encode() + body
