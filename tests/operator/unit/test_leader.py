"""Leader election against a Lease in memory, with versions as the API server checks them. Time is virtual."""

import asyncio
import copy

import pytest

from leaderboard_operator.client import ApiUnavailable, Conflict, NotFound
from leaderboard_operator.config import OperatorConfig
from leaderboard_operator.leader import LEASE, Leader
from support.virtual_time import now, run

LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS = 15, 10.0, 2.0


class Leases:
    """As much of the API as a Lease takes. `down`: it answers nobody; `hangs`: not even that."""

    def __init__(self):
        self.lease = None
        self.down = self.hangs = False
        self._version = 0

    async def call(self, method, path, *, body=None):
        await asyncio.sleep(0.01)
        if self.hangs:
            await asyncio.sleep(30)
        if self.down or self.hangs:
            raise ApiUnavailable("away")
        collection = "/apis/coordination.k8s.io/v1/namespaces/ops/leases"
        assert path == (collection if method == "POST" else f"{collection}/{LEASE}")
        if method == "POST":
            if self.lease is not None:
                raise Conflict("there is one")
        elif self.lease is None:
            raise NotFound("there is none")
        elif method == "PUT" and body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict("it changed")
        if method != "GET":
            self._version += 1
            self.lease = copy.deepcopy(body)
            self.lease["metadata"]["resourceVersion"] = str(self._version)
        return copy.deepcopy(self.lease)

    @property
    def holder(self):
        return self.lease["spec"]["holderIdentity"]


def leader(leases, name):
    config = OperatorConfig(
        namespace="ops",
        identity=name,
        lease_seconds=LEASE_SECONDS,
        renew_seconds=RENEW_SECONDS,
        retry_seconds=RETRY_SECONDS,
    )
    return Leader(leases, config, clock=now)


async def stop(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_the_first_leads_at_once():
    async def scenario():
        leases = Leases()
        await leader(leases, "one").acquire()
        assert leases.holder == "one"
        assert now() < RETRY_SECONDS

    run(scenario)


def test_of_several_at_once_one_leads():
    async def scenario():
        leases = Leases()
        tasks = {name: asyncio.create_task(leader(leases, name).acquire()) for name in ("one", "two", "three")}
        await asyncio.sleep(LEASE_SECONDS - 1)
        assert [name for name, task in tasks.items() if task.done()] == [leases.holder]
        await stop(*tasks.values())

    run(scenario)


def test_a_standby_waits_for_as_long_as_the_leader_renews():
    async def scenario():
        leases = Leases()
        one, two = leader(leases, "one"), leader(leases, "two")
        await one.acquire()
        keeping, waiting = asyncio.create_task(one.keep()), asyncio.create_task(two.acquire())
        await asyncio.sleep(1000)
        assert not keeping.done()
        assert not waiting.done()
        assert leases.lease["spec"]["leaseTransitions"] == 0
        await stop(keeping, waiting)

    run(scenario)


def test_a_standby_takes_over_when_the_leader_is_silent_and_not_before():
    async def scenario():
        leases = Leases()
        await leader(leases, "one").acquire()
        began = now()
        await leader(leases, "two").acquire()
        assert leases.holder == "two"
        assert LEASE_SECONDS < now() - began <= LEASE_SECONDS + 2 * RETRY_SECONDS
        assert leases.lease["spec"]["leaseTransitions"] == 1

    run(scenario)


@pytest.mark.parametrize("time", ["1970-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z", None])
def test_the_leaders_clock_counts_for_nothing(time):
    async def scenario():
        leases = Leases()
        await leader(leases, "one").acquire()
        leases.lease["spec"]["renewTime"] = time
        began = now()
        await leader(leases, "two").acquire()
        assert now() - began > LEASE_SECONDS

    run(scenario)


def test_a_lease_that_was_given_up_is_taken_at_the_next_look():
    async def scenario():
        leases = Leases()
        one, two = leader(leases, "one"), leader(leases, "two")
        await one.acquire()
        waiting = asyncio.create_task(two.acquire())
        await asyncio.sleep(1)
        await one.release()
        began = now()
        await waiting
        assert leases.holder == "two"
        assert now() - began <= RETRY_SECONDS + 1

    run(scenario)


def test_nobody_gives_up_what_is_anothers():
    async def scenario():
        leases = Leases()
        await leader(leases, "one").acquire()
        await leader(leases, "two").release()
        assert leases.holder == "one"

    run(scenario)


def test_giving_up_does_not_fail_when_the_api_is_away():
    async def scenario():
        leases = Leases()
        one = leader(leases, "one")
        await one.acquire()
        leases.down = True
        await one.release()

    run(scenario)


def test_giving_up_does_not_wait_long_for_an_api_that_hangs():
    async def scenario():
        leases = Leases()
        one = leader(leases, "one")
        await one.acquire()
        leases.hangs = True
        began = now()
        await one.release()
        assert now() - began <= 5

    run(scenario)


@pytest.mark.parametrize("field", ["acquireTime", "renewTime", "leaseTransitions", "leaseDurationSeconds"])
def test_a_lease_that_somebody_edited_is_put_right(field):
    async def scenario():
        leases = Leases()
        one = leader(leases, "one")
        await one.acquire()
        keeping = asyncio.create_task(one.keep())
        for edited in ({}, {field: None}):
            del leases.lease["spec"][field]
            leases.lease["spec"] |= edited
            await asyncio.sleep(RETRY_SECONDS + 1)
            assert leases.lease["spec"][field] is not None
        assert not keeping.done()
        await stop(keeping)

    run(scenario)


@pytest.mark.parametrize("fault", ["down", "hangs"])
def test_a_leader_that_cannot_renew_stops_before_another_can_lead(fault):
    async def scenario():
        leases = Leases()
        one = leader(leases, "one")
        await one.acquire()
        keeping = asyncio.create_task(one.keep())
        await asyncio.sleep(60)
        setattr(leases, fault, True)
        failing_since = now()
        await keeping
        assert now() - failing_since <= RENEW_SECONDS + RETRY_SECONDS
        assert now() - failing_since < LEASE_SECONDS

    run(scenario)


def test_a_short_outage_costs_nobody_the_lead():
    async def scenario():
        leases = Leases()
        one = leader(leases, "one")
        await one.acquire()
        keeping = asyncio.create_task(one.keep())
        for _ in range(5):
            await asyncio.sleep(30)
            leases.down = True
            await asyncio.sleep(RENEW_SECONDS - 2 * RETRY_SECONDS)
            leases.down = False
        await asyncio.sleep(30)
        assert not keeping.done()
        await stop(keeping)

    run(scenario)


def test_a_leader_whose_lease_was_taken_stops_at_its_next_look():
    async def scenario():
        leases = Leases()
        one = leader(leases, "one")
        await one.acquire()
        keeping = asyncio.create_task(one.keep())
        await asyncio.sleep(5)
        leases.lease["spec"] |= {"holderIdentity": "two", "renewTime": "just now"}
        began = now()
        await keeping
        assert now() - began <= RETRY_SECONDS + 1
        assert leases.holder == "two"

    run(scenario)


def test_a_leader_that_slept_through_its_lease_does_not_renew_it():
    async def scenario():
        leases = Leases()
        one = leader(leases, "one")
        await one.acquire()
        await asyncio.sleep(RENEW_SECONDS)
        before = copy.deepcopy(leases.lease)
        await one.keep()
        assert leases.lease == before

    run(scenario)


def test_a_lease_that_was_deleted_is_made_again_by_its_leader():
    async def scenario():
        leases = Leases()
        one = leader(leases, "one")
        await one.acquire()
        keeping = asyncio.create_task(one.keep())
        await asyncio.sleep(5)
        leases.lease = None
        await asyncio.sleep(5)
        assert leases.holder == "one"
        assert not keeping.done()
        await stop(keeping)

    run(scenario)


def test_a_standby_outlives_an_api_that_is_away():
    async def scenario():
        leases = Leases()
        leases.down = True
        waiting = asyncio.create_task(leader(leases, "one").acquire())
        await asyncio.sleep(100)
        leases.down = False
        await waiting
        assert leases.holder == "one"

    run(scenario)


def test_a_renewal_keeps_since_when_and_says_now():
    async def scenario():
        leases = Leases()
        one = leader(leases, "one")
        await one.acquire()
        first = copy.deepcopy(leases.lease["spec"])
        keeping = asyncio.create_task(one.keep())
        await asyncio.sleep(5)
        second = leases.lease["spec"]
        assert second["acquireTime"] == first["acquireTime"]
        assert second["renewTime"] != first["renewTime"]
        assert second["leaseDurationSeconds"] == LEASE_SECONDS
        await stop(keeping)

    run(scenario)
