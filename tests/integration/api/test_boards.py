"""Boards made, changed, listed and deleted through the API; usage; and what the service says of itself."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from api_helpers import apply, assert_problem

from leaderboard.api import problems
from leaderboard.api.resources.docs import document
from leaderboard.local.process import wait_until

BOARDS = "/v1/leaderboards"
FIELDS = [
    "key", "score_update", "sort_order", "tie_policy", "max_entries", "public_read", "suspended", "managed",
    "reset", "bounds", "tiers", "season", "next_reset", "created_at", "updated_at",
]  # fmt: skip


def test_a_new_board_has_the_defaults_and_is_where_location_says(client):
    answer = client.post(BOARDS, {"key": "b.1_x-y"})
    assert answer.status == 201
    assert answer.headers["location"] == "/v1/leaderboards/b.1_x-y"
    board = answer.json()
    assert list(board) == FIELDS
    assert {name: board[name] for name in FIELDS[:-2]} == {
        "key": "b.1_x-y",
        "score_update": "sum",
        "sort_order": "descending",
        "tie_policy": "first_to_reach",
        "max_entries": 0,
        "public_read": False,
        "suspended": False,
        "managed": False,
        "reset": None,
        "bounds": None,
        "tiers": [],
        "season": 1,
        "next_reset": None,
    }
    made = datetime.fromisoformat(board["created_at"])
    assert abs(datetime.now(UTC) - made) < timedelta(minutes=5)
    assert client.get(answer.headers["location"]).json() == board


@pytest.mark.parametrize("rule", ["sum", "best", "latest"])
@pytest.mark.parametrize("order", ["descending", "ascending"])
@pytest.mark.parametrize("tie", ["first_to_reach", "user_id", "shared"])
def test_every_rule_can_be_asked_for(client, rule, order, tie):
    wanted = {"score_update": rule, "sort_order": order, "tie_policy": tie, "max_entries": 7, "public_read": True}
    board = client.make("b", **wanted)
    assert {name: board[name] for name in wanted} == wanted


def test_bounds_are_shown_as_numbers_are(client):
    asked = {"min_score": -1e300, "max_score": 1000.0, "max_gain": 2.5, "per_seconds": 60}
    answer = client.post(BOARDS, {"key": "b", "bounds": asked})
    assert answer.json()["bounds"] == asked
    assert b'"bounds":{"min_score":-1e300,"max_score":1000,"max_gain":2.5,"per_seconds":60}' in answer.body


def test_a_key_is_taken_once(client):
    client.make("b")
    assert_problem(client.post(BOARDS, {"key": "b"}), problems.BOARD_EXISTS, detail="'b'")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "key"),
        ({"key": "B"}, "must match"),
        ({"key": ""}, "must match"),
        ({"key": "x" * 129}, "must match"),
        ({"key": "b\n"}, "must match"),
        ({"key": "b", "score_update": "Sum"}, "score_update must be one of sum, best, latest"),
        ({"key": "b", "sort_order": "up"}, "sort_order must be one of"),
        ({"key": "b", "tie_policy": ""}, "tie_policy must be one of"),
        ({"key": "b", "max_entries": -1}, "max_entries must be"),
        ({"key": "b", "max_entries": 10_000_001}, "max_entries must be"),
        ({"key": "b", "max_entries": 1.5}, "max_entries must be a whole number"),
        ({"key": "b", "max_entries": 1e300}, "max_entries must be"),
        ({"key": "b", "max_entries": True}, "$.max_entries"),
        ({"key": "b", "public_read": 1}, "$.public_read"),
        ({"key": "b", "project": "other"}, "project"),
        ({"key": "b", "reset": "0 9 * * 1"}, "$.reset"),
        ({"key": "b", "reset": {"schedule": "tomorrow"}}, "must have five fields of cron"),
        ({"key": "b", "reset": {"schedule": "61 * * * *"}}, "cannot be used"),
        ({"key": "b", "reset": {"time_zone": "Mars"}}, "is not a time zone"),
        ({"key": "b", "reset": {"keep_seasons": 0.5}}, "reset.keep_seasons must be a whole number"),
        ({"key": "b", "reset": {"keep_seasons": -1}}, "seasons to keep must be"),
        ({"key": "b", "reset": {"grace_seconds": 0.5}}, "reset.grace_seconds must be a whole number"),
        ({"key": "b", "reset": {"grace_seconds": 86_401}}, "the grace must be 0 to 86400 seconds"),
        ({"key": "b", "reset": {"every": "day"}}, "every"),
        ({"key": "b", "bounds": 5}, "$.bounds"),
        ({"key": "b", "bounds": {}}, "name a smallest score, a largest score or a largest gain"),
        ({"key": "b", "bounds": {"min_score": 1, "max_score": 0}}, "the smallest score (1) must not be above"),
        ({"key": "b", "bounds": {"max_gain": 1}}, "come together"),
        ({"key": "b", "bounds": {"max_gain": 0, "per_seconds": 1}}, "the largest gain must be above 0"),
        ({"key": "b", "bounds": {"max_gain": 1, "per_seconds": 604_801}}, "1 to 604800 seconds"),
        ({"key": "b", "bounds": {"max_gain": 1, "per_seconds": 0.5}}, "bounds.per_seconds must be a whole number"),
        ({"key": "b", "bounds": {"maxScore": 1}}, "maxScore"),
        ([], "object"),
    ],
)
def test_what_is_no_board_is_422_and_names_the_field(client, body, detail):
    assert_problem(client.post(BOARDS, body), problems.INVALID_REQUEST, detail=detail)


def test_a_whole_number_may_be_written_with_a_fraction_of_zero(client):
    assert client.make("b", max_entries=10.0)["max_entries"] == 10


def test_boards_are_listed_by_key_a_page_at_a_time(client):
    for key in ("c", "a", "b-2", "b.1", "b_3"):
        client.make(key)
    whole = client.get(BOARDS).json()
    assert list(whole) == ["leaderboards", "next_cursor"]
    keys = [board["key"] for board in whole["leaderboards"]]
    assert keys == sorted(["c", "a", "b-2", "b.1", "b_3", "global"])
    assert whole["next_cursor"] is None
    for limit in (1, 2, 5, 6):
        paged, cursor = [], None
        while True:
            page = client.get(f"{BOARDS}?limit={limit}" + (f"&cursor={cursor}" if cursor else "")).json()
            assert len(page["leaderboards"]) <= limit
            paged += [board["key"] for board in page["leaderboards"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert paged == keys


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "cursor=", "cursor=A", "offset=1", "limit=1&limit=2"])
def test_bad_parameters_of_the_list_are_400(client, query):
    assert_problem(client.get(f"{BOARDS}?{query}"), problems.INVALID_PARAMETER)


def test_a_board_can_be_changed_where_it_may(client):
    before = client.make("b", max_entries=5)
    client.add("b", *((f"u{n}", n) for n in range(1, 6)))
    answer = client.call("PATCH", f"{BOARDS}/b", {"max_entries": 2, "public_read": True})
    assert answer.status == 200
    after = answer.json()
    assert (after["max_entries"], after["public_read"]) == (2, True)
    assert after["updated_at"] > before["updated_at"]
    assert after["created_at"] == before["created_at"]
    top = client.get(f"{BOARDS}/b/top").json()
    assert [entry["user"] for entry in top["entries"]] == ["u5", "u4"]
    assert client.call("PATCH", f"{BOARDS}/b", {"max_entries": 0}).json()["public_read"] is True
    client.add("b", ("u9", 9))
    assert client.get(f"{BOARDS}/b/top").json()["total"] == 3


def test_what_is_fixed_may_be_repeated_and_not_changed(client):
    board = client.make("b", score_update="best", sort_order="ascending", tie_policy="shared")
    same = {name: board[name] for name in ("score_update", "sort_order", "tie_policy", "max_entries", "public_read")}
    assert client.call("PATCH", f"{BOARDS}/b", same).status == 200
    assert client.call("PATCH", f"{BOARDS}/b", {}).status == 200
    for change in ({"score_update": "sum"}, {"sort_order": "descending"}, {"tie_policy": "user_id"}):
        answer = client.call("PATCH", f"{BOARDS}/b", {"max_entries": 3, **change})
        assert_problem(answer, problems.IMMUTABLE_FIELD, detail=next(iter(change)))
    assert client.get(f"{BOARDS}/b").json()["max_entries"] == 0, "refused whole"
    for wrong in ({"key": "c"}, {"score_update": "x"}, {"max_entries": None}, {"suspended": True}):
        assert_problem(client.call("PATCH", f"{BOARDS}/b", wrong), problems.INVALID_REQUEST)


def test_a_deleted_board_is_gone_and_its_key_is_free(client):
    client.make("b")
    client.add("b", ("u", 5))
    answer = client.call("DELETE", f"{BOARDS}/b")
    assert (answer.status, answer.body) == (204, b"")
    for path in ("", "/top", "/rank/u", "/around/u", "/members?ids=u"):
        assert_problem(client.get(f"{BOARDS}/b{path}"), problems.BOARD_NOT_FOUND)
    assert_problem(client.call("DELETE", f"{BOARDS}/b"), problems.BOARD_NOT_FOUND)
    assert_problem(client.call("PATCH", f"{BOARDS}/b", {}), problems.BOARD_NOT_FOUND)
    client.make("b", score_update="latest")
    assert client.get(f"{BOARDS}/b/top").json()["total"] == 0


def test_missing_and_impossible_boards_are_404(client):
    for key in ("nowhere", "UPPER", "a%3Ab", "%7Ba%7D", "%ff"):
        for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
            assert_problem(client.call(method, f"{BOARDS}/{key}", body), problems.BOARD_NOT_FOUND)


def test_what_a_custom_resource_owns_is_changed_there(served, new_tenant, connect):
    tenant = new_tenant(boards=())
    client = connect(tenant.key)
    apply(served, "Leaderboard", "m", owner="uid-1", tenantRef={"name": tenant.slug}, key="m")
    assert client.get(f"{BOARDS}/m").json()["managed"] is True
    for change in ({"max_entries": 1}, {"bounds": {"max_score": 1}}):
        assert_problem(client.call("PATCH", f"{BOARDS}/m", change), problems.MANAGED_ELSEWHERE)
    assert_problem(client.call("DELETE", f"{BOARDS}/m"), problems.MANAGED_ELSEWHERE)
    assert client.post(BOARDS, {"key": "m"}).status == 409
    client.add("m", ("u", 1))


def test_the_plan_says_how_many_boards(new_tenant, connect):
    tenant = new_tenant(boards=("one",), quotas={"maxLeaderboards": 2})
    client = connect(tenant.key)
    client.make("two")
    assert_problem(client.post(BOARDS, {"key": "three"}), problems.QUOTA_EXCEEDED, detail="maxLeaderboards = 2")
    assert client.call("DELETE", f"{BOARDS}/one").status == 204
    client.make("three")


def test_usage_counts_requests_updates_and_refusals(new_tenant, connect):
    tenant = new_tenant(projects=("used", "other"), quotas={"requestsPerSecond": 20})
    client = connect(tenant.keys["used"])
    first = client.get("/v1/usage").json()
    assert list(first) == ["project", "from", "to", "days"]
    assert (first["project"], first["days"]) == ("used", [])
    assert (datetime.fromisoformat(first["to"]) - datetime.fromisoformat(first["from"])).days == 29
    updates = [{"leaderboard": "global", "user": f"u{n}", "increment": 1} for n in range(5)]
    assert wait_until(
        lambda: client.post("/v1/scores/batch", {"updates": updates}).status == 200, seconds=90, pause=0.1
    )
    assert wait_until(lambda: client.get("/v1/leaderboards").status == 429, seconds=90, pause=0)

    def day():
        answer = client.get("/v1/usage")
        return answer.json()["days"][-1] if answer.status == 200 and answer.json()["days"] else None

    # Two workers flush every 5 s, and the ledger counts what it has written.
    assert wait_until(
        lambda: (
            (now := day()) is not None
            and now["score_updates"] == 5
            and now["rate_limited"] >= 1
            and now["requests"] > 5
        ),
        seconds=90,
        pause=0.2,
    ), day()
    assert set(day()) == {"day", "requests", "score_updates", "rate_limited"}
    assert connect(tenant.keys["other"]).get("/v1/usage").status in (200, 429)


def test_usage_of_one_project_is_not_the_others(new_tenant, connect):
    tenant = new_tenant(projects=("used", "other"))
    for _ in range(3):
        connect(tenant.keys["used"]).get("/v1/leaderboards")
    used, other = connect(tenant.keys["used"]), connect(tenant.keys["other"])
    assert wait_until(lambda: used.get("/v1/usage").json()["days"], seconds=90, pause=0.2)
    assert sum(day["score_updates"] for day in other.get("/v1/usage").json()["days"]) == 0


@pytest.mark.parametrize(
    "query",
    ["from=2026-02-01&to=2026-01-01", "from=2025-01-01&to=2026-01-02", "from=x", "to=2026-13-01", "to=20260131",
     "from=2026-W05-6", "to=", "day=2026-01-01", "from=2026-01-01&from=2026-01-02"],
)  # fmt: skip
def test_bad_days_are_400(client, query):
    assert_problem(client.get(f"/v1/usage?{query}"), problems.INVALID_PARAMETER)


@pytest.mark.parametrize("query", ["to=0001-01-31", "from=9999-12-31&to=9999-12-31", "from=2024-01-01&to=2024-12-31"])
def test_any_day_of_the_calendar_may_be_asked_for(client, query):
    assert client.get(f"/v1/usage?{query}").json()["days"] == []


def test_health_needs_no_key(connect):
    anybody = connect()
    alive = anybody.get("/healthz")
    assert (alive.status, alive.json()) == (200, {"status": "ok"})
    assert alive.headers["cache-control"] == "no-store"
    assert wait_until(lambda: anybody.get("/readyz").json()["status"] == "ok", seconds=90)
    ready = anybody.get("/readyz")
    assert ready.json() == {"status": "ok", "checks": {"redis": "ok", "revocations": "ok", "postgres": "ok"}}
    assert ready.headers["cache-control"] == "no-store"


def test_the_document_and_the_pages_are_served(connect):
    anybody = connect()
    served = anybody.get("/openapi.json")
    assert served.headers["content-type"] == "application/json"
    assert served.json() == document()
    docs = anybody.get("/docs")
    assert docs.headers["content-type"].startswith("text/html")
    assert b"Update one user" in docs.body
    for kind in problems.TYPES.values():
        page = anybody.get(f"/problems/{kind.name}")
        assert page.status == 200
        assert page.headers["content-type"].startswith("text/html")
    assert_problem(anybody.get("/problems/none"), problems.ROUTE_NOT_FOUND)
    links = re.findall(r'href="(/problems/[^"]+)"', docs.body.decode())
    assert len(links) == len(problems.TYPES)
