"""Nothing that is sent with one project's key reads or changes another project's boards: two tenants with two projects
each, with the same board names in all four, and users whose ids say whose they are.

What must not change: each other project's Redis keys, board rows, seasons and holds. What must not be shown: each
project's own numbers, which nobody can come to by requests: the scores of its users, now and in a season that is over,
the `max_entries` of its boards, what is held of an update, and the name of its API key. All of it is asked for with an
API key and with a session of the dashboard.
"""

import base64
import contextlib
import itertools
import re
import socket
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest
import redis as redis_py
from api_helpers import Browser, Client, Followed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.client import Answer
from support.operator import eventually
from support.platform import Platform
from support.tenants import make_tenant

WORKERS = 1
"""What the requests of different tenants could share in a process's memory, they do share."""
BOARDS = ("global", "b", "p_b")
PROJECTS = ("a", "p_b")
PAST = "past"
"""A board with a season that is over and an update that is held. Nobody is sent there to change it."""
SLUGS = ("one", "two", "three", "four")
USERS = 2


def marker(slug: str, project: str) -> str:
    return f"MARK{slug}{project}MARK"


class Place:
    """One project: a marker in its users' ids, and numbers of its own."""

    def __init__(self, client: Client, tenant: Any, project: str) -> None:
        self.client = client
        self.tenant = tenant
        self.project = project
        self.marker = marker(tenant.slug, project)
        self.prefix = f"l:{tenant.id}:{project}:"
        number = 1 + SLUGS.index(tenant.slug) * len(PROJECTS) + PROJECTS.index(project)
        self.scores = [7_000_000 + 1_000 * number + at for at in range(USERS)]
        self.max_entries = 9_000_000 + 1_000 * number
        self.key_name = str(5_000_000 + 1_000 * number)
        self.key_id = ""
        self.hold_id = ""
        self.browser = Browser(client, client.key)
        # With a digit before or after it would be part of another number.
        own = "|".join(map(str, [*self.scores, self.max_entries, self.key_name]))
        self.shown_in = re.compile(rf"(?<!\d)(?:{own})(?!\d)".encode()).search

    def fill(self) -> None:
        """Make everything as it was, whatever the project's own key has done to it."""
        for board in BOARDS:
            assert self.client.post("/v1/leaderboards", {"key": board}).status in (201, 409)
            change = {"max_entries": self.max_entries, "public_read": False}
            assert self.client.call("PATCH", f"/v1/leaderboards/{board}", change).status == 200
            for at, score in enumerate(self.scores):
                user = f"{self.marker}{at}"
                answer = self.client.get(f"/v1/leaderboards/{board}/rank/{user}")
                missing = score - (answer.json()["score"] if answer.status == 200 else 0)
                if missing:
                    body = {"leaderboard": board, "user": user, "increment": missing}
                    key = f"idem-{uuid.uuid4()}"
                    assert self.client.post("/v1/scores/update", body, Idempotency_Key=key).status == 200
        if not self.key_id:
            made = self.client.post("/v1/keys", {"scope": "read", "name": self.key_name})
            assert made.status == 201
            self.key_id = made.json()["id"]
            self._fill_past()

    def _fill_past(self) -> None:
        board = f"/v1/leaderboards/{PAST}"
        self.client.make(PAST, bounds={"max_score": self.scores[-1]})
        self.client.add(PAST, *[(f"{self.marker}{at}", score) for at, score in enumerate(self.scores)])
        assert self.client.post(f"{board}/reset", {"season": 1}).status == 200
        body = {"leaderboard": PAST, "user": f"{self.marker}0", "increment": self.max_entries}
        self.hold_id = self.client.post("/v1/scores/update", body).json()["held"]["id"]
        for path in (f"{board}/held/{self.hold_id}", f"{board}/seasons/1/top"):
            eventually(lambda path=path: self.client.get(path).status == 200, f"{path} is there")  # type: ignore[misc]

    def send(self, method: str, path: str, body: Any, extra: dict[str, str], *, session: bool) -> Answer:
        """Send with the project's key or its session; of a stream, the answer is what comes first."""
        path = path.replace("at=NOW", f"at={datetime.now(UTC) - timedelta(seconds=3):%Y-%m-%dT%H:%M:%SZ}")
        if session:
            extra = {name: value for name, value in extra.items() if name != "Cookie"}
        if method == "GET" and path.partition("?")[0].endswith("/stream"):
            cookie = {"Cookie": self.browser.cookie, "Sec-Fetch-Site": "same-origin"}
            own = cookie if session else {"Authorization": f"Bearer {self.client.key}"}
            return opened(self.client.url, path, extra | own)
        if session:
            return self.browser.call(method, path, body, **extra)
        return self.client.call(method, path, body, headers=extra)


def opened(url: str, path: str, headers: dict[str, str]) -> Answer:
    """Open a stream and close it: its first event at least is in the answer. A refusal ends by itself."""
    parts = urlsplit(url)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    data = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n{lines}\r\n".encode())
        # Three ends: of the head, of `retry`, of the event.
        while not (b"event-stream" in data and len(re.findall(rb"\r?\n\r?\n", data)) >= 3):
            piece = connection.recv(65_536)
            if not piece:
                break
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return Answer(int(head.split()[1]), {}, body)


class World:
    def __init__(self, places: list[Place], redis: redis_py.Redis, database: psycopg.Connection) -> None:
        self.places = places
        self._redis = redis
        self._database = database

    def state(self, place: Place) -> dict[Any, Any]:
        """All that the place has in both stores: boards, rules, orders, idempotency records, rows."""
        # A board's key, or a companion with it as hash tag. A sender's Idempotency-Key may hold another's, further on.
        own = re.compile(rb"(?:[a-z]+:\{)?" + place.prefix.encode()).match
        state: dict[Any, Any] = {key: self._redis.dump(key) for key in self._redis.keys("*") if own(key)}
        rows = self._database.execute(
            "SELECT l.* FROM leaderboards l JOIN projects p ON p.id = l.project_id"
            " WHERE p.tenant_id = %s AND p.name = %s",
            (place.tenant.id, place.project),
        )
        keys = self._database.execute(
            "SELECT k.* FROM api_keys k JOIN projects p ON p.id = k.project_id WHERE p.tenant_id = %s AND p.name = %s",
            (place.tenant.id, place.project),
        )
        past = {
            (table, *row): True
            for table in ("held_updates", "seasons", "season_standings")
            for row in self._database.execute(
                f"SELECT t.* FROM {table} t JOIN leaderboards l ON l.id = t.leaderboard_id"
                " JOIN projects p ON p.id = l.project_id WHERE p.tenant_id = %s AND p.name = %s",
                (place.tenant.id, place.project),
            )
        }
        return state | {row[0]: row for row in itertools.chain(rows, keys)} | past


def differences(before: dict[Any, Any], after: dict[Any, Any]) -> list[Any]:
    names = sorted(before.keys() | after.keys(), key=str)
    return [(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


@contextlib.contextmanager
def made(served: Platform, *slugs: str) -> Iterator[World]:
    places = []
    with contextlib.ExitStack() as stack:
        for slug in slugs:
            tenant = make_tenant(served, slug=slug, projects=PROJECTS, boards=())
            for project in PROJECTS:
                places.append(Place(Client(served.url, tenant.keys[project]), tenant, project))
                stack.callback(places[-1].client.close)
        for place in places:
            place.fill()
        redis = stack.enter_context(redis_py.Redis.from_url(served.redis_url))
        database = stack.enter_context(psycopg.connect(served.database, autocommit=True))
        yield World(places, redis, database)


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
    "MARK", "l:1:a:global", "l:2:p_b:b", "meta:{l:1:a:global}", "idem:{l:2:a:b}:idem-0",
    "rl:1", "revocations", "EVAL", "KEYS", "'", '"', "--", "' OR 1=1 --",
]  # fmt: skip
users = st.builds(
    lambda slug, project, at: f"{marker(slug, project)}{at}",
    st.sampled_from(SLUGS[:2]),
    st.sampled_from(PROJECTS),
    st.integers(0, USERS - 1),
)
crafted = st.one_of(
    st.lists(st.sampled_from(_PARTS), min_size=1, max_size=5).map("".join),
    st.sampled_from(_PARTS),
    st.text(max_size=12),
)
names = st.one_of(users, crafted)
boards = st.one_of(st.sampled_from(BOARDS), st.sampled_from(BOARDS), crafted)
in_header = names.map(lambda text: "".join(c for c in text if " " < c < "\x7f") or "x")
numbers = st.one_of(st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False))


STRANGERS_KEY, STRANGERS_HOLD = "KEY-OF-{}-THAT-IS-NOT-MINE", "HOLD-OF-{}-THAT-IS-NOT-MINE"
_strangers_key = re.compile(STRANGERS_KEY.format("([0-9])")).sub
_strangers_hold = re.compile(STRANGERS_HOLD.format("([0-9])")).sub
"""In a path they stand for ids of the so manieth other project: those are made anew in each run."""
strangers = st.integers(0, 2)
ledger_cursors = st.builds(
    lambda incarnation, seq: base64.urlsafe_b64encode(f"{incarnation} {seq}".encode()).decode().rstrip("="),
    st.integers(0, 12),
    st.one_of(st.integers(0, 20), st.just(10**18 - 1)),
)
spans = st.sampled_from(["", "?step=hour", "?step=day", "?from=2020-01-01&to=2020-12-31", "?from=2020-01-01"])


def _path(text: str, *, raw: bool) -> str:
    encoded = quote(text, safe="" if not raw else "%:{}.*[]|;,'")
    return encoded or "x"


@st.composite
def paths(draw: st.DrawFn) -> str:
    def of(strategy: st.SearchStrategy[str]) -> str:
        return _path(draw(strategy), raw=draw(st.booleans()))

    kind = draw(
        st.sampled_from(
            [
                *("", "top", "cursor", "rank", "around", "members", "ids", "query", "stream", "standings/stream"),
                *("events", "events-of", "events-after", "standings", "standings-around"),
                *("history/top", "history/rank", "seasons", "seasons/1", "seasons/1/top", "seasons/1/rank", "held"),
            ]
        )
    )
    tail = "" if kind == "" else f"/{kind}"
    if kind in ("rank", "around", "members", "seasons/1/rank"):
        tail += "/" + of(names)
    elif kind == "history/rank":
        tail += "/" + of(names) + "?at=NOW"
    elif kind == "history/top":
        tail += "?limit=1000&at=NOW"
    elif kind == "ids":
        tail = "/members?ids=" + ",".join(of(names) for _ in range(draw(st.integers(1, 4))))
    elif kind == "cursor":
        made = f"{draw(numbers)!r} {draw(names)}".encode("utf-8", "replace")
        tail = "/top?limit=1000&cursor=" + base64.urlsafe_b64encode(made).decode().rstrip("=")
    elif kind == "events-of":
        tail = "/events?user=" + of(names)
    elif kind == "events-after":
        tail = "/events?cursor=" + draw(st.one_of(ledger_cursors, names.map(lambda text: _path(text, raw=False))))
    elif kind == "standings-around":
        tail = "/standings?around=" + of(names)
    elif kind == "query":
        tail = f"/top?{draw(st.sampled_from(['tenant', 'project', 'offset', 'key']))}={of(names)}"
    start = "/v1/leaderboards/"
    if draw(st.integers(0, 3)) == 0:
        tenant = of(st.sampled_from([*SLUGS[:2], "1", "2"]) | crafted)
        start = f"/v1/public/{tenant}/{of(st.sampled_from(PROJECTS) | crafted)}/leaderboards/"
    return start + of(boards) + tail


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
        {"leaderboard": boards, "user": names},
        optional={"increment": numbers, "score": numbers},
    ),
    st.fixed_dictionaries({"key": boards}, optional={"max_entries": st.integers(0, 2), "public_read": st.booleans()}),
    st.fixed_dictionaries({}, optional={"max_entries": st.integers(1, 2), "public_read": st.just(True), "key": names}),
)
real = st.sampled_from(BOARDS)
updates = st.fixed_dictionaries({"leaderboard": real, "user": users, "increment": st.integers(-5, 5)})
# Whole requests that name what the others have; the crafted ones below seldom come to be so.
aimed = st.one_of(
    st.tuples(
        st.sampled_from(["GET", "DELETE"]),
        st.builds("/v1/leaderboards/{}/{}/{}".format, real, st.sampled_from(["members", "rank", "around"]), users),
        st.none(),
        headers,
    ),
    st.tuples(st.just("POST"), st.just("/v1/scores/update"), updates, headers),
    st.tuples(
        st.just("POST"),
        st.just("/v1/scores/batch"),
        st.fixed_dictionaries({"updates": st.lists(updates, min_size=1, max_size=3)}),
        headers,
    ),
    st.tuples(
        st.just("GET"),
        st.builds(
            "/v1/leaderboards/{}/{}".format,
            real,
            st.one_of(
                users.map("events?limit=200&user={}".format),
                ledger_cursors.map("events?limit=200&cursor={}".format),
                users.map("standings?around={}".format),
                users.map("history/rank/{}?at=NOW".format),
                st.sampled_from(["history/top?limit=1000&at=NOW"]),
                st.sampled_from(["events?limit=200", "standings", "stream", "standings/stream?limit=100"]),
            ),
        ),
        st.none(),
        headers,
    ),
    st.tuples(
        st.just("GET"),
        st.builds(
            "/v1/leaderboards/{}/{}".format,
            st.just(PAST),
            st.one_of(
                st.sampled_from(["held", "held?state=released", "seasons", "seasons/1", "seasons/1/top?limit=1000"]),
                users.map("held?user={}".format),
                users.map("seasons/1/rank/{}".format),
                strangers.map(STRANGERS_HOLD.format).map("held/{}".format),
            ),
        ),
        st.none(),
        headers,
    ),
    st.tuples(
        st.just("POST"),
        st.builds(
            "/v1/leaderboards/{}/held/{}/{}".format,
            st.sampled_from([PAST, *BOARDS]),
            strangers.map(STRANGERS_HOLD.format),
            st.sampled_from(["release", "reject"]),
        ),
        st.just({}),
        headers,
    ),
    st.tuples(
        st.sampled_from(["DELETE", "POST"]),
        st.builds("/v1/keys/{}{}".format, strangers.map(STRANGERS_KEY.format), st.sampled_from(["", "/rotate"])),
        st.sampled_from([{}, {"grace_seconds": 0}]),
        headers,
    ),
    st.tuples(
        st.just("GET"),
        st.one_of(
            st.just("/v1/keys"),
            spans.map("/v1/usage/series{}".format),
            users.map("/v1/users/{}/data".format),
        ),
        st.none(),
        headers,
    ),
    st.tuples(
        st.sampled_from(["GET", "PATCH", "DELETE"]),
        st.builds("/v1/leaderboards/{}".format, real),
        st.just({"max_entries": 1, "public_read": True}),
        headers,
    ),
)
requests = st.one_of(
    aimed,
    aimed,
    st.tuples(st.sampled_from(["GET", "GET", "DELETE", "PATCH"]), paths(), bodies, headers),
    st.tuples(st.just("POST"), st.sampled_from(["/v1/scores/update", "/v1/leaderboards"]), bodies, headers),
    st.tuples(
        st.just("POST"),
        st.just("/v1/scores/batch"),
        st.fixed_dictionaries({"updates": st.lists(bodies, min_size=1, max_size=4)}),
        headers,
    ),
    st.tuples(
        st.just("GET"),
        st.sampled_from(["/v1/leaderboards?cursor=", "/v1/usage?from=", "/v1/usage/series?step="]),
        names,
        headers,
    ).map(lambda it: (it[0], it[1] + quote(it[2], safe=""), {}, it[3])),
)


@pytest.mark.timeout(600)
@settings(
    max_examples=200,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sender=st.integers(0, 3), sent=st.lists(st.tuples(requests, st.booleans()), min_size=6, max_size=12))
def test_no_crafted_request_reads_or_changes_another_project(attacked, sender, sent):
    place = attacked.places[sender]
    place.client.close()  # the server closes what was idle for long, as it may be while the others have their turns
    place.fill()  # only its own key can have changed it: that the others did not is what was found so far
    others = [other for other in attacked.places if other is not place]
    before = [attacked.state(other) for other in others]
    for (method, pattern, body, extra), session in sent:
        data = None if method in ("GET", "DELETE") else body
        path = _strangers_key(lambda found: others[int(found[1])].key_id, pattern)
        path = _strangers_hold(lambda found: others[int(found[1])].hold_id, path)
        answer = place.send(method, path, data, extra, session=session)
        # No worker promises a snapshot, or the ledger of a moment ago, in time: 503 is all it may be, of those alone.
        late = answer.status == 503 and ("/standings" in path or "/history/" in path)
        assert answer.status < 500 or late, (method, path, body, answer)
        for other in others:
            assert not other.shown_in(answer.body), (method, path, body, extra, session, answer)
    for other, was in zip(others, before, strict=True):
        assert differences(was, attacked.state(other)) == [], (other.prefix, sent)


def test_the_same_names_are_four_boards(world):
    for place in world.places:
        entries = place.client.get("/v1/leaderboards/p_b/top").json()["entries"]
        shown = [(entry["user"], entry["score"]) for entry in entries]
        assert shown == [(f"{place.marker}{at}", place.scores[at]) for at in (1, 0)]


def test_one_key_under_four_projects_is_four_idempotency_records(world):
    body = {"leaderboard": "b", "user": "same", "increment": 7}
    answers = [place.client.post("/v1/scores/update", body, Idempotency_Key="one-for-all") for place in world.places]
    assert ["idempotency-replayed" in answer.headers for answer in answers] == [False] * 4


@pytest.mark.parametrize("path", ["stream", "standings/stream"])
def test_boards_of_one_key_under_four_projects_are_streamed_apart(world, path):
    board = "live-" + path.partition("/")[0]
    with contextlib.ExitStack() as stack:
        streams = []
        for place in world.places:
            place.client.make(board)
            place.client.add(board, (f"{place.marker}0", place.scores[0]))
        for place in world.places:
            given = {"Cookie": place.browser.cookie} if "/" in path else {"Authorization": f"Bearer {place.client.key}"}
            streams.append(followed(place.client.url, f"/v1/leaderboards/{board}/{path}", given))
            stack.callback(streams[-1].close)
        for users in (1, 2):
            for place, stream in zip(world.places, streams, strict=True):
                own = [(f"{place.marker}{at}", place.scores[at]) for at in reversed(range(users))]
                assert next(tops(stream)) == own
                place.client.add(board, (f"{place.marker}1", place.scores[1]))


def followed(url: str, path: str, headers: dict[str, str]) -> Followed:
    """An open stream; of standings also where the worker's first snapshot takes longer than a request waits for it."""
    for _ in range(10):
        stream = Followed(url, path, headers)
        if stream.response.status != 503:
            break
        stream.close()
    assert stream.response.status == 200
    return stream


def tops(stream: Followed) -> Iterator[list[tuple[str, int]]]:
    """What the stream says of its board, as often as it says something new."""
    while True:
        _, kind, data = stream.event()
        if kind != "taken":
            yield [(entry["user"], entry["score"]) for entry in data["entries"]]


@pytest.mark.parametrize("session", [False, True])
def test_what_another_project_has_is_not_found(world, session):
    mine, other = world.places[0], world.places[2]
    mine.client.make(f"own-{session}".lower())
    there, nowhere = f"/v1/leaderboards/own-{session}".lower(), "/v1/leaderboards/nowhere"
    for tail in ("/events", "/standings", "/standings/stream", f"/standings?around={mine.marker}0"):
        answers = [other.send("GET", board + tail, None, {}, session=session) for board in (there, nowhere)]
        assert [answer.status for answer in answers] == [404, 404]
        assert len({answer.json()["type"] for answer in answers}) == 1
    for method, tail, body in (("DELETE", "", None), ("POST", "/rotate", {})):
        answers = [
            other.send(method, f"/v1/keys/{key}{tail}", body, {}, session=session)
            for key in (mine.key_id, mine.client.key.split("_")[2], "0" * 16)
        ]
        assert [(answer.status, answer.json()["type"]) for answer in answers] == [(404, "/problems/key-not-found")] * 3
    assert mine.client.get("/v1/plan").status == 200
    assert [key["name"] for key in other.send("GET", "/v1/keys", None, {}, session=session).json()["keys"]] == [
        None,
        other.key_name,
    ]


def test_an_etag_of_another_project_gives_nothing_away(world):
    one, two = world.places[0].client, world.places[2].client
    etag = one.get("/v1/leaderboards/p_b/top").headers["etag"]
    assert two.get("/v1/leaderboards/p_b/top", If_None_Match=etag).status == 200


def test_a_cursor_of_another_board_shows_only_the_own(world):
    made = world.places[0].client.get("/v1/leaderboards/global/top?limit=1").json()["next_cursor"]
    answer = world.places[3].client.get(f"/v1/leaderboards/global/top?cursor={made}")
    assert answer.status == 200
    assert not world.places[0].shown_in(answer.body)


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
        assert not place.shown_in(there.body)
    client.close()
