"""Updates that break a board's bounds: held, seen by nobody, and released or rejected once."""

import contextlib
import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis as redis_py
from api_helpers import Client, assert_problem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leaderboard.api import problems
from leaderboard.api.queries import pack_cursor
from leaderboard.store.postgres import quarantine
from support.operator import eventually

WORKERS = 1
_names = itertools.count(1)


def send(client: Client, board: str, user: str, number: float, *, field: str = "increment", **more: Any) -> Any:
    answer = client.post("/v1/scores/update", {"leaderboard": board, "user": user, field: number, **more})
    assert answer.status == 200, answer
    return answer.json()


def bounded(client: Client, **rules: Any) -> str:
    board = f"bounded-{next(_names)}"
    client.make(board, **rules)
    return board


def held(client: Client, board: str, **query: str) -> list[dict[str, Any]]:
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    answer = client.get(f"/v1/leaderboards/{board}/held?{asked}")
    assert answer.status == 200, answer
    assert answer.headers["cache-control"] == "no-store"
    return list(answer.json()["held"])


def decide(client: Client, board: str, hold: str, decision: str, **body: Any) -> Any:
    return client.post(f"/v1/leaderboards/{board}/held/{hold}/{decision}", body)


def top(client: Client, board: str) -> list[tuple[str, float]]:
    entries = client.get(f"/v1/leaderboards/{board}/top").json()["entries"]
    return [(entry["user"], entry["score"]) for entry in entries]


def test_what_breaks_a_bound_changes_nothing_and_waits(client):
    board = bounded(client, bounds={"min_score": -10, "max_score": 100})
    assert "held" not in send(client, board, "ann", 60)
    answer = send(client, board, "ann", 41)
    hold = answer.pop("held")
    assert hold["bound"] == "max_score"
    assert answer == {
        "leaderboard": board,
        "user": "ann",
        "score": 101,
        "rank": None,
        "previous_score": 60,
        "previous_rank": 1,
    }
    low = send(client, board, "bob", -11)
    assert (low["held"]["bound"], low["previous_score"]) == ("min_score", None)
    assert top(client, board) == [("ann", 60)]
    assert_problem(client.get(f"/v1/leaderboards/{board}/rank/bob"), problems.USER_NOT_FOUND)
    eventually(lambda: len(held(client, board)) == 2, "both are in the quarantine")
    newest, oldest = held(client, board)
    assert (newest["user"], newest["submitted"], newest["score"], newest["rank"]) == ("bob", -11, -11, 2)
    assert oldest["id"] == hold["id"]
    assert (oldest["score"], oldest["rank"], oldest["state"], oldest["season"]) == (101, 1, "held", 1)
    assert held(client, board, user="bob") == [newest]
    # At the bounds is within them.
    assert send(client, board, "ann", 40)["score"] == 100
    assert send(client, board, "bob", -10)["score"] == -10


def test_released_it_counts_once_and_rejected_never(client):
    board = bounded(client, bounds={"max_score": 10}, tie_policy="shared")
    ids = [send(client, board, "ann", number)["held"]["id"] for number in (11, 12)]
    # At once, before the worker may have it.
    released = decide(client, board, ids[0], "release", note="her mother vouched")
    assert released.status == 200, released
    assert (released.json()["state"], released.json()["note"]) == ("released", "her mother vouched")
    assert top(client, board) == [("ann", 11)]
    again = decide(client, board, ids[0], "release", note="another")
    assert again.json() == released.json()
    assert_problem(decide(client, board, ids[0], "reject"), problems.HOLD_DECIDED, detail="was released")
    rejected = decide(client, board, ids[1], "reject")
    assert (rejected.status, rejected.json()["state"]) == (200, "rejected")
    assert decide(client, board, ids[1], "reject").json() == rejected.json()
    assert_problem(decide(client, board, ids[1], "release"), problems.HOLD_DECIDED, detail="was rejected")
    assert top(client, board) == [("ann", 11)]
    assert held(client, board) == []
    (audited,) = held(client, board, state="released")
    assert audited == client.get(f"/v1/leaderboards/{board}/held/{ids[0]}").json()
    assert audited["decided_by"] in client.key
    assert audited["decided_at"] > audited["held_at"]
    assert [one["id"] for one in held(client, board, state="rejected")] == [ids[1]]
    # The ledger has the release as an update, and nothing else.
    eventually(
        lambda: (
            [
                (event["kind"], event["submitted"], event["score"])
                for event in client.get(f"/v1/leaderboards/{board}/events").json()["events"]
            ]
            == [("update", 11, 11)]
        ),
        "the release is in the ledger",
    )


def test_many_who_release_at_once_release_once(client, served):
    board = bounded(client, bounds={"max_score": 10})
    hold = send(client, board, "ann", 11)["held"]["id"]

    def release(_: int) -> int:
        with contextlib.closing(Client(served.url, client.key)) as mine:
            return int(decide(mine, board, hold, "release").status)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(release, range(24))) == {200}
    assert top(client, board) == [("ann", 11)]


@pytest.mark.parametrize(
    ("rule", "order", "sent", "scores"),
    [
        # (score or increment, whether it is held); a gain of 10 in an interval.
        ("sum", "descending", [(6, False), (5, True), (4, False), (-8, False), (1, True)], 2),
        ("sum", "ascending", [(-6, False), (-5, True), (100, False), (-4, False), (-1, True)], 90),
        ("latest", "descending", [(1_000, False), (1_011, True), (1_010, False), (5, False), (6, True)], 5),
        ("best", "descending", [(50, False), (60, False), (40, False), (61, True)], 60),
        ("best", "ascending", [(50, False), (41, False), (39, True), (45, False), (40, False)], 40),
    ],
)
def test_gains_of_an_interval_are_bounded(client, rule, order, sent, scores):
    # The longest there is: a test crosses its end once in a week.
    bounds = {"max_gain": 10, "per_seconds": 604_800}
    board = bounded(client, score_update=rule, sort_order=order, bounds=bounds)
    field = "increment" if rule == "sum" else "score"
    seen = [send(client, board, "ann", number, field=field).get("held") is not None for number, _ in sent]
    assert seen == [is_held for _, is_held in sent]
    assert top(client, board) == [("ann", scores)]
    other = send(client, board, "bob", 9 if order == "descending" else -9, field=field)
    assert "held" not in other


def test_gains_start_again_with_the_next_interval(client):
    board = bounded(client, bounds={"max_gain": 10, "per_seconds": 1})
    total = 0

    def one_more() -> bool:
        nonlocal total
        answer = send(client, board, "ann", 10)
        total += 0 if "held" in answer else 10
        return total >= 30

    eventually(one_more, "three intervals went by", seconds=90)
    assert top(client, board) == [("ann", total)]


def test_nothing_of_it_stays_in_redis(client, served, new_tenant):
    board = bounded(client, bounds={"max_score": 10, "max_gain": 5, "per_seconds": 60})
    send(client, board, "ann", 5)
    send(client, board, "ann", 5.5)
    send(client, board, "bob", 11)
    with contextlib.closing(redis_py.Redis.from_url(served.redis_url)) as redis:
        names = [name.decode() for name in redis.scan_iter(f"*:{board}*")]
        gains = [name for name in names if name.startswith("gain:")]
        assert len(gains) == 1
        assert 0 < redis.ttl(gains[0]) <= 120
        assert not any(name.startswith("held") for name in names)
        assert client.call("DELETE", f"/v1/leaderboards/{board}").status == 204
        assert list(redis.scan_iter(f"*:{board}*")) == []


def test_an_idempotency_key_gives_the_first_answer_again(client):
    board = bounded(client, bounds={"max_score": 10})
    body = {"leaderboard": board, "user": "ann", "increment": 11}
    first = client.post("/v1/scores/update", body, Idempotency_Key="k1")
    again = client.post("/v1/scores/update", body, Idempotency_Key="k1")
    assert (again.headers["idempotency-replayed"], again.json()) == ("true", first.json())
    batch = {"updates": [body, {**body, "increment": 3}]}
    results = client.post("/v1/scores/batch", batch, Idempotency_Key="k2").json()["results"]
    assert [("held" in result, result["score"]) for result in results] == [(True, 11), (False, 3)]
    replayed = client.post("/v1/scores/batch", batch, Idempotency_Key="k2").json()["results"]
    assert replayed == [{**result, "replayed": True} for result in results]
    eventually(lambda: len(held(client, board)) == 2, "each is held once")


def test_bounds_are_changed_and_taken_away(client):
    board = bounded(client)
    assert client.get(f"/v1/leaderboards/{board}").json()["bounds"] is None
    send(client, board, "ann", 1_000)
    changed = client.call("PATCH", f"/v1/leaderboards/{board}", {"bounds": {"max_score": 1_000}})
    assert changed.json()["bounds"] == {"min_score": None, "max_score": 1_000, "max_gain": None, "per_seconds": None}
    assert send(client, board, "ann", 1)["held"]["bound"] == "max_score"
    assert client.call("PATCH", f"/v1/leaderboards/{board}", {"max_entries": 5}).json()["bounds"] is not None
    assert client.call("PATCH", f"/v1/leaderboards/{board}", {"bounds": None}).json()["bounds"] is None
    assert send(client, board, "ann", 1)["score"] == 1_001


@pytest.mark.parametrize(
    ("bounds", "detail"),
    [
        ({}, "or leave bounds out"),
        ({"min_score": 2, "max_score": 1}, "must not be above"),
        ({"max_gain": 2}, "come together"),
        ({"per_seconds": 2}, "come together"),
        ({"max_gain": 0, "per_seconds": 2}, "must be above 0"),
        ({"max_gain": 1, "per_seconds": 0}, "must be 1 to 604800"),
        ({"max_gain": 1, "per_seconds": 1.5}, "must be a whole number"),
        ({"max_gain": 1, "per_seconds": 604_801}, "must be 1 to 604800"),
        ({"max": 1}, "unknown field"),
        ({"max_score": "9"}, "float"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(client, bounds, detail):
    assert_problem(
        client.post("/v1/leaderboards", {"key": "b", "bounds": bounds}), problems.INVALID_REQUEST, detail=detail
    )


def test_of_a_season_that_is_over_it_stays_held(client):
    board = bounded(client, bounds={"max_score": 10})
    hold = send(client, board, "ann", 11)["held"]["id"]
    assert client.post(f"/v1/leaderboards/{board}/reset", {"season": 1}).status == 200
    assert_problem(decide(client, board, hold, "release"), problems.SEASON_OVER)
    (one,) = held(client, board)
    assert (one["state"], one["score"], one["rank"], one["decided_by"]) == ("held", None, None, None)
    assert decide(client, board, hold, "reject").status == 200
    assert top(client, board) == []


def test_a_release_that_the_rule_refuses_stays_held(client):
    board = bounded(client, bounds={"max_score": 2**53 - 10})
    send(client, board, "ann", 2**53 - 10)
    hold = send(client, board, "ann", 9)["held"]["id"]
    assert client.call("PATCH", f"/v1/leaderboards/{board}", {"bounds": None}).status == 200
    send(client, board, "ann", 5)
    assert_problem(decide(client, board, hold, "release"), problems.SCORE_OUT_OF_RANGE)
    assert [one["state"] for one in held(client, board)] == ["held"]
    send(client, board, "ann", -5)
    assert decide(client, board, hold, "release").status == 200
    assert top(client, board) == [("ann", 2**53 - 1)]


def test_pages_of_them_fit_together(client):
    board = bounded(client, bounds={"max_score": 10})
    sent = [send(client, board, f"u{number}", 11)["held"]["id"] for number in range(7)]
    eventually(lambda: len(held(client, board)) == 7, "all are in the quarantine")
    found, cursor = [], ""
    while True:
        page = client.get(f"/v1/leaderboards/{board}/held?limit=3{cursor}").json()
        found += [one["id"] for one in page["held"]]
        if page["next_cursor"] is None:
            break
        assert len(page["held"]) == 3
        cursor = f"&cursor={page['next_cursor']}"
    assert found == sent[::-1]


@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize("waiting", [False, True])
def test_a_page_is_read_from_an_index_in_its_order(served, waiting, paged):
    """20,000 of a board, nearly all of which wait, as after an attack."""
    with psycopg.connect(served.database) as conn:
        conn.execute(
            "INSERT INTO held_updates (id, leaderboard_id, season, member, submitted, reason, held_at, state,"
            " decided_by, decided_at)"
            " SELECT gen_random_uuid(), 7, 1, 'm' || n, 1, 'max_score', timestamptz '2026-01-01Z' + n * interval '1 s',"
            " CASE WHEN n % 50 = 0 THEN 'rejected' ELSE 'held' END, CASE WHEN n % 50 = 0 THEN 'k' END,"
            " CASE WHEN n % 50 = 0 THEN now() END FROM generate_series(1, 20000) n"
        )
        conn.execute("ANALYZE held_updates")
        query = "EXPLAIN " + quarantine.page_query(waiting=waiting, of_member=False, paged=paged)
        at, id = datetime(2026, 1, 1, 3, tzinfo=UTC), UUID(int=0)
        values = {"board": 7, "state": "rejected", "held_at": at, "id": id, "limit": 51}
        plan = "\n".join(row[0] for row in conn.execute(query, values))
        conn.rollback()
    assert "Index Scan" in plan
    assert "Sort" not in plan


def test_it_is_for_admins_of_the_project_only(client, new_tenant, connect):
    board = bounded(client, bounds={"max_score": 10})
    hold = send(client, board, "ann", 11)["held"]["id"]
    eventually(lambda: len(held(client, board)) == 1, "it is in the quarantine")
    paths = [("GET", f"/v1/leaderboards/{board}/held"), ("GET", f"/v1/leaderboards/{board}/held/{hold}")]
    paths += [("POST", f"/v1/leaderboards/{board}/held/{hold}/{decision}") for decision in ("release", "reject")]
    for scope in ("read", "write"):
        key = client.post("/v1/keys", {"scope": scope}).json()["secret"]
        for method, path in paths:
            answer = connect(key).call(method, path, None if method == "GET" else {})
            assert_problem(answer, problems.INSUFFICIENT_SCOPE)
    stranger = connect(new_tenant(boards=(board, "other")).key)
    assert held(stranger, board) == []
    for method, path in paths[1:]:
        answer = stranger.call(method, path, None if method == "GET" else {})
        assert_problem(answer, problems.HOLD_NOT_FOUND)
    # Nor by another board of the same project.
    client.make(f"{board}-b")
    assert_problem(decide(client, f"{board}-b", hold, "release"), problems.HOLD_NOT_FOUND)
    assert [one["id"] for one in held(client, board)] == [hold]


@pytest.mark.parametrize(
    ("path", "kind", "detail"),
    [
        ("held?state=new", problems.INVALID_PARAMETER, "state must be one of held, released, rejected"),
        ("held?cursor=x", problems.INVALID_PARAMETER, "not one of ours"),
        (f"held?cursor={pack_cursor(1, 2**128)}", problems.INVALID_PARAMETER, "not one of ours"),
        ("held?limit=201", problems.INVALID_PARAMETER, "limit"),
        ("held?page=2", problems.INVALID_PARAMETER, "page"),
        ("held/1", problems.HOLD_NOT_FOUND, "is not the id of a held update"),
        ("held/" + "0" * 32, problems.HOLD_NOT_FOUND, "has no held update"),
    ],
)
def test_bad_requests_say_what_to_do(client, path, kind, detail):
    assert_problem(client.get(f"/v1/leaderboards/global/{path}"), kind, detail=detail)


def test_what_is_on_its_way_is_not_decided_and_says_so(client, served):
    board = bounded(client, bounds={"max_score": 10})
    served.stop_worker()
    try:
        hold = send(client, board, "ann", 11)["held"]["id"]
        asked = [client.get(f"/v1/leaderboards/{board}/held/{hold}")]
        asked += [decide(client, board, hold, decision) for decision in ("release", "reject")]
        for answer in asked:
            assert_problem(answer, problems.HOLD_NOT_READY)
            assert int(answer.headers["retry-after"]) >= 1
    finally:
        served.start_worker()
    eventually(lambda: len(held(client, board)) == 1, "it is in the quarantine")
    assert decide(client, board, hold, "release").status == 200
    assert top(client, board) == [("ann", 11)]


def test_a_note_is_a_line(client):
    board = bounded(client, bounds={"max_score": 10})
    hold = send(client, board, "ann", 11)["held"]["id"]
    for note in ("x" * 201, "two\nlines"):
        assert_problem(decide(client, board, hold, "release", note=note), problems.INVALID_REQUEST, detail="note")


def test_export_and_erasure_know_it(client, served):
    board = bounded(client, bounds={"max_score": 10, "max_gain": 10, "per_seconds": 60})
    send(client, board, "nina", 5)
    holds = [send(client, board, "nina", number)["held"]["id"] for number in (11, 12, 13)]
    decide(client, board, holds[0], "reject", note="nina did it again")
    eventually(lambda: len(held(client, board)) == 2, "the others wait")
    records: list[Any] = []
    cursor = ""
    while True:
        page = client.get(f"/v1/users/nina/data?limit=1{cursor}").json()
        records += page["records"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    mine = [record for record in records if record["kind"] == "held"]
    assert sorted((one["id"], one["state"], one["note"]) for one in mine) == sorted(
        zip(holds, ("rejected", "held", "held"), ("nina did it again", None, None), strict=True)
    )
    assert [record["kind"] for record in records if record["kind"] != "held"] == ["standing", "event"]
    asked = client.call("POST", "/v1/users/nina/erasure")
    where = asked.headers["location"]
    eventually(lambda: client.get(where).json()["state"] == "done", "the erasure is done")
    receipt = client.get(where).json()
    assert receipt["touched"]["held"] == 3
    check = client.post(f"/v1/erasures/{receipt['id']}/check", {"user": "nina"}).json()
    assert (check["verified"], check["found"]["held"]) == (True, 0)
    with psycopg.connect(served.database) as conn:
        assert conn.execute("SELECT count(*) FROM held_updates WHERE member = 'nina'").fetchone() == (0,)
    with contextlib.closing(redis_py.Redis.from_url(served.redis_url)) as redis:
        for name in redis.scan_iter(f"gain:*:{board}*"):
            assert b"nina" not in redis.hgetall(name)


# What a model of the board says: a dict, the rule, and the two bounds of scores.


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    rule=st.sampled_from(["sum", "best", "latest"]),
    descending=st.booleans(),
    bounds=st.tuples(st.integers(-20, 0), st.integers(0, 20)),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.sampled_from("abc"), st.integers(-30, 30)),
            st.tuples(st.sampled_from(["release", "reject"]), st.integers(0, 5), st.none()),
        ),
        max_size=25,
    ),
)
def test_no_held_score_influences_a_rank(client, rule, descending, bounds, steps):
    low, high = bounds
    board = bounded(
        client,
        score_update=rule,
        sort_order="descending" if descending else "ascending",
        tie_policy="shared",
        bounds={"min_score": low, "max_score": high},
    )
    field = "increment" if rule == "sum" else "score"
    scores: dict[str, float] = {}
    waiting: list[tuple[str, str, int]] = []

    def after(user: str, number: int) -> float:
        if rule == "sum":
            return scores.get(user, 0) + number
        if rule == "best" and user in scores:
            return (max if descending else min)(scores[user], number)
        return number

    for kind, what, number in steps:
        if kind == "send":
            new = after(what, number)
            outside = new != scores.get(what) and not low <= new <= high
            answer = send(client, board, what, number, field=field)
            assert ("held" in answer) is outside
            if outside:
                waiting.append((answer["held"]["id"], what, number))
            else:
                scores[what] = new
        elif waiting:
            hold, user, submitted = waiting.pop(what % len(waiting))
            assert decide(client, board, hold, kind).status == 200
            if kind == "release":
                scores[user] = after(user, submitted)
        best_first = sorted(scores.values(), reverse=descending)
        entries = client.get(f"/v1/leaderboards/{board}/top").json()
        assert entries["total"] == len(scores)
        assert {(entry["user"], entry["score"], entry["rank"]) for entry in entries["entries"]} == {
            (user, score, best_first.index(score) + 1) for user, score in scores.items()
        }
