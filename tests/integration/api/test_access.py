"""Who may do what, how often and where; and the HTTP around it."""

import http.client
import re
from urllib.parse import urlsplit

import pytest
from api_helpers import Client, apply, assert_problem, in_control, sql

from leaderboard.api import problems
from leaderboard.domain import keys
from leaderboard.local.process import wait_until

ENV = {"LEADERBOARD_REGION": "eu"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLS = {
    "read": [
        ("GET", "/v1/leaderboards", None),
        ("GET", "/v1/leaderboards/global", None),
        ("GET", "/v1/leaderboards/global/top", None),
        ("GET", "/v1/leaderboards/global/rank/u", None),
        ("GET", "/v1/leaderboards/global/around/u", None),
        ("GET", "/v1/leaderboards/global/members?ids=u", None),
        ("GET", "/v1/usage", None),
        ("GET", "/v1/usage/series", None),
        ("GET", "/v1/leaderboards/global/standings", None),
        ("GET", "/v1/plan", None),
        ("GET", "/v1/leaderboards/global/events", None),
    ],
    "write": [
        ("POST", "/v1/scores/update", {"leaderboard": "global", "user": "u", "increment": 1}),
        ("POST", "/v1/scores/batch", {"updates": [{"leaderboard": "global", "user": "u", "increment": 1}]}),
        ("DELETE", "/v1/leaderboards/global/members/v", None),
    ],
    "admin": [
        ("POST", "/v1/leaderboards", {"key": "made"}),
        ("PATCH", "/v1/leaderboards/made", {"max_entries": 5}),
        ("DELETE", "/v1/leaderboards/made", None),
        ("GET", "/v1/keys", None),
        ("POST", "/v1/keys", {"scope": "read"}),
        ("POST", "/v1/keys/0123456789abcdef/rotate", {}),
        ("DELETE", "/v1/keys/0123456789abcdef", None),
        ("GET", "/v1/leaderboards/global/held", None),
        ("GET", f"/v1/leaderboards/global/held/{'0' * 32}", None),
        ("POST", f"/v1/leaderboards/global/held/{'0' * 32}/release", {}),
        ("POST", f"/v1/leaderboards/global/held/{'0' * 32}/reject", {}),
        ("GET", "/v1/users/v/data", None),
        ("POST", "/v1/users/v/erasure", None),
        ("GET", f"/v1/erasures/{'0' * 32}", None),
        ("POST", f"/v1/erasures/{'0' * 32}/check", {"user": "v"}),
    ],
}
ALL = [call for calls in CALLS.values() for call in calls]


def other_key() -> str:
    """A well-formed key that was never issued."""
    return keys.make_key(b"\x07" * 44).text


@pytest.mark.parametrize("scope", ["read", "write", "admin"])
def test_a_scope_allows_its_own_and_the_ones_before(served, new_tenant, connect, scope):
    tenant = new_tenant(scope=scope)
    client = connect(tenant.key)
    standings = "/v1/leaderboards/global/standings"
    assert wait_until(lambda: client.get(standings).status == 200, seconds=90), "the worker takes snapshots"
    order = list(CALLS)
    for needed, calls in CALLS.items():
        for method, path, body in calls:
            answer = client.call(method, path, body)
            if order.index(needed) <= order.index(scope):
                assert answer.status in (200, 201, 202, 204, 404), (needed, method, path, answer)
            else:
                assert_problem(answer, problems.INSUFFICIENT_SCOPE, detail=f"scope {needed}, the key has {scope}")


@pytest.mark.parametrize(("method", "path", "body"), ALL)
def test_every_path_but_the_open_ones_takes_a_key(connect, method, path, body):
    anybody = connect()
    answer = anybody.call(method, path, body)
    assert_problem(answer, problems.MISSING_API_KEY)
    assert answer.headers["www-authenticate"] == "Bearer"
    stranger = connect(other_key())
    answer = stranger.call(method, path, body)
    assert_problem(answer, problems.INVALID_API_KEY)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_may_come_in_either_header(new_tenant, connect):
    key = new_tenant().key
    anybody = connect()
    path = "/v1/leaderboards"
    for good in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}, {"authorization": f"bEARER  {key} "}):
        assert anybody.call("GET", path, headers=good).status == 200, good
    both = {"Authorization": f"Bearer {key}", "X-API-Key": "nonsense"}
    assert anybody.call("GET", path, headers=both).status == 200
    wrong_first = {"Authorization": f"Bearer {other_key()}", "X-API-Key": key}
    assert_problem(anybody.call("GET", path, headers=wrong_first), problems.INVALID_API_KEY)


@pytest.mark.parametrize(
    "header",
    [
        {"Authorization": "Basic dTpw"}, {"Authorization": ""}, {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"X-API-Key": ""}, {"X-API-Key": "lb_live_x"}, {"X-API-Key": "x" * 1000}, {"X-API-Key": "\xff\xfe"},
    ],
)  # fmt: skip
def test_what_is_no_key_is_401(connect, header):
    assert_problem(connect().call("GET", "/v1/leaderboards", headers=header), problems.INVALID_API_KEY)


def test_a_mistyped_key_is_401(new_tenant, connect):
    key = new_tenant().key
    for wrong in (
        key[:-1],
        key[:-1] + ("0" if key[-1] != "0" else "1"),
        key + "0",
        key.swapcase(),
        key.replace("live", "test"),
    ):
        assert_problem(connect(wrong).get("/v1/leaderboards"), problems.INVALID_API_KEY)


def test_a_revoked_key_is_refused_by_every_worker(served, new_tenant):
    key = new_tenant().key
    clients = [Client(served.url, key) for _ in range(16)]  # enough connections to reach both workers
    assert all(client.get("/v1/leaderboards").status == 200 for client in clients)
    in_control(served, lambda control: control.revoke(keys.parse_key(key).id))
    assert wait_until(lambda: all(c.get("/v1/leaderboards").status == 401 for c in clients), seconds=90, pause=0.01)
    assert_problem(clients[0].get("/v1/leaderboards"), problems.INVALID_API_KEY)
    for client in clients:
        client.close()


def test_an_expired_key_is_refused_also_where_it_is_cached(served, new_tenant, connect):
    tenant = new_tenant()
    key_id = keys.parse_key(tenant.key).id
    sql(served, "UPDATE api_keys SET expires_at = now() + interval '2 s' WHERE id = %s", key_id)
    client = connect(tenant.key)
    assert client.get("/v1/leaderboards").status == 200
    assert wait_until(lambda: client.get("/v1/leaderboards").status == 401, seconds=90, pause=0.05)
    assert_problem(client.get("/v1/leaderboards"), problems.INVALID_API_KEY, detail="expired")


def test_a_suspended_tenant_is_refused_until_it_is_not(served, new_tenant, connect):
    tenant = new_tenant(boards=[{"key": "global", "publicRead": True}])
    client, anybody = connect(tenant.key), connect()
    public = f"/v1/public/{tenant.slug}/default/leaderboards/global/top"
    assert client.get("/v1/leaderboards").status == anybody.get(public).status == 200
    spec = {"slug": tenant.slug, "plan": "enterprise"}
    apply(served, "Tenant", tenant.slug, **spec, suspend=True)
    assert wait_until(lambda: client.get("/v1/leaderboards").status == 403, seconds=90, pause=0.01)
    assert_problem(client.get("/v1/leaderboards"), problems.TENANT_SUSPENDED)
    body = {"leaderboard": "global", "user": "u", "increment": 1}
    assert wait_until(lambda: client.post("/v1/scores/update", body).status == 403, seconds=90, pause=0.01)
    assert wait_until(lambda: anybody.get(public).status == 403, seconds=90, pause=0.01)
    assert_problem(anybody.get(public), problems.TENANT_SUSPENDED)
    apply(served, "Tenant", tenant.slug, **spec)
    assert wait_until(lambda: client.get("/v1/leaderboards").status == 200, seconds=90, pause=0.01)


def test_another_regions_tenant_is_sent_there(served, new_tenant, connect):
    tenant = new_tenant(boards=[{"key": "global", "publicRead": True}])
    client = connect(tenant.key)
    for region, status in (("eu", 200), ("us", 421)):
        apply(served, "Tenant", tenant.slug, slug=tenant.slug, plan="enterprise", homeRegion=region)
        assert wait_until(lambda: client.get("/v1/leaderboards").status == status, seconds=90, pause=0.01)  # noqa: B023
    assert_problem(client.get("/v1/leaderboards"), problems.WRONG_REGION, detail="us")
    public = f"/v1/public/{tenant.slug}/default/leaderboards/global/top"
    assert_problem(connect().get(public), problems.WRONG_REGION, detail="us")


def test_the_rate_limit_says_what_is_left_and_when_to_come_again(new_tenant, connect):
    client = connect(new_tenant(quotas={"requestsPerSecond": 5}).key)
    first = client.get("/v1/leaderboards/global/top")
    assert first.headers["ratelimit-policy"] == '"plan";q=5;w=1'
    assert re.fullmatch(r'"plan";r=[0-4];t=1', first.headers["ratelimit"])
    answers = [client.get("/v1/leaderboards/global/top") for _ in range(30)]
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert {answer.status for answer in answers} <= {200, 429}
    for answer in refused:
        assert_problem(answer, problems.RATE_LIMITED, detail="5 requests per second")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["ratelimit"] == '"plan";r=0;t=1'
        assert answer.headers["ratelimit-policy"] == '"plan";q=5;w=1'
    assert wait_until(lambda: client.get("/v1/leaderboards/global/top").status == 200, seconds=90, pause=0.05)


def test_a_batch_takes_a_token_for_each_update_all_or_none(new_tenant, connect):
    client = connect(new_tenant(quotas={"requestsPerSecond": 50}).key)

    def batch(size):
        updates = [{"leaderboard": "global", "user": f"u{n}", "increment": 1} for n in range(size)]
        return client.post("/v1/scores/batch", {"updates": updates})

    assert_problem(batch(51), problems.BATCH_EXCEEDS_RATE, detail="51 updates, but the plan allows 50")
    assert wait_until(lambda: batch(50).status == 200, seconds=90, pause=0.3)
    answer = batch(50)
    problem = assert_problem(answer, problems.RATE_LIMITED)
    assert int(answer.headers["retry-after"]) >= 1
    assert problem["detail"]
    assert wait_until(
        lambda: (got := client.get("/v1/leaderboards/global/rank/u1")).status == 200 and got.json()["score"] == 1,
        seconds=90,
        pause=0.2,
    ), "the refused batches changed nothing"


def test_public_reads_have_a_limit_of_their_own(new_tenant, connect):
    tenant = new_tenant(boards=[{"key": "global", "publicRead": True}], quotas={"requestsPerSecond": 5})
    anybody, client = connect(), connect(tenant.key)
    path = f"/v1/public/{tenant.slug}/default/leaderboards/global/top"
    assert wait_until(lambda: anybody.get(path).status == 429, seconds=90, pause=0)
    answer = anybody.get(path)
    if answer.status == 429:
        assert_problem(answer, problems.RATE_LIMITED)
        assert "ratelimit" not in answer.headers
        assert int(answer.headers["retry-after"]) >= 1
    assert client.get("/v1/leaderboards/global/top").status == 200, "the tenant's own requests are not used up"


@pytest.mark.parametrize(
    ("traceparent", "taken"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", True),
        (f"00-{TRACE}-00f067aa0ba902b7-00", True),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-more", True),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", False),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", False),
        (f"00-{TRACE[:-1]}-00f067aa0ba902b7-01", False),
        ("nonsense", False),
    ],
)
def test_the_trace_id_is_the_callers_also_before_the_key_is_looked_at(connect, client, traceparent, taken):
    for caller, path in ((connect(), "/v1/leaderboards"), (client, "/v1/leaderboards/nowhere"), (client, "/nowhere")):
        body = caller.get(path, traceparent=traceparent).json()
        assert re.fullmatch("[0-9a-f]{32}", body["trace_id"])
        assert (body["trace_id"] == TRACE) is taken


def test_every_problem_has_a_trace_id_of_its_own(client):
    ids = {client.get("/v1/leaderboards/nowhere").json()["trace_id"] for _ in range(20)}
    assert len(ids) == 20


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/leaderboards", "/v1/leaderboards/global/top/",
                                  "/healthz/", "/v1/scores", "/V1/leaderboards", "/v1/leaderboards/global/rank",
                                  "/v1/public/a/b/leaderboards/c"])  # fmt: skip
def test_a_path_that_there_is_not_is_404_with_and_without_a_key(client, connect, path):
    assert_problem(client.get(path), problems.ROUTE_NOT_FOUND)
    assert_problem(connect().get(path), problems.ROUTE_NOT_FOUND)


def test_an_empty_name_in_a_path_is_no_name(client):
    assert_problem(client.get("/v1/leaderboards/"), problems.BOARD_NOT_FOUND)
    assert_problem(client.get("/v1/leaderboards/global/rank/"), problems.INVALID_PARAMETER)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/leaderboards", {"GET", "POST", "OPTIONS"}),
        ("GET", "/v1/scores/update", {"POST", "OPTIONS"}),
        ("POST", "/v1/leaderboards/global", {"GET", "PATCH", "DELETE", "OPTIONS"}),
        ("POST", "/v1/leaderboards/global/top", {"GET", "OPTIONS"}),
        ("GET", "/v1/leaderboards/global/members/u", {"DELETE", "OPTIONS"}),
        ("DELETE", "/healthz", {"GET", "OPTIONS"}),
        ("TRACE", "/docs", {"GET", "OPTIONS"}),
    ],
)
def test_a_method_that_a_path_does_not_take_is_405_with_allow(client, method, path, allowed):
    answer = client.call(method, path)
    assert_problem(answer, problems.METHOD_NOT_ALLOWED)
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_options_says_what_a_path_takes(client):
    answer = client.call("OPTIONS", "/v1/leaderboards/global")
    assert answer.status == 200
    assert set(answer.headers["allow"].split(", ")) == {"GET", "PATCH", "DELETE"}
    assert client.call("OPTIONS", "/healthz").status == 200


def test_head_has_no_body(client):
    for path in ("/healthz", "/v1/leaderboards/global/top"):
        answer = client.call("HEAD", path)
        assert answer.status == 405
        assert answer.body == b""
    assert client.get("/healthz").status == 200, "the connection is still in step"


@pytest.mark.parametrize("method", ["FOO", "get"])
def test_what_is_no_method_of_http_is_400(connect, method):
    assert_problem(connect().call(method, "/healthz"), problems.MALFORMED_REQUEST)


@pytest.mark.parametrize("path", ["/v1/scores/update", "/v1/scores/batch", "/v1/leaderboards"])
def test_bodies_must_be_json_and_say_so(client, path):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json5", ""):
        answer = client.call("POST", path, raw=b"{}", headers={"Content-Type": kind})
        assert_problem(answer, problems.UNSUPPORTED_MEDIA_TYPE)
    for kind in ("application/json", "application/json; charset=utf-8", "Application/JSON"):
        answer = client.call("POST", path, raw=b"{}", headers={"Content-Type": kind})
        assert_problem(answer, problems.INVALID_REQUEST)
    assert_problem(client.call("POST", path, raw=b"{"), problems.MALFORMED_JSON)
    assert_problem(client.call("POST", path, raw=b" " * 262_145), problems.BODY_TOO_LARGE, detail="262144")
    assert_problem(client.call("POST", path, raw=b" " * 262_144), problems.MALFORMED_JSON)


def test_a_body_may_come_in_chunks(served, new_tenant):
    parts = urlsplit(served.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    headers = {"Authorization": f"Bearer {new_tenant().key}", "Content-Type": "application/json"}
    chunks = [b'{"leaderboard":"glo', b'bal","user":"u",', b'"increment":1}']
    connection.request("POST", "/v1/scores/update", body=iter(chunks), headers=headers, encode_chunked=True)
    response = connection.getresponse()
    assert (response.status, response.read()[:25]) == (200, b'{"leaderboard":"global","')
    connection.close()
