"""A board as it was, through the API: what is told, what is refused, and that it does not keep others waiting."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import psycopg
import pytest
from api_helpers import Browser, assert_problem, sql

from leaderboard.api import problems
from leaderboard.api.problems import Problem
from leaderboard.api.resources.history import MAX_OF_TENANT, Past
from leaderboard.local.process import wait_until

BOARD = "/v1/leaderboards/global"


def text(moment):
    return quote(moment.isoformat())


def stamps(client):
    """The times of the board's events, oldest first, once the ledger has all of them."""
    now = text(datetime.now(UTC))
    assert wait_until(lambda: client.get(f"{BOARD}/history/top?at={now}").status == 200, seconds=90, pause=0.1)
    events = client.get(f"{BOARD}/events?limit=200").json()["events"]
    return [datetime.fromisoformat(event["time"]) for event in reversed(events)]


def step(client, *scores):
    """Add each score in a millisecond of its own."""
    for score in scores:
        client.add("global", score)
        time.sleep(0.002)


def test_the_top_and_a_rank_as_they_were(client):
    step(client, ("ada", 5), ("bob", 7), ("ada", 3))
    assert client.call("DELETE", f"{BOARD}/members/bob").status == 204
    first, second, third, gone = stamps(client)
    at = text(second)
    top = client.get(f"{BOARD}/history/top?at={at}")
    assert top.json() == {
        "leaderboard": "global",
        "at": second.isoformat().replace("+00:00", "Z"),
        "total": 2,
        "entries": [{"rank": 1, "user": "bob", "score": 7}, {"rank": 2, "user": "ada", "score": 5}],
        "next_cursor": None,
    }
    assert top.headers["cache-control"] == "private, no-cache"
    assert client.get(f"{BOARD}/history/top?at={at}", if_none_match=top.headers["etag"]).status == 304
    assert client.get(f"{BOARD}/history/rank/ada?at={at}").json() == {
        "leaderboard": "global", "at": second.isoformat().replace("+00:00", "Z"),
        "rank": 2, "user": "ada", "score": 5, "total": 2, "percentile": 50,
    }  # fmt: skip
    assert client.get(f"{BOARD}/history/rank/ada?at={text(third)}").json()["rank"] == 1
    for user, when in (("bob", first), ("bob", gone), ("ada", first - timedelta(milliseconds=1))):
        answer = client.get(f"{BOARD}/history/rank/{user}?at={text(when)}")
        assert_problem(answer, problems.USER_NOT_FOUND, detail=when.isoformat().replace("+00:00", "Z"))
    assert client.get(f"{BOARD}/history/top?at={text(first - timedelta(days=900))}").json()["entries"] == []


def test_pages_of_one_moment_fit_together_whatever_happens(client):
    step(client, *((f"u{number}", number % 3 + 1) for number in range(7)))
    at = text(stamps(client)[-1])
    found, cursor = [], ""
    while cursor is not None:
        page = client.get(f"{BOARD}/history/top?at={at}&limit=3{cursor and f'&cursor={cursor}'}").json()
        found += page["entries"]
        cursor = page["next_cursor"]
        client.add("global", (f"new{len(found)}", 9))
    assert [entry["user"] for entry in found] == ["u2", "u5", "u1", "u4", "u0", "u3", "u6"]
    assert [entry["rank"] for entry in found] == list(range(1, 8))


def test_one_offset_is_as_good_as_another(client):
    step(client, ("ada", 5))
    (when,) = stamps(client)
    elsewhere = when.isoformat().replace("+00:00", "") + "-00:00"
    there = (when + timedelta(hours=5)).isoformat().replace("+00:00", "%2B05:00")
    answers = [client.get(f"{BOARD}/history/top?at={at}").json() for at in (text(when), elsewhere, there)]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["total"] == 1


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("", "at is missing"),
        ("at=", "at must be an RFC 3339 time"),
        ("at=yesterday", "at must be"),
        ("at=2026-01-31", "at must be"),
        ("at=2026-01-31T09:00:00", "at must be"),  # no offset
        ("at=2026-01-31T09:00:00+01:00", "%2B"),  # the + is a space
        ("at=0001-01-01T00:00:00%2B01:00", "at must be"),
        ("at=9999-12-31T23:59:59Z", "at is in the future"),
        ("at=2026-01-31T09:00:00Z&at=2026-01-31T09:00:00Z", "at must be given once"),
        ("at=2026-01-31T09:00:00Z&limit=0", "limit"),
        ("at=2026-01-31T09:00:00Z&cursor=0", "cursor"),
        ("at=2026-01-31T09:00:00Z&offset=5", "offset"),
    ],
)
def test_bad_parameters_are_named(client, query, detail):
    assert_problem(client.get(f"{BOARD}/history/top?{query}"), problems.INVALID_PARAMETER, detail=detail)
    if "limit" not in query and "cursor" not in query:
        assert_problem(client.get(f"{BOARD}/history/rank/ada?{query}"), problems.INVALID_PARAMETER, detail=detail)


def test_a_moment_whose_events_may_be_on_their_way_is_refused_and_told_when_they_came(client):
    client.add("global", ("ada", 5))
    at = text(datetime.now(UTC))
    answer = client.get(f"{BOARD}/history/rank/ada?at={at}")
    while answer.status != 200:
        assert_problem(answer, problems.HISTORY_NOT_READY, detail="the ledger is complete is ")
        assert answer.headers["retry-after"] == "1"
        time.sleep(0.1)
        answer = client.get(f"{BOARD}/history/rank/ada?at={at}")
    assert answer.json()["score"] == 5


def test_what_was_dropped_is_gone_and_the_earliest_time_is_told(client, served):
    step(client, ("ada", 5))
    (when,) = stamps(client)
    earliest = when - timedelta(hours=1)
    with psycopg.connect(served.database) as conn:
        (board,) = conn.execute(
            "SELECT leaderboard_id FROM score_events WHERE event_time = %s AND member = 'ada'", (when,)
        ).fetchone()
    sql(
        served,
        "INSERT INTO score_checkpoint_heads (leaderboard_id, incarnation, seq, dropped_until) VALUES (%s, 1, 0, %s)",
        board,
        earliest,
    )
    for path in ("top", "rank/ada"):
        answer = client.get(f"{BOARD}/history/{path}?at={text(earliest - timedelta(milliseconds=1))}")
        assert_problem(answer, problems.HISTORY_GONE, detail=earliest.isoformat().replace("+00:00", "Z"))
    assert client.get(f"{BOARD}/history/top?at={text(earliest)}").json()["total"] == 0
    assert client.get(f"{BOARD}/history/rank/ada?at={text(when)}").json()["rank"] == 1


def test_a_board_of_another_project_is_not_there_and_a_suspended_one_is_closed(client, new_tenant, connect, served):
    step(client, ("ada", 5))
    at = text(stamps(client)[0])
    other = connect(new_tenant(boards=[{"key": "own"}]).key)
    for path in ("history/top", "history/rank/ada"):
        assert_problem(other.get(f"/v1/leaderboards/nowhere/{path}?at={at}"), problems.BOARD_NOT_FOUND)
        assert_problem(other.get(f"/v1/leaderboards/NO/{path}?at={at}"), problems.BOARD_NOT_FOUND)
    sql(served, "UPDATE leaderboards SET suspended = true WHERE key = 'own'")
    assert_problem(other.get(f"/v1/leaderboards/own/history/top?at={at}"), problems.BOARD_SUSPENDED)


def test_a_session_reads_it(client, new_tenant, connect):
    tenant = new_tenant()
    person = connect(tenant.key)
    person.add("global", ("ada", 5))
    at = text(stamps(person)[0])
    browser = Browser(person, tenant.key)
    assert browser.call("GET", f"{BOARD}/history/rank/ada?at={at}").json()["rank"] == 1


async def test_a_tenant_has_one_turn_at_a_time_and_the_others_theirs(monkeypatch):
    past = Past(None, at_once=2, now=lambda: datetime.now(UTC))
    having, go = [], asyncio.Event()

    async def read(tenant):
        async with past.turn(tenant):
            having.append(tenant)
            await go.wait()

    async with asyncio.TaskGroup() as tasks:
        for tenant in (1, 1, 1, 2):
            tasks.create_task(read(tenant))
        await asyncio.sleep(0)
        while len(having) < 2:
            await asyncio.sleep(0)
        assert having == [1, 2]
        monkeypatch.setattr("leaderboard.api.resources.history.PATIENCE", 0.01)
        with pytest.raises(Problem) as refused:
            await read(3)
        assert refused.value.kind is problems.OVERLOADED
        monkeypatch.undo()
        go.set()
    assert sorted(having) == [1, 1, 1, 2]
    assert past._tenants == {}


async def test_a_tenant_that_asks_too_much_at_once_is_refused():
    past = Past(None, at_once=1, now=lambda: datetime.now(UTC))
    go, done = asyncio.Event(), []

    async def read():
        async with past.turn(1):
            await go.wait()
            done.append(1)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(MAX_OF_TENANT):
            tasks.create_task(read())
        await asyncio.sleep(0.01)
        with pytest.raises(Problem) as refused:
            await read()
        assert refused.value.kind is problems.OVERLOADED
        go.set()
    assert len(done) == MAX_OF_TENANT
