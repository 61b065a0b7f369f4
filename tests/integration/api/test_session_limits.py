"""The limiter of the dashboard's sessions on the wire: whom it stops, and whom it does not."""

import os

import pytest
from api_helpers import Browser, assert_problem

from leaderboard.api import problems
from leaderboard.api.sessions import BURST, REQUESTS_PER_SECOND
from leaderboard.domain.keys import make_key
from leaderboard.local.process import wait_until

WORKERS = 1
"""The limits are each process's own."""
TRIES = 3_000
"""More than a process can be asked for before the burst is used up, however slow the machine: 31 a second will do."""
NO_KEY = "lb_live_" + "0" * 16 + "_" + "0" * 49


def refused(send):
    """The first answer that is a 429."""
    for _ in range(TRIES):
        answer = send()
        if answer.status == 429:
            return answer
    raise AssertionError(f"{TRIES} requests were not stopped")


def assert_limited(answer):
    assert_problem(answer, problems.RATE_LIMITED, detail=f"{REQUESTS_PER_SECOND:g} requests per second")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/v1/plan", "/dashboard/session"])
def test_a_session_that_asks_too_often_is_stopped_and_its_tenants_key_goes_on(new_tenant, connect, path):
    tenant, other = new_tenant(), Browser(connect(), new_tenant().key)
    browser, client = Browser(connect(), tenant.key), connect(tenant.key)
    assert_limited(refused(lambda: browser.call("GET", path)))
    for _ in range(int(BURST) + 1):
        assert client.get("/v1/plan").status == 200
    assert other.call("GET", path).status == 200
    assert wait_until(lambda: browser.call("GET", path).status == 200, seconds=90, pause=0.1)


def test_sessions_of_one_key_share_its_limit(new_tenant, connect):
    tenant = new_tenant()
    one, two = Browser(connect(), tenant.key), Browser(connect(), tenant.key)
    assert_limited(refused(lambda: one.call("GET", "/dashboard/session")))
    statuses = [two.call("GET", "/dashboard/session").status for _ in range(int(BURST))]
    assert 429 in statuses


def test_what_is_no_key_uses_up_nobodys_sign_in(new_tenant, connect):
    tenant, anybody = new_tenant(), connect()
    for _ in range(3 * int(BURST)):
        assert_problem(anybody.post("/dashboard/session", {"api_key": NO_KEY}), problems.INVALID_API_KEY)
        assert anybody.post("/dashboard/session", {"key": NO_KEY}).status == 422
        forged = anybody.post("/dashboard/session", {"api_key": tenant.key}, Sec_Fetch_Site="cross-site")
        assert_problem(forged, problems.FORGED_REQUEST)
    assert anybody.post("/dashboard/session", {"api_key": tenant.key}).status == 200


def test_sign_ins_with_whole_keys_share_a_limit_that_stops_nothing_else(new_tenant, connect):
    tenant, anybody = new_tenant(), connect()
    browser, client = Browser(connect(), tenant.key), connect(tenant.key)
    made_up = make_key(os.urandom(44)).text
    assert_limited(refused(lambda: anybody.post("/dashboard/session", {"api_key": made_up})))
    assert_problem(anybody.post("/dashboard/session", {"api_key": NO_KEY}), problems.INVALID_API_KEY)
    assert browser.call("GET", "/dashboard/session").status == 200
    assert client.get("/v1/plan").status == 200
    assert wait_until(lambda: Browser(anybody, tenant.key).signed_in.status == 200, seconds=90, pause=0.1)
