"""Tiers: what a rank tells, by every rule; how they are asked for, changed, refused and kept."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from api_helpers import Client, apply, assert_no_faults, assert_problem

from leaderboard.api import problems
from leaderboard.local.process import wait_until
from leaderboard.store.redis import keys

BOARDS = "/v1/leaderboards"
TIERS = [
    {"name": "Champion", "top": 1},
    {"name": "Gold", "percent": 20.0},
    {"name": "Top 5", "top": 5},
    {"name": "Silver", "percent": 70.5},
]


def tiers_told(client, board, users):
    """The rank and the tier of each user."""
    found = [client.get(f"{BOARDS}/{board}/rank/{user}").json() for user in users]
    return [(line["rank"], line["tier"]) for line in found]


@pytest.mark.parametrize("tie", ["first_to_reach", "user_id", "shared"])
@pytest.mark.parametrize("order", ["descending", "ascending"])
def test_a_rank_tells_the_first_tier_that_holds_it(client, order, tie):
    board = client.make("b", sort_order=order, tie_policy=tie, score_update="latest", tiers=TIERS)
    assert board["tiers"] == TIERS
    sign = -1 if order == "descending" else 1
    users = [f"u{number}" for number in range(1, 11)]
    client.add("b", *((user, sign * number) for number, user in enumerate(users, 1)), field="score")
    assert tiers_told(client, "b", users) == [
        *((1, "Champion"), (2, "Gold"), (3, "Top 5"), (4, "Top 5"), (5, "Top 5")),
        *((6, "Silver"), (7, "Silver"), (8, "Silver"), (9, None), (10, None)),  # 7.05 of ten is 8
    ]


def test_who_shares_a_rank_shares_the_tier(client):
    tiers = [{"name": "First", "top": 1}, {"name": "Half", "percent": 50}]
    for tie in ("shared", "first_to_reach"):
        client.make(tie, tie_policy=tie, tiers=tiers)
        client.add(tie, ("a", 9), ("b", 9), ("c", 5), ("d", 5), ("e", 5))
    assert tiers_told(client, "shared", "abcde") == [
        *((1, "First"), (1, "First"), (3, "Half"), (3, "Half"), (3, "Half"))
    ]
    assert tiers_told(client, "first_to_reach", "abcde") == [
        *((1, "First"), (2, "Half"), (3, "Half"), (4, None), (5, None))
    ]


def test_a_board_of_one_has_its_best_in_every_share(client):
    client.make("b", tiers=[{"name": "Elite", "percent": 0.0001}])
    client.add("b", ("a", 1))
    assert tiers_told(client, "b", "a") == [(1, "Elite")]


def test_a_board_without_tiers_tells_none(client):
    assert client.get(f"{BOARDS}/global").json()["tiers"] == []
    client.add("global", ("a", 1))
    assert tiers_told(client, "global", "a") == [(1, None)]
    assert client.make("null", tiers=None)["tiers"] == []


def test_a_tier_follows_the_rank_and_the_size_of_the_board(client):
    client.make("b", tiers=[{"name": "Half", "percent": 50}])
    client.add("b", ("a", 1), ("b", 2))
    assert tiers_told(client, "b", "ab") == [(2, None), (1, "Half")]
    client.add("b", ("c", 0))
    assert tiers_told(client, "b", "abc") == [(2, "Half"), (1, "Half"), (3, None)]
    client.add("b", ("c", 9))
    assert tiers_told(client, "b", "abc") == [(3, None), (2, "Half"), (1, "Half")]


def test_every_process_tells_a_change_at_once(client, served):
    """The answers of both API processes come from one Redis, and none keeps what it knew."""
    client.make("b", tiers=[{"name": "v0", "top": 1}])
    client.add("b", ("a", 1))
    others = [Client(served.url, client.key) for _ in range(8)]
    with ThreadPoolExecutor(len(others)) as threads:
        for version in range(1, 21):
            tiers = [{"name": f"v{version}", "top": 1}] if version % 5 else None
            assert client.call("PATCH", f"{BOARDS}/b", {"tiers": tiers}).status == 200
            told = list(threads.map(lambda other: tiers_told(other, "b", "a"), others))
            assert told == [[(1, f"v{version}" if tiers else None)]] * len(others)
    for other in others:
        other.close()


def test_a_change_of_tiers_changes_the_etag(client):
    client.make("b", tiers=TIERS)
    client.add("b", ("a", 1))
    etag = client.get(f"{BOARDS}/b/rank/a").headers["etag"]
    assert client.get(f"{BOARDS}/b/rank/a", If_None_Match=etag).status == 304
    client.call("PATCH", f"{BOARDS}/b", {"tiers": []})
    assert client.get(f"{BOARDS}/b/rank/a", If_None_Match=etag).json()["tier"] is None


def test_a_change_says_all_or_nothing_of_tiers(client):
    client.make("b", tiers=TIERS, max_entries=100)
    assert client.call("PATCH", f"{BOARDS}/b", {"max_entries": 50}).json()["tiers"] == TIERS
    only = [{"name": "Only", "percent": 12.5}]
    changed = client.call("PATCH", f"{BOARDS}/b", {"tiers": only}).json()
    assert (changed["tiers"], changed["max_entries"]) == (only, 50)
    for nothing in ([], None):
        client.call("PATCH", f"{BOARDS}/b", {"tiers": only})
        assert client.call("PATCH", f"{BOARDS}/b", {"tiers": nothing}).json()["tiers"] == []
        assert client.get(f"{BOARDS}/b").json()["tiers"] == []
    (listed,) = (board for board in client.get(BOARDS).json()["leaderboards"] if board["key"] == "b")
    assert listed["tiers"] == []


@pytest.mark.parametrize(
    ("tiers", "detail"),
    [
        ("Gold", "$.tiers"),
        ([{"top": 1}], "name"),
        ([{"name": "a", "rank": 1}], "rank"),
        ([{"name": "a"}], "exactly one of top (a rank) and percent (a share of the board)"),
        ([{"name": "a", "top": 1, "percent": 1}], "exactly one of top"),
        ([{"name": "a", "top": None, "percent": 1}], "$.tiers[0].top"),
        ([{"name": "a", "top": 1.5}], "tiers: top must be a whole number"),
        ([{"name": "a", "top": 0}], "top must be 1 to 10000000, got 0"),
        ([{"name": "a", "top": True}], "$.tiers[0].top"),
        ([{"name": "a", "percent": "10%"}], "$.tiers[0].percent"),
        ([{"name": "a", "percent": 0}], "percent must be 0.0001 to 100"),
        ([{"name": "a", "percent": 101}], "percent must be 0.0001 to 100"),
        ([{"name": "a", "percent": 33.33333}], "at most four digits after the point"),
        ([{"name": "a", "percent": 1e308}], "percent must be"),
        ([{"name": "", "top": 1}], "must be 1-32 visible characters"),
        ([{"name": "x" * 33, "top": 1}], "must be 1-32 visible characters"),
        ([{"name": "a\nb", "top": 1}], "must be 1-32 visible characters"),
        ([{"name": "a", "top": 1}, {"name": "a", "percent": 5}], "'a' is there twice"),
        ([{"name": "a", "top": 5}, {"name": "b", "top": 5}], "'b': nobody could reach it"),
        ([{"name": "a", "percent": 5}, {"name": "b", "percent": 1}], "list the best tier first"),
        ([{"name": f"t{number}", "top": number + 1} for number in range(21)], "at most 20, got 21"),
    ],
)
def test_tiers_that_make_no_sense_are_422_and_change_nothing(client, tiers, detail):
    assert_problem(client.post(BOARDS, {"key": "b", "tiers": tiers}), problems.INVALID_REQUEST, detail=detail)
    client.make("b", tiers=TIERS)
    assert_problem(client.call("PATCH", f"{BOARDS}/b", {"tiers": tiers}), problems.INVALID_REQUEST, detail=detail)
    assert client.get(f"{BOARDS}/b").json()["tiers"] == TIERS


def test_a_number_too_large_for_json_is_refused(client):
    raw = b'{"key": "b", "tiers": [{"name": "a", "percent": 1%s}]}' % (b"0" * 400)
    answer = client.call("POST", BOARDS, raw=raw)
    assert answer.status in (400, 422), answer


def test_only_an_admin_changes_them_and_only_on_boards_of_its_project(client, new_tenant, connect):
    client.make("b", tiers=TIERS)
    client.add("b", ("a", 1))
    reader = connect(new_tenant(scope="read").key)
    assert reader.call("PATCH", f"{BOARDS}/b", {"tiers": []}).status == 403
    stranger = connect(new_tenant(boards=["b"]).key)
    stranger.add("b", ("a", 1))
    assert tiers_told(stranger, "b", "a") == [(1, None)]
    assert stranger.call("PATCH", f"{BOARDS}/b", {"tiers": [{"name": "Mine", "top": 1}]}).status == 200
    assert (tiers_told(client, "b", "a"), tiers_told(stranger, "b", "a")) == ([(1, "Champion")], [(1, "Mine")])


def test_a_reset_keeps_them(client):
    client.make("b", tiers=TIERS)
    client.add("b", ("a", 1))
    assert client.post(f"{BOARDS}/b/reset", {"season": 1}).json()["tiers"] == TIERS
    client.add("b", ("a", 1))
    assert tiers_told(client, "b", "a") == [(1, "Champion")]


def test_a_document_gives_them_changes_them_and_takes_them_away(served, new_tenant, connect):
    tenant = new_tenant(boards=[{"key": "b", "tiers": TIERS}])
    client = connect(tenant.key)
    client.add("b", ("a", 1))
    assert (client.get(f"{BOARDS}/b").json()["tiers"], tiers_told(client, "b", "a")) == (TIERS, [(1, "Champion")])
    board = {"tenantRef": {"name": tenant.slug}, "key": "b"}
    apply(served, "Leaderboard", "b", **board, tiers=[{"name": "All", "percent": 100}])
    assert tiers_told(client, "b", "a") == [(1, "All")]
    apply(served, "Leaderboard", "b", **board)
    assert (client.get(f"{BOARDS}/b").json()["tiers"], tiers_told(client, "b", "a")) == ([], [(1, None)])


def test_a_rebuild_keeps_them(served, new_tenant, connect):
    tenant = new_tenant(boards=[{"key": "b", "tiers": TIERS}])
    client = connect(tenant.key)
    client.add("b", ("a", 1), ("c", 2))
    assert wait_until(lambda: len(client.get(f"{BOARDS}/b/events").json()["events"]) == 2, seconds=90)
    board = f"l:{tenant.id}:default:b"
    with redis.Redis.from_url(served.redis_url) as stored:
        stored.delete(board, keys.meta(board), keys.order(board))
    assert client.get(f"{BOARDS}/b/rank/a").status == 503
    command = [sys.executable, "-m", "leaderboard.cli", "rebuild", "--board", f"{tenant.slug}/default/b"]
    done = subprocess.run(command, env=served.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tiers_told(client, "b", "ac") == [(2, "Top 5"), (1, "Champion")]


def test_no_process_logged_a_fault(served):
    assert_no_faults(served)
