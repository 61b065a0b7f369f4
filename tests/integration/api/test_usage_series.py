"""Usage over time: what is counted as what, and which spans are answered."""

from datetime import UTC, datetime, timedelta

import pytest
from api_helpers import assert_problem, sql

from leaderboard.api import problems
from leaderboard.api.resources.usage import MAX_DAYS_OF_HOURS
from leaderboard.local.process import wait_until


def today():
    return datetime.now(UTC).date()


def totals(client, step):
    since = today() - timedelta(days=1)
    points = client.get(f"/v1/usage/series?step={step}&from={since}").json()["points"]
    return {name: sum(point[name] for point in points) for name in points[0] if name != "at"}


@pytest.mark.parametrize("step", ["hour", "day"])
def test_what_was_sent_is_what_is_counted(new_tenant, connect, step):
    tenant = new_tenant(scope="write")
    client, reader = connect(tenant.key), connect(new_tenant().key)
    client.add("global", *((f"u{number}", 1) for number in range(7)))
    for path in ("/v1/leaderboards/none/top", "/v1/leaderboards/global/top?limit=x"):
        assert client.get(path).status in (400, 404)
    assert client.call("DELETE", "/v1/leaderboards/global").status == 403  # the short way is not the only one
    assert wait_until(lambda: totals(client, step)["score_updates"] == 7, seconds=90, pause=0.5)
    assert wait_until(lambda: totals(client, step)["client_errors"] == 3, seconds=90, pause=0.5)
    counted = totals(client, step)
    assert counted["requests"] >= 7 + 2
    assert (counted["rate_limited"], counted["server_errors"]) == (0, 0)
    assert totals(reader, step)["score_updates"] == 0


def test_a_point_is_there_for_every_step_up_to_now(client):
    before = datetime.now(UTC)
    hours = client.get("/v1/usage/series?step=hour").json()
    first = datetime.combine(before.date() - timedelta(days=1), datetime.min.time(), UTC)
    assert datetime.fromisoformat(hours["points"][0]["at"]) == first
    assert len(hours["points"]) in (24 + before.hour + 1, 24 + datetime.now(UTC).hour + 1)
    days = client.get("/v1/usage/series").json()
    assert (days["step"], len(days["points"])) == ("day", 30)


def test_the_longest_answers_are_small_enough_for_a_page(served, new_tenant, connect):
    tenant = new_tenant()
    sql(
        served,
        "INSERT INTO usage_hours SELECT h, p.id, 1e9, 1e9, 1e9, 1e9, 1e9 FROM projects p,"
        " generate_series(date_trunc('hour', now()) - interval '40 days', now(), interval '1 hour') h"
        " WHERE p.tenant_id = %s",
        tenant.id,
    )
    client = connect(tenant.key)
    for step, days in (("hour", MAX_DAYS_OF_HOURS), ("day", 366)):
        answer = client.get(f"/v1/usage/series?step={step}&from={today() - timedelta(days=days - 1)}&to={today()}")
        assert answer.status == 200, answer
        assert len(answer.body) < 200_000


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("step=minute", "step must be hour or day"),
        ("from=2026-02-30", "from must be a day like"),
        ("from=2026-02-02&to=2026-02-01", "from must not be after to"),
        ("from=2024-01-01&to=2026-01-01", "may span 366 days"),
        ("step=hour&from=2024-01-01&to=2024-02-01", "may span 31 days"),
        ("step=hour&from=2024-01-01&to=2024-01-02", "ask for step=day"),
        ("day=1", "unknown parameter"),
    ],
)
def test_what_cannot_be_answered_says_why(client, query, detail):
    assert_problem(client.get(f"/v1/usage/series?{query}"), problems.INVALID_PARAMETER, detail=detail)
