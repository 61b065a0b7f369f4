"""Reads: shapes, ties, pages, caching, the public route."""

import base64
from urllib.parse import quote

import pytest
from api_helpers import assert_problem

from leaderboard.api import problems

PRIVATE, PUBLIC = "private, no-cache", "public, max-age=1, stale-while-revalidate=5"
TIES = ("first_to_reach", "user_id", "shared")


def walk(client, path, limit):
    """All entries by cursor, and the sizes of the pages."""
    entries, pages, cursor = [], [], None
    while True:
        page = client.get(f"{path}?limit={limit}" + (f"&cursor={cursor}" if cursor else "")).json()
        entries += page["entries"]
        pages.append(len(page["entries"]))
        cursor = page["next_cursor"]
        if cursor is None:
            return entries, pages


def test_reads_answer_exactly_what_the_contract_says(client):
    client.add("global", ("a", 1), ("b", 3), ("c", 2.5))
    path = "/v1/leaderboards/global"
    top = client.get(f"{path}/top?limit=2").json()
    assert list(top) == ["leaderboard", "total", "entries", "next_cursor"]
    assert (top["leaderboard"], top["total"]) == ("global", 3)
    assert top["entries"] == [{"rank": 1, "user": "b", "score": 3}, {"rank": 2, "user": "c", "score": 2.5}]
    assert isinstance(top["next_cursor"], str)
    assert client.get(f"{path}/rank/a").json() == {
        "leaderboard": "global", "rank": 3, "user": "a", "score": 1, "total": 3, "percentile": 33.3333,
        "tier": None,
    }  # fmt: skip
    assert client.get(f"{path}/around/c?limit=1").json() == {
        "leaderboard": "global", "total": 3, "entries": [{"rank": 2, "user": "c", "score": 2.5}]
    }  # fmt: skip
    assert client.get(f"{path}/members?ids=a,zz,b").json() == {
        "leaderboard": "global",
        "total": 3,
        "entries": [{"rank": 3, "user": "a", "score": 1}, {"rank": 1, "user": "b", "score": 3}],
        "missing": ["zz"],
    }


def test_an_empty_board_is_an_empty_page(client):
    assert client.get("/v1/leaderboards/global/top").json() == {
        "leaderboard": "global", "total": 0, "entries": [], "next_cursor": None
    }  # fmt: skip
    assert client.get("/v1/leaderboards/global/members?ids=a").json()["missing"] == ["a"]


@pytest.mark.parametrize("path", ["top", "rank/u", "around/u", "members?ids=u"])
def test_a_missing_board_or_user_is_404_of_its_own_type(client, path):
    assert_problem(client.get(f"/v1/leaderboards/nowhere/{path}"), problems.BOARD_NOT_FOUND)
    assert_problem(client.get(f"/v1/leaderboards/NoWhere/{path}"), problems.BOARD_NOT_FOUND)
    if path.endswith("/u"):
        assert_problem(client.get(f"/v1/leaderboards/global/{path}"), problems.USER_NOT_FOUND)


@pytest.mark.parametrize("order", ["descending", "ascending"])
@pytest.mark.parametrize("tie", TIES)
def test_ties_are_ranked_by_the_policy(client, tie, order):
    client.make("b", tie_policy=tie, sort_order=order)
    client.add("b", ("m", 5), ("z", 5), ("a", 5), ("low", 1), ("high", 9))
    entries = client.get("/v1/leaderboards/b/top").json()["entries"]
    first, last = ("high", "low") if order == "descending" else ("low", "high")
    equal = {
        "first_to_reach": ["m", "z", "a"],
        "user_id": ["z", "m", "a"] if order == "descending" else ["a", "m", "z"],
        "shared": ["z", "m", "a"] if order == "descending" else ["a", "m", "z"],
    }[tie]
    assert [entry["user"] for entry in entries] == [first, *equal, last]
    ranks = [1, 2, 2, 2, 5] if tie == "shared" else [1, 2, 3, 4, 5]
    assert [entry["rank"] for entry in entries] == ranks
    for entry in entries:
        assert client.get(f"/v1/leaderboards/b/rank/{entry['user']}").json()["rank"] == entry["rank"]
        around = client.get(f"/v1/leaderboards/b/around/{entry['user']}?limit=3").json()["entries"]
        assert len(around) == 3
        assert all(line in entries for line in around)
        assert entry in around
    ids = ",".join(entry["user"] for entry in entries)
    assert client.get(f"/v1/leaderboards/b/members?ids={ids}").json()["entries"] == entries


@pytest.mark.parametrize("order", ["descending", "ascending"])
@pytest.mark.parametrize("tie", TIES)
def test_pages_by_cursor_and_by_offset_give_every_entry_once(client, tie, order):
    client.make("b", tie_policy=tie, sort_order=order)
    updates = [{"leaderboard": "b", "user": f"u{n:02}é", "increment": n // 7} for n in range(40)]
    client.post("/v1/scores/batch", {"updates": updates})
    whole = client.get("/v1/leaderboards/b/top?limit=1000").json()
    assert (whole["total"], len(whole["entries"]), whole["next_cursor"]) == (40, 40, None)
    for limit in (1, 3, 7, 39, 40):
        entries, pages = walk(client, "/v1/leaderboards/b/top", limit)
        assert entries == whole["entries"], limit
        assert all(size == limit for size in pages[:-1])
        assert pages[-1] >= 1, "no empty page at the end"
        by_offset = []
        for offset in range(0, 40, limit):
            by_offset += client.get(f"/v1/leaderboards/b/top?limit={limit}&offset={offset}").json()["entries"]
        assert by_offset == whole["entries"]
    assert client.get("/v1/leaderboards/b/top?offset=40").json()["entries"] == []
    assert client.get(f"/v1/leaderboards/b/top?offset={2**53}").json()["entries"] == []


@pytest.mark.parametrize("tie", TIES)
def test_a_cursor_never_skips_who_did_not_move(client, tie):
    client.make("b", tie_policy=tie)
    updates = [{"leaderboard": "b", "user": f"u{n:02}", "increment": 100 - n // 3} for n in range(30)]
    client.post("/v1/scores/batch", {"updates": updates})
    before = [entry["user"] for entry in client.get("/v1/leaderboards/b/top?limit=30").json()["entries"]]
    page = client.get("/v1/leaderboards/b/top?limit=10").json()
    seen = [entry["user"] for entry in page["entries"]]
    # The entry the cursor stands on goes, one above it goes, new ones come on top, one moves from below to the top.
    for gone in (seen[-1], seen[3]):
        assert client.call("DELETE", f"/v1/leaderboards/b/members/{gone}").status == 204
    moved = before[20]
    client.add("b", ("new1", 1000), ("new2", 1000), (moved, 500))
    while page["next_cursor"]:
        page = client.get(f"/v1/leaderboards/b/top?limit=10&cursor={page['next_cursor']}").json()
        seen += [entry["user"] for entry in page["entries"]]
    assert [user for user in seen if user in before] == [user for user in before if user != moved]
    assert len(seen) == len(set(seen))


def test_around_is_full_at_both_ends(client):
    client.add("global", *((f"u{n}", n) for n in range(1, 21)))
    for user, ranks in (("u20", range(1, 6)), ("u19", range(1, 6)), ("u10", range(9, 14)), ("u1", range(16, 21))):
        entries = client.get(f"/v1/leaderboards/global/around/{user}?limit=5").json()["entries"]
        assert [entry["rank"] for entry in entries] == list(ranks)
    assert len(client.get("/v1/leaderboards/global/around/u10").json()["entries"]) == 11
    assert len(client.get("/v1/leaderboards/global/around/u10?limit=201").json()["entries"]) == 20


@pytest.mark.parametrize(
    "user", ["a b", "a+b", "a%b", "ключ", "日本", "a,b", "?#&=", "%2F", "..", "😀" * 32, "\ufffd", "Ä", "~!*'()"]
)
def test_users_may_be_any_text(client, user):
    client.add("global", (user, 7))
    encoded = quote(user, safe="")
    assert client.get(f"/v1/leaderboards/global/rank/{encoded}").json()["user"] == user
    assert client.get(f"/v1/leaderboards/global/around/{encoded}").json()["entries"][0]["user"] == user
    assert client.get(f"/v1/leaderboards/global/members?ids={encoded}").json()["entries"][0]["user"] == user
    assert client.get("/v1/leaderboards/global/top").json()["entries"][0]["user"] == user
    assert client.call("DELETE", f"/v1/leaderboards/global/members/{encoded}").status == 204


def test_ids_may_be_repeated_or_listed_and_a_space_may_be_a_plus(client):
    client.add("global", ("a", 1), ("b", 2), ("c,d", 3), ("e f", 4))
    answer = client.get("/v1/leaderboards/global/members?ids=a,b&ids=c%2Cd&ids=e+f").json()
    assert [entry["user"] for entry in answer["entries"]] == ["a", "b", "c,d", "e f"]


@pytest.mark.parametrize("user", ["%ff", "%c3%28", "%EF%BF%BD%ff", "a%00b", "a%0Ab", "x" * 129, "%E2%80%A8"])
def test_what_is_no_user_is_400(client, user):
    client.add("global", ("\ufffd\ufffd", 1))
    for path in (f"rank/{user}", f"around/{user}", f"members?ids={user}"):
        assert_problem(client.get(f"/v1/leaderboards/global/{path}"), problems.INVALID_PARAMETER)
    answer = client.call("DELETE", f"/v1/leaderboards/global/members/{user}")
    assert_problem(answer, problems.INVALID_PARAMETER)


def test_a_slash_in_a_user_is_another_path(client):
    assert_problem(client.get("/v1/leaderboards/global/rank/a%2Fb"), problems.ROUTE_NOT_FOUND)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=1&limit=2", "limit=%D9%A3", "limit=1.0",
        "offset=-1", f"offset={2**53 + 1}", "offset=1&cursor=MSBh", "cursor=", "cursor=%00", "cursor=MSBh%3D%3D%3D",
        "cursor=" + base64.urlsafe_b64encode(b"nan x").decode(),
        "cursor=" + base64.urlsafe_b64encode(b"inf x").decode(),
        "cursor=" + base64.urlsafe_b64encode(b"1 \xff").decode().rstrip("="),
        "cursor=" + base64.urlsafe_b64encode(b"1 " + b"x" * 200).decode().rstrip("="),
        "cursor=MSA", "unknown=1", "Limit=1",
    ],
)  # fmt: skip
def test_bad_parameters_are_400(client, query):
    assert_problem(client.get(f"/v1/leaderboards/global/top?{query}"), problems.INVALID_PARAMETER)


@pytest.mark.parametrize(
    "path",
    [
        "rank/u?limit=1", "around/u?limit=202", "around/u?limit=0", "around/u?offset=1", "members", "members?ids=",
        "members?ids=a,", "members?ids=" + ",".join(["a"] * 101), "members?ids=a&limit=1", "members?ids=%ff",
    ],
)  # fmt: skip
def test_bad_parameters_of_the_other_reads_are_400(client, path):
    client.add("global", ("u", 1))
    assert_problem(client.get(f"/v1/leaderboards/global/{path}"), problems.INVALID_PARAMETER)


READS = [
    "/v1/leaderboards/global/top",
    "/v1/leaderboards/global/rank/u",
    "/v1/leaderboards/global/around/u",
    "/v1/leaderboards/global/members?ids=u",
    "/v1/leaderboards",
    "/v1/leaderboards/global",
    "/v1/usage?from=2020-01-01&to=2020-01-31",  # today's changes while it is looked at
]


@pytest.mark.parametrize("path", READS)
def test_private_reads_are_revalidated_and_never_shared(client, path):
    client.add("global", ("u", 1))
    first = client.get(path)
    assert first.status == 200
    assert first.headers["cache-control"] == PRIVATE
    assert first.headers["vary"] == "Authorization, X-API-Key"
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = client.get(path, If_None_Match=known)
        assert (again.status, again.body) == (304, b""), known
        assert again.headers["etag"] == etag
        assert again.headers["cache-control"] == PRIVATE
        assert again.headers["vary"] == "Authorization, X-API-Key"
    assert client.get(path, If_None_Match='"other"').status == 200


def test_an_etag_changes_with_the_answer_and_comes_back_with_it(client):
    client.add("global", ("u", 1))
    path = "/v1/leaderboards/global/top"
    first = client.get(path)
    client.add("global", ("u", 1))
    second = client.get(path, If_None_Match=first.headers["etag"])
    assert second.status == 200
    assert second.headers["etag"] != first.headers["etag"]
    client.add("global", ("u", -1))
    assert client.get(path, If_None_Match=first.headers["etag"]).status == 304


def test_a_write_is_read_at_once(client):
    for number in range(1, 50):
        client.add("global", ("u", 1))
        assert client.get("/v1/leaderboards/global/rank/u").json()["score"] == number


def test_the_public_top_is_for_everybody_and_for_caches(new_tenant, connect):
    tenant = new_tenant(projects=["p_1"], boards=[{"key": "open", "publicRead": True}, "closed"])
    client, anybody = connect(tenant.key), connect()
    client.add("open", ("u", 2), ("v", 1))
    path = f"/v1/public/{tenant.slug}/p_1/leaderboards/open/top"
    answer = anybody.get(path)
    assert answer.status == 200
    assert answer.json() == client.get("/v1/leaderboards/open/top").json()
    assert answer.headers["cache-control"] == PUBLIC
    assert not {"vary", "ratelimit", "ratelimit-policy", "set-cookie"} & set(answer.headers)
    assert anybody.get(path, If_None_Match=answer.headers["etag"]).status == 304
    assert client.get(path).headers["cache-control"] == PUBLIC, "a key changes nothing"
    page = anybody.get(f"{path}?limit=1").json()
    rest = anybody.get(f"{path}?limit=1&cursor={page['next_cursor']}").json()
    assert [entry["user"] for entry in page["entries"] + rest["entries"]] == ["u", "v"]
    assert_problem(anybody.get(f"{path}?x=1"), problems.INVALID_PARAMETER)


def test_the_public_route_does_not_tell_closed_from_missing(new_tenant, connect):
    tenant = new_tenant(boards=["closed"])
    anybody = connect()
    answers = [
        anybody.get(f"/v1/public/{place}/top")
        for place in (
            f"{tenant.slug}/default/leaderboards/closed",
            f"{tenant.slug}/default/leaderboards/missing",
            f"{tenant.slug}/nothing/leaderboards/closed",
            "nobody/default/leaderboards/closed",
            "UPPER/default/leaderboards/closed",
        )
    ]
    for answer in answers:
        assert_problem(answer, problems.BOARD_NOT_FOUND)


def test_public_read_can_be_opened_and_closed(new_tenant, connect):
    tenant = new_tenant(boards=())
    client, anybody = connect(tenant.key), connect()
    client.make("b")
    path = f"/v1/public/{tenant.slug}/default/leaderboards/b/top"
    assert anybody.get(path).status == 404
    assert client.call("PATCH", "/v1/leaderboards/b", {"public_read": True}).status == 200
    assert anybody.get(path).status == 200
    assert client.call("PATCH", "/v1/leaderboards/b", {"public_read": False}).status == 200
    assert anybody.get(path).status == 404
