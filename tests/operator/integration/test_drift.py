"""What somebody changes behind the operator's back stays so for at most 70 s, and one Event tells of it (issue 4).

All of it happens at once, each to a Tenant and a Leaderboard of its own, with the sweep's default pause of a minute.
The tests then look at what came of each.
"""

import contextlib
import time

import pytest

from leaderboard.local.kubernetes import EmbeddedKubernetes
from leaderboard.local.process import Log, wait_until
from support.drifts import DRIFTS, SCORES, Case, Seen
from support.operator import eventually, leaderboard, tenant
from support.stores import Stores
from support.team import Rest, Team

BOUND = 70.0
TIES = ("FirstToReach", "UserId", "Shared")


class Emptied:
    """Tenants with boards whose Redis loses everything at once."""

    def __init__(self, team: Team, stores: Stores) -> None:
        self.team, self.stores = team, stores
        self.tenants = [tenant(f"emptied-{number}", plan="pro") for number in range(2)]
        names = [found["metadata"]["name"] for found in self.tenants]
        self.used = [leaderboard(f"{name}-{ties.lower()}", of=name, tiePolicy=ties) for name in names for ties in TIES]
        self.unused = [leaderboard(f"{name}-new", of=name) for name in names]
        self.took: float | None = None

    def begin(self) -> None:
        """Make all of it, and write scores."""
        self.team.apply(*self.tenants, *self.used, *self.unused)
        self._known = {event["metadata"]["uid"] for event in self.team.kube.items("events")}
        self._rests = {found["metadata"]["name"]: self.team.rest(found) for found in self.tenants}
        for board in self.used:
            for user, score in SCORES:
                assert self.rest(board).add(board["spec"]["key"], user, score).status == 200
        self.stores.record()

    def rest(self, board: dict) -> Rest:
        return self._rests[board["spec"]["tenantRef"]["name"]]

    def told(self, seen: Seen, found: dict) -> list[str]:
        return seen.told(found["metadata"]["name"], besides=self._known)[found["kind"]]

    def done(self, seen: Seen) -> bool:
        return all("Repaired" in self.told(seen, board) for board in (*self.used, *self.unused))


@pytest.fixture(scope="module")
def own_cluster(kubernetes_binaries, tmp_path_factory):
    """A second cluster: an operator sees all of its own."""
    folder = tmp_path_factory.mktemp("kubernetes")
    with contextlib.closing(Log(folder / "log")) as log:
        cluster = EmbeddedKubernetes(folder, binaries=kubernetes_binaries, log=log, durable=False)
        cluster.start()
        yield cluster
        cluster.stop()


@pytest.fixture(scope="module")
def drifted(own_cluster, make_shared_world):
    """Everything, once the operators have dealt with it: cases, emptied, and what there is then."""
    worlds = [make_shared_world(), make_shared_world(cluster=own_cluster)]
    with contextlib.ExitStack() as stack:
        stores = [Stores(database=each.platform.database, redis_url=each.platform.redis_url) for each in worlds]
        for each in stores:
            stack.enter_context(contextlib.closing(each))
        teams = [Team(each.kube, each.platform.url) for each in worlds]
        pods = [each.pod() for each in worlds]
        for pod in pods:
            pod.start()
        for pod in pods:
            pod.wait_ready()
        cases = {name: Case(teams[0], stores[0], drift) for name, drift in DRIFTS.items()}
        emptied = Emptied(teams[1], stores[1])
        teams[0].apply(*(found for case in cases.values() for found in (case.tenant, case.board)))
        seen = Seen(teams[0])
        for case in cases.values():
            case.begin(seen)
        stores[0].record()
        emptied.begin()

        began = {}
        for name, case in cases.items():
            case.drift.do(case)
            began[name] = time.monotonic()
        stores[1].redis.flushall()
        began["emptied"] = time.monotonic()

        def all_done() -> bool:
            now = [Seen(team) for team in teams]
            for name, case in cases.items():
                if case.took is None and case.done(now[0]):
                    case.took = time.monotonic() - began[name]
            if emptied.took is None and emptied.done(now[1]):
                emptied.took = time.monotonic() - began["emptied"]
            return all(found.took is not None for found in (*cases.values(), emptied))

        wait_until(all_done, seconds=BOUND, pause=0.5)
        # A new leader sweeps at once: what is repaired stays so, and is not told again.
        for pod in pods:
            pod.stop()
            pod.start()
            pod.wait_ready()
            eventually(lambda pod=pod: pod.metric("leaderboard_operator_sweep_seconds_count") >= 1, "its first sweep")
        yield cases, emptied, [Seen(team) for team in teams]
        assert [pod.bugs() for pod in pods] == [[], []]


@pytest.mark.parametrize("name", DRIFTS)
def test_it_is_repaired_within_70_s_with_one_event(drifted, name):
    cases, _, (seen, _) = drifted
    case = cases[name]
    assert case.took is not None, case.told(seen)
    assert case.took <= BOUND
    told = {kind: reasons for kind, reasons in case.told(seen).items() if reasons}
    assert told in (case.drift.told, {**case.drift.told, **case.drift.may_tell})
    case.check(seen)


def test_a_redis_that_lost_everything_has_the_scores_of_the_ledger_again(drifted):
    _, emptied, (_, seen) = drifted
    assert emptied.took is not None
    assert emptied.took <= BOUND
    for board in (*emptied.used, *emptied.unused):
        assert emptied.told(seen, board) == ["Repaired"]
    for found in emptied.tenants:
        assert emptied.told(seen, found) == []
    for board in emptied.used:
        assert emptied.rest(board).top(board["spec"]["key"]) == SCORES
        assert emptied.rest(board).add(board["spec"]["key"], "ada", 1).json()["score"] == 6
    for board in emptied.unused:
        assert emptied.rest(board).add(board["spec"]["key"], "ada", 1).json()["score"] == 1
