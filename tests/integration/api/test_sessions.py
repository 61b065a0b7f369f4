"""Sessions of the dashboard: what they open, what they never open, and what they cost Redis."""

import re

import pytest
import redis as redis_py
from api_helpers import Browser, apply, assert_problem, in_control

from leaderboard.api import problems
from leaderboard.local.process import wait_until

# What a session may read; every one of them from Postgres.
READS = [
    "/v1/leaderboards",
    "/v1/leaderboards/global",
    "/v1/usage",
    "/v1/usage/series",
    "/v1/plan",
    "/v1/keys",
    "/v1/leaderboards/global/events",
    "/v1/leaderboards/global/held",
]
WRITES_SCORES = {"leaderboard": "global", "user": "u", "increment": 1}


@pytest.fixture
def sign_in(connect):
    return lambda key: Browser(connect(), key)


def test_signing_in_says_whose_session_it_is_and_shows_no_secret(new_tenant, sign_in):
    tenant = new_tenant()
    browser = sign_in(tenant.key)
    assert browser.signed_in.status == 200
    assert browser.signed_in.headers["cache-control"] == "no-store"
    assert browser.session["tenant"] == tenant.slug
    assert (browser.session["project"], browser.session["scope"]) == ("default", "admin")
    assert browser.session["key_id"] == tenant.key.split("_")[2]
    said = browser.signed_in.body.decode() + browser.signed_in.headers["set-cookie"]
    assert tenant.key.split("_")[3] not in said
    assert browser.call("GET", "/dashboard/session").json() == browser.session


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(new_tenant, connect, sign_in):
    tenant = new_tenant()
    local = sign_in(tenant.key).signed_in.headers["set-cookie"]
    assert re.fullmatch(r"leaderboard-session=[^;]+; Max-Age=43200; Path=/; HttpOnly; SameSite=Strict", local)
    public = connect().call(
        "POST", "/dashboard/session", {"api_key": tenant.key}, headers={"Host": "boards.example.com"}
    )
    assert re.fullmatch(
        r"__Host-leaderboard-session=[^;]+; Max-Age=43200; Path=/; HttpOnly; SameSite=Strict; Secure",
        public.headers["set-cookie"],
    )


@pytest.mark.parametrize("path", READS)
def test_a_session_reads_what_its_key_reads(new_tenant, connect, sign_in, path):
    tenant = new_tenant()
    assert sign_in(tenant.key).call("GET", path).json() == connect(tenant.key).get(path).json()


def test_it_opens_nothing_that_asks_redis(new_tenant, sign_in):
    browser = sign_in(new_tenant().key)
    for path in ("top", "rank/u", "around/u", "members?ids=u", "stream"):
        assert_problem(browser.call("GET", f"/v1/leaderboards/global/{path}"), problems.MISSING_API_KEY)
    assert_problem(browser.call("POST", "/v1/scores/update", WRITES_SCORES), problems.MISSING_API_KEY)


def test_a_key_in_the_headers_counts_before_the_cookie(new_tenant, sign_in):
    tenant, other = new_tenant(), new_tenant()
    browser = sign_in(tenant.key)
    made = browser.call("POST", "/v1/leaderboards", {"key": "mine"})
    assert made.status == 201, made
    answer = browser.call("GET", "/v1/leaderboards/mine", X_API_Key=other.key)
    assert_problem(answer, problems.BOARD_NOT_FOUND)


def test_another_tenants_ids_open_nothing(new_tenant, sign_in):
    mine, other = sign_in(new_tenant().key), sign_in(new_tenant().key)
    assert mine.call("POST", "/v1/leaderboards", {"key": "mine-alone"}).status == 201
    for method, body in (("GET", None), ("PATCH", {"max_entries": 5}), ("DELETE", None)):
        assert_problem(other.call(method, "/v1/leaderboards/mine-alone", body), problems.BOARD_NOT_FOUND)
    assert mine.call("GET", "/v1/leaderboards/mine-alone").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X_CSRF_Token": ""},
        {"X_CSRF_Token": "x" * 43},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_a_forged_request_changes_nothing(new_tenant, sign_in, headers):
    browser = sign_in(new_tenant().key)
    forged = browser.call("POST", "/v1/leaderboards", {"key": "forged"}, **headers)
    assert_problem(forged, problems.FORGED_REQUEST)
    assert_problem(browser.call("GET", "/v1/leaderboards/forged"), problems.BOARD_NOT_FOUND)
    assert_problem(browser.call("DELETE", "/dashboard/session", **headers), problems.FORGED_REQUEST)


def test_a_csrf_token_stolen_from_another_session_is_worth_nothing(new_tenant, sign_in):
    tenant = new_tenant()
    browser, same_key, stranger = sign_in(tenant.key), sign_in(tenant.key), sign_in(new_tenant().key)
    for other in (same_key, stranger):
        stolen = other.session["csrf_token"]
        forged = browser.call("POST", "/v1/leaderboards", {"key": "forged"}, X_CSRF_Token=stolen)
        assert_problem(forged, problems.FORGED_REQUEST)


def test_another_site_can_neither_sign_in_nor_read(new_tenant, connect, sign_in):
    tenant = new_tenant()
    answer = connect().call(
        "POST", "/dashboard/session", {"api_key": tenant.key}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert_problem(answer, problems.FORGED_REQUEST)
    form = connect().call(
        "POST", "/dashboard/session", raw=b"api_key=x", headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert_problem(form, problems.UNSUPPORTED_MEDIA_TYPE)
    read = sign_in(tenant.key).call("GET", "/v1/leaderboards", Sec_Fetch_Site="cross-site")
    assert_problem(read, problems.FORGED_REQUEST)


@pytest.mark.parametrize("key", ["", "lb_live_x", "lb_live_" + "0" * 16 + "_" + "0" * 49])
def test_a_wrong_key_signs_nobody_in(connect, key):
    answer = connect().post("/dashboard/session", {"api_key": key})
    assert_problem(answer, problems.INVALID_API_KEY)
    assert "set-cookie" not in answer.headers


def test_a_made_up_cookie_is_no_session(new_tenant, connect, sign_in):
    browser = sign_in(new_tenant().key)
    name, _, sealed = browser.cookie.partition("=")
    key_id, expires, nonce, mac = sealed.split(".")
    longer = str(int(expires) + 1)
    strangers = sign_in(new_tenant().key).session["key_id"]
    for made_up in ("", "x", f"{key_id}.{longer}.{nonce}.{mac}", f"{strangers}.{expires}.{nonce}.{mac}"):
        cookie = {"Cookie": f"{name}={made_up}"}
        assert_problem(connect().call("GET", "/dashboard/session", headers=cookie), problems.NO_SESSION)
        assert_problem(connect().call("GET", "/v1/leaderboards", headers=cookie), problems.MISSING_API_KEY)


def test_scopes_hold_in_a_session(new_tenant, sign_in):
    browser = sign_in(new_tenant(scope="read").key)
    answer = browser.call("POST", "/v1/leaderboards", {"key": "made"})
    assert_problem(answer, problems.INSUFFICIENT_SCOPE)


def test_signing_out_takes_the_cookie_away(new_tenant, sign_in):
    browser = sign_in(new_tenant().key)
    answer = browser.call("DELETE", "/dashboard/session")
    assert answer.status == 204
    assert re.match(r"leaderboard-session=; Max-Age=0;", answer.headers["set-cookie"])


def test_a_revoked_keys_sessions_end(served, new_tenant, sign_in):
    tenant = new_tenant()
    browser = sign_in(tenant.key)
    assert browser.call("GET", "/v1/usage").status == 200
    in_control(served, lambda control: control.revoke(browser.session["key_id"]))
    assert wait_until(lambda: browser.call("GET", "/v1/usage").status == 401, seconds=90, pause=0.01)
    assert_problem(browser.call("GET", "/dashboard/session"), problems.INVALID_API_KEY)


def test_a_suspended_tenants_sessions_end(served, new_tenant, sign_in):
    tenant = new_tenant()
    browser = sign_in(tenant.key)
    assert browser.call("GET", "/v1/usage").status == 200
    apply(served, "Tenant", tenant.slug, slug=tenant.slug, plan="enterprise", suspend=True)
    assert wait_until(lambda: browser.call("GET", "/v1/usage").status == 403, seconds=90, pause=0.01)
    assert_problem(browser.call("GET", "/dashboard/session"), problems.TENANT_SUSPENDED)


def test_reading_costs_redis_no_command(served, new_tenant, connect, sign_in):
    tenant = new_tenant(boards=[{"key": "global", "bounds": {"maxScore": 1}}])
    assert connect(tenant.key).post("/v1/scores/update", WRITES_SCORES | {"increment": 5}).json()["held"]
    browser = sign_in(tenant.key)
    held = "/v1/leaderboards/global/held"
    # By the key: a session may read only so often.
    assert wait_until(lambda: len(connect(tenant.key).get(held).json()["held"]) == 1, seconds=90, pause=0.5)
    for path in READS:  # every worker knows the session's key, as it would after a first view
        for _ in range(3):
            assert browser.call("GET", path).status == 200
    with redis_py.Redis.from_url(served.redis_url) as client:

        def done() -> dict[str, int]:
            stats = client.info("commandstats")
            return {name: value["calls"] for name, value in stats.items()}

        # The tail of revocations, the worker's reading and this very look go on by themselves; nothing else may.
        idle = ("xread", "xreadgroup", "xautoclaim", "xinfo", "info", "ping", "client", "hello", "auth", "select")
        idle += ("multi", "time", "xrange", "exec")  # how far the ledger is, once a second
        before = done()
        for path in READS:
            for _ in range(3):
                assert browser.call("GET", path).status == 200
        after = done()
    more = {name for name, calls in after.items() if calls > before.get(name, 0)}
    assert {name for name in more if not name.removeprefix("cmdstat_").startswith(idle)} == set()


def test_a_page_that_was_not_built_says_so_and_no_path_leaves_the_folder(connect):
    anybody = connect()
    for path in ("/dashboard/assets/none.js", "/dashboard/assets/..%2f..%2fapp.py"):
        assert_problem(anybody.get(path), problems.ROUTE_NOT_FOUND)
