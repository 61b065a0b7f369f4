"""10,000 requests that are wrong in some way, over raw sockets: each gets a 4xx problem, or its connection is closed
where HTTP cannot be parsed; nothing is answered 5xx, nothing is left stuck.

The requests are made from a fixed seed, so that a run can be repeated.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from api_helpers import Client, assert_no_faults

from leaderboard.local.process import wait_until

REQUESTS = 10_000
AT_ONCE = 40
HUGE = 300_000  # the limit is 262,144
UPDATE, BATCH, BOARDS, BOARD = "/v1/scores/update", "/v1/scores/batch", "/v1/leaderboards", "/v1/leaderboards/global"
JSON_PATHS = (("POST", UPDATE), ("POST", BATCH), ("POST", BOARDS), ("PATCH", BOARD))
GOOD = b'{"leaderboard":"nowhere","user":"u","increment":1}'  # 404: no such board


class Case(NamedTuple):
    """What to send. `opaque`: HTTP cannot be parsed, so a closed connection will do; `first_fine`: a good request
    comes before what is wrong."""

    data: bytes
    opaque: bool = False
    first_fine: bool = False


Maker = Callable[[random.Random, bytes], Case]
MAKERS: dict[str, Maker] = {}


def maker(function: Maker) -> Maker:
    MAKERS[function.__name__] = function
    return function


def head(method: str, target: str | bytes, key: bytes, *headers: bytes, close: bool = False) -> bytes:
    target = target.encode() if isinstance(target, str) else target
    lines = [method.encode() + b" " + target + b" HTTP/1.1", b"Host: test", b"Authorization: Bearer " + key, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def send(method: str, target: str | bytes, key: bytes, body: bytes, *headers: bytes) -> bytes:
    given = (b"Content-Type: application/json", b"Content-Length: %d" % len(body), *headers)
    return head(method, target, key, *given) + body


def noise(rng: random.Random, most: int) -> bytes:
    return rng.randbytes(rng.randint(1, most))


@maker
def bad_json(rng: random.Random, key: bytes) -> Case:
    whole = b'{"leaderboard":"global","user":"u1","increment":1}'
    body = rng.choice(
        [
            whole[: rng.randrange(len(whole))],
            whole + rng.choice([b"}", b",", b"{}", b"x", b"\x00"]),
            whole.replace(b'"', b"'"),
            whole.replace(b"}", b",}"),
            b"\xef\xbb\xbf" + whole,
            b"/* */" + whole,
            whole.replace(b"u1", b"\\ud800"),
            whole.replace(b"u1", b"\\x41"),
            whole.replace(b"u1", b"a\nb"),
            noise(rng, 200),
            b"",
            b" " * rng.randint(1, 1000),
        ]
    )
    return Case(send(*rng.choice(JSON_PATHS), key, body))


@maker
def not_numbers(rng: random.Random, key: bytes) -> Case:
    number = rng.choice(
        [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1" + b"0" * 400, b"01", b"+1", b".5", b"1.", b"0x1"]
    )
    field = rng.choice([b"increment", b"score"])
    return Case(send("POST", UPDATE, key, b'{"leaderboard":"global","user":"u","%s":%s}' % (field, number)))


@maker
def bad_utf8_in_a_body(rng: random.Random, key: bytes) -> Case:
    wrong = rng.choice([b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"\x80"])
    field = rng.choice([b'"leaderboard":"%s"', b'"user":"a%s"', b'"%s":1'])
    return Case(send(*rng.choice(JSON_PATHS), key, b"{" + field % wrong + b"}"))


@maker
def wrong_types(rng: random.Random, key: bytes) -> Case:
    def wrong(*, but: type) -> Any:
        values = [None, True, [], {}, [1], {"a": 1}, "text", 7, 1.5]
        return rng.choice([value for value in values if not isinstance(value, but) and value is not None])

    update = {"leaderboard": "global", "user": "u", "increment": 1}
    body: Any = rng.choice(
        [
            {**update, "leaderboard": wrong(but=str)},
            {**update, "user": wrong(but=str)},
            {**update, "increment": rng.choice([True, [], {}, "5"])},
            {**update, "increment": None},
            {**update, "score": 1},
            {**update, "user": rng.choice(["", "a/b", "a\u0000", "a\u2028", "é" * 65, "x" * 129])},
            {**update, "leaderboard": rng.choice(["", "UPPER", "a:b", "{a}", "-a", "x" * 129, "a\n", "é"])},
            {**update, "increment": rng.choice([2**53 + 2, -(2**54), 1e300])},
        ]
    )
    if rng.random() < 0.5:
        return Case(send("POST", UPDATE, key, json.dumps(body).encode()))
    batch = rng.choice([{"updates": wrong(but=list)}, {"updates": []}, {}, [], "x", {"updates": [update] * 1001}])
    board = rng.choice([{"key": wrong(but=str)}, {"key": "a:b"}, {"key": "b", "max_entries": wrong(but=float)}])
    if isinstance(board.get("max_entries"), int) and not isinstance(board["max_entries"], bool):
        board["max_entries"] = rng.choice([-1, 10_000_001, 10**30])
    path, value = rng.choice([(BATCH, batch), (BOARDS, board)])
    return Case(send("POST", path, key, json.dumps(value).encode()))


@maker
def unknown_and_repeated_fields(rng: random.Random, key: bytes) -> Case:
    extra = rng.choice([b'"extra":1', b'"Increment":1', b'"user ":"u"', b'"__proto__":{}', b'"":0', b'"user":7'])
    body = b'{"leaderboard":"global","user":"u","increment":1,%s}' % extra
    if extra != b'"user":7' and rng.random() < 0.3:
        return Case(send(rng.choice(["POST"]), BOARDS, key, b'{"key":"k",%s}' % extra))
    return Case(send("POST", UPDATE, key, body))


@maker
def deep_nesting(rng: random.Random, key: bytes) -> Case:
    depth = rng.choice([10, 500, 1_100, 5_000, 60_000])
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    deep = opening * depth + (b"1" + closing * depth if rng.random() < 0.7 else b"")
    deep = deep[:250_000]
    field = rng.choice([b"%s", b'{"leaderboard":"global","user":%s}', b'{"updates":%s}', b'{"key":%s}'])
    body = field % deep
    if field == b'{"updates":%s}' and opening == b"[":
        body = b'{"updates":' + b'{"a":' * depth + b"}" * depth + b"}"
        body = body[:250_000]
    return Case(send(*rng.choice(JSON_PATHS), key, body))


@maker
def huge_body(rng: random.Random, key: bytes) -> Case:
    method, path = rng.choice(JSON_PATHS)
    body = b'{"leaderboard":"' + b"a" * HUGE + b'"}'
    if rng.random() < 0.5:
        return Case(send(method, path, key, body))
    size = rng.choice([1_000, 65_536, 150_000])
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for at in range(0, HUGE, size) if (part := body[at : at + size])
    )
    start = head(method, path, key, b"Content-Type: application/json", b"Transfer-Encoding: chunked")
    return Case(start + chunks + (b"0\r\n\r\n" if rng.random() < 0.5 else b""))


@maker
def absurd_length(rng: random.Random, key: bytes) -> Case:
    wrong = rng.choice(
        [b"-1", b"abc", b"+5", b"1,2", b"0x10", b"1" * 30, b"99999999999999999999", b"", b"5 5", b"\xb2"]
    )
    kind = rng.randrange(4)
    if kind == 0:
        return Case(
            head("POST", UPDATE, key, b"Content-Type: application/json", b"Content-Length: " + wrong) + GOOD, True
        )
    if kind == 1:  # a length no body will have: refused before any of it is read
        huge = b"Content-Length: %d" % rng.choice([262_145, 10**9, 10**15])
        return Case(head("POST", UPDATE, key, b"Content-Type: application/json", huge) + GOOD)
    if kind == 2:
        lengths = (b"Content-Length: 5", b"Content-Length: 50")
        return Case(head("POST", UPDATE, key, b"Content-Type: application/json", *lengths) + GOOD, True)
    return Case(head("POST", UPDATE, key, b"Content-Type: application/json"))  # none: an empty body


@maker
def bad_transfer_encoding(rng: random.Random, key: bytes) -> Case:
    coding = rng.choice([b"chunked, chunked", b"gzip", b"identity, gzip", b"chunkedx", b"\xff", b"chunked"])
    extra = (b"Content-Length: 5",) if rng.random() < 0.3 else ()
    size = rng.choice([b"zz", b"-1", b"f" * 20, b"5;" + b"x" * 5, b"", b"10 ", b"\xff"])
    start = head("POST", UPDATE, key, b"Content-Type: application/json", b"Transfer-Encoding: " + coding, *extra)
    return Case(start + size + b"\r\n" + noise(rng, 60) + b"\r\n\r\n", True)


@maker
def wrong_media_type(rng: random.Random, key: bytes) -> Case:
    kinds = [
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"application/jsonx",
        b"",
        b"\xff/\xff",
        b"json",
        b";",
    ]
    header = b"Content-Type: " + rng.choice(kinds)
    return Case(head("POST", UPDATE, key, header, b"Content-Length: %d" % len(GOOD)) + GOOD)


@maker
def bad_paths(rng: random.Random, key: bytes) -> Case:
    wrong = rng.choice(
        [
            b"/v1/leaderboards/global/rank/%ff",
            b"/v1/leaderboards/global/rank/%EF%BF%BD%ff",
            b"/v1/leaderboards/global/rank/a%00b",
            b"/v1/leaderboards/global/rank/%c3",
            b"/v1/leaderboards/global/rank/" + b"x" * 129,
            b"/v1/leaderboards/%ff/top",
            b"/v1/leaderboards/a%3Ab/top",
            b"/v1/leaderboards/../top",
            b"/v1/leaderboards/global%2F..%2Fother",
            b"/v1/leaderboards//top",
            b"/v1/leaderboards/",
            b"/v1/leaderboards/global/members?ids=%ff",
            b"/v1/leaderboards/global/members?ids=",
            b"/v1/leaderboards/global/members?ids=" + b",".join([b"a"] * 101),
            b"/v1/leaderboards/global/top/extra",
            b"/v1/public/%ff/default/leaderboards/global/top",
            b"/v1/public/a/b%00/leaderboards/global/top",
            b"/problems/%ff",
            b"/v2",
            b"/%",
            b"/%zz",
            b"/" + bytes(rng.choices(range(0x21, 0x7F), k=20)).replace(b"#", b"").replace(b"?", b""),
        ]
    )
    if rng.random() < 0.3:
        return Case(
            head("GET", b"/v1/leaderboards/" + rng.choice([b"\xff", b"\xc3\xa9", b"a b", b"\x01", b"\x00"]), key), True
        )
    return Case(head("GET", wrong, key))


@maker
def bad_queries(rng: random.Random, key: bytes) -> Case:
    wrong = rng.choice(
        [b"limit=0", b"limit=1001",
         b"limit=-1", b"limit=1e2", b"limit=%D9%A3", b"limit=", b"limit=5&limit=6", b"limit=+5",
         b"offset=-1", b"offset=9007199254740993", b"offset=99999999999999999999",
         b"cursor=", b"cursor=%ff", b"cursor=!",
         b"cursor=bmFuIHg", b"cursor=aW5mIHg", b"cursor=MQ", b"cursor=" + b"A" * 5_000, b"offset=1&cursor=MSB1", b"x=1",
         b"Limit=5", b"%6Cimit=0", b"%00=1", b"%ff=1"]
    )  # fmt: skip
    return Case(head("GET", b"/v1/leaderboards/global/top?" + wrong, key))


@maker
def bad_keys(rng: random.Random, key: bytes) -> Case:
    wrong = rng.choice(
        [key[:-1], key + b"x", key[::-1], b"", b"\xff\xfe", b"Bearer", key.upper(), b"a" * 5_000, b"lb_live_"]
    )
    header = rng.choice(
        [b"Authorization: Bearer %s", b"Authorization: Basic %s", b"Authorization: %s", b"X-API-Key: %s"]
    )
    start = b"GET /v1/leaderboards HTTP/1.1\r\nHost: test\r\n" + header % wrong
    return Case(start + b"\r\n\r\n")


@maker
def bad_headers(rng: random.Random, key: bytes) -> Case:
    kind = rng.randrange(5)
    if kind == 0:
        wrong = rng.choice([b"\xff\xfe", b"a b", "ключ".encode(), b"x" * 129, b"", b"\x7f"])
        return Case(send("POST", UPDATE, key, GOOD, b"Idempotency-Key: " + wrong), opaque=True)
    if kind == 1:
        return Case(head("GET", BOARDS, key, b"X-Long: " + b"x" * rng.choice([33_000, 70_000, 200_000])))
    if kind == 2:
        return Case(head("GET", BOARDS, key, *(b"X-%d: %s" % (n, b"y" * 20) for n in range(2_000))))
    if kind == 3:
        return Case(head("GET", b"/v1/leaderboards?" + b"x" * rng.choice([33_000, 70_000]), key))
    line = rng.choice(
        [b"no colon", b": no name", b"a b: c", b"a\x00: b", b"\xff: b", b"a: \x00", b"(a): b", b"a: b\rc: d"]
    )
    return Case(head("GET", b"/v1/nothing", key, line), opaque=True)


@maker
def not_http(rng: random.Random, key: bytes) -> Case:
    return Case(
        rng.choice(
            [
                noise(rng, 300) + b"\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise(rng, 200),
                b"GET /v1/leaderboards\r\n\r\n",
                b"GET  HTTP/1.1\r\n\r\n",
                b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
                b"get /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                b"FOO /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                b"*1\r\n$4\r\nPING\r\n",
                b"\r\n" * 50 + b"\x00",
                b"CONNECT test:443 HTTP/1.1\r\nHost: test\r\n\r\n",
            ]
        ),
        opaque=True,
    )


@maker
def wrong_methods(rng: random.Random, key: bytes) -> Case:
    method = rng.choice(["PUT", "DELETE", "TRACE", "PATCH", "PROPFIND", "LOCK"])
    return Case(head(method, rng.choice([UPDATE, "/healthz", "/docs", f"{BOARD}/top"]), key))


@maker
def pipelined_garbage(rng: random.Random, key: bytes) -> Case:
    first = head("GET", rng.choice([b"/healthz", b"/v1/leaderboards/global/top"]), key) * rng.randint(1, 5)
    if rng.random() < 0.5:
        first += send("POST", UPDATE, key, GOOD)
    return Case(first + rng.choice([noise(rng, 500), MAKERS["bad_json"](rng, key).data, b"\x00" * 100]), True, True)


@maker
def half_a_request(rng: random.Random, key: bytes) -> Case:
    whole = send("POST", UPDATE, key, GOOD)
    return Case(whole[: rng.randrange(1, len(whole))], opaque=True)


async def exchange(
    address: tuple[str, int], data: bytes, *, patience: float
) -> list[tuple[int, dict[str, str], bytes]]:
    """Send all of `data`, close our half when an answer has come or after `patience` seconds, and return the answers
    until the server has closed."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        received = bytearray()

        async def read() -> None:
            with contextlib.suppress(ConnectionError):
                while part := await reader.read(65_536):
                    received.extend(part)

        reading = asyncio.ensure_future(read())
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(data), 65_536):
                writer.write(data[at : at + 65_536])
                await writer.drain()
        # Not at once: the server drops what is under way when the client is gone.
        deadline = asyncio.get_running_loop().time() + patience
        while not received and not reading.done() and asyncio.get_running_loop().time() < deadline:
            await asyncio.wait([reading], timeout=0.005)
        with contextlib.suppress(ConnectionError, OSError):
            writer.write_eof()
        async with asyncio.timeout(30):
            await reading
        return list(answers(bytes(received)))
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def answers(data: bytes) -> Iterator[tuple[int, dict[str, str], bytes]]:
    while data:
        start, _, rest = data.partition(b"\r\n\r\n")
        lines = start.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        size = int(headers.get("content-length", 0))
        yield int(lines[0].split(" ", 2)[1]), headers, rest[:size]
        data = rest[size:]


def complaint(name: str, case: Case, got: list[tuple[int, dict[str, str], bytes]]) -> Iterator[str]:
    about = f"{name}: {case.data[:300]!r} was answered {[(status, body[:300]) for status, _, body in got]}"
    if not got and not case.opaque:
        yield about
    for status, headers, body in got:
        if case.first_fine and status == 200:
            continue
        problem = headers.get("content-type") == "application/problem+json"
        if not (400 <= status < 500 and problem and json.loads(body)["status"] == status):
            yield about


@pytest.mark.timeout(240)
async def test_ten_thousand_malformed_requests_get_4xx_and_no_worker_is_stuck(served, new_tenant):
    tenant = new_tenant()
    client = Client(served.url, tenant.key)
    client.add("global", ("u0", 1))
    before = client.get("/v1/leaderboards/global/top").body
    workers = served.api_workers()
    address = (urlsplit(served.url).hostname or "", urlsplit(served.url).port or 0)
    rng = random.Random(20260131)
    names = list(MAKERS)
    cases = iter([(name, MAKERS[name](rng, tenant.key.encode())) for name in (names * REQUESTS)[:REQUESTS]])
    statuses: Counter[int] = Counter()
    wrong: list[str] = []

    async def drive() -> None:
        for name, case in cases:
            got = await exchange(address, case.data, patience=0.2 if case.opaque else 30)
            wrong.extend(complaint(name, case, got))
            statuses.update(status for status, _, _ in got) if got else statuses.update([0])

    async with asyncio.TaskGroup() as group:
        slow = [group.create_task(dripped(address, data)) for data in slow_ones(tenant.key.encode())]
        for _ in range(AT_ONCE):
            group.create_task(drive())
    for task in slow:
        assert task.result() in ([408], []), "a slow request is told 408, or just closed where it said nothing"
    assert any(task.result() == [408] for task in slow)

    assert not wrong, f"{len(wrong)} of {REQUESTS}:\n" + "\n".join(random.Random(1).sample(wrong, min(40, len(wrong))))
    assert {400, 401, 404, 405, 413, 415, 422, 431} <= set(statuses), statuses
    assert served.api_workers() == workers, "a worker died"
    assert client.get("/v1/leaderboards/global/top").body == before, "a malformed request changed the board"
    client.close()
    assert_no_faults(served)
    for worker in workers:
        await asyncio.to_thread(answers_alone, served, worker, tenant.key)


def slow_ones(key: bytes) -> list[bytes]:
    whole = send("POST", UPDATE, key, GOOD)
    return [whole[:40], whole[:-1], whole[:-1], b"", b"G"] * 3


async def dripped(address: tuple[str, int], data: bytes) -> list[int]:
    """Send `data` byte by byte, never the rest of it, and return the statuses of what is answered in the end."""
    reader, writer = await asyncio.open_connection(*address)
    reading = asyncio.ensure_future(reader.read())
    with contextlib.suppress(ConnectionError):
        for at in range(len(data)):
            writer.write(data[at : at + 1])
            await writer.drain()
            await asyncio.wait([reading], timeout=0.02)
    async with asyncio.timeout(60):
        got = await reading
    writer.close()
    return [status for status, _, _ in answers(got)]


def answers_alone(served: Any, worker: int, key: str) -> None:
    """Check that this worker serves: with the others stopped, every request is its own."""
    others = [pid for pid in served.api_workers() if pid != worker]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:

        def served_by_it() -> bool:
            # A connection that a stopped worker had accepted before is nobody's answer: open another.
            client = Client(served.url, key)
            try:
                return client.get("/v1/leaderboards/global/top").status == 200
            finally:
                client.close()

        assert wait_until(served_by_it, seconds=90, pause=0.1)
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)
