"""A user's data over the API: all of it in pages, erased by the worker, with a receipt that can be checked."""

import json
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from api_helpers import Client

from leaderboard.api.queries import pack_cursor
from support.operator import eventually
from support.platform import Platform

USER = 'Zoë "q" \\ *?[1]'
PATH = f"/v1/users/{quote(USER, safe='')}"


def play(client: Client, *, users: tuple[str, ...] = (USER, "a", "b"), times: int = 3) -> None:
    """Make boards of each tie policy and score on them."""
    for key, tie in (("first", "first_to_reach"), ("byid", "user_id"), ("tied", "shared"), ("gone", "shared")):
        client.make(key, tie_policy=tie)
        for _ in range(times):
            client.add(key, *[(user, 2) for user in users])
    assert client.call("DELETE", "/v1/leaderboards/gone").status == 204


def recorded(client: Client, board: str, number: int) -> bool:
    answer = client.get(f"/v1/leaderboards/{board}/events?limit=200")
    return len(answer.json()["events"]) == number


def records(client: Client, *, limit: int, path: str = PATH) -> list[dict[str, Any]]:
    """All records, in pages of `limit`."""
    found: list[dict[str, Any]] = []
    cursor, pages = "", 0
    while True:
        answer = client.get(f"{path}/data?limit={limit}{cursor}")
        assert answer.status == 200, answer
        assert answer.headers["cache-control"] == "no-store"
        body = answer.json()
        assert len(body["records"]) <= limit
        found += body["records"]
        pages += 1
        if body["next_cursor"] is None:
            assert pages >= len(found) / limit
            return found
        cursor = f"&cursor={body['next_cursor']}"


def erase(client: Client, path: str = PATH) -> dict[str, Any]:
    asked = client.call("POST", f"{path}/erasure")
    assert asked.status == 202, asked
    assert asked.headers["location"] == f"/v1/erasures/{asked.json()['id']}"
    where = asked.headers["location"]
    eventually(lambda: client.get(where).json()["state"] == "done", "the erasure is done")
    receipt = client.get(where).json()
    assert receipt["waits_for"] is None
    return dict(receipt)


def check(client: Client, id: str, user: str = USER) -> Any:
    answer = client.post(f"/v1/erasures/{id}/check", {"user": user})
    assert answer.status == 200, answer
    return answer.json()


def test_all_data_of_a_user_comes_in_pages_of_any_size(client):
    play(client)
    answer = client.post("/v1/leaderboards/tied/reset", {"season": 1})
    assert answer.status == 200, answer
    client.add("tied", (USER, 5))
    eventually(lambda: client.get("/v1/leaderboards/tied/seasons").json()["seasons"][0]["archived"], "archived")
    eventually(lambda: recorded(client, "tied", 11), "all events are in the ledger")
    whole = records(client, limit=1_000)
    for limit in (1, 2, 3, 7):
        assert records(client, limit=limit) == whole
    of = {
        (kind, board): [one for one in whole if (one["kind"], one["leaderboard"]) == (kind, board)]
        for kind in ("standing", "season", "event", "checkpoint")
        for board in ("first", "byid", "tied", "gone")
    }
    assert [(one["score"], one["rank"]) for one in of["standing", "first"]] == [(6, 1)]
    assert [(one["score"], one["rank"]) for one in of["standing", "tied"]] == [(5, 1)]
    assert [(one["season"], one["score"], one["rank"]) for one in of["season", "tied"]] == [(1, 6, 1)]
    assert [one["score"] for one in of["event", "byid"]] == [2, 4, 6]
    assert [(one["event"], one["submitted"]) for one in of["event", "tied"]] == [("update", 2)] * 3 + [("update", 5)]
    assert [one["deleted"] for one in of["event", "gone"]] == [True] * 3
    assert not of["standing", "gone"]
    assert not any(of["checkpoint", board] for board in ("first", "byid", "tied"))
    assert len(whole) == sum(map(len, of.values())) == 3 + 1 + 3 + 3 + 4 + 3


def test_of_a_user_nobody_knows_there_is_nothing_and_the_receipt_says_so(client):
    play(client, times=1)
    assert records(client, limit=5, path="/v1/users/nobody") == []
    receipt = erase(client, "/v1/users/nobody")
    assert receipt["leaderboards"] == []
    assert not any(receipt["touched"].values())
    assert check(client, receipt["id"], "nobody")["verified"]


def test_an_erased_user_is_gone_and_the_receipt_verifies(client):
    play(client)
    receipt = erase(client)
    assert receipt["touched"]["entries"] == 3
    assert receipt["touched"]["events"] == 4 * 3 + 3  # and the removals
    assert receipt["leaderboards_touched"] == len(receipt["leaderboards"]) == 4
    assert records(client, limit=100) == []
    for board in ("first", "byid", "tied"):
        assert client.get(f"/v1/leaderboards/{board}/rank/{quote(USER, safe='')}").status == 404
        assert client.get(f"/v1/leaderboards/{board}/top").json()["total"] == 2
        events = client.get(f"/v1/leaderboards/{board}/events?limit=200").json()["events"]
        assert len(events) == 10
        assert len({event["user"] for event in events}) == 3
    assert USER not in json.dumps(receipt, ensure_ascii=False)
    checked = check(client, receipt["id"])
    assert checked == {
        "id": receipt["id"],
        "state": "done",
        "verified": True,
        "intact": True,
        "subject": True,
        "found": dict.fromkeys(receipt["touched"], 0),
    }
    assert not check(client, receipt["id"], "a")["verified"]
    client.add("first", (USER, 1))
    eventually(lambda: check(client, receipt["id"])["found"]["events"] == 1, "the new event is found")
    came_back = check(client, receipt["id"])
    assert (came_back["intact"], came_back["subject"], came_back["verified"]) == (True, True, False)
    assert client.get(f"/v1/leaderboards/first/rank/{quote(USER, safe='')}").json()["score"] == 1


def test_asked_for_again_while_it_is_pending_it_is_the_same(served: Platform, client):
    served.kill_worker()
    try:
        play(client, times=1)
        first, second = client.call("POST", f"{PATH}/erasure"), client.call("POST", f"{PATH}/erasure")
        assert (first.status, second.status) == (202, 202)
        assert first.json()["id"] == second.json()["id"]
        assert first.json()["state"] == "pending"
        # Its name is in the row that wants it erased, and nothing can be said of a ledger that nobody writes.
        answer = client.post(f"/v1/erasures/{first.json()['id']}/check", {"user": USER})
        assert (answer.status, answer.json()["type"]) == (503, "/problems/outbox-full")
    finally:
        served.start_worker()
    eventually(lambda: client.get(first.headers["location"]).json()["state"] == "done", "the erasure is done")


def test_a_spoilt_receipt_does_not_verify(served: Platform, client):
    play(client, times=1)
    receipt = erase(client)
    assert check(client, receipt["id"])["verified"]
    with psycopg.connect(served.database, autocommit=True) as conn:
        conn.execute(
            "UPDATE erasure_boards SET events = events - 1 WHERE erasure_id = %s AND leaderboard = 'first'",
            (uuid.UUID(receipt["id"]),),
        )
    spoilt = check(client, receipt["id"])
    assert (spoilt["intact"], spoilt["verified"]) == (False, False)


def test_receipts_and_members_of_others_are_out_of_reach(
    new_tenant: Callable[..., Any], connect: Callable[..., Client]
):
    mine, theirs = connect(new_tenant().key), connect(new_tenant().key)
    for client in (mine, theirs):
        client.make("board")
        client.add("board", (USER, 3), ("a", 1))
    receipt = erase(mine)
    assert mine.get("/v1/leaderboards/board/top").json()["total"] == 1
    assert theirs.get("/v1/leaderboards/board/top").json()["total"] == 2
    eventually(lambda: recorded(theirs, "board", 2), "their events are in the ledger")
    assert [one["kind"] for one in records(theirs, limit=10)] == ["standing", "event"]
    for method, path, body in (
        ("GET", f"/v1/erasures/{receipt['id']}", None),
        ("POST", f"/v1/erasures/{receipt['id']}/check", {"user": USER}),
    ):
        answer = theirs.call(method, path, body)
        assert (answer.status, answer.json()["type"]) == (404, "/problems/erasure-not-found")


@pytest.mark.parametrize("scope", ["read", "write"])
def test_it_takes_an_admin_key(client, connect, scope):
    client.make("board")
    lesser = connect(client.post("/v1/keys", {"scope": scope}).json()["secret"])
    id = "0" * 32
    for method, path, body in (
        ("GET", f"{PATH}/data", None),
        ("POST", f"{PATH}/erasure", None),
        ("GET", f"/v1/erasures/{id}", None),
        ("POST", f"/v1/erasures/{id}/check", {"user": USER}),
    ):
        answer = lesser.call(method, path, body)
        assert (answer.status, answer.json()["type"]) == (403, "/problems/insufficient-scope"), path


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        (f"{PATH}/data?limit=0", 400, "invalid-parameter"),
        (f"{PATH}/data?limit=1001", 400, "invalid-parameter"),
        (f"{PATH}/data?cursor=x", 400, "invalid-parameter"),
        (f"{PATH}/data?cursor=MSA5IDAgMA", 400, "invalid-parameter"),
        (f"{PATH}/data?cursor={pack_cursor(1, 3, 2**64, 0)}", 400, "invalid-parameter"),
        (f"{PATH}/data?cursor={pack_cursor(1, 3, -1, 0)}", 400, "invalid-parameter"),
        (f"{PATH}/data?page=1", 400, "invalid-parameter"),
        (f"/v1/users/{'x' * 129}/data", 400, "invalid-parameter"),
        ("/v1/erasures/x", 404, "erasure-not-found"),
        (f"/v1/erasures/{'0' * 32}", 404, "erasure-not-found"),
        (f"/v1/erasures/{'0' * 32}?user=x", 400, "invalid-parameter"),
    ],
)
def test_what_is_wrong_is_said(client, path, status, kind):
    answer = client.get(path)
    assert (answer.status, answer.json()["type"]) == (status, f"/problems/{kind}")
