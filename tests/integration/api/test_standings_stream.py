"""Snapshots of boards as server-sent events, for the dashboard: what they say, what they cost, and how they end."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from api_helpers import Browser, Followed, assert_problem, in_control, sql

from leaderboard.api import problems
from leaderboard.domain import keys

WORKERS = 1
PATH = "/v1/leaderboards/global/standings/stream"


@pytest.fixture
def tenant(new_tenant):
    return new_tenant()


@pytest.fixture
def client(connect, tenant):
    return connect(tenant.key)


@pytest.fixture
def browser(connect, tenant):
    return Browser(connect(), tenant.key)


@pytest.fixture
def follow(served, browser) -> Iterator[Any]:
    """(**how) -> an open stream of the session's board `global`."""
    opened: list[Followed] = []

    def open_one(path: str = PATH, **how: Any) -> Followed:
        headers = {"Cookie": browser.cookie, "Sec-Fetch-Site": "same-origin"}
        opened.append(Followed(served.url, path, headers, **how))
        return opened[-1]

    yield open_one
    for stream in opened:
        stream.close()


def until(stream, kind):
    """The next event of `kind`."""
    while (event := stream.event())[1] != kind:
        pass
    return event


def test_a_session_follows_what_changes_and_is_told_when_nothing_does(client, follow):
    client.add("global", ("ann", 5), ("bob", 3))
    stream = follow()
    first, kind, data = stream.event()
    assert kind == "standings"
    assert data["entries"] == client.get("/v1/leaderboards/global/top").json()["entries"]
    assert 0 <= data["age_ms"] <= 2000
    _, kind, taken = stream.event()
    assert (kind, taken["total"]) == ("taken", 2)
    assert taken["taken_at"] > data["taken_at"]
    client.add("global", ("bob", 4))
    second, _, data = until(stream, "standings")
    assert second != first
    assert [entry["user"] for entry in data["entries"]] == ["bob", "ann"]


def test_who_resumes_with_the_same_entries_hears_that_they_are_still_so(client, follow):
    client.add("global", ("ann", 5))
    known = follow().event()[0]
    again = follow(last_id=known)
    assert again.event()[1] == "taken"


def test_many_streams_ask_redis_no_more_than_one(served, tenant, client, follow):
    client.add("global", ("ann", 5))
    streams = [follow() for _ in range(20)]
    for stream in streams:
        stream.event()
    with redis_py.Redis.from_url(served.redis_url) as store, store.monitor() as monitor:
        seen = {until(streams[0], "taken")[2]["taken_at"] for _ in range(4)}
        for stream in streams[1:]:
            until(stream, "taken")
        store.echo("that was all")
        reads = 0
        for command in monitor.listen():
            if "that was all" in command["command"]:
                break
            reads += command["command"].startswith("EVALSHA") and f"l:{tenant.id}:" in command["command"]
    assert 1 <= reads <= len(seen) + 2


def test_a_revoked_key_ends_the_sessions_streams(served, tenant, follow):
    stream = follow()
    stream.event()
    in_control(served, lambda control: control.revoke(keys.parse_key(tenant.key).id))
    assert until(stream, "problem")[2]["type"] == "/problems/invalid-api-key"
    with pytest.raises(EOFError):
        stream.event()


def test_a_deleted_board_ends_its_streams(client, follow):
    stream = follow()
    stream.event()
    assert client.call("DELETE", "/v1/leaderboards/global").status == 204
    assert until(stream, "problem")[2]["type"] == "/problems/board-not-found"


def test_without_a_worker_it_waits_and_goes_on(served, client, follow):
    client.add("global", ("ann", 5))
    stream = follow()
    stream.event()
    served.stop_worker()
    try:
        # The snapshot goes, as it would with a crash of Postgres: the table is not in its log.
        sql(served, "TRUNCATE standings")
        client.add("global", ("bob", 7))
    finally:
        served.start_worker()
    _, _, data = until(stream, "standings")
    assert [entry["user"] for entry in data["entries"]] == ["bob", "ann"]


def test_a_session_of_another_tenant_sees_its_own_board_alone(client, new_tenant, connect, served):
    client.add("global", ("ann", 5))
    other = Browser(connect(), new_tenant().key)
    stream = Followed(served.url, PATH, {"Cookie": other.cookie, "Sec-Fetch-Site": "same-origin"})
    assert stream.event()[2]["entries"] == []
    stream.close()


def test_what_cannot_be_followed_is_refused(browser):
    assert_problem(browser.call("GET", "/v1/leaderboards/nobody/standings/stream"), problems.BOARD_NOT_FOUND)
    assert_problem(browser.call("GET", f"{PATH}?limit=101"), problems.INVALID_PARAMETER)
    assert_problem(browser.call("GET", PATH, Sec_Fetch_Site="cross-site"), problems.FORGED_REQUEST)
