"""A constant-rate, open-loop load generator: latency counts from when a request was due, not from when it left.

So a server that stalls is charged for every request that would have come meanwhile (no coordinated omission). One
thread over plain sockets; requests are encoded before the clock starts. At a constant rate it wakes once a `TICK`,
reads what has come and sends what is due: woken for each request and each answer it took 60 us of its core a request,
more than Redis beside it. Latencies are too long by up to two ticks for that, never too short; and what a tick sends
arrives at once, so a long tick makes bursts that no real client would. Run as a program it reads its orders as JSON
from standard input and prints a Result.
"""

import gc
import itertools
import math
import random
import select
import socket
import sys
import time
from collections.abc import Iterator, Sequence

import msgspec

import shapes

CONNECTIONS = 64
"""As many as serve a tick's requests and what a stall of some milliseconds held up besides."""
TICK = 0.00025
"""Seconds. Where a request takes the API 120 us, p99 was 12.9 ms with 0.001, 9.3 with 0.0005 and 6.6 with this, in
turns on the same servers; the generator takes 45 us a request then, 25 with 0.001."""
_SILENCE_SECONDS = 10.0


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. `rate` in requests per second, None for as fast as the answers come; `ordered` takes members in
    turn rather than at random."""

    host: str
    port: int
    template: str
    requests: int
    rate: float | None
    members: int
    boards: int = 1
    seed: int = 0
    ordered: bool = False


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `late_p99_ms` is how late the generator itself was while it had a free connection."""

    requests: int
    seconds: float
    refused: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    late_p99_ms: float


def drive(address: tuple[str, int], requests: Sequence[bytes], *, rate: float | None) -> Result:
    """Send every request when it is due, on the next free connection, and wait for all answers."""
    gap, total, clock = (1 / rate if rate else 0.0), len(requests), time.perf_counter
    by_number: dict[int, socket.socket] = {}
    poller = select.epoll()

    def connected() -> socket.socket:
        connection = socket.create_connection(address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        by_number[connection.fileno()] = connection
        poller.register(connection, select.EPOLLIN)
        return connection

    idle = [connected() for _ in range(CONNECTIONS)]
    due_of: dict[socket.socket, float] = {}
    partial: dict[socket.socket, bytes] = {}
    latencies: list[float] = []
    late: list[float] = []
    sent = refused = 0
    waited = False  # for a connection: then a late departure is the server's, not ours
    begin = heard = clock()
    while len(latencies) < total:
        while idle and sent < total and (due := begin + sent * gap) <= (now := clock()):
            connection = idle.pop()
            connection.send(requests[sent])
            due_of[connection] = due
            if not waited:
                late.append(now - due)
            sent += 1
        waited = not idle and sent < total
        if rate is not None:
            time.sleep(TICK)
        ready = poller.poll(0 if rate is not None else _SILENCE_SECONDS)
        if ready:
            heard = clock()
        elif due_of and clock() - heard > _SILENCE_SECONDS:
            raise TimeoutError(f"no answer for {_SILENCE_SECONDS:g} s")
        for number, _events in ready:
            connection = by_number[number]
            if connection not in due_of:  # the server ended one that had nothing to do for long
                idle.remove(by_number.pop(number))
                poller.unregister(connection)
                connection.close()
                idle.insert(0, connected())
                continue
            data = partial.pop(connection, b"") + _receive(connection)
            if not whole(data):
                partial[connection] = data
                continue
            latencies.append(clock() - due_of.pop(connection))
            idle.append(connection)
            if data[9:10] != b"2":
                refused += 1
    seconds = clock() - begin
    poller.close()
    for connection in idle:
        connection.close()
    return _result(latencies, late or [0.0], seconds=seconds, refused=refused)


def ask(address: tuple[str, int], request: bytes) -> bytes:
    """Send one request and return the body of its answer."""
    with socket.create_connection(address) as connection:
        connection.sendall(request)
        answer = _receive(connection)
        while not whole(answer):
            answer += _receive(connection)
    return answer.partition(b"\r\n\r\n")[2]


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 18)
    if not data:
        raise ConnectionError("the server closed a connection")
    return data


def whole(data: bytes) -> bool:
    """Whether `data` is a complete answer."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return False
    at = data[:head].lower().find(b"content-length:")
    if at < 0:
        return data.endswith(b"0\r\n\r\n")  # chunked
    return len(data) >= head + 4 + int(data[at + 15 : head].split(b"\r\n", 1)[0])


def _result(latencies: list[float], late: list[float], *, seconds: float, refused: int) -> Result:
    latencies.sort()
    late.sort()

    def at(values: list[float], share: float) -> float:
        return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)] * 1000

    return Result(
        requests=len(latencies),
        seconds=seconds,
        refused=refused,
        p50_ms=at(latencies, 0.5),
        p99_ms=at(latencies, 0.99),
        p999_ms=at(latencies, 0.999),
        max_ms=latencies[-1] * 1000,
        late_p99_ms=at(late, 0.99),
    )


def _members(orders: Orders) -> Iterator[int]:
    if orders.ordered:
        return itertools.cycle(range(orders.members))
    chosen = random.Random(orders.seed)
    return iter(lambda: chosen.randrange(orders.members), -1)


def main() -> None:
    """Carry out the orders on standard input."""
    orders = msgspec.json.decode(sys.stdin.buffer.read(), type=Orders)
    making = shapes.fill(orders.template, members=_members(orders), boards=orders.boards, seed=orders.seed)
    requests = list(itertools.islice(making, orders.requests))
    gc.disable()
    result = drive((orders.host, orders.port), requests, rate=orders.rate)
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")


if __name__ == "__main__":
    main()
