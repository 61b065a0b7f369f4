"""Snapshots of boards: what they say, how old they get, and what they cost Redis."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis as redis_py
from api_helpers import assert_problem

from leaderboard.api import problems
from leaderboard.api.resources.standings import MAX_WAITING
from leaderboard.local.process import wait_until

PATH = "/v1/leaderboards/global/standings"


def standings(client, query=""):
    # No worker promises a snapshot in time: on a busy machine it is 503 now and then.
    answers = []
    assert wait_until(lambda: answers.append(client.get(PATH + query)) or answers[-1].status == 200, seconds=90), (
        answers
    )
    answer = answers[-1]
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def test_a_snapshot_is_the_top_and_follows_it(client):
    client.add("global", *((f"u{number}", 10 - number) for number in range(5)))
    found = standings(client, "?limit=3")
    top = client.get("/v1/leaderboards/global/top?limit=3").json()
    assert (found["entries"], found["total"]) == (top["entries"], 5)
    assert 0 <= found["age_ms"] <= 2000
    client.add("global", ("new", 100))
    assert wait_until(lambda: standings(client)["entries"][0]["user"] == "new", seconds=90, pause=0.1)
    assert standings(client)["total"] == 6


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
@pytest.mark.parametrize("user", ["u0", "u3", "u100", "u249"])
def test_around_a_user_is_what_redis_says(client, user, limit):
    updates = [{"leaderboard": "global", "user": f"u{number}", "increment": 1000 - number} for number in range(250)]
    for start in (0, 100, 200):
        assert client.post("/v1/scores/batch", {"updates": updates[start : start + 100]}).status == 200
    found = standings(client, f"?around={user}&limit={limit}")
    assert found["entries"] == client.get(f"/v1/leaderboards/global/around/{user}?limit={limit}").json()["entries"]


def test_an_empty_board_has_an_empty_snapshot(client):
    assert standings(client)["entries"] == []


def test_a_removed_board_or_user_is_not_found(client):
    assert_problem(client.get("/v1/leaderboards/none/standings"), problems.BOARD_NOT_FOUND)
    assert_problem(client.get(PATH + "?around=nobody"), problems.USER_NOT_FOUND)
    assert_problem(client.get(PATH + "?limit=101"), problems.INVALID_PARAMETER, detail="limit")
    assert_problem(client.get(PATH + "?around="), problems.INVALID_PARAMETER)
    standings(client)
    assert client.call("DELETE", "/v1/leaderboards/global").status == 204
    assert_problem(client.get(PATH), problems.BOARD_NOT_FOUND)


def test_another_tenants_board_of_the_same_name_is_another(client, new_tenant, connect):
    client.add("global", ("ann", 5))
    assert standings(client)["total"] == 1
    assert standings(connect(new_tenant().key))["total"] == 0


def test_however_many_look_redis_is_read_once_a_second(served, new_tenant, connect):
    tenant = new_tenant()
    client = connect(tenant.key)
    client.add("global", ("ann", 5))
    standings(client)
    with redis_py.Redis.from_url(served.redis_url) as store, store.monitor() as monitor:
        first = standings(client)["taken_at"]
        seen = {first}
        asked = 0
        while len(seen) < 3:
            seen.add(standings(client)["taken_at"])
            asked += 1
        store.echo("that was all")
        reads = 0
        for command in monitor.listen():
            if "that was all" in command["command"]:
                break
            reads += command["command"].startswith("EVALSHA") and f"l:{tenant.id}:" in command["command"]
    assert asked > 10
    assert 1 <= reads <= len(seen) + 1


def test_without_a_worker_there_is_no_old_snapshot(served, client):
    client.add("global", ("ann", 5))
    standings(client)
    served.stop_worker()
    try:
        answer = client.get(PATH)
        assert wait_until(lambda: client.get(PATH).status == 503, seconds=90, pause=0.1), answer
        assert_problem(client.get(PATH), problems.STORE_UNAVAILABLE, detail="snapshot")
    finally:
        served.start_worker()
    assert wait_until(lambda: client.get(PATH).status == 200, seconds=90, pause=0.1)


def test_who_waits_for_first_snapshots_takes_no_others_turn(served, client, new_tenant, connect):
    client.add("global", ("ann", 5))
    other, clients = connect(new_tenant().key), [connect(client.key) for _ in range(60)]
    served.stop_worker()
    try:
        with ThreadPoolExecutor(61) as threads:
            many = [threads.submit(each.get, f"{PATH}?around=user-{number}") for number, each in enumerate(clients)]
            one = threads.submit(other.get, PATH)
            kinds = Counter(each.result().json()["type"] for each in many)
            assert_problem(one.result(), problems.STORE_UNAVAILABLE, detail="snapshot")
    finally:
        served.start_worker()
    # Two processes, and each lets as many wait.
    assert 0 < kinds["/problems/store-unavailable"] <= 2 * MAX_WAITING
    assert kinds["/problems/overloaded"] >= 60 - 2 * MAX_WAITING
