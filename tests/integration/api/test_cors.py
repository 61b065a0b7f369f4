"""What pages of other origins may see (Fetch Standard, CORS)."""

import pytest
from api_helpers import apply, assert_problem, sql

from leaderboard.api import problems
from leaderboard.local.process import wait_until

GAME = "https://game.example"
OTHER = "https://elsewhere.example"
TOP = "/v1/leaderboards/global/top"


def allow(served, tenant, *origins: str, scope: str = "read") -> None:
    projects = [{"name": "default", "allowedOrigins": list(origins)}]
    spec = {"slug": tenant.slug, "plan": "enterprise", "projects": projects, "apiKey": {"scope": scope}}
    apply(served, "Tenant", tenant.slug, **spec)


@pytest.fixture
def page(served, new_tenant, connect):
    """A client with a read key whose project allows the pages of GAME, and sees its own change."""
    tenant = new_tenant(scope="read", boards=[{"key": "global", "publicRead": True}])
    client = connect(tenant.key)
    assert client.get(TOP).status == 200  # known to the process before the change
    allow(served, tenant, GAME)
    assert wait_until(lambda: shown(client.get(TOP, Origin=GAME)) == GAME, seconds=90, pause=0.01)
    return client, tenant


def shown(answer) -> str | None:
    return answer.headers.get("access-control-allow-origin")


def test_an_allowed_page_sees_answers_and_refusals(page):
    client, _ = page
    answer = client.get(TOP, Origin=GAME)
    assert shown(answer) == GAME
    assert {"ETag", "Retry-After"} <= set(answer.headers["access-control-expose-headers"].split(", "))
    assert answer.headers["vary"] == "Origin, Authorization, X-API-Key"
    missing = client.get("/v1/leaderboards/none/top", Origin=GAME)
    assert_problem(missing, problems.BOARD_NOT_FOUND)
    assert shown(missing) == GAME
    again = client.get(TOP, Origin=GAME, If_None_Match=answer.headers["etag"])
    assert (again.status, shown(again)) == (304, GAME)


@pytest.mark.parametrize("origin", [OTHER, f"{GAME}:444", "http://game.example", f"{GAME}.evil.example", "null", "*"])
def test_another_page_sees_nothing(page, origin):
    client, _ = page
    answer = client.get(TOP, Origin=origin)
    assert shown(answer) is None
    assert "access-control-allow-credentials" not in answer.headers


def test_a_page_that_is_allowed_no_more_sees_nothing(served, page):
    client, tenant = page
    allow(served, tenant)
    assert wait_until(lambda: shown(client.get(TOP, Origin=GAME)) is None, seconds=90, pause=0.01)


@pytest.mark.parametrize("scope", ["write", "admin"])
def test_a_key_that_may_write_is_for_no_page(served, new_tenant, connect, scope):
    tenant = new_tenant(scope=scope)
    allow(served, tenant, GAME, scope=scope)
    answer = connect(tenant.key).get(TOP, Origin=GAME)
    assert (answer.status, shown(answer)) == (200, None)


def test_another_projects_pages_see_nothing(page, new_tenant, connect):
    other = connect(new_tenant(scope="read").key)
    assert shown(other.get(TOP, Origin=GAME)) is None


def test_a_live_board_too(page):
    client, _ = page
    # The answer has no end: http.client would wait for it, so only the head is read.
    client._connection.request(
        "GET", "/v1/leaderboards/global/stream", headers={"Authorization": f"Bearer {client.key}", "Origin": GAME}
    )
    answer = client._connection.getresponse()
    assert answer.getheader("Access-Control-Allow-Origin") == GAME
    client.close()


def test_a_preflight_allows_reading_with_a_key_and_nothing_else(connect):
    asked = {"Origin": OTHER, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    answer = connect().call("OPTIONS", TOP, headers=asked)
    assert (answer.status, shown(answer)) == (204, OTHER)
    assert answer.headers["access-control-allow-methods"] == "GET"
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers


def test_a_preflight_of_the_sign_in_is_no_preflight(connect):
    asked = {"Origin": OTHER, "Access-Control-Request-Method": "POST"}
    assert shown(connect().call("OPTIONS", "/dashboard/session", headers=asked)) is None


def test_the_public_top_is_for_every_page(page, connect):
    _, tenant = page
    public = f"/v1/public/{tenant.slug}/default/leaderboards/global/top"
    assert shown(connect().get(public, Origin=OTHER)) == "*"
    assert shown(connect().get(public.replace("global", "none"), Origin=OTHER)) == "*"


def test_a_changed_row_is_put_right(served, page):
    client, tenant = page
    sql(served, "UPDATE projects SET allowed_origins = %s WHERE tenant_id = %s", [OTHER], tenant.id)
    allow(served, tenant, GAME)
    assert wait_until(lambda: shown(client.get(TOP, Origin=GAME)) == GAME, seconds=90, pause=0.01)
    assert shown(client.get(TOP, Origin=OTHER)) is None
