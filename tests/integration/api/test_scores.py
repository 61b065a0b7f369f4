"""Updates, one and many: shapes, rules, refusals, idempotency."""

import pytest
from api_helpers import apply, assert_problem

from leaderboard.api import problems

UPDATE, BATCH = "/v1/scores/update", "/v1/scores/batch"


def top(client, board="global"):
    answer = client.get(f"/v1/leaderboards/{board}/top?limit=1000")
    return [(entry["rank"], entry["user"], entry["score"]) for entry in answer.json()["entries"]]


def test_update_answers_exactly_what_the_contract_says(client):
    first = client.post(UPDATE, {"leaderboard": "global", "user": "u42", "increment": 5})
    assert first.status == 200
    assert first.headers["content-type"] == "application/json"
    assert "idempotency-replayed" not in first.headers
    assert first.json() == {
        "leaderboard": "global",
        "user": "u42",
        "score": 5,
        "rank": 1,
        "previous_score": None,
        "previous_rank": None,
    }
    assert list(first.json()) == ["leaderboard", "user", "score", "rank", "previous_score", "previous_rank"]
    client.add("global", ("u7", 9))
    again = client.post(UPDATE, {"leaderboard": "global", "user": "u42", "increment": 2.5}).json()
    assert (again["score"], again["rank"], again["previous_score"], again["previous_rank"]) == (7.5, 2, 5, 2)


@pytest.mark.parametrize(
    ("rule", "order", "sent", "kept"),
    [
        ("best", "descending", [5, 3, 8], 8),
        ("best", "ascending", [5, 3, 8], 3),
        ("latest", "descending", [5, 3, 8, 1], 1),
        ("latest", "ascending", [5, 3, 8, -1.25], -1.25),
    ],
)
def test_best_and_latest_take_a_score(client, rule, order, sent, kept):
    client.make("b", score_update=rule, sort_order=order)
    for score in sent:
        answer = client.post(UPDATE, {"leaderboard": "b", "user": "u", "score": score})
        assert answer.status == 200
    assert answer.json()["score"] == kept
    assert client.get("/v1/leaderboards/b/rank/u").json()["score"] == kept


def test_a_null_field_counts_as_left_out(client):
    body = {"leaderboard": "global", "user": "u", "increment": 1, "score": None}
    assert client.post(UPDATE, body).json()["score"] == 1


def test_of_a_repeated_field_the_last_counts(client):
    raw = b'{"leaderboard":"nowhere","leaderboard":"global","user":"u","increment":1,"increment":2}'
    assert client.call("POST", UPDATE, raw=raw).json()["score"] == 2


def test_the_other_rules_field_is_refused(client):
    client.make("best", score_update="best")
    client.make("latest", score_update="latest")
    for board, body in (("global", {"score": 1}), ("best", {"increment": 1}), ("latest", {"increment": 1})):
        answer = client.post(UPDATE, {"leaderboard": board, "user": "u", **body})
        assert_problem(answer, problems.WRONG_SCORE_FIELD, detail="send ")


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"increment": None}, "exactly one of"),
        ({"score": 1}, "exactly one of"),
        ({"user": ""}, "1-128 bytes"),
        ({"user": "é" * 65}, "got 130"),
        ({"user": "a/b"}, "must not contain"),
        ({"user": "a\u0085"}, "must not contain"),
        ({"leaderboard": "Global"}, "must match"),
        ({"leaderboard": "global\n"}, "must match"),
        ({"increment": 2**53 + 2}, "between -2^53 and 2^53"),
        ({"increment": "5"}, "$.increment"),
        ({"increment": True}, "$.increment"),
        ({"extra": 1}, "extra"),
    ],
)
def test_what_does_not_fit_is_422_and_names_the_field(client, change, detail):
    body = {"leaderboard": "global", "user": "u", "increment": 1} | change
    assert_problem(client.post(UPDATE, body), problems.INVALID_REQUEST, detail=detail)
    assert top(client) == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_json_number_is_400(client, number):
    raw = b'{"leaderboard":"global","user":"u","increment":%s}' % number.encode()
    assert_problem(client.call("POST", UPDATE, raw=raw), problems.MALFORMED_JSON)


def test_a_sum_stays_within_2_to_the_53(client):
    client.add("global", ("u", 2**53))
    assert client.get("/v1/leaderboards/global/rank/u").json()["score"] == 2**53
    answer = client.post(UPDATE, {"leaderboard": "global", "user": "u", "increment": 1})
    assert_problem(answer, problems.SCORE_OUT_OF_RANGE)
    assert client.get("/v1/leaderboards/global/rank/u").json()["score"] == 2**53


def test_numbers_keep_every_digit(client):
    client.make("exact", score_update="latest")
    for number in (0.1, 1 / 3, 1.7976931348623157e308, 5e-324, -123456789.123456789, 2**53, 2**60):
        body = {"leaderboard": "exact", "user": "u", "score": number}
        assert client.post(UPDATE, body).json()["score"] == number
        assert client.get("/v1/leaderboards/exact/rank/u").json()["score"] == number


def test_a_missing_board_is_404(client):
    answer = client.post(UPDATE, {"leaderboard": "nowhere", "user": "u", "increment": 1})
    assert_problem(answer, problems.BOARD_NOT_FOUND, detail="'nowhere'")


def test_a_suspended_board_is_403(served, new_tenant, connect):
    tenant = new_tenant(boards=["global"])
    client = connect(tenant.key)
    spec = {"tenantRef": {"name": tenant.slug}, "key": "global"}
    apply(served, "Leaderboard", "global", **spec, suspend=True)
    answer = client.post(UPDATE, {"leaderboard": "global", "user": "u", "increment": 1})
    assert_problem(answer, problems.BOARD_SUSPENDED)
    assert_problem(client.get("/v1/leaderboards/global/top"), problems.BOARD_SUSPENDED)
    assert_problem(client.call("DELETE", "/v1/leaderboards/global/members/u"), problems.BOARD_SUSPENDED)
    assert client.get("/v1/leaderboards/global").json()["suspended"] is True
    apply(served, "Leaderboard", "global", **spec)
    client.add("global", ("u", 1))


def test_who_falls_out_of_a_bounded_board_has_no_rank_and_starts_anew(client):
    client.make("small", max_entries=2)
    client.add("small", ("a", 10), ("b", 20))
    out = client.post(UPDATE, {"leaderboard": "small", "user": "c", "increment": 5}).json()
    assert (out["score"], out["rank"], out["previous_rank"]) == (5, None, None)
    assert_problem(client.get("/v1/leaderboards/small/rank/c"), problems.USER_NOT_FOUND)
    back = client.post(UPDATE, {"leaderboard": "small", "user": "c", "increment": 11}).json()
    assert (back["score"], back["rank"], back["previous_score"]) == (11, 2, None)
    assert [user for _, user, _ in top(client, "small")] == ["b", "c"]


def test_a_replay_gives_the_first_answer_and_counts_once(client):
    body = {"leaderboard": "global", "user": "u", "increment": 5}
    first = client.post(UPDATE, body, Idempotency_Key="k1")
    assert "idempotency-replayed" not in first.headers
    client.add("global", ("other", 100))
    again = client.post(UPDATE, body, Idempotency_Key="k1")
    assert (again.status, again.body) == (200, first.body)
    assert again.headers["idempotency-replayed"] == "true"
    # The same update, written otherwise.
    other = client.call(
        "POST",
        UPDATE,
        raw=b' {"increment": 5.0, "user": "u", "score": null, "leaderboard": "global"}',
        headers={"Idempotency-Key": "k1"},
    )
    assert other.body == first.body
    assert top(client) == [(1, "other", 100), (2, "u", 5)]


def test_another_update_under_the_same_key_is_refused(client):
    body = {"leaderboard": "global", "user": "u", "increment": 5}
    assert client.post(UPDATE, body, Idempotency_Key="k").status == 200
    for change in ({"increment": 6}, {"user": "v"}, {"increment": -5}):
        assert_problem(client.post(UPDATE, body | change, Idempotency_Key="k"), problems.IDEMPOTENCY_MISMATCH)
    assert top(client) == [(1, "u", 5)]


def test_idempotency_keys_belong_to_one_board(client):
    client.make("second")
    for board in ("global", "second"):
        answer = client.post(UPDATE, {"leaderboard": board, "user": "u", "increment": 1}, Idempotency_Key="k")
        assert answer.status == 200
        assert "idempotency-replayed" not in answer.headers


def test_a_board_made_anew_does_not_know_the_old_keys(client):
    client.make("b")
    body = {"leaderboard": "b", "user": "u", "increment": 1}
    assert client.post(UPDATE, body, Idempotency_Key="k").json()["score"] == 1
    assert client.call("DELETE", "/v1/leaderboards/b").status == 204
    client.make("b")
    answer = client.post(UPDATE, body, Idempotency_Key="k")
    assert answer.json()["score"] == 1
    assert "idempotency-replayed" not in answer.headers


def test_a_refused_update_may_be_sent_again_under_its_key(client):
    body = {"leaderboard": "later", "user": "u", "increment": 1}
    assert_problem(client.post(UPDATE, body, Idempotency_Key="k"), problems.BOARD_NOT_FOUND)
    client.make("later")
    answer = client.post(UPDATE, body, Idempotency_Key="k")
    assert answer.status == 200
    assert "idempotency-replayed" not in answer.headers


@pytest.mark.parametrize("key", ["", "a b", "x" * 129, "é"])
def test_a_bad_idempotency_key_is_400(client, key):
    body = {"leaderboard": "global", "user": "u", "increment": 1}
    for path, sent in ((UPDATE, body), (BATCH, {"updates": [body]})):
        assert_problem(
            client.post(path, sent, Idempotency_Key=key.encode().decode("latin-1")),
            problems.INVALID_PARAMETER,
            detail="Idempotency-Key",
        )
    assert top(client) == []


def test_batch_answers_one_result_each_in_order(client):
    client.make("laps", score_update="best", sort_order="ascending")
    updates = [
        {"leaderboard": "global", "user": "a", "increment": 1},
        {"leaderboard": "laps", "user": "a", "score": 61.5},
        {"leaderboard": "nowhere", "user": "a", "increment": 1},
        {"leaderboard": "global", "user": "a", "increment": 2},
        {"leaderboard": "laps", "user": "a", "increment": 1},
        {"leaderboard": "global", "user": ""},
        7,
        {"leaderboard": "global", "user": "b", "increment": 9, "extra": 1},
        {"leaderboard": "global", "user": "b", "increment": 9},
    ]
    answer = client.post(BATCH, {"updates": updates})
    assert answer.status == 200
    assert list(answer.json()) == ["results"]
    results = answer.json()["results"]
    assert [item["status"] for item in results] == [200, 200, 404, 200, 422, 422, 422, 422, 200]
    assert results[3] == {
        "status": 200,
        "leaderboard": "global",
        "user": "a",
        "score": 3,
        "rank": 1,
        "previous_score": 1,
        "previous_rank": 1,
        "replayed": False,
    }
    assert set(results[2]) == {"status", "type", "title", "detail"}
    assert [results[index]["type"] for index in (2, 4, 5)] == [
        "/problems/board-not-found",
        "/problems/wrong-score-field",
        "/problems/invalid-request",
    ]
    assert top(client) == [(1, "b", 9), (2, "a", 3)]


def test_a_batch_of_a_thousand_is_applied_in_order(client):
    updates = [{"leaderboard": "global", "user": f"u{n % 10}", "increment": n} for n in range(1000)]
    results = client.post(BATCH, {"updates": updates}).json()["results"]
    assert len(results) == 1000
    assert all(item["status"] == 200 for item in results)
    sums = [0] * 10
    for number, item in enumerate(results):
        sums[number % 10] += number
        assert item["score"] == sums[number % 10]


@pytest.mark.parametrize(
    "body", [{"updates": []}, {"updates": [1] * 1001}, {"updates": {}}, {}, [], {"updates": [], "x": 1}]
)
def test_what_is_no_batch_is_422(client, body):
    assert_problem(client.post(BATCH, body), problems.INVALID_REQUEST)


def test_items_are_remembered_by_key_and_index(client):
    first = [{"leaderboard": "global", "user": user, "increment": 1} for user in ("a", "b", "c")]
    assert client.post(BATCH, {"updates": first}, Idempotency_Key="batch").status == 200
    single = client.post(UPDATE, first[1], Idempotency_Key="batch:1")
    assert single.headers["idempotency-replayed"] == "true"
    assert single.json()["user"] == "b"
    # The whole batch under the same key: nothing runs; one item changed: only that one is refused.
    again = client.post(BATCH, {"updates": first}, Idempotency_Key="batch").json()["results"]
    assert [item["replayed"] for item in again] == [True, True, True]
    changed = [first[0], first[1] | {"increment": 2}, first[2]]
    mixed = client.post(BATCH, {"updates": changed}, Idempotency_Key="batch").json()["results"]
    assert [item["status"] for item in mixed] == [200, 422, 200]
    assert mixed[1]["type"] == "/problems/idempotency-mismatch"
    assert sorted(score for _, _, score in top(client)) == [1, 1, 1]


def test_a_replayed_batch_runs_only_what_never_ran(client):
    updates = [
        {"leaderboard": "global", "user": "a", "increment": 1},
        {"leaderboard": "later", "user": "a", "increment": 1},
        {"leaderboard": "global", "user": "a", "increment": 10},
    ]
    first = client.post(BATCH, {"updates": updates}, Idempotency_Key="k").json()["results"]
    assert [item["status"] for item in first] == [200, 404, 200]
    client.make("later")
    again = client.post(BATCH, {"updates": updates}, Idempotency_Key="k").json()["results"]
    assert [item.get("replayed") for item in again] == [True, False, True]
    assert [item["score"] for item in again] == [1, 1, 11]
    assert top(client) == [(1, "a", 11)]
    assert top(client, "later") == [(1, "a", 1)]


def test_one_replayed_answer_of_a_batch_is_the_first_ones(client):
    body = {"leaderboard": "global", "user": "u", "increment": 5}
    first = client.post(BATCH, {"updates": [body]}, Idempotency_Key="k").json()["results"][0]
    client.add("global", ("u", 1))
    again = client.post(BATCH, {"updates": [body]}, Idempotency_Key="k").json()["results"][0]
    assert again == first | {"replayed": True}


def test_removed_members_are_gone_and_new_when_they_come_back(client):
    client.add("global", ("u", 5), ("v", 3))
    answer = client.call("DELETE", "/v1/leaderboards/global/members/u")
    assert (answer.status, answer.body) == (204, b"")
    assert top(client) == [(1, "v", 3)]
    again = client.call("DELETE", "/v1/leaderboards/global/members/u")
    assert_problem(again, problems.USER_NOT_FOUND)
    assert_problem(client.call("DELETE", "/v1/leaderboards/nowhere/members/u"), problems.BOARD_NOT_FOUND)
    back = client.post(UPDATE, {"leaderboard": "global", "user": "u", "increment": 1}).json()
    assert (back["score"], back["previous_score"]) == (1, None)
