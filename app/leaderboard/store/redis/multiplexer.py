"""One Redis connection shared by every request of a process: RESP2 over an asyncio Protocol, parsed by hiredis.

Calls made in one turn of the event loop leave in one write, and answers are matched to callers by their order, as the
protocol has it. It is what most of the cost of a write hangs on (docs/adr/0002): no pool, no lock, no stream
reader, one system call for many requests.

What a caller may rely on:

- An answer never reaches another caller. A connection on which anything is late or out of step is closed whole; what
  it still owed is `InDoubt`.
- A call that had not been written when the connection went is `RedisUnavailable`: it may be made again.
- No call waits longer than `timeout` (checked every quarter of it): a silent server fails everything behind the
  oldest call, which is late too, since answers come in order.
- While there is no connection calls fail at once, and a new one is tried with back-off from 50 ms to 1 s.
"""

import asyncio
import contextlib
import logging
import random
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis
import msgspec

from leaderboard.store.redis.errors import InDoubt, RedisOverloaded, RedisUnavailable, UnexpectedReply
from leaderboard.store.redis.scripts import ALL, Script

log = logging.getLogger(__name__)

# Refusals that Redis makes before a script has written anything: it is safe, and useful, to try again later.
_REFUSED_EARLY = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "OOM",
    "MISCONF",
    "BUSY",
    "NOREPLICAS",
    "NOAUTH",
)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where and as whom to connect, from a ``redis://[user[:password]@]host[:port][/db]`` URL (``rediss`` for TLS)."""

    host: str
    port: int
    username: str | None
    password: str | None
    db: int
    tls: bool
    ca_file: str | None
    unix_path: str | None

    def __repr__(self) -> str:
        return f"Endpoint({self.unix_path or f'{self.host}:{self.port}'}, db={self.db}, tls={self.tls})"


def parse_url(url: str) -> Endpoint:
    """Return the endpoint of a Redis URL. Query: ``ssl_ca_certs=<file>``. Raises ValueError for another scheme."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("the Redis URL must start with redis://, rediss:// or unix://")
    query = parse_qs(parts.query)
    unix = parts.scheme == "unix"
    db = query.get("db", ["0"])[0] if unix else parts.path.strip("/") or "0"
    return Endpoint(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 6379,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        db=int(db),
        tls=parts.scheme == "rediss",
        ca_file=query.get("ssl_ca_certs", [None])[0],
        unix_path=parts.path if unix else None,
    )


class Shared:
    """Several callers of one identical read. `decode` runs once, and its result goes to all of them."""

    __slots__ = ("_decode", "_waiters")

    def __init__(self, decode: Callable[[Any], Any]) -> None:
        self._decode = decode
        self._waiters: list[asyncio.Future[Any]] = []

    def join(self, waiter: "asyncio.Future[Any]") -> None:
        """Let `waiter` have the answer too. Each has a future of its own: cancelling one leaves the others."""
        self._waiters.append(waiter)

    def done(self) -> bool:
        """Whether nobody waits any more."""
        return all(waiter.done() for waiter in self._waiters)

    def set_result(self, reply: object) -> None:
        """Decode once and answer every caller."""
        try:
            result = self._decode(reply)
        except Exception as error:  # noqa: BLE001 - whatever decoding raises belongs to the callers, not to the connection
            self.set_exception(error)
            return
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(result)

    def set_exception(self, error: BaseException) -> None:
        """Fail every caller."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)


class _Connection(asyncio.Protocol):
    """One TCP (or TLS, or Unix) connection: bytes out in order, replies matched by order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.closed = False
        self.lost = asyncio.Event()
        # Replies stay bytes: users are decoded once, in the response, and scores parse from bytes as well.
        self._reader = hiredis.Reader(replyError=_reply_error)
        self._transport: asyncio.Transport | None = None
        self.waiting: deque[Any] = deque()
        self._written = 0  # how many of `waiting`, from the left, have left this process
        self.calls = 0
        """Calls taken since the beginning; `calls` - `in_flight` of them are answered."""
        self._buffer: list[bytes] = []
        self.unsent: dict[Any, Shared] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance

    def send(self, packed: bytes, waiter: Any) -> None:
        if not self._buffer:
            self.loop.call_soon(self.flush)
        self._buffer.append(packed)
        self.waiting.append(waiter)
        self.calls += 1

    def flush(self) -> None:
        if not self._buffer:
            return
        packed = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
        self._buffer.clear()
        self.unsent.clear()
        self._written = len(self.waiting)
        if self._transport is not None:
            self._transport.write(packed)

    def data_received(self, data: bytes) -> None:
        if self.closed:  # out of step: nothing more on it may be taken for an answer
            return
        reader, waiting = self._reader, self.waiting
        try:
            reader.feed(data)
            reply = reader.gets()
            while reply is not False:
                if self._written == 0:
                    raise hiredis.ProtocolError("a reply that nobody asked for")
                waiter = waiting.popleft()
                self._written -= 1
                if not waiter.done():
                    if isinstance(reply, Exception):
                        waiter.set_exception(reply)
                    else:
                        waiter.set_result(reply)
                reply = reader.gets()
        except hiredis.ProtocolError as error:
            log.error("redis connection out of step, closing it: %s", error)
            self.abort()

    @property
    def in_flight(self) -> int:
        return len(self.waiting)

    def abort(self) -> None:
        self.closed = True  # `connection_lost` comes a turn of the loop later
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.closed = True
        waiting, written = list(self.waiting), self._written
        self.waiting.clear()
        self._buffer.clear()
        self.unsent.clear()
        for index, waiter in enumerate(waiting):
            if waiter.done():
                continue
            if index < written:
                waiter.set_exception(InDoubt("the Redis connection was lost before the answer came"))
            else:
                waiter.set_exception(RedisUnavailable("the Redis connection was lost before the call was sent"))
        self.lost.set()


class Prepared(msgspec.Struct, frozen=True):
    """The arguments that many calls have in common at their beginning, packed once; `more` follow in each call.

    Of an update's 13 arguments 10 are the same for a board: packing the other three takes 0.3 us, all of them 0.9.
    """

    args: tuple[str, ...]
    more: int
    packed: bytes

    @classmethod
    def of(cls, *args: str, more: int) -> "Prepared":
        """Prepare a command that begins with `args` and goes on with `more` arguments, 1 to 9."""
        if not 1 <= more <= 9:  # `call_prepared` relies on their count being one digit
            raise ValueError(f"a prepared command takes 1 to 9 more arguments, not {more}")
        _, _, packed = _pack(args).partition(b"\r\n")
        return cls(args, more, b"*%d\r\n%b" % (len(args) + more, packed))


def _pack(args: tuple[Any, ...]) -> bytes:
    # hiredis's stub declares a one-tuple.
    packed: bytes = hiredis.pack_command(args)
    return packed


def _reply_error(message: str) -> Exception:
    """The exception for an error reply. NOSCRIPT stays recognisable: the caller loads the script and goes on."""
    if message.startswith("NOSCRIPT"):
        return NoScript(message)
    # Inside a script Redis 7 puts the cause first, 6.2 wraps it: "ERR Error running script ... -OOM command ...".
    if message.startswith(_REFUSED_EARLY) or any(f"-{word} " in message for word in _REFUSED_EARLY):
        return RedisUnavailable(message)
    return UnexpectedReply(message)


class NoScript(UnexpectedReply):
    """EVALSHA named a script this server does not have; nothing was run."""


class Multiplexer:
    """A Redis client for hot paths: `call` for any command, `shared` for reads that may answer several callers.

    `timeout` in seconds; `max_in_flight` bounds the calls under way. Use from one event loop only.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 2.0,
        max_in_flight: int = 8192,
        name: str = "leaderboard-api",
    ) -> None:
        self._endpoint = parse_url(url)
        self._timeout = timeout
        self._max_in_flight = max_in_flight
        self._name = name
        self._connection: _Connection | None = None
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._cause = "not connected yet"
        self.connects = 0
        """How many connections were made: 1 is a quiet life, each more is a reconnect."""

    @property
    def connected(self) -> bool:
        """Whether a connection is up and its handshake done."""
        return self._connection is not None

    @property
    def in_flight(self) -> int:
        """Calls sent or queued without an answer."""
        return self._connection.in_flight if self._connection else 0

    async def start(self, *, wait: float = 0.0) -> None:
        """Begin connecting and keep at it; wait at most `wait` seconds for the first connection, then return."""
        self._task = asyncio.create_task(self._keep_connected(), name="redis-multiplexer")
        if wait:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._up.wait()

    async def close(self) -> None:
        """Close the connection; calls still under way fail."""
        connection = self._connection  # the task forgets it when it ends
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if connection is not None:
            connection.flush()
            connection.abort()
            await connection.lost.wait()

    def call(self, *args: str | bytes | int | float) -> "asyncio.Future[Any]":
        """Queue one command for the next write and return the future of its reply (bytes, int, list or None).

        Raises RedisUnavailable or RedisOverloaded at once; the future raises InDoubt, RedisUnavailable or
        UnexpectedReply.
        """
        connection = self._ready()
        waiter = connection.loop.create_future()
        connection.send(_pack(args), waiter)
        return waiter

    def call_prepared(self, prepared: Prepared, *rest: str) -> "asyncio.Future[Any]":
        """As `call`, of a command whose first arguments are packed already. Raises ValueError for too few or many."""
        if len(rest) != prepared.more:  # Redis would take the next command for the rest of this one
            raise ValueError(f"{len(rest)} arguments where {prepared.more} were announced")
        connection = self._ready()
        packed = prepared.packed + _pack(rest)[4:]  # without its own count, as in b"*3\r\n"
        waiter = connection.loop.create_future()
        connection.send(packed, waiter)
        return waiter

    def shared(
        self, key: object, args: tuple[str | bytes | int | float, ...], decode: Callable[[Any], Any]
    ) -> "asyncio.Future[Any]":
        """Like `call`, joining an identical read (same `key`) that has not been written yet.

        Only a read not yet sent may be joined: one already under way could have run before a write whose answer this
        caller has seen. `decode` turns the reply into the result, once for all who joined.
        """
        connection = self._ready()
        waiter = connection.loop.create_future()
        read = connection.unsent.get(key)
        if read is None:
            packed = _pack(args)  # may raise: before there is anything to join
            read = connection.unsent[key] = Shared(decode)
            connection.send(packed, read)
        read.join(waiter)
        return waiter

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run `script` by its SHA-1, loading it where the server has lost it (NOSCRIPT runs nothing: no doubt)."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScript:
            await self.call("SCRIPT", "LOAD", script.text)
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *args)

    def _protocol(self, loop: asyncio.AbstractEventLoop) -> _Connection:
        return _Connection(loop)

    def _ready(self) -> _Connection:
        connection = self._connection
        if connection is None or connection.closed:
            raise RedisUnavailable(f"no Redis connection: {self._cause}")
        if len(connection.waiting) >= self._max_in_flight:
            raise RedisOverloaded(f"{self._max_in_flight} Redis calls are under way already")
        return connection

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        delay = 0.05
        while True:
            try:
                # Not wait_for: before Python 3.12 it loses a cancellation that comes as what it waits for ends, and
                # `close` would wait for ever.
                async with asyncio.timeout(self._timeout):
                    connection = await self._connect()
            except (OSError, TimeoutError, RedisUnavailable, InDoubt, UnexpectedReply, ssl.SSLError) as error:
                self._note_down(f"{type(error).__name__}: {error}")
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, 1.0)
                continue
            connected_at = loop.time()
            self.connects += 1
            self._connection = connection
            self._cause = "the connection was just lost"
            self._up.set()
            log.info("redis connected", extra={"endpoint": repr(self._endpoint), "connects": self.connects})
            try:
                await self._watch(connection)
            finally:
                self._connection = None
                self._up.clear()
            self._note_down("connection lost")
            if loop.time() - connected_at >= 1.0:
                delay = 0.05
            else:
                # A server that takes connections and drops them must not be asked for new ones without a pause.
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, 1.0)

    def _note_down(self, cause: str) -> None:
        # Once per outage, not per attempt.
        if self._cause != cause:
            log.warning("redis unavailable: %s", cause, extra={"endpoint": repr(self._endpoint)})
        self._cause = cause

    async def _watch(self, connection: _Connection) -> None:
        # Answers come in order, so no call needs a clock of its own: how many had been taken at each of the last
        # four looks tells whether one of them still waits. Looks are counted, not timed: a pause of this process
        # (its replies unread in the kernel) must not pass for one of the server.
        taken: deque[int] = deque(maxlen=4)
        while not connection.closed:
            taken.append(connection.calls)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeout / 4):
                    await connection.lost.wait()
            if len(taken) == 4 and connection.calls - connection.in_flight < taken[0] and not connection.closed:
                log.error("redis did not answer for %.1f s, closing the connection", self._timeout)
                connection.abort()
                await connection.lost.wait()

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        end = self._endpoint

        def make() -> _Connection:
            return self._protocol(loop)

        if end.unix_path is not None:
            _, connection = await loop.create_unix_connection(make, end.unix_path)
        else:
            context = ssl.create_default_context(cafile=end.ca_file) if end.tls else None
            _, connection = await loop.create_connection(make, end.host, end.port, ssl=context)
        try:
            await self._handshake(connection, loop)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _handshake(self, connection: _Connection, loop: asyncio.AbstractEventLoop) -> None:
        commands: list[tuple[str | int, ...]] = []
        end = self._endpoint
        if end.password is not None:
            commands.append(("AUTH", end.username, end.password) if end.username else ("AUTH", end.password))
        if end.db:
            commands.append(("SELECT", end.db))
        commands.append(("CLIENT", "SETNAME", self._name))
        commands.extend(("SCRIPT", "LOAD", script.text) for script in ALL)
        waiters = []
        for command in commands:
            waiter = loop.create_future()
            connection.send(_pack(command), waiter)
            waiters.append(waiter)
        for reply in await asyncio.gather(*waiters, return_exceptions=True):
            if isinstance(reply, BaseException):
                raise reply
