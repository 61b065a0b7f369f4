"""However many tenants are active, the series stay under the documented cap, and no request is lost or told twice."""

from typing import NamedTuple

import pytest

from leaderboard.telemetry.metrics import Metrics
from leaderboard.telemetry.tenants import OTHER, SERIES_A_TENANT, TenantMetrics

FREE, PRO = 100, 2_000


class Context(NamedTuple):
    tenant: str
    rate: int


def read(metrics, name):
    """Value or count by tenant, of one metric."""
    found = {}
    for metric in metrics.read():
        if metric.name == name:
            for point in metric.data.data_points:
                tenant = point.attributes["leaderboard.tenant"]
                found[tenant] = found.get(tenant, 0) + getattr(point, "value", getattr(point, "count", 0))
    return found


def series(metrics):
    """The number of series as Prometheus has them."""
    number = 0
    for metric in metrics.read():
        for point in metric.data.data_points:
            number += len(point.bucket_counts) + 2 if hasattr(point, "bucket_counts") else 1
    return number


def own(metrics):
    return set(read(metrics, "leaderboard.tenant.request.duration")) - {OTHER}


@pytest.fixture
def metrics():
    return Metrics()


def test_ten_thousand_active_tenants_stay_under_the_cap(metrics):
    tenants = TenantMetrics(metrics, cap=100)
    for minute in range(5):
        for tenant in range(10_000):
            for status in (200, 404, 429, 503):
                tenants.record(Context(f"t{tenant}", PRO if tenant % 97 == minute else FREE), 0.001, status, None)
        assert series(metrics) <= 101 * SERIES_A_TENANT
        tenants.rank()
        assert series(metrics) <= 101 * SERIES_A_TENANT
    assert len(own(metrics)) == 100


def test_every_request_counts_once(metrics):
    tenants = TenantMetrics(metrics, cap=3)
    for tenant in range(10):
        for _ in range(tenant + 1):
            tenants.record(Context(f"t{tenant}", FREE), 0.001, 200, None)
    assert sum(read(metrics, "leaderboard.tenant.requests").values()) == 55
    assert sum(read(metrics, "leaderboard.tenant.request.duration").values()) == 55


def test_the_larger_plan_has_the_place_then_the_more_traffic(metrics):
    tenants = TenantMetrics(metrics, cap=2)
    for tenant in (1, 2, 3, 4):
        tenants.record(Context(f"t{tenant}", FREE), 0.001, 200, None)
    assert own(metrics) == {"t1", "t2"}  # who came first, until the next round
    for _ in range(10):
        tenants.record(Context("t3", FREE), 0.001, 200, None)
    tenants.record(Context("t9", PRO), 0.001, 200, None)
    tenants.rank()
    assert own(metrics) == {"t9", "t3"}


def test_equals_do_not_push_each_other_out(metrics):
    tenants = TenantMetrics(metrics, cap=1)
    for tenant, requests in ((1, 10), (2, 15)):
        for _ in range(requests):
            tenants.record(Context(f"t{tenant}", FREE), 0.001, 200, None)
    tenants.rank()
    assert own(metrics) == {"t1"}


def test_a_tenant_that_is_silent_gives_its_place_back(metrics):
    tenants = TenantMetrics(metrics, cap=1)
    tenants.record(Context("t1", PRO), 0.001, 200, None)
    for _ in range(10):
        tenants.rank()
    assert own(metrics) == set()
    tenants.record(Context("t2", FREE), 0.001, 200, None)
    assert own(metrics) == {"t2"}


def test_a_cap_of_none_is_everybody_together(metrics):
    tenants = TenantMetrics(metrics, cap=0)
    for tenant in range(5):
        tenants.record(Context(f"t{tenant}", PRO), 0.001, 200, None)
    tenants.rank()
    assert read(metrics, "leaderboard.tenant.request.duration") == {OTHER: 5}


def test_a_tenant_called_other_is_among_the_others(metrics):
    tenants = TenantMetrics(metrics, cap=2)
    for tenant in (OTHER, "t1", "t2", "t3"):
        tenants.record(Context(tenant, FREE), 0.001, 200, None)
    tenants.rank()
    assert read(metrics, "leaderboard.tenant.requests") == {OTHER: 2, "t1": 1, "t2": 1}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "ok"), (304, "ok"), (404, "refused"), (422, "refused"), (429, "limited"), (503, "failed")],
)
def test_outcomes(metrics, status, outcome):
    TenantMetrics(metrics, cap=1).record(Context("t1", FREE), 0.001, status, None)
    counted = {
        point.attributes["outcome"]
        for metric in metrics.read()
        if metric.name == "leaderboard.tenant.requests"
        for point in metric.data.data_points
        if point.value
    }
    assert counted == {outcome}
