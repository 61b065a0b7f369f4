"""A board's history, as the ledger has it."""

import math

import psycopg
import pytest
from api_helpers import assert_problem

from leaderboard.api import problems
from leaderboard.local.process import wait_until
from leaderboard.store.postgres import ledger


def page(client, board: str = "global", **query):
    words = "&".join(f"{name}={value}" for name, value in query.items())
    answer = client.get(f"/v1/leaderboards/{board}/events" + (f"?{words}" if words else ""))
    assert answer.status == 200, answer
    return answer.json()


def settled(client, count: int, board: str = "global"):
    """The newest events once the worker has moved `count` of them."""
    assert wait_until(lambda: len(page(client, board, limit=200)["events"]) == count, seconds=90, pause=0.05)
    return page(client, board, limit=200)["events"]


def test_what_happened_is_there_newest_first(client):
    client.add("global", ("ada", 5), ("bob", 2.5), ("ada", 5))
    assert client.call("DELETE", "/v1/leaderboards/global/members/bob").status == 204
    events = settled(client, 4)
    assert [(e["kind"], e["user"], e["submitted"], e["score"]) for e in events] == [
        ("remove", "bob", None, None),
        ("update", "ada", 5, 10),
        ("update", "bob", 2.5, 2.5),
        ("update", "ada", 5, 5),
    ]
    assert len({event["id"] for event in events}) == 4


def test_who_falls_off_a_bounded_board_is_there(client):
    client.make("small", max_entries=1)
    client.add("small", ("ada", 5), ("bob", 6))
    newest = settled(client, 3, "small")[0]
    assert (newest["kind"], newest["user"]) == ("trim", "ada")


def test_one_member(client):
    client.add("global", ("ada", 1), ("bob", 1), ("ada", 1), ("été 1", 1))
    settled(client, 4)
    assert [e["score"] for e in page(client, user="ada")["events"]] == [2, 1]
    assert len(page(client, user="%C3%A9t%C3%A9%201")["events"]) == 1
    assert page(client, user="nobody") == {"leaderboard": "global", "events": [], "next_cursor": None}


@pytest.mark.parametrize("user", [None, "ada"])
def test_pages_join_without_gap_or_double(client, user):
    client.add("global", *(("ada" if number % 3 else "bob", 1) for number in range(11)))
    everything = settled(client, 11)
    wanted = [e["id"] for e in everything if user is None or e["user"] == user]
    more = {} if user is None else {"user": user}
    found, cursor, pages = [], None, 0
    while cursor is not None or pages == 0:
        got = page(client, limit=3, **more, **({} if cursor is None else {"cursor": cursor}))
        found += [event["id"] for event in got["events"]]
        cursor, pages = got["next_cursor"], pages + 1
    assert found == wanted
    assert pages == math.ceil(len(wanted) / 3)


def test_a_board_made_again_has_a_history_of_its_own(client):
    client.make("again")
    client.add("again", ("ada", 1))
    settled(client, 1, "again")
    assert client.call("DELETE", "/v1/leaderboards/again").status == 204
    client.make("again")
    assert page(client, "again")["events"] == []


def test_another_tenants_history_is_not_there(client, new_tenant, connect):
    client.make("mine")
    client.add("mine", ("ada", 1), ("bob", 1))
    settled(client, 2, "mine")
    cursor = page(client, "mine", limit=1)["next_cursor"]
    other = connect(new_tenant().key)
    assert_problem(other.get("/v1/leaderboards/mine/events"), problems.BOARD_NOT_FOUND)
    other.make("mine")
    assert page(other, "mine", cursor=cursor)["events"] == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "cursor=x", "cursor=MQ", "cursor=%C3%A9", "user=", "user=a%2Fb", "member=a"]
)
def test_bad_parameters_are_named(client, query):
    answer = client.get(f"/v1/leaderboards/global/events?{query}")
    assert_problem(answer, problems.INVALID_PARAMETER, detail=query.partition("=")[0])


@pytest.mark.parametrize("of_member", [False, True])
@pytest.mark.parametrize("paged", [False, True])
def test_it_reads_indexes_however_long_the_history(served, of_member, paged):
    """100,000 events of 500 boards in 30 days."""
    with psycopg.connect(served.database) as conn:
        # Beside the real one, in a transaction that comes to nothing.
        conn.execute("CREATE SCHEMA long")
        conn.execute("SET LOCAL search_path = long")
        conn.execute(
            "CREATE TABLE score_events (LIKE public.score_events INCLUDING ALL) PARTITION BY RANGE (event_time)"
        )
        for day in range(30):
            conn.execute(
                f"CREATE TABLE d{day} PARTITION OF score_events"
                f" FOR VALUES FROM ('2026-01-{day + 1:02}Z') TO ('2026-01-{day + 2:02}Z')"
            )
        conn.execute(
            "INSERT INTO score_events (event_time, event_id, leaderboard_id, incarnation, seq, kind, member, score)"
            " SELECT '2026-01-01Z'::timestamptz + n * interval '25.9 s', gen_random_uuid(), n % 500, 1, n, 'u',"
            " 'm' || n % 997, 1 FROM generate_series(0, 99999) n"
        )
        conn.execute("ANALYZE score_events")
        query = "EXPLAIN " + ledger.history_query(of_member=of_member, paged=paged)
        values = {"board": 7, "member": "m5", "incarnation": 1, "seq": 90_000, "limit": 51}
        plan = "\n".join(row[0] for row in conn.execute(query, values))
        conn.rollback()
    assert "Index" in plan
    assert "Seq Scan" not in plan
