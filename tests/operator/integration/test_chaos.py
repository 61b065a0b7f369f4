"""What the operator promises holds whatever dies: a leader, a store, the API server, or the belief who leads.

The short versions here are of `make test`; those marked `soak` take the issue's own numbers and are run by `make soak`.
Where a Lease of the usual settings (15/10/2 s) would make a test minutes long, the three are scaled down together.
"""

import contextlib
import itertools
import os
import random
import signal
import threading
import time

import psycopg
import pytest

from leaderboard.local.kubernetes import KubectlFailed
from leaderboard.local.process import wait_until
from support.agreement import Agreement
from support.arena import leader_of, lease_settings, open_arena
from support.campaign import Campaign
from support.operator import eventually, leaderboard, tenant
from support.tap import Tap

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

SHORT_LEASE = lease_settings(seconds=3, renew=2, retry=0.4)
ENDLESS_LEASE = lease_settings(seconds=300, renew=200, retry=100)
"""Its holder looks at the Lease so seldom that only Postgres can tell it that another leads."""
CONVERGES = 30.0
"""Seconds after the end of a fault until everything is as asked for: the issue's bound."""
TAKES_OVER = 20.0
"""Seconds after the death of a leader until another works: the issue's bound for a Lease of 15 s."""
AWAY = [6.0, pytest.param(30.0, marks=pytest.mark.soak)]


@pytest.fixture(scope="module")
def arena(tmp_path_factory, kubernetes_binaries):
    with open_arena(tmp_path_factory.mktemp("arena"), binaries=kubernetes_binaries) as opened:
        yield opened


@pytest.fixture
def seed():
    """Decides what is random. It is printed where a test fails; LEADERBOARD_CHAOS_SEED asks for it again."""
    chosen = int(os.environ.get("LEADERBOARD_CHAOS_SEED") or random.randrange(1_000_000))
    print(f"LEADERBOARD_CHAOS_SEED={chosen}")
    return chosen


@pytest.fixture
def campaign(arena, seed):
    arena.clear()
    return Campaign(arena.kubes, seed=seed)


@pytest.fixture
def agreement(arena, campaign):
    return Agreement(arena, campaign)


@pytest.fixture
def replica(arena):
    """Start a replica of the operator; without `supervised` it stays dead when it ends."""
    with contextlib.ExitStack() as stack:
        pods = []

        def start(*, env, supervised=False, **where):
            pod = arena.pod("replica", env=env, supervised=supervised, **where)
            stack.callback(pod.close)
            pods.append(pod)
            pod.start()
            return pod

        yield start
        logs = "\n".join(pod.log_path.read_text() for pod in pods)
    arena.forget_lease()
    bugs = [line for line in logs.splitlines() if "of the operator's own" in line or "the sweep failed" in line]
    assert not bugs, "\n".join(bugs)


def carry_out(commands):
    for command in commands:
        command()


def settle(campaign, agreement, *, tenants, boards, counts=False):
    """Make that many Tenants and Leaderboards, and wait until they are ready."""
    for _ in range(tenants):
        campaign.new_tenant()
    for _ in range(boards):
        campaign.new_board()
    carry_out(campaign.commands())
    agreement.wait(seconds=CONVERGES, counts=counts)


def change_everything(campaign):
    """Make up one change of each kind."""
    for _ in range(2):
        campaign.rotate()
        campaign.change_board()
        campaign.change_tenant()
    campaign.delete_board()
    campaign.new_tenant()
    for _ in range(3):
        campaign.new_board()
    return campaign.commands()


def converge(agreement, what, *, counts=False):
    """Wait until all is well after a fault that ended now."""
    ended = time.monotonic()
    agreement.wait(seconds=CONVERGES, counts=counts)
    print(f"{what}: converged in {time.monotonic() - ended:.1f} s")


@pytest.mark.parametrize("rounds", [8, pytest.param(50, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_leaders_killed_in_the_middle_of_work_leave_nothing_lost_doubled_or_dead(replica, campaign, agreement, rounds):
    pods = [replica(env=SHORT_LEASE, supervised=True) for _ in range(2)]
    for number in range(1, rounds + 1):
        commands = campaign.round(6)
        victim = leader_of(pods).child.popen
        kill = threading.Timer(campaign.random.uniform(0.0, 1.5), victim.send_signal, [signal.SIGKILL])
        kill.start()
        carry_out(commands)
        kill.join()
        if number % 4 == 0 or number == rounds:
            converge(agreement, f"round {number}", counts=number == rounds)
    assert sum(pod.starts for pod in pods) == 2 + rounds


@pytest.mark.parametrize("seconds", AWAY)
@pytest.mark.parametrize(("store", "reason"), [("postgres", "DatabaseUnavailable"), ("redis", "RedisUnavailable")])
def test_a_store_that_is_away_is_told_of_by_what_was_changed(
    arena, replica, campaign, agreement, store, reason, seconds
):
    # Several sweeps come while it is away.
    env = SHORT_LEASE | {"LEADERBOARD_OPERATOR_SWEEP_SECONDS": "1", "LEADERBOARD_DATABASE_TIMEOUT": "1"}
    pods = [replica(env=env, supervised=True) for _ in range(2)]
    settle(campaign, agreement, tenants=6, boards=12, counts=True)
    leader = leader_of(pods)
    server = getattr(arena, store)
    server.stop()
    ends = time.monotonic() + seconds
    try:
        before, written = arena.objects(), writes(leader)
        carry_out(change_everything(campaign))
        eventually(
            lambda: kinds_saying(reason, arena.objects()) == {"Tenant", "Leaderboard"},
            f"one of each kind says {reason}",
        )
        # How long it is away is what is tested.
        wait_until(lambda: time.monotonic() > ends, seconds=seconds + 1)
        now = arena.objects()
        # What was not asked for goes on, and says so.
        assert not [key for key in before.keys() & now.keys() - campaign.asked if said(before[key]) != said(now[key])]
        # For each that was: a finalizer, what is wrong and its Event; for new Tenants the Secrets of two projects.
        assert writes(leader) - written <= 5 * len(campaign.asked)
    finally:
        server.start()
    converge(agreement, f"{store} was away for {seconds:g} s")
    assert [pod.starts for pod in pods] == [1, 1]


@pytest.mark.parametrize(
    ("how", "seconds", "lease"),
    [
        ("away", 6.0, SHORT_LEASE),
        pytest.param("away", 30.0, {}, marks=pytest.mark.soak),
        # Connections stay open, and what was asked is done when it goes on, also for who is dead by then.
        pytest.param("hanging", 30.0, {}, marks=pytest.mark.soak),
    ],
)
def test_the_leader_ends_when_the_kubernetes_api_is_away_and_one_leads_afterwards(
    arena, replica, campaign, agreement, how, seconds, lease
):
    pods = [replica(env=lease, supervised=True) for _ in range(2)]
    settle(campaign, agreement, tenants=2, boards=6)
    leader = leader_of(pods)
    carry_out(change_everything(campaign))
    server = arena.cluster.api
    if how == "away":
        arena.cluster.stop_api()
    else:
        server.popen.send_signal(signal.SIGSTOP)
    ends = time.monotonic() + seconds
    try:
        eventually(lambda: leader.exits == [1], "the leader that cannot renew its Lease ends", seconds=seconds)
        wait_until(lambda: time.monotonic() > ends, seconds=seconds + 1)
    finally:
        server.popen.send_signal(signal.SIGCONT)
        arena.cluster.start_api()
    back = time.monotonic()
    carry_out(change_everything(campaign))
    agreement.wait(seconds=CONVERGES - (time.monotonic() - back))
    print(f"the API server was {how} for {seconds:g} s: converged in {time.monotonic() - back:.1f} s")


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.soak)])
def test_a_leader_that_was_stopped_until_another_led_ends_when_it_goes_on(replica, campaign, agreement, times):
    pods = [replica(env=SHORT_LEASE) for _ in range(2)]
    settle(campaign, agreement, tenants=2, boards=6)
    for _ in range(times):
        old = leader_of(pods)
        (new,) = (pod for pod in pods if pod is not old)
        stop = threading.Timer(campaign.random.uniform(0.0, 0.7), old.child.popen.send_signal, [signal.SIGSTOP])
        stop.start()
        carry_out(campaign.round(6))
        stop.join()
        leader_of([new])
        old.child.popen.send_signal(signal.SIGCONT)
        # By the Lease that it could not renew or by Postgres, whichever it meets first.
        eventually(lambda old=old: old.child.popen.poll() == 1, "the stopped leader ends with 1")
        converge(agreement, "a leader was stopped")
        old.start()


def test_postgres_refuses_a_leader_that_does_not_know_it_is_one_no_more(arena, replica, campaign, agreement):
    old = replica(env=ENDLESS_LEASE)
    leader_of([old])
    settle(campaign, agreement, tenants=2, boards=6)
    new = replica(env=SHORT_LEASE)
    # In the middle of a transaction: it has the tenant's row made, and waits for this lock to make its projects.
    with psycopg.connect(arena.platform.database) as conn:
        conn.execute("LOCK TABLE projects IN SHARE MODE")
        campaign.new_tenant()
        carry_out(campaign.commands())
        eventually(lambda: waits_for_lock(arena), "the leader waits in a transaction")
        old.child.popen.send_signal(signal.SIGSTOP)
    arena.forget_lease()
    leader_of([new])
    old.child.popen.send_signal(signal.SIGCONT)
    carry_out(change_everything(campaign))
    eventually(lambda: old.child.popen.poll() == 1, "the deposed leader ends with 1")
    assert "Postgres refuses this replica" in old.log_path.read_text()
    converge(agreement, "two led")


def test_of_two_leaders_by_two_leases_only_the_newer_may_write(arena, replica, campaign, agreement):
    older = replica(env=SHORT_LEASE)
    leader_of([older])
    settle(campaign, agreement, tenants=2, boards=6)
    newer = replica(env=SHORT_LEASE, lease_namespace=arena.lease_namespace())
    leader_of([newer])
    assert older.leads  # nothing told it yet
    carry_out(change_everything(campaign))
    eventually(lambda: older.child.popen.poll() == 1, "the older leader ends with 1")
    assert "Postgres refuses this replica" in older.log_path.read_text()
    converge(agreement, "two led")
    assert newer.leads


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("making", ["new_tenant", "new_board", "new_board"]),
        ("changing", ["change_tenant", "change_board"]),
        ("rotating", ["rotate"]),
        ("deleting", ["delete_tenant"]),
        ("adopting", ["adopt_all"]),
    ],
)
def test_a_leader_may_die_at_any_message(arena, replica, campaign, agreement, kind, changes):
    """It dies before or after its nth message to any of its three servers was passed on, n = 1, 2, 3 ..."""
    fuse = Fuse()
    with (
        Tap.of_cluster(arena.cluster, struck=fuse).open() as cluster,
        Tap(arena.platform.database, struck=fuse).open() as postgres,
        Tap(arena.platform.redis_url, struck=fuse).open() as redis,
    ):
        env = ENDLESS_LEASE | {
            "LEADERBOARD_DATABASE_URL": postgres.url,
            "LEADERBOARD_REDIS_URL": redis.url,
            "LEADERBOARD_OPERATOR_IDENTITY": "always-the-same",  # so that its Lease is its own again
            "LEADERBOARD_OPERATOR_SWEEP_SECONDS": "600",
        }
        pod = replica(env=env, kubeconfig=arena.kubeconfig("through-a-tap", url=cluster.url))
        for number in itertools.count(1):
            while len(campaign.tenants()) > 3:
                campaign.delete_tenant()
            while len(campaign.tenants()) < 2:
                campaign.new_tenant(policy="Retain")
                campaign.new_board(policy="Retain")
            carry_out(campaign.commands())
            agreement.wait(seconds=CONVERGES)
            if kind == "adopting":
                board = campaign.boards()[-1]
                campaign.delete_tenant(campaign.tenant_of(campaign.wanted[board]))
                carry_out(campaign.commands())
                agreement.wait(seconds=CONVERGES)
            eventually(lambda: pod.metric("leaderboard_operator_sweep_seconds_count") > 0, "the first sweep has ended")
            fuse.light(pod.child.popen, after=number)
            for change in changes:
                getattr(campaign, change)()
            carry_out(campaign.commands())
            eventually(lambda: fuse.burnt or not agreement.problems(), "it dies or comes to its end", seconds=CONVERGES)
            if not fuse.burnt:
                print(f"{kind}: {number - 1} messages")
                fuse.put_out()
                break
            eventually(lambda: not pod.child.alive, "it is dead")
            pod.start()
            agreement.wait(seconds=CONVERGES)
        pod.stop()


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_storm(arena, replica, campaign, agreement):
    """Two faults of any kind at a time, while changes come in."""
    pods = [replica(env=SHORT_LEASE, supervised=True) for _ in range(2)]

    def to_the_leader(number):
        def send():
            for pod in pods:
                if pod.metric("leaderboard_operator_epoch") > 0:
                    pod.child.popen.send_signal(number)

        return send

    def go_on():
        for pod in pods:
            pod.child.popen.send_signal(signal.SIGCONT)

    faults = {
        "killed": (to_the_leader(signal.SIGKILL), go_on),
        "ended": (to_the_leader(signal.SIGTERM), go_on),
        "stopped": (to_the_leader(signal.SIGSTOP), go_on),
        "postgres": (arena.postgres.kill, arena.postgres.start),
        "redis": (arena.redis.kill, arena.redis.start),
        "api": (arena.cluster.stop_api, arena.cluster.start_api),
    }
    for number in range(1, 31):
        chosen = campaign.random.sample(sorted(faults), 2)
        agenda = []
        for name in chosen:
            begins = campaign.random.uniform(0, 2)
            ends = begins + campaign.random.uniform(0.5, 6)
            agenda += [(begins, faults[name][0]), (ends, faults[name][1])]
        asking = threading.Thread(target=insist, args=[campaign.round(8)])
        asking.start()
        began = time.monotonic()
        # Not in threads: a server that one of them started would end with it.
        for due, act in sorted(agenda, key=lambda each: each[0]):
            time.sleep(max(0.0, began + due - time.monotonic()))
            act()
        asking.join()
        converge(agreement, f"{number}: {' and '.join(chosen)}")


def test_another_leads_soon_after_the_leader_was_killed(arena, replica):
    """With the Lease's usual settings, 15/10/2 s."""
    arena.clear()
    pods = [replica(env={}, supervised=True) for _ in range(2)]
    kube = arena.kubes[0]
    kube.apply(tenant("before"))
    kube.wait_for("tenant", "before", "Ready", "True", "Available")
    leader = leader_of(pods)
    killed = time.monotonic()
    leader.child.popen.send_signal(signal.SIGKILL)
    kube.apply(tenant("after"), leaderboard("after", of="after"))
    kube("wait", "--for=condition=Ready", f"--timeout={TAKES_OVER + 10:g}s", "tenant/after", "leaderboard/after")
    took = time.monotonic() - killed
    print(f"fail-over in {took:.1f} s")
    assert took <= TAKES_OVER


def test_a_leader_that_is_stopped_in_an_orderly_way_hands_over_at_once(arena, replica):
    arena.clear()
    pods = [replica(env={}) for _ in range(2)]
    leader = leader_of(pods)
    (other,) = (pod for pod in pods if pod is not leader)
    eventually(lambda: "waiting" in other.log_path.read_text(), "the other is a standby")
    stopped = time.monotonic()
    leader.stop()
    assert leader.child.popen.returncode == 0
    leader_of([other])
    took = time.monotonic() - stopped
    print(f"handed over in {took:.1f} s")
    assert took < 15  # it did not wait for the Lease's end


def test_livez_fails_while_the_sweep_does_not_get_on(arena, replica):
    arena.clear()
    pod = replica(env=SHORT_LEASE | {"LEADERBOARD_OPERATOR_SWEEP_SECONDS": "0.5"})
    pod.wait_ready()
    with psycopg.connect(arena.platform.database) as conn:
        # Postgres answers, but for what the sweep asks.
        conn.execute("LOCK TABLE tenants IN ACCESS EXCLUSIVE MODE")
        eventually(lambda: pod.get("/livez").status == 503, "/livez fails")
        assert b"sweep" in pod.get("/livez").body
        assert pod.get("/readyz").status == 503
    eventually(lambda: pod.get("/livez").status == 200, "/livez is well again")


def test_livez_fails_while_the_watch_is_silent_and_the_sweep_stands_in_for_it(arena, replica):
    arena.clear()
    kube = arena.kubes[0]
    with Tap.of_cluster(arena.cluster).open() as tap:
        pod = replica(
            env=SHORT_LEASE | {"LEADERBOARD_OPERATOR_SWEEP_SECONDS": "1"},
            kubeconfig=arena.kubeconfig("through-a-tap", url=tap.url),
        )
        pod.wait_ready()
        kube.apply(tenant("heard"))
        kube.wait_for("tenant", "heard", "Ready", "True", "Available")
        assert pod.get("/livez").status == 200
        tap.let_watches_hang()
        kube.apply(tenant("unheard"))
        eventually(lambda: b"watch" in pod.get("/livez").body, "/livez says that the watch tells nothing")
        assert pod.get("/livez").status == 503
        kube.wait_for("tenant", "unheard", "Ready", "True", "Available")
        tap.cut_watches()
        eventually(lambda: pod.get("/livez").status == 200, "/livez is well again")
        pod.stop()


def writes(pod):
    """How many of its requests to the API server could have changed an object of ours, or told an Event."""
    return sum(pod.total("rest_client_requests_total", method=method) for method in ("PATCH", "POST"))


def said(item):
    """What an object says of itself, but for its numbers."""
    return (item.get("status") or {}).get("conditions")


def kinds_saying(reason, objects):
    """The kinds of the objects whose Synced condition has this reason."""
    return {
        key[0]
        for key, item in objects.items()
        for condition in said(item) or ()
        if (condition["type"], condition["reason"]) == ("Synced", reason)
    }


def waits_for_lock(arena):
    with psycopg.connect(arena.platform.database) as conn:
        return conn.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone() != (0,)


def insist(commands):
    """Carry out the commands, each again until the API server takes it."""

    def taken(command):
        try:
            command()
        except KubectlFailed:
            return False
        return True

    for command in commands:
        assert wait_until(lambda command=command: taken(command), seconds=60, pause=0.2)


class Fuse:
    """Kills a process at its nth message; every other time, that message still reaches its server."""

    def __init__(self):
        self.burnt = False
        self._lock = threading.Lock()
        self._left = 0
        self._passes = False
        self._victim = None

    def light(self, victim, *, after):
        with self._lock:
            self._victim, self._left, self._passes, self.burnt = victim, after, after % 2 == 0, False

    def put_out(self):
        with self._lock:
            self._victim = None

    def __call__(self, _):
        with self._lock:
            if self._victim is None:
                return True
            self._left -= 1
            if self._left > 0:
                return True
            self._victim.kill()
            self._victim = None
            self.burnt = True
            return self._passes
