"""The parts of the multiplexer that need no server."""

import asyncio
import time

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.store.redis.errors import InDoubt, RedisUnavailable, UnexpectedReply
from leaderboard.store.redis.limiter import Limiter, lease_size
from leaderboard.store.redis.multiplexer import Multiplexer, NoScript, Prepared, _Connection, _reply_error, parse_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", ("localhost", 6379, None, None, 0, False, None)),
        ("redis://:p%40ss@h:1/3", ("h", 1, None, "p@ss", 3, False, None)),
        ("rediss://u:p@h:2", ("h", 2, "u", "p", 0, True, None)),
        ("redis://[::1]:7/1", ("::1", 7, None, None, 1, False, None)),
        ("unix:///run/redis.sock?db=2", ("127.0.0.1", 6379, None, None, 2, False, "/run/redis.sock")),
        ("unix://:pw@/run/redis.sock", ("127.0.0.1", 6379, None, "pw", 0, False, "/run/redis.sock")),
    ],
)
def test_a_url_says_where_and_as_whom(url, expected):
    end = parse_url(url)
    assert (end.host, end.port, end.username, end.password, end.db, end.tls, end.unix_path) == expected


def test_a_url_names_its_certificate_authority():
    assert parse_url("rediss://h?ssl_ca_certs=/etc/ca.pem").ca_file == "/etc/ca.pem"


@pytest.mark.parametrize("url", ["http://h", "", "h:6379", "redis://h/x", "redis://h:port"])
def test_another_url_is_refused(url):
    with pytest.raises(ValueError):
        parse_url(url)


def test_an_endpoint_does_not_show_its_password():
    assert "secret" not in repr(parse_url("redis://user:secret@h"))


@pytest.mark.parametrize(
    "message",
    [
        "LOADING Redis is loading the dataset in memory",
        "READONLY You can't write against a read only replica. script: f_1, on @user_script:5.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "BUSY Redis is busy running a script.",
        "NOAUTH Authentication required.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "NOREPLICAS Not enough good replicas to write.",
        "CLUSTERDOWN The cluster is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "ERR Error running script (call to f_1): @user_script:7: @user_script: 7: -OOM command not allowed when used",
        "ERR Error running script (call to f_1): @user_script:7: @user_script: 7: -READONLY You can't write against a",
    ],
)
def test_a_refusal_before_anything_was_done_may_be_tried_again(message):
    assert type(_reply_error(message)) is RedisUnavailable


@pytest.mark.parametrize(
    "message", ["ERR unknown command", "WRONGTYPE Operation against a key", "NOPERM no", "WRONGPASS invalid", ""]
)
def test_any_other_error_reply_is_unexpected(message):
    assert type(_reply_error(message)) is UnexpectedReply


def test_a_script_that_is_not_loaded_is_recognised():
    assert isinstance(_reply_error("NOSCRIPT No matching script. Please use EVAL."), NoScript)


def test_without_a_connection_calls_fail_at_once():
    redis = Multiplexer("redis://127.0.0.1:1")
    assert not redis.connected
    assert redis.in_flight == 0
    with pytest.raises(RedisUnavailable, match="not connected yet"):
        redis.call("PING")
    with pytest.raises(RedisUnavailable):
        redis.shared("key", ("PING",), lambda reply: reply)


async def test_closing_what_was_never_started_is_no_error():
    await Multiplexer("redis://127.0.0.1:1").close()


@pytest.mark.parametrize(("rate", "size"), [(1, 1), (100, 1), (101, 2), (2_000, 40), (50_000, 1_000)])
def test_a_lease_is_a_fiftieth_of_a_second_and_one_token_at_low_rates(rate, size):
    assert lease_size(rate) == size


async def test_a_limiter_without_redis_admits_nobody():
    limiter = Limiter(Multiplexer("redis://127.0.0.1:1"), clock=lambda: 0.0)
    for rate in (10, 10_000):
        assert limiter.take_held("rl:1", rate=rate) is None
        with pytest.raises(RedisUnavailable):
            await limiter.take("rl:1", rate=rate)
        with pytest.raises(RedisUnavailable):
            await limiter.take_many("rl:1", 5, rate=rate)


# --- over a transport in memory


class Transport:
    """Keeps what is written."""

    def __init__(self, connection):
        self.written = b""
        self._connection = connection

    def write(self, data):
        self.written += data

    def abort(self):
        asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)


def over_memory(**options):
    """A multiplexer that is connected to nothing, and its connection."""
    redis = Multiplexer("redis://127.0.0.1:1", **options)
    redis._connection = connection = _Connection(asyncio.get_running_loop())
    connection.connection_made(Transport(connection))
    return redis, connection


arguments = st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=9)


@given(arguments, arguments)
def test_a_prepared_command_is_the_same_bytes(first, rest):
    async def sent():
        redis, connection = over_memory()
        redis.call_prepared(Prepared.of(*first, more=len(rest)), *rest)
        connection.flush()
        return connection._transport.written

    assert asyncio.run(sent()) == hiredis.pack_command((*first, *rest))


async def test_a_prepared_command_of_another_length_is_not_sent():
    redis, connection = over_memory()
    command = Prepared.of("ECHO", more=1)
    for rest in ((), ("a", "b")):
        with pytest.raises(ValueError, match="announced"):
            redis.call_prepared(command, *rest)
    with pytest.raises(UnicodeEncodeError):
        redis.call_prepared(command, "\ud800")
    connection.flush()
    assert (connection._transport.written, redis.in_flight) == (b"", 0)


@pytest.mark.parametrize("more", [0, 10])
def test_a_command_is_prepared_for_one_to_nine_arguments(more):
    with pytest.raises(ValueError, match="1 to 9"):
        Prepared.of("ECHO", more=more)


async def test_a_call_that_is_late_closes_the_connection_however_many_are_answered():
    redis, connection = over_memory(timeout=0.08)
    watching = asyncio.create_task(redis._watch(connection))
    began = time.monotonic()
    late = [redis.call("GET", "a"), redis.call("GET", "b")]
    await asyncio.sleep(0)
    connection.data_received(b"$-1\r\n")
    assert await late[0] is None
    with pytest.raises(InDoubt):
        await late[1]
    await watching
    assert time.monotonic() - began >= 0.07


async def test_a_server_that_answers_in_time_is_kept_though_something_is_always_under_way():
    redis, connection = over_memory(timeout=0.08)
    watching = asyncio.create_task(redis._watch(connection))
    calls = [redis.call("GET", "a")]
    for _ in range(25):
        calls.append(redis.call("GET", "a"))
        await asyncio.sleep(0.01)
        connection.data_received(b"$-1\r\n")
        assert await calls.pop(0) is None
    assert not connection.closed
    watching.cancel()


async def test_a_pause_of_this_process_is_not_taken_for_one_of_the_server():
    redis, connection = over_memory(timeout=0.08)
    watching = asyncio.create_task(redis._watch(connection))
    call = redis.call("GET", "a")
    await asyncio.sleep(0)
    time.sleep(0.2)  # the answer has come meanwhile, but nobody has read it
    asyncio.get_running_loop().call_later(0.01, connection.data_received, b"$-1\r\n")
    assert await call is None
    assert not connection.closed
    watching.cancel()
