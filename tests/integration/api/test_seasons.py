"""Seasons through the API: ended, listed, read, and what is refused."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from api_helpers import apply, assert_problem

from leaderboard.api import problems
from leaderboard.local.process import wait_until

RESET = "/v1/leaderboards/global/reset"
SEASONS = "/v1/leaderboards/global/seasons"


def end(client, season, *, board="global"):
    answer = client.post(f"/v1/leaderboards/{board}/reset", {"season": season})
    assert answer.status == 200, answer
    assert wait_until(lambda: client.get(f"/v1/leaderboards/{board}/seasons/{season}/top").status == 200, seconds=90)
    return answer.json()


def test_a_reset_answers_the_board_in_the_next_season(client):
    client.add("global", ("a", 1), ("b", 2))
    board = client.post(RESET, {"season": 1}).json()
    assert board["season"] == 2
    assert board == client.get("/v1/leaderboards/global").json()
    assert client.get("/v1/leaderboards/global/top").json()["total"] == 0
    assert_problem(client.post(RESET, {"season": 1}), problems.SEASON_OVER, detail="is in season 2, not 1")


def test_final_standings_are_read_a_page_at_a_time(client):
    client.add("global", *[(f"u{n}", 1 + n % 3) for n in range(7)])
    before = client.get("/v1/leaderboards/global/top").json()
    end(client, 1)
    client.add("global", ("late", 9))
    whole = client.get(f"{SEASONS}/1/top").json()
    assert whole == {
        "leaderboard": "global",
        "season": 1,
        "total": 7,
        "entries": before["entries"],
        "next_cursor": None,
    }
    found, cursor = [], ""
    while cursor is not None:
        page = client.get(f"{SEASONS}/1/top?limit=3{cursor and '&cursor='}{cursor}").json()
        found += page["entries"]
        cursor = page["next_cursor"]
    assert found == before["entries"]
    for entry in before["entries"]:
        line = client.get(f"{SEASONS}/1/rank/{entry['user']}").json()
        assert line.pop("percentile") == (7 - entry["rank"] + 1) * 1_000_000 // 7 / 10_000
        assert line == {"leaderboard": "global", "season": 1, **entry, "total": 7}
    assert_problem(client.get(f"{SEASONS}/1/rank/late"), problems.USER_NOT_FOUND)


def test_shared_ranks_stay_shared(client):
    client.make("shared", tie_policy="shared")
    client.add("shared", ("a", 2), ("b", 5), ("c", 5), ("d", 1))
    end(client, 1, board="shared")
    entries = client.get("/v1/leaderboards/shared/seasons/1/top").json()["entries"]
    assert [(entry["rank"], entry["user"]) for entry in entries] == [(1, "c"), (1, "b"), (3, "a"), (4, "d")]


def test_seasons_are_listed_newest_first(client):
    for season in range(1, 4):
        client.add("global", *[(f"u{n}", 1) for n in range(season)])
        end(client, season)
    page = client.get(f"{SEASONS}?limit=2").json()
    assert (page["season"], page["next_cursor"]) == (4, "2")
    assert [(each["season"], each["archived"], each["entries"]) for each in page["seasons"]] == [
        (3, True, 3),
        (2, True, 2),
    ]
    last = client.get(f"{SEASONS}?limit=2&cursor={page['next_cursor']}").json()
    assert [each["season"] for each in last["seasons"]] == [1]
    assert last["next_cursor"] is None
    ended = datetime.fromisoformat(last["seasons"][0]["ended_at"])
    assert abs(datetime.now(UTC) - ended) < timedelta(minutes=5)


def test_answers_are_told_apart_by_etag(client):
    client.add("global", ("a", 1))
    end(client, 1)
    for path in (SEASONS, f"{SEASONS}/1/top", f"{SEASONS}/1/rank/a"):
        answer = client.get(path)
        assert answer.headers["cache-control"] == "private, no-cache"
        assert client.get(path, If_None_Match=answer.headers["etag"]).status == 304


def test_a_season_that_is_not_archived_yet_says_when_to_come_again(served, client):
    client.add("global", ("a", 1))
    served.stop_worker()
    try:
        assert client.post(RESET, {"season": 1}).status == 200
        answer = client.get(f"{SEASONS}/1/top")
        assert_problem(answer, problems.SEASON_NOT_ARCHIVED)
        assert answer.headers["retry-after"] == "1"
        (over,) = client.get(SEASONS).json()["seasons"]
        assert (over["archived"], over["entries"], over["checksum"]) == (False, None, None)
    finally:
        served.start_worker()
    assert wait_until(lambda: client.get(f"{SEASONS}/1/top").status == 200, seconds=90)


@pytest.mark.parametrize("season", ["2", "0", "7", "-1", "1.0", "x", "99999999999", "%C2%B9", "01x"])
def test_what_is_no_season_is_not_found(client, season):
    end(client, 1)
    assert_problem(client.get(f"{SEASONS}/{season}/top"), problems.SEASON_NOT_FOUND, detail="2 runs")
    assert_problem(client.get(f"{SEASONS}/{season}/rank/a"), problems.SEASON_NOT_FOUND)


@pytest.mark.parametrize(
    ("body", "detail"),
    [({}, "season"), ({"season": "1"}, "$.season"), ({"season": 1.5}, "whole number"), ({"season": 1, "x": 1}, "x")],
)
def test_a_reset_names_the_season_that_is_to_end(client, body, detail):
    assert_problem(client.post(RESET, body), problems.INVALID_REQUEST, detail=detail)


def test_only_a_key_of_scope_admin_resets(new_tenant, connect):
    for scope in ("read", "write"):
        client = connect(new_tenant(scope=scope).key)
        assert_problem(client.post(RESET, {"season": 1}), problems.INSUFFICIENT_SCOPE)
        assert client.get(SEASONS).status == 200


def test_a_tenant_does_not_see_anothers_seasons(client, new_tenant, connect):
    client.make("own")
    client.add("own", ("a", 1))
    end(client, 1, board="own")
    other = connect(new_tenant().key)
    for path in ("", "/1/top", "/1/rank/a"):
        assert_problem(other.get(f"/v1/leaderboards/own/seasons{path}"), problems.BOARD_NOT_FOUND)
    assert_problem(other.post("/v1/leaderboards/own/reset", {"season": 2}), problems.BOARD_NOT_FOUND)
    assert client.get("/v1/leaderboards/own").json()["season"] == 2


def test_an_update_for_a_season_is_refused_in_another(client):
    update = {"leaderboard": "global", "user": "a", "increment": 1}
    assert client.post("/v1/scores/update", {**update, "season": 1}).json()["score"] == 1
    end(client, 1)
    late = client.post("/v1/scores/update", {**update, "season": 1})
    assert_problem(late, problems.SEASON_OVER)
    batch = [{**update, "season": season} for season in (1, 2, 3, None)]
    results = client.post("/v1/scores/batch", {"updates": batch}).json()["results"]
    assert [each["status"] for each in results] == [409, 200, 409, 200]
    assert results[3]["score"] == 2
    for bad in (0, 1.5, "1", 2**31):
        assert client.post("/v1/scores/update", {**update, "season": bad}).status == 422
    # Under its key a late repetition of an update that was taken is answered as it was.
    given = client.post("/v1/scores/update", {**update, "season": 2}, Idempotency_Key="k")
    end(client, 2)
    again = client.post("/v1/scores/update", {**update, "season": 2}, Idempotency_Key="k")
    assert (given.status, again.status, again.json()) == (200, 200, given.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert client.get("/v1/leaderboards/global/top").json()["total"] == 0


def test_a_schedule_is_shown_with_its_next_time_and_ends_seasons(served, client):
    board = client.make("weekly", reset={"schedule": "0 9 * * 1", "time_zone": "Europe/Berlin", "keep_seasons": 1})
    assert board["reset"] == {"schedule": "0 9 * * 1", "time_zone": "Europe/Berlin", "keep_seasons": 1} | {
        "grace_seconds": 0
    }
    due = datetime.fromisoformat(board["next_reset"])
    assert timedelta(0) < due - datetime.now(UTC) <= timedelta(days=7, hours=1)
    client.add("weekly", ("a", 3))
    # The time comes while nobody is there.
    with psycopg.connect(served.database) as conn:
        conn.execute("UPDATE leaderboards SET next_reset = now() - interval '3 weeks' WHERE key = 'weekly'")
    assert wait_until(lambda: client.get("/v1/leaderboards/weekly").json()["season"] == 2, seconds=90)
    assert wait_until(lambda: client.get("/v1/leaderboards/weekly/seasons/1/top").status == 200, seconds=90)
    assert client.get("/v1/leaderboards/weekly/seasons/1/rank/a").json()["score"] == 3
    after = client.get("/v1/leaderboards/weekly").json()
    assert (after["season"], datetime.fromisoformat(after["next_reset"])) == (2, due)
    changed = client.call("PATCH", "/v1/leaderboards/weekly", {"reset": None}).json()
    assert (changed["reset"], changed["next_reset"]) == (None, None)


def test_a_season_within_its_grace_takes_late_updates(client):
    client.make("late", reset={"grace_seconds": 3600})
    late, now = ({"leaderboard": "late", "user": "a", "increment": 2, "season": season} for season in (1, 2))
    client.add("late", ("a", 3), ("b", 4))
    assert client.post("/v1/leaderboards/late/reset", {"season": 1}).status == 200
    answer = client.post("/v1/scores/update", late, Idempotency_Key="k")
    assert (answer.json()["score"], answer.json()["rank"], answer.json()["previous_rank"]) == (5, 1, 2)
    again = client.post("/v1/scores/update", late, Idempotency_Key="k")
    assert (again.headers["idempotency-replayed"], again.json()) == ("true", answer.json())
    assert client.post("/v1/scores/update", now).json()["score"] == 2
    (over,) = client.get("/v1/leaderboards/late/seasons").json()["seasons"]
    until = datetime.fromisoformat(over["late_until"]) - datetime.fromisoformat(over["ended_at"])
    assert (over["archived"], until) == (False, timedelta(hours=1))
    assert_problem(
        client.get("/v1/leaderboards/late/seasons/1/top"),
        problems.SEASON_NOT_ARCHIVED,
        detail="it takes late updates until 20",
    )
    # The next reset ends the grace.
    client.call("PATCH", "/v1/leaderboards/late", {"reset": {}})
    assert client.post("/v1/leaderboards/late/reset", {"season": 2}).status == 200
    assert_problem(client.post("/v1/scores/update", late), problems.SEASON_OVER)


def test_a_board_of_a_resource_can_be_reset_but_not_rescheduled(served, new_tenant, connect):
    tenant = new_tenant()
    apply(served, "Leaderboard", "of", owner="uid-1", tenantRef={"name": tenant.slug}, key="of")
    client = connect(tenant.key)
    assert client.post("/v1/leaderboards/of/reset", {"season": 1}).json()["season"] == 2
    answer = client.call("PATCH", "/v1/leaderboards/of", {"reset": {"schedule": "0 0 * * *"}})
    assert_problem(answer, problems.MANAGED_ELSEWHERE)
