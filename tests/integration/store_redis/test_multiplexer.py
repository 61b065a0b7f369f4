"""The multiplexed connection against real servers, through a proxy that cuts, stalls and splits."""

import asyncio
import itertools
import random
import shutil
import subprocess

import pytest
import redis as redis_py
from redis_rig import connected, proxied, rig_on, until

from leaderboard.local.process import LocalError, Log, free_port
from leaderboard.local.redis import EmbeddedRedis, binary
from leaderboard.store.redis import scripts
from leaderboard.store.redis.errors import InDoubt, RedisFailure, RedisOverloaded, RedisUnavailable, UnexpectedReply
from leaderboard.store.redis.multiplexer import Multiplexer


async def outcome(awaitable):
    """What became of a call: its answer, or the class of its failure."""
    try:
        return await awaitable
    except RedisFailure as error:
        return type(error)


# --- answers and callers


@pytest.mark.parametrize("split", [1, 7])
async def test_an_answer_reaches_who_asked_and_nobody_else(proxy, split):
    """Unique payloads through a proxy that cuts the stream into crumbs, while callers give up at random."""
    proxy.split = split
    wrong = []

    async def ask(redis, number):
        payload = f"{number}-{'x' * random.randrange(20)}".encode()
        if number % 3:
            call = asyncio.ensure_future(redis.call("ECHO", payload))
        else:
            call = asyncio.ensure_future(redis.shared(payload, ("ECHO", payload), lambda reply: reply))
        if number % 5 == 0:
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
            call.cancel()
        try:
            answer = await call
        except asyncio.CancelledError:
            return 0
        if answer != payload:
            wrong.append((payload, answer))
        return 1

    async with connected(proxy.url, timeout=60) as redis:
        for _ in range(6):
            answered = await asyncio.gather(*(ask(redis, number) for number in range(400)))
            assert sum(answered) >= 320
        assert redis.connects == 1
        assert redis.in_flight == 0
    assert wrong == []


async def test_error_replies_and_answers_of_every_kind_keep_their_places(rig):
    await rig.client.set("text", "value")
    calls = []
    for number in range(300):
        calls += [
            rig.redis.call("ECHO", str(number)),
            rig.redis.call("LPUSH", "text", "x"),
            rig.redis.call("GET", "nothing"),
            rig.redis.call("MGET", "text", "nothing"),
        ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for number in range(300):
        echo, error, nothing, several = answers[4 * number : 4 * number + 4]
        assert echo == str(number).encode()
        assert isinstance(error, UnexpectedReply)
        assert nothing is None
        assert several == [b"value", None]


async def test_a_call_that_cannot_be_encoded_disturbs_nobody(rig):
    with pytest.raises(UnicodeEncodeError):
        rig.redis.call("ECHO", "\ud800")
    for _ in range(2):  # the second must not join a read that was never made
        with pytest.raises(UnicodeEncodeError):
            rig.redis.shared("key", ("ECHO", "\ud800"), lambda reply: reply)
    assert await rig.redis.call("ECHO", "on") == b"on"


# --- connections that go


async def test_a_call_that_was_sent_when_the_connection_was_cut_is_in_doubt(proxy):
    async with connected(proxy.url) as redis:
        proxy.stall_replies()
        call = redis.call("INCR", "count")
        await until(lambda: redis._connection._written == 1)
        proxy.drop()
        assert await outcome(call) is InDoubt


async def test_a_call_that_was_not_yet_sent_is_unavailable_and_was_not_done(rig):
    # The loss is noticed in this turn of the loop before the write of this turn.
    rig.redis._connection._transport.abort()
    call = rig.redis.call("SET", "done", "1")
    assert await outcome(call) is RedisUnavailable
    assert await rig.client.get("done") is None


async def test_what_is_called_unavailable_was_never_done_and_what_was_answered_was(proxy, rig):
    """Connections are cut again and again under load; the server's memory says who was right."""
    proxy.split = 200
    outcomes = {}

    async def worker(redis, start):
        for number in itertools.count(start):
            if number >= start + 150 and redis.connects > 3:
                return
            try:
                outcomes[number] = await outcome(redis.call("SADD", "done", number))
            except RedisUnavailable:
                outcomes[number] = RedisUnavailable
            if isinstance(outcomes[number], type):
                await asyncio.sleep(0.002)

    async with connected(proxy.url) as redis:
        working = asyncio.gather(*(worker(redis, 10**6 * n) for n in range(20)))
        while not working.done():
            await asyncio.sleep(0.03)
            if redis.connected:  # else, on a busy machine, it might never get through
                proxy.drop()
        await working
        assert redis.connects > 1
    done = {int(number) for number in await rig.client.smembers("done")}
    assert set(outcomes.values()) <= {1, InDoubt, RedisUnavailable}
    assert {number for number, what in outcomes.items() if what == 1} <= done
    assert not {number for number, what in outcomes.items() if what is RedisUnavailable} & done


async def test_it_comes_back_when_the_server_does(make_redis):
    server = make_redis()
    async with connected(server.url) as redis:
        server.kill()
        await until(lambda: not redis.connected)
        with pytest.raises(RedisUnavailable):
            redis.call("PING")
        server.start()
        await until(lambda: redis.connected)
        assert await redis.call("PING") == b"PONG"
        assert redis.connects == 2
        # The scripts were loaded anew with the connection.
        assert await redis.call("SCRIPT", "EXISTS", *(script.sha for script in scripts.ALL)) == [1] * len(scripts.ALL)


async def test_a_server_that_drops_connections_at_once_is_not_asked_without_a_pause(redis_url):
    async with proxied(redis_url) as proxy:
        proxy.refuse = True
        redis = Multiplexer(proxy.url)
        await redis.start()
        await until(lambda: proxy.accepted >= 3)
        assert not redis.connected
        proxy.refuse = False
        await until(lambda: redis.connected)
        before = redis.connects
        for _ in range(3):
            proxy.drop()
            await until(lambda: not redis.connected)
            await until(lambda: redis.connected)
        assert redis.connects == before + 3
        await redis.close()


async def test_a_silent_server_is_given_up_and_what_it_owed_is_in_doubt(proxy):
    async with connected(proxy.url, timeout=0.4) as redis:
        proxy.stall()
        calls = [redis.call("INCR", "count") for _ in range(3)]
        assert await asyncio.gather(*map(outcome, calls)) == [InDoubt] * 3
        with pytest.raises(RedisUnavailable):
            redis.call("PING")
        proxy.drop()
        proxy.resume()
        await until(lambda: redis.connected)
        assert await redis.call("PING") == b"PONG"


async def test_a_handshake_that_gets_no_answer_is_given_up(proxy):
    proxy.stall()
    redis = Multiplexer(proxy.url, timeout=0.3)
    await redis.start()
    await until(lambda: proxy.accepted >= 2)
    with pytest.raises(RedisUnavailable, match="Timeout"):
        redis.call("PING")
    proxy.resume()
    await until(lambda: redis.connected)
    await redis.close()


async def test_calls_past_the_bound_are_refused_and_the_others_answered(proxy):
    async with connected(proxy.url, max_in_flight=5, timeout=30) as redis:
        proxy.stall_replies()
        calls = [redis.call("ECHO", str(number)) for number in range(5)]
        for make in (lambda: redis.call("PING"), lambda: redis.shared("k", ("PING",), lambda reply: reply)):
            with pytest.raises(RedisOverloaded):
                make()
        assert redis.in_flight == 5
        proxy.resume()
        assert await asyncio.gather(*calls) == [str(number).encode() for number in range(5)]
        assert await redis.call("PING") == b"PONG"


async def test_a_reply_nobody_asked_for_closes_the_connection(redis_url):
    async with proxied(redis_url) as proxy, connected(proxy.url) as redis:
        await redis.call("PING")
        for writer in proxy._writers:
            if writer.get_extra_info("sockname")[1] == int(proxy.url.rpartition(":")[2].partition("/")[0]):
                writer.write(b"+stray\r\n")
        await until(lambda: redis.connects == 2)
        assert await redis.call("ECHO", "mine") == b"mine"


async def test_closing_closes_the_socket_and_ends_what_waits(proxy):
    redis = Multiplexer(proxy.url)
    await redis.start(wait=20)
    proxy.stall_replies()
    call = redis.call("PING")
    await redis.close()
    assert await outcome(call) is InDoubt
    with pytest.raises(RedisUnavailable):
        redis.call("PING")
    assert not redis.connected


# --- who may, and how to get there


async def test_a_wrong_password_is_said_and_a_right_one_gets_in(redis_url):
    login, _, host = redis_url.rpartition("@")
    wrong = Multiplexer(f"{login}x@{host}")
    await wrong.start()
    await until(lambda: "WRONGPASS" in wrong._cause)
    with pytest.raises(RedisUnavailable, match="WRONGPASS") as refused:
        wrong.call("PING")
    assert login.rpartition(":")[2] not in str(refused.value)
    await wrong.close()
    none = Multiplexer(f"redis://{host}")
    await none.start()
    await until(lambda: "NOAUTH" in none._cause)
    await none.close()
    async with connected(redis_url) as redis:
        assert await redis.call("PING") == b"PONG"


async def test_a_user_of_an_access_list_gets_in(make_redis):
    server = make_redis()
    with redis_py.Redis.from_url(server.url) as client:
        client.acl_setuser("al:ice", enabled=True, passwords=["+p@ss"], categories=["+@all"], keys=["*"])
        host = server.url.rpartition("@")[2]
        async with connected(f"redis://al%3Aice:p%40ss@{host}") as redis:
            assert await redis.call("ACL", "WHOAMI") == b"al:ice"


async def test_the_database_of_the_url_is_the_one_in_use(redis_url, rig):
    async with connected(redis_url.removesuffix("/0") + "/3") as redis:
        await redis.call("SET", "where", "three")
    assert await rig.client.get("where") is None
    await rig.client.select(3)
    assert await rig.client.get("where") == b"three"
    await rig.client.select(0)


async def test_the_connection_has_a_name(rig):
    assert "leaderboard-api" in {client["name"] for client in await rig.client.client_list()}


@pytest.fixture
def embedded(tmp_path):
    """Start an embedded Redis with further settings: for what needs files of this machine in it."""
    try:
        binary()
    except LocalError as error:
        pytest.skip(str(error))
    log, servers = Log(tmp_path / "log"), []

    def start(**settings):
        servers.append(EmbeddedRedis(tmp_path / "redis", log=log, appendfsync=None, **settings))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
    log.close()


async def test_over_a_unix_socket(embedded, tmp_path):
    server = embedded(unixsocket=str(tmp_path / "r.sock"), unixsocketperm=700)
    password = server.url.split(":")[2].partition("@")[0]
    async with connected(f"unix://:{password}@{tmp_path}/r.sock?db=2") as redis:
        await redis.call("SET", "a", "b")
    with redis_py.Redis.from_url(server.url.removesuffix("0") + "2") as client:
        assert client.get("a") == b"b"


def certificates(folder):
    """Make an authority and a certificate of it for 127.0.0.1, and an authority that signed nothing."""

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
        )
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=redis", "-keyout", "redis.key", "-out", "redis.csr")
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        *("x509", "-req", "-in", "redis.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"),
        *("-extfile", "extensions", "-out", "redis.pem"),
    )


async def test_over_tls_with_a_certificate_that_is_checked(embedded, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    certificates(tmp_path)
    with_port = {
        "tls_port": (port := free_port()),
        "tls_cert_file": str(tmp_path / "redis.pem"),
        "tls_key_file": str(tmp_path / "redis.key"),
        "tls_ca_cert_file": str(tmp_path / "ca.pem"),
        "tls_auth_clients": "no",
    }
    try:
        server = embedded(**with_port)
    except LocalError as error:
        pytest.skip(f"this redis-server is built without TLS: {str(error)[-200:]}")
    url = f"rediss://{server.url.split('//')[1].rpartition(':')[0]}:{port}/0"

    async with connected(f"{url}?ssl_ca_certs={tmp_path}/ca.pem") as redis:
        payloads = [f"{number}{'x' * (number % 50 * 400)}".encode() for number in range(500)]
        assert await asyncio.gather(*(redis.call("ECHO", payload) for payload in payloads)) == payloads

    distrusting = Multiplexer(f"{url}?ssl_ca_certs={tmp_path}/other.pem")
    await distrusting.start()
    await until(lambda: "CERTIFICATE_VERIFY_FAILED" in distrusting._cause)
    with pytest.raises(RedisUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        distrusting.call("PING")
    await distrusting.close()


# --- scripts that the server forgot, and servers that refuse


async def test_scripts_the_server_forgot_are_loaded_again(rig):
    board = await rig.board()
    await rig.client.script_flush()
    assert (await rig.scores.update(board, user="a", value="i1")).score == 1
    await rig.client.script_flush()
    assert [done.score for done in await rig.scores.update_many(board, [("a", "i1", None)] * 100)][-1] == 101
    await rig.client.script_flush()
    assert (await rig.page(board)).total == 1
    await rig.client.script_flush()
    assert (await rig.scores.around(board, user="a", count=3, render=lambda page: page)).total == 1
    await rig.client.script_flush()
    assert (await rig.scores.members(board, users=["a"]))[0] == 1
    await rig.client.script_flush()
    assert await rig.scores.remove(board, user="a") == 101
    await rig.client.script_flush()
    assert await rig.admin.trim(board, nonce="f" * 16, counter=0) == 0
    await rig.client.script_flush()
    assert await rig.admin.delete(board, event_id_nonce="f" * 16, event_counter=1)
    assert len({event.id for event in await rig.events()}) == len(await rig.events()) == 103


async def refused_everywhere(rig, board):
    """Every write is refused as unavailable, and nothing at all changed."""
    before = await rig.everything()
    writes = [
        rig.scores.update(board, user="a", value="i1"),
        rig.scores.update(board, user="new", value="i1", idempotency=("key", "f")),
        rig.scores.remove(board, user="a"),
        rig.admin.delete(board, event_id_nonce="f" * 16, event_counter=0),
    ]
    assert [await outcome(write) for write in writes] == [RedisUnavailable] * len(writes)
    many = await rig.scores.update_many(board, [(f"user-{n}", "i1", None) for n in range(100)])
    assert {type(one) for one in many} == {RedisUnavailable}
    assert await rig.everything() == before


async def test_a_full_memory_refuses_writes_whole_and_still_serves_reads(make_redis):
    async with rig_on(make_redis().url) as rig:
        board = await rig.board(max_entries=2)
        await rig.scores.update_many(board, [("a", "i1", None), ("b", "i2", None)])
        await rig.client.hset(f"meta:{{{board}}}", "max", 1)
        await rig.client.config_set("maxmemory", 1)
        await refused_everywhere(rig, board)
        assert [entry.user for entry in (await rig.page(board)).entries] == ["b", "a"]
        # A trim only frees memory, and Redis lets it: then it must be whole, with its event.
        assert await rig.admin.trim(board, nonce="f" * 16, counter=0) == 1
        assert [(event.kind, event.user) for event in await rig.events()][2:] == [("t", "a")]
        assert await rig.admin.orders(board) == {"b": (await rig.events())[1].order}
        await rig.client.config_set("maxmemory", 0)
        assert (await rig.scores.update(board, user="b", value="i1")).score == 3


async def test_a_read_only_replica_refuses_writes_whole(make_redis):
    async with rig_on(make_redis().url) as rig:
        board = await rig.board(max_entries=2)
        await rig.scores.update_many(board, [("a", "i1", None), ("b", "i2", None)])
        await rig.client.hset(f"meta:{{{board}}}", "max", 1)
        await rig.client.replicaof("127.0.0.1", 1)  # of nobody: what it holds stays
        await refused_everywhere(rig, board)
        assert await outcome(rig.admin.trim(board, nonce="f" * 16, counter=0)) is RedisUnavailable
        assert len(await rig.events()) == 2
        assert (await rig.page(board)).total == 2
        await rig.client.config_set("replica-serve-stale-data", "no")
        assert await outcome(rig.page(board)) is RedisUnavailable
        await rig.client.replicaof("NO", "ONE")
        assert (await rig.scores.update(board, user="b", value="i1")).score == 3


async def test_a_server_that_is_loading_is_unavailable(make_redis, tmp_path):
    with redis_py.Redis.from_url(make_redis().url) as client:
        version = tuple(map(int, client.info("server")["redis_version"].split(".")[:2]))
    settings = {"enable_debug_command": "yes"} if version >= (7, 0) else {}
    async with rig_on(make_redis(**settings).url, timeout=30) as rig:
        board = await rig.board()
        await rig.scores.update(board, user="a", value="i1")
        # It looks after its clients once for every 2 MB that it loads.
        for number in range(500):
            await rig.client.set(f"filler-{number}", random.randbytes(40_000))
        await rig.client.config_set("key-load-delay", 2000)  # microseconds: one second in all
        reload = asyncio.create_task(rig.client.execute_command("DEBUG", "RELOAD"))
        seen = set()
        while not reload.done():
            seen.add(await outcome(rig.scores.update(board, user="a", value="i0")))
            await asyncio.sleep(0.01)
        await reload
        assert RedisUnavailable in seen
        assert InDoubt not in seen
        assert (await rig.scores.update(board, user="a", value="i1")).score == 2


# --- reads that are shared


async def test_identical_reads_of_one_turn_are_one_call_and_one_decoding(rig):
    decoded = []

    def decode(reply):
        decoded.append(reply)
        return reply

    before = (await rig.client.info("commandstats")).get("cmdstat_echo", {}).get("calls", 0)
    answers = await asyncio.gather(*(rig.redis.shared("key", ("ECHO", "x"), decode) for _ in range(50)))
    after = (await rig.client.info("commandstats"))["cmdstat_echo"]["calls"]
    assert answers == [b"x"] * 50
    assert after - before == len(decoded) == 1


async def test_a_caller_that_gives_up_leaves_the_others_their_answer(rig):
    calls = [rig.redis.shared("key", ("ECHO", "x"), lambda reply: reply) for _ in range(5)]
    calls[0].cancel()
    calls[3].cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [answer for answer in answers if answer == b"x"] == [b"x"] * 3


async def test_a_decoding_that_fails_fails_its_callers_only(rig):
    def fail(reply):
        raise ZeroDivisionError

    bad = [rig.redis.shared("bad", ("ECHO", "x"), fail) for _ in range(3)]
    good = rig.redis.shared("good", ("ECHO", "y"), lambda reply: reply)
    assert all(isinstance(error, ZeroDivisionError) for error in await asyncio.gather(*bad, return_exceptions=True))
    assert await good == b"y"


async def test_a_shared_read_that_is_cut_fails_all_its_callers(proxy):
    async with connected(proxy.url) as redis:
        proxy.stall_replies()
        calls = [redis.shared("key", ("PING",), lambda reply: reply) for _ in range(3)]
        await until(lambda: redis._connection._written == 1)
        proxy.drop()
        assert [await outcome(call) for call in calls] == [InDoubt] * 3


async def test_a_read_after_an_answered_write_sees_it(rig):
    """Many readers of the same board, so that reads are joined all the time."""
    board = await rig.board()

    async def player(user):
        for score in range(1, 60):
            assert (await rig.scores.update(board, user=user, value="i1")).score == score
            page, (_, (standing,)) = await asyncio.gather(rig.page(board), rig.scores.members(board, users=[user]))
            assert {entry.user: entry.score for entry in page.entries}[user] == score
            assert standing.score == score

    await asyncio.gather(*(player(f"user-{n}") for n in range(30)))


async def test_shared_reads_never_mix_boards_or_what_was_asked(rig):
    boards = [await rig.board(name=name, public_read=name == "b") for name in ("a", "b", "a.b")]
    for index, board in enumerate(boards):
        await rig.scores.update_many(board, [(f"{index}-{n}", f"i{n}", None) for n in range(10)])

    def users(page):
        return [entry.user for entry in page.entries]

    for _ in range(20):
        asked = []
        for index, board in enumerate(boards):
            whole = [f"{index}-{n}" for n in range(9, -1, -1)]
            after = (5.0, (await rig.page(board, start=4, count=1)).last_member)
            asked += [
                (rig.page(board), whole),
                (rig.page(board, count=3), whole[:3]),
                (rig.page(board, start=3, count=3), whole[3:6]),
                (rig.page(board, count=3, after=after), whole[5:8]),
                (rig.scores.around(board, user=f"{index}-5", count=3, render=lambda page: page), whole[3:6]),
            ]
        random.shuffle(asked)
        pages = await asyncio.gather(*(call for call, _ in asked))
        assert [users(page) for page in pages] == [expected for _, expected in asked]
    refused, public = await asyncio.gather(rig.page(boards[0], public=True), rig.page(boards[1], public=True))
    assert refused.value == "board-not-public"
    assert users(public)[0] == "1-9"
