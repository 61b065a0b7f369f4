"""Live boards: what a stream says, how often Redis is asked for it, and how it ends."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis as redis_py
from api_helpers import Followed, assert_problem, in_control

from leaderboard.api import live, problems
from leaderboard.domain import keys
from leaderboard.local.process import wait_until
from support.platform import Platform

WORKERS = 1
PATH = "/v1/leaderboards/global/stream"


@pytest.fixture
def tenant(new_tenant):
    return new_tenant()


@pytest.fixture
def client(connect, tenant):
    return connect(tenant.key)


@pytest.fixture
def follow(served, tenant) -> Iterator[Any]:
    """(**how) -> an open stream of the tenant's board `global`."""
    opened: list[Followed] = []

    def open_one(key: str = tenant.key, **how: Any) -> Followed:
        opened.append(Followed(served.url, PATH, {"Authorization": f"Bearer {key}"}, **how))
        return opened[-1]

    yield open_one
    for stream in opened:
        stream.close()


def users(data: Any) -> list[str]:
    return [entry["user"] for entry in data["entries"]]


def script_calls(served: Platform) -> int:
    with redis_py.Redis.from_url(served.redis_url) as client:
        return int(client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def test_the_top_comes_at_once_and_again_when_it_changed(client, follow):
    client.add("global", ("ann", 5), ("bob", 3))
    stream = follow()
    assert stream.response.status == 200
    assert stream.response.getheader("Content-Type") == "text/event-stream; charset=utf-8"
    assert stream.response.getheader("Cache-Control") == "no-store"
    first, kind, data = stream.event()
    top = client.get("/v1/leaderboards/global/top").json()
    assert kind == "top"
    assert data == {"leaderboard": "global", "total": 2, "entries": top["entries"]}
    client.add("global", ("bob", 4))
    second, _, data = stream.event()
    assert second != first
    assert users(data) == ["bob", "ann"]
    assert [entry["rank"] for entry in data["entries"]] == [1, 2]


def test_what_happens_below_the_limit_is_no_event(client, follow):
    client.add("global", ("ann", 9), ("bob", 8))
    stream = follow(limit=1)
    assert users(stream.event()[2]) == ["ann"]
    client.add("global", ("cid", 1), ("bob", 0.5))
    client.add("global", ("ann", 1))
    _, _, data = stream.event()
    assert (data["total"], data["entries"]) == (3, [{"rank": 1, "user": "ann", "score": 10}])


def test_who_resumes_gets_an_event_only_if_there_is_something_new(client, follow):
    client.add("global", ("ann", 5))
    known = follow().event()[0]
    up_to_date = follow(last_id=known)
    assert up_to_date.block() == [f"retry: {live.RETRY_MS}"]
    client.add("global", ("bob", 7))
    assert users(up_to_date.event()[2]) == ["bob", "ann"]
    behind = follow(last_id=known)
    assert users(behind.event()[2]) == ["bob", "ann"]


def test_streams_of_different_limits_share_one_reading(client, follow):
    client.add("global", *((f"u{number}", 10 - number) for number in range(5)))
    small, large = follow(limit=2), follow(limit=4)
    assert users(small.event()[2]) == ["u0", "u1"]
    assert users(large.event()[2]) == ["u0", "u1", "u2", "u3"]
    client.add("global", ("u1", 5))
    assert users(small.event()[2]) == ["u1", "u0"]
    assert users(large.event()[2]) == ["u1", "u0", "u2", "u3"]


def test_redis_is_asked_once_an_interval_whatever_the_number_of_streams(served, follow):
    streams = [follow() for _ in range(50)]
    began, before = time.monotonic(), script_calls(served)
    assert wait_until(lambda: script_calls(served) >= before + 3, seconds=90)
    calls, seconds = script_calls(served) - before, time.monotonic() - began
    # Nobody else asks: a reading per interval that began meanwhile, and the one that was due when the count began.
    assert calls <= seconds / live.INTERVAL_SECONDS + 1
    for stream in streams:
        stream.close()

    # The last one gone (which the server learns a moment later), it is not read at all.
    def quiet() -> bool:
        at = script_calls(served)
        time.sleep(2 * live.INTERVAL_SECONDS)
        return script_calls(served) == at

    assert wait_until(quiet, seconds=90)


def test_a_revoked_key_ends_its_streams_and_no_other(served, tenant, client, follow):
    stream = follow()
    stream.event()
    in_control(served, lambda control: control.revoke(keys.parse_key(tenant.key).id))
    _, kind, data = stream.event()
    assert (kind, data["type"], data["status"]) == ("problem", "/problems/invalid-api-key", 401)
    with pytest.raises(EOFError):
        stream.event()


def test_a_board_that_is_lost_and_restored_goes_on(served, tenant, client, follow):
    client.add("global", ("ann", 5))
    stream = follow()
    stream.event()
    assert wait_until(lambda: len(client.get("/v1/leaderboards/global/events").json()["events"]) == 1, seconds=90)
    with redis_py.Redis.from_url(served.redis_url) as store:
        board = f"l:{tenant.id}:default:global"
        store.delete(board, f"meta:{{{board}}}", f"order:{{{board}}}")
    assert client.get("/v1/leaderboards/global/top").status == 503
    time.sleep(2 * live.INTERVAL_SECONDS)  # turns of the stream that find no board
    done = subprocess.run(
        [sys.executable, "-m", "leaderboard.cli", "rebuild", "--board", f"{tenant.slug}/default/global"],
        env=served.env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    client.add("global", ("bob", 9))
    while users((event := stream.event())[2]) != ["bob", "ann"]:
        assert event[1] == "top"


def test_a_deleted_board_ends_its_streams(client, follow):
    stream = follow()
    stream.event()
    assert client.call("DELETE", "/v1/leaderboards/global").status == 204
    _, kind, data = stream.event()
    assert (kind, data["type"]) == ("problem", "/problems/board-not-found")
    with pytest.raises(EOFError):
        stream.event()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/leaderboards/nobody/stream", problems.BOARD_NOT_FOUND),
        (f"{PATH}?limit=101", problems.INVALID_PARAMETER),
        (f"{PATH}?limit=0", problems.INVALID_PARAMETER),
        (f"{PATH}?ofset=1", problems.INVALID_PARAMETER),
    ],
)
def test_what_cannot_be_followed_is_refused(client, path, kind):
    assert_problem(client.get(path), kind)


async def test_a_request_that_comes_in_pieces_is_followed_too(served, tenant):
    parts = urlsplit(served.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    expecting = "Host: here\r\nExpect: 100-continue\r\nContent-Length: 2"
    async with asyncio.timeout(20):
        writer.write(f"GET {PATH} HTTP/1.1\r\n{expecting}\r\nX-API-Key: {tenant.key}\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert (await reader.readuntil(b"event: top\n")).startswith(b"retry: ")
        writer.close()
        await writer.wait_closed()


def test_a_server_that_stops_ends_its_streams(served, follow):
    stream = follow()
    stream.event()
    served.stop()
    try:
        assert stream.response.read() == b""
    finally:
        served.start()
