"""Containers that are stopped and replaced under load: no request fails, and what was acknowledged is on the board."""

import asyncio

from support.client import Connection
from support.traffic import Balancer, Traffic

RATE = {"requestsPerSecond": 100_000}


async def scores(url: str, key: str) -> dict[str, int]:
    """Return what the board has for each user."""
    http = Connection(url)
    top = await http.request("GET", "/v1/leaderboards/global/top?limit=100", key=key)
    await http.close()
    return {entry["user"]: entry["score"] for entry in top.json()["entries"]}


async def test_a_container_that_is_stopped_answers_what_it_was_sent(release, tenant):
    api, url = await asyncio.to_thread(release.serve)
    acme = await asyncio.to_thread(tenant, release, quotas=RATE)
    async with Traffic(url, key=acme.key) as traffic:
        await traffic.until(500)
        traffic.server_goes = True
        assert await asyncio.to_thread(api.stop) == 0, "it ended by itself"
        await traffic.ended()
    _, again = await asyncio.to_thread(release.serve)
    assert (traffic.lost, traffic.refused) == ([], [])
    assert await scores(again, acme.key) == dict(traffic.acknowledged)


async def test_replacing_one_container_after_the_other_fails_no_request(release, tenant):
    old = [await asyncio.to_thread(release.serve) for _ in range(2)]
    acme = await asyncio.to_thread(tenant, release, quotas=RATE)
    async with (
        Balancer.before(*(url for _, url in old)) as balancer,
        Traffic(balancer.url, key=acme.key) as traffic,
    ):
        await traffic.until(500)
        for container, url in old:
            # As a rolling update does: the new one is ready, the old one gets no new connections, then the signal.
            _, new = await asyncio.to_thread(release.serve)
            balancer.urls = [one for one in balancer.urls if one != url] + [new]
            await traffic.until(500)
            assert await asyncio.to_thread(container.stop) == 0
            await traffic.until(500)
    assert (traffic.lost, traffic.refused) == ([], [])
    assert await scores(balancer.urls[0], acme.key) == dict(traffic.acknowledged)
