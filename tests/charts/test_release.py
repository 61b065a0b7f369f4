"""A release that works: Helm installs it on a real API server, its processes run, a Tenant's key takes a score.

No container engine: see support/kubelet.py for what stands in for the nodes.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from leaderboard.local.kubernetes import EmbeddedKubernetes
from leaderboard.local.process import LOOPBACK, free_port
from leaderboard.local.toolchain import KubernetesBinaries
from support import servers
from support.chart import PEPPER, merged
from support.client import Connection
from support.kubelet import Kubelet, wait_for
from support.kubernetes import CHART, embedded, install_crds
from support.operator import Kube, eventually, leaderboard, tenant
from support.servers import PostgresServer

SYSTEM = "platform"
MADE = "deployments,services,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets,roles,rolebindings"


class Release:
    """One release, with its stores, on a cluster of its own."""

    def __init__(self, cluster: EmbeddedKubernetes, *, helm: Path, kubelet: Kubelet, database: str, redis: str) -> None:
        self.kube = Kube(cluster, SYSTEM)
        self.kubelet = kubelet
        self.database = database
        self._helm = helm
        kubeconfig = str(cluster.kubeconfig)
        self._env = os.environ | {"KUBECONFIG": kubeconfig, "HELM_CACHE_HOME": f"{kubeconfig}.helm"}
        self.values: dict[str, Any] = {
            "secret": {"databaseUrl": database, "redisUrl": redis, "pepper": PEPPER},
            "api": {"replicas": 2},
            "operator": {"tenantNamespaces": ["default"], "settings": {"sweepSeconds": 5}},
            "networkPolicy": {
                "egress": {"database": {"port": urlsplit(database).port}, "redis": {"port": urlsplit(redis).port}}
            },
        }

    def helm(self, *args: str, values: dict[str, Any] | None = None) -> str:
        """Run Helm in the release's namespace; raise AssertionError with its words where it fails."""
        command = [str(self._helm), *args, "--namespace", SYSTEM]
        given = json.dumps(values)
        done = subprocess.run(command, input=given, env=self._env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr + str(self.kubelet.errors) + str(self.kubelet.jobs)
        return done.stdout

    def upgrade(self) -> str:
        """Install or upgrade, with `values`."""
        arguments = ("--install", "games", str(CHART), "--skip-crds", "--create-namespace", "--values=-")
        return self.helm("upgrade", *arguments, values=self.values)

    def wait_ready(self) -> None:
        """Return when everything runs, as `kubectl wait` sees it."""
        self.kube("wait", "--for=condition=Available", "--timeout=90s", "deployment", "--all")


@pytest.fixture(scope="module")
def release(
    kubernetes_binaries: KubernetesBinaries, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Release]:
    folder = tmp_path_factory.mktemp("release")
    port = free_port()
    with (
        servers.redis(folder / "redis", appendfsync=None) as redis,
        embedded(folder / "kubernetes", binaries=kubernetes_binaries) as cluster,
        Kubelet(cluster, SYSTEM, folder=folder / "kubelet", ports={"games-api": port}).running() as kubelet,
    ):
        install_crds(cluster)
        # An empty database: the tables are the migration's to make.
        database = postgres.create_database("release")
        found = Release(cluster, helm=kubernetes_binaries.helm, kubelet=kubelet, database=database, redis=redis.url)
        found.values["operator"]["endpoint"] = f"http://{LOOPBACK}:{port}"
        notes = found.upgrade()
        assert "kubectl wait --namespace platform" in notes
        found.wait_ready()
        yield found
    assert kubelet.exits == []


async def score(release: Release) -> dict[str, Any]:
    """Send a score with the key of the Tenant's Secret to the address in it; return the answer."""
    secret = Kube(release.kube.cluster, "default").secret("acme-default-api-key")
    assert secret is not None
    http = Connection(secret["endpoint"])
    body = {"leaderboard": "global", "user": "u42", "increment": 5}
    answer = await http.request("POST", "/v1/scores/update", key=secret["api-key"], body=body)
    await http.close()
    assert answer.status == 200, answer.body
    found: dict[str, Any] = json.loads(answer.body)
    return found


async def test_a_tenants_key_takes_a_score_that_reaches_the_ledger(release: Release) -> None:
    assert "applied 0001.initial" in release.kubelet.jobs["games-migrate"]
    teams = Kube(release.kube.cluster, "default")
    teams.apply(tenant(), leaderboard())
    teams.wait_for("leaderboard", "global", "Ready", "True", "Available", seconds=60)
    assert (await score(release))["score"] == 5

    def in_the_ledger() -> bool:
        with psycopg.connect(release.database) as conn:
            row = conn.execute("SELECT count(*) FROM score_events WHERE member = 'u42'").fetchone()
        return row == (1,)

    eventually(in_the_ledger, "the worker moved the event")


def test_every_replica_runs_and_one_operator_leads(release: Release) -> None:
    assert {len(wait_for(release.kubelet, f"games-{role}", replicas=2)) for role in ("api", "operator")} == {2}
    assert len(wait_for(release.kubelet, "games-worker", replicas=1)) == 1
    holder = release.kube.get("lease", "leaderboard-operator")["spec"]["holderIdentity"]
    assert holder


def test_the_migrations_own_objects_are_gone_and_its_job_is_kept(release: Release) -> None:
    made = release.kube("get", f"{MADE},jobs", "--output=name").split()
    assert [name for name in made if "migrate" in name] == ["job.batch/games-migrate"]
    status = release.kube.get("job", "games-migrate")["status"]
    assert [(found["type"], found["status"]) for found in status["conditions"]][-1] == ("Complete", "True")


async def test_an_upgrade_starts_new_pods_where_something_changed_and_keeps_the_scores(release: Release) -> None:
    def processes() -> dict[str, int]:
        return {name: pod.child.pid for name, pod in release.kubelet.pods.items()}

    before, (job,) = processes(), [release.kube.get("job", "games-migrate")["metadata"]["uid"]]
    release.values["api"]["workers"] = 2
    release.upgrade()
    assert "the database is up to date" in release.kubelet.jobs["games-migrate"]
    assert release.kube.get("job", "games-migrate")["metadata"]["uid"] != job
    old = set(before.values())
    eventually(
        lambda: not old & {pod.child.pid for pod in release.kubelet.replicas("games-api")}, "other API processes"
    )
    release.wait_ready()
    after = processes()
    assert {name.rpartition("-")[0] for name in before if after[name] != before[name]} == {"games-api"}
    assert (await score(release))["score"] == 10


def test_values_that_do_not_work_change_nothing(release: Release) -> None:
    before = release.helm("list", "--output=json")
    release.values["image"] = {"tag": "latest"}
    with pytest.raises(AssertionError, match=r"image.tag is .*latest"):
        release.upgrade()
    del release.values["image"]
    assert release.helm("list", "--output=json") == before


def test_a_migration_that_fails_leaves_the_release_as_it_was(release: Release) -> None:
    def state() -> tuple[dict[str, int], Any]:
        pods = {name: pod.child.pid for name, pod in release.kubelet.pods.items()}
        return pods, release.kube.secret("games")

    before, values = state(), release.values
    port = free_port()
    broken = {
        "secret": {"databaseUrl": f"postgresql://{LOOPBACK}:{port}/none"},
        "networkPolicy": {"egress": {"database": {"port": port}}},
        "migrate": {"backoffLimit": 1},
    }
    release.values = merged(values, broken)
    with pytest.raises(AssertionError, match=r"pre-upgrade hooks failed.*games-migrate"):
        release.upgrade()
    assert "error: PostgreSQL is unavailable" in release.kubelet.jobs["games-migrate"]
    assert state() == before
    release.values = values
    release.upgrade()
    assert "the database is up to date" in release.kubelet.jobs["games-migrate"]
    assert state() == before
    made = release.kube("get", MADE, "--output=name").split()
    assert [name for name in made if "migrate" in name] == []


def test_what_is_uninstalled_is_gone_but_for_the_tenants_and_their_scores(release: Release) -> None:
    """The last of the tests here."""
    release.helm("uninstall", "games", "--wait")
    eventually(lambda: not release.kubelet.pods, "every process ended")
    release.kube("delete", "job", "games-migrate")
    assert release.kube("get", MADE, "--output=name").split() == []
    everywhere = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
    assert [name for name in release.kube("get", everywhere, "--output=name").split() if "games" in name] == []
    assert release.kube.cluster.kubectl("get", "tenants", "--namespace=default", "--output=name").split() == [
        "tenant.leaderboard.saas/acme"
    ]
    with psycopg.connect(release.database) as conn:
        assert conn.execute("SELECT count(*) FROM score_events WHERE member = 'u42'").fetchone() == (2,)
