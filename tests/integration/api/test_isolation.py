"""Nothing that is sent with one project's key reads or changes another project's boards: two tenants with two projects
each, the same board names in all four, and users whose ids say whose they are.

Each project's state is its Redis keys, its board rows and what its own key reads. The sender's own may change; the
others' may not, and no answer may hold one of their markers.
"""

import base64
import contextlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import redis as redis_py
from api_helpers import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.platform import Platform
from support.tenants import make_tenant

BOARDS = ("global", "b", "p_b")
PROJECTS = ("a", "p_b")


class Place:
    """One project with a marker of its own in every name it made."""

    def __init__(self, client: Client, tenant: Any, project: str) -> None:
        self.client = client
        self.tenant = tenant
        self.project = project
        self.marker = f"MARK{tenant.id}{project}MARK"
        self.prefix = f"l:{tenant.id}:{project}:"

    def fill(self) -> None:
        for board in BOARDS:
            for number in range(3):
                body = {"leaderboard": board, "user": f"{self.marker}{number}", "increment": number + self.tenant.id}
                headers = {"Idempotency_Key": f"idem-{number}"}
                assert self.client.post("/v1/scores/update", body, **headers).status == 200


class World:
    def __init__(self, places: list[Place], redis: redis_py.Redis, database: psycopg.Connection) -> None:
        self.places = places
        self._redis = redis
        self._database = database

    def state(self, place: Place) -> Any:
        """All that the place has in both stores: boards, rules, orders, idempotency records, rows."""
        keys = [key for key in self._redis.keys("*") if place.prefix.encode() in key]
        rows = self._database.execute(
            "SELECT l.* FROM leaderboards l JOIN projects p ON p.id = l.project_id"
            " WHERE p.tenant_id = %s AND p.name = %s ORDER BY l.id",
            (place.tenant.id, place.project),
        ).fetchall()
        return sorted((key, self._redis.dump(key)) for key in keys), rows


@contextlib.contextmanager
def made(served: Platform, *slugs: str) -> Iterator[World]:
    places = []
    for slug in slugs:
        tenant = make_tenant(served, slug=slug, projects=PROJECTS, boards=BOARDS)
        places += [Place(Client(served.url, tenant.keys[project]), tenant, project) for project in PROJECTS]
    for place in places:
        place.fill()
    with (
        redis_py.Redis.from_url(served.redis_url) as redis,
        psycopg.connect(served.database, autocommit=True) as database,
    ):
        yield World(places, redis, database)
    for place in places:
        place.client.close()


@pytest.fixture(scope="module")
def world(served):
    with made(served, "three", "four") as world:
        yield world


@pytest.fixture(scope="module")
def attacked(served):
    """A world of its own: the sender may delete its own boards."""
    with made(served, "one", "two") as world:
        yield world


# Names as an attacker would build them: of parts of the others' keys, ids, separators, and what decoders stumble over.
_PARTS = [
    *BOARDS, *PROJECTS,
    "one", "two", "1", "2", "l", ":", "{", "}", "/", "..", ".", "%2F", "%3A", "%7B", "%00", "*", "?",
    "[a-z]",
    "\n", "\r", "\0", " ", "\\", "é", "\ufffd", "meta", "order", "idem", "outbox", "-", "_", "|", "#", ";", ",",
    "MARK", "MARK1aMARK0", "MARK2p_bMARK1", "l:1:a:global", "l:2:p_b:b", "meta:{l:1:a:global}", "idem:{l:2:a:b}:idem-0",
    "rl:1", "revocations", "EVAL", "KEYS", "'", '"', "--", "' OR 1=1 --",
]  # fmt: skip
names = st.one_of(
    st.lists(st.sampled_from(_PARTS), min_size=1, max_size=5).map("".join),
    st.sampled_from(_PARTS),
    st.text(max_size=12),
)
in_header = names.map(lambda text: "".join(c for c in text if " " < c < "\x7f") or "x")
numbers = st.one_of(st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False, width=32))


def _path(text: str, *, raw: bool) -> str:
    encoded = quote(text, safe="" if not raw else "%:{}.*[]|;,'")
    return encoded or "x"


@st.composite
def paths(draw: st.DrawFn) -> str:
    def name() -> str:
        return _path(draw(names), raw=draw(st.booleans()))

    board = draw(st.one_of(st.sampled_from(BOARDS), st.just("")))
    board = board or name()
    tail = draw(st.sampled_from(["", "/top", "/rank", "/around", "/members", "/members/"]))
    if tail in ("/rank", "/around", "/members/"):
        tail = tail.rstrip("/") + "/" + name()
    query = draw(st.sampled_from(["", "ids", "cursor", "tenant", "project", "offset"]))
    if query == "ids":
        tail = "/members?ids=" + ",".join(name() for _ in range(draw(st.integers(1, 4))))
    elif query == "cursor":
        made = f"{draw(numbers)!r} {draw(names)}".encode()
        tail = "/top?limit=1000&cursor=" + base64.urlsafe_b64encode(made).decode().rstrip("=")
    elif query:
        tail += f"?{query}={name()}"
    start = draw(st.sampled_from(["/v1/leaderboards/", "/v1/leaderboards/", "/v1/public/"]))
    if start == "/v1/public/":
        tenant = draw(st.sampled_from(["one", "two", "1", "2", ""])) or name()
        project = draw(st.sampled_from([*PROJECTS, ""])) or name()
        start += f"{tenant}/{project}/leaderboards/"
    return start + board + tail


headers = st.dictionaries(
    st.sampled_from(
        ["Idempotency-Key", "If-None-Match", "X-Tenant", "X-Tenant-Id",
         "X-Project", "X-Forwarded-For", "X-Original-URL",
         "X-Rewrite-URL", "X-HTTP-Method-Override", "Forwarded", "traceparent", "Cookie"]
    ),
    in_header,
    max_size=3,
)  # fmt: skip
bodies = st.one_of(
    st.fixed_dictionaries(
        {"leaderboard": names | st.sampled_from(BOARDS), "user": names},
        optional={"increment": numbers, "score": numbers},
    ),
    st.fixed_dictionaries({"key": names}, optional={"max_entries": st.integers(0, 2), "public_read": st.booleans()}),
    st.fixed_dictionaries({}, optional={"max_entries": st.integers(1, 2), "public_read": st.just(True), "key": names}),
)
requests = st.one_of(
    st.tuples(st.sampled_from(["GET", "GET", "DELETE", "PATCH"]), paths(), bodies, headers),
    st.tuples(st.just("POST"), st.sampled_from(["/v1/scores/update", "/v1/leaderboards"]), bodies, headers),
    st.tuples(
        st.just("POST"),
        st.just("/v1/scores/batch"),
        st.fixed_dictionaries({"updates": st.lists(bodies, min_size=1, max_size=4)}),
        headers,
    ),
    st.tuples(st.just("GET"), st.sampled_from(["/v1/leaderboards?cursor=", "/v1/usage?from="]), names, headers).map(
        lambda it: (it[0], it[1] + quote(it[2], safe=""), {}, it[3])
    ),
)


@settings(
    max_examples=250,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sender=st.integers(0, 3), sent=st.lists(requests, min_size=4, max_size=8))
def test_no_crafted_request_reads_or_changes_another_project(attacked, sender, sent):
    place = attacked.places[sender]
    others = [other for other in attacked.places if other is not place]
    before = [attacked.state(other) for other in others]
    for method, path, body, extra in sent:
        data = None if method in ("GET", "DELETE") else body
        answer = place.client.call(method, path, data, headers=extra)
        assert answer.status < 500, (method, path, body, answer)
        if answer.status < 300:
            said = answer.body.decode()
            echoed = json.dumps([path, body])  # what was sent may come back
            for other in others:
                assert other.marker not in said or other.marker in echoed, (method, path, body, extra, said)
        else:
            assert all(other.marker + "0" not in answer.body.decode() or "MARK" in path + str(body) for other in others)
    assert [attacked.state(other) for other in others] == before


def test_the_same_names_are_four_boards(world):
    for place in world.places:
        entries = place.client.get("/v1/leaderboards/p_b/top").json()["entries"]
        shown = [(entry["user"], entry["score"]) for entry in entries if entry["user"].startswith(place.marker)]
        assert shown == [(f"{place.marker}{number}", number + place.tenant.id) for number in (2, 1, 0)]


def test_one_key_under_four_projects_is_four_idempotency_records(world):
    body = {"leaderboard": "b", "user": "same", "increment": 7}
    answers = [place.client.post("/v1/scores/update", body, Idempotency_Key="one-for-all") for place in world.places]
    assert ["idempotency-replayed" in answer.headers for answer in answers] == [False] * 4


def test_an_etag_of_another_project_gives_nothing_away(world):
    one, two = world.places[0].client, world.places[2].client
    etag = one.get("/v1/leaderboards/p_b/top").headers["etag"]
    assert two.get("/v1/leaderboards/p_b/top", If_None_Match=etag).status == 200


def test_a_cursor_of_another_board_shows_only_the_own(world):
    made = world.places[0].client.get("/v1/leaderboards/global/top?limit=1").json()["next_cursor"]
    answer = world.places[3].client.get(f"/v1/leaderboards/global/top?cursor={made}")
    assert answer.status == 200
    assert world.places[0].marker not in answer.body.decode()


def test_usage_and_lists_are_the_projects_own(world):
    for place in world.places:
        assert place.client.get("/v1/usage").json()["project"] == place.project
        keys = [board["key"] for board in place.client.get("/v1/leaderboards").json()["leaderboards"]]
        assert set(keys) >= {"p_b"}


def test_without_public_read_the_public_route_shows_nothing_of_anybody(world):
    client = Client(world.places[0].client.url)
    for place in world.places:
        path = f"/v1/public/{place.tenant.slug}/{place.project}/leaderboards/p_b/top"
        missing = f"/v1/public/{place.tenant.slug}/{place.project}/leaderboards/none/top"
        there, absent = client.get(path), client.get(missing)
        assert there.status == absent.status == 404
        assert there.json()["type"] == absent.json()["type"]
        assert place.marker not in there.body.decode()
    client.close()
