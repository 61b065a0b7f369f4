"""Many Leaderboards at once. How fast that is, `make bench-operator` says."""

import asyncio

import pytest

from support import fleet


def run(make_world, make_kubernetes, **wanted):
    world = make_world(cluster=make_kubernetes(audit=True))
    pod = world.pod(env={"LEADERBOARD_LOG_LEVEL": "warning"})
    pod.start()
    pod.wait_ready()
    figures = asyncio.run(fleet.measure(world.cluster, pod, namespace=world.kube.namespace, say=print, **wanted))
    print(figures)
    return figures


def test_a_thousand_leaderboards(make_world, make_kubernetes):
    figures = run(make_world, make_kubernetes, tenants=10, boards=1_000, more=20)
    assert figures.requests_per_board <= 3


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_ten_thousand_leaderboards(make_world, make_kubernetes):
    figures = run(make_world, make_kubernetes, tenants=100, boards=10_000, more=100)
    assert figures.rss <= 400
    assert figures.requests_per_board <= 3
