"""Live boards: what 2,000 open streams cost in memory, and in writes."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import shapes
from leaderboard.local.process import wait_until
from load import BenchError, Sample
from sections import Bench, Row
from stack import Server

STREAMS = 2_000
LIMIT = 20
"""Entries of an event. With 13,000 writes a second to 100,000 members one of the first 20 changes in nearly every
second, so that nearly every interval has an event for every stream."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


def streams(bench: Bench) -> dict[str, list[Row]]:
    """Memory a stream, ours and a bare handler's on the same server; writes with streams open and without."""
    stack, write = bench.stack, shapes.write(bench.stack.key)
    memory = []
    for case, program in (("stream", None), ("bare handler on the same server", "bare_stream.py")):
        server = stack.api(case.split()[0], program=program)
        bench.saturate(server, write, seconds=1)  # its caches and buffers, before anything is counted
        before = _resident(server)
        with _open(server, stack.key):
            each = (_resident(server) - before) / STREAMS
        stack.stop_server(server)
        memory.append(Row(case=case, numbers={"bytes": each}))
        bench.say(f"    {case}: {each:,.0f} bytes")

    def followed() -> Sample:
        with _open(bench.ours, stack.key):
            return bench.saturate(bench.ours, write)

    written = bench.interleave(
        {
            "single write": lambda: bench.saturate(bench.ours, write),
            f"single write, {STREAMS:,} streams open": followed,
        }
    )
    return {"streams": written, "stream_memory": memory}


@contextlib.contextmanager
def _open(server: Server, key: str) -> Iterator[None]:
    """Hold streams of the board `global` open. What they are sent stays in the sockets' buffers, which have room."""
    request = (
        f"GET /v1/leaderboards/global/stream?limit={LIMIT} HTTP/1.1\r\nHost: {server.host}\r\n"
        f"Authorization: Bearer {key}\r\nAccept: text/event-stream\r\n\r\n"
    ).encode()
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(STREAMS):
            one = stack.enter_context(socket.create_connection((server.host, server.port), timeout=10))
            one.sendall(request)
            sockets.append(one)
        for one in sockets:
            if not one.recv(4_096).startswith(b"HTTP/1.1 200 "):
                raise BenchError("a stream was refused")
        yield
        for one in sockets:
            if not _alive(one):
                raise BenchError("a stream ended before its time")
    # The next run begins without them.
    assert server.pid is not None
    descriptors = Path(f"/proc/{server.pid}/fd")
    if not wait_until(lambda: len(list(descriptors.iterdir())) < STREAMS, seconds=30):
        raise BenchError("the server keeps streams whose clients are gone")


def _alive(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        while data := one.recv(65_536):
            if b"event: problem" in data:
                return False
    except BlockingIOError:
        return True
    return False


def _resident(server: Server) -> int:
    return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * _PAGE
