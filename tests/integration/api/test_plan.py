"""The plan, what is used of it, and the month's bill so far."""

from datetime import UTC, datetime

import pytest
from api_helpers import sql

MONTH = datetime.now(UTC).date().replace(day=1)


def used(served, tenant, *, day, requests=0, updates=0, limited=0, project="default") -> None:
    sql(
        served,
        "INSERT INTO usage_rollups (day, project_id, requests, score_updates, rate_limited)"
        " SELECT %s, id, %s, %s, %s FROM projects WHERE tenant_id = %s AND name = %s"
        " ON CONFLICT (day, project_id) DO UPDATE SET requests = excluded.requests",
        day,
        requests,
        updates,
        limited,
        tenant.id,
        project,
    )


def plan(client):
    answer = client.get("/v1/plan")
    assert answer.status == 200, answer
    return answer.json()


def test_limits_and_boards_are_the_tenants(new_tenant, connect):
    tenant = new_tenant(plan="pro", projects=("default", "other"), quotas={"requestsPerSecond": 500})
    found = plan(connect(tenant.key))
    assert (found["tenant"], found["plan"]) == (tenant.slug, "pro")
    assert found["limits"] == {"max_leaderboards": 1000, "requests_per_second": 500}
    assert found["leaderboards"] == 2  # one in each project


def test_the_month_is_that_of_all_projects_and_the_bill_of_it(served, new_tenant, connect):
    tenant = new_tenant(plan="pro", projects=("default", "other"))
    last_month = MONTH.fromordinal(MONTH.toordinal() - 1)
    used(served, tenant, day=last_month, updates=900_000_000)
    used(served, tenant, day=MONTH, requests=1_000_000, updates=40_000_000, limited=7)
    used(served, tenant, day=MONTH, updates=12_000_000, project="other")
    found = plan(connect(tenant.key))
    assert found["month"]["from"] == MONTH.isoformat()
    assert found["month"]["score_updates"] == 52_000_000
    assert found["month"]["rate_limited"] == 7
    # Two million beyond the fifty that are in the plan.
    assert [line["amount"] for line in found["bill"]["lines"]] == ["29.00", "1.00"]
    assert (found["bill"]["currency"], found["bill"]["total"]) == ("USD", "30.00")


@pytest.mark.parametrize("scope", ["read", "write"])
def test_the_bill_is_for_admins(new_tenant, connect, scope):
    assert plan(connect(new_tenant(scope=scope).key))["bill"] is None


def test_another_tenants_use_is_not_in_it(served, new_tenant, connect):
    mine, other = new_tenant(), new_tenant()
    used(served, other, day=MONTH, requests=5, updates=5)
    found = plan(connect(mine.key))
    assert (found["month"]["score_updates"], found["leaderboards"]) == (0, 1)
