"""A platform, a cluster and its operator on servers of their own, each of which may be stopped, killed and started."""

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import redis

from leaderboard.local.kubernetes import EmbeddedKubernetes
from leaderboard.local.process import wait_until
from leaderboard.local.toolchain import KubernetesBinaries
from leaderboard.store.postgres import migrate
from support import servers
from support.kubernetes import delete_contents, embedded, install_crds, make_namespace
from support.operator import Kube, OperatorPod, install_rbac
from support.platform import Platform
from support.servers import PostgresServer, RedisServer

ACCOUNT = "leaderboard-operator"
Objects = dict[tuple[str, str, str], dict[str, Any]]

_numbers = itertools.count(1)


class Arena:
    """Two namespaces of Tenants, `kubes`, and the operator's own, `system`."""

    def __init__(
        self,
        folder: Path,
        *,
        postgres: PostgresServer,
        redis: RedisServer,
        cluster: EmbeddedKubernetes,
        platform: Platform,
        system: str,
        kubes: Sequence[Kube],
    ) -> None:
        self.postgres = postgres
        self.redis = redis
        self.cluster = cluster
        self.platform = platform
        self.system = system
        self.kubes = kubes
        self._folder = folder

    def pod(
        self,
        name: str,
        *,
        env: Mapping[str, str] | None = None,
        supervised: bool = False,
        kubeconfig: Path | None = None,
        lease_namespace: str | None = None,
    ) -> OperatorPod:
        """Return a new replica, not started; `kubeconfig` None is the service account's own."""
        name = f"{name}-{next(_numbers)}"
        return OperatorPod(
            self._folder,
            name=name,
            kubeconfig=kubeconfig or self.kubeconfig(name),
            namespace=lease_namespace or self.system,
            platform=self.platform,
            env=env,
            supervised=supervised,
        )

    def kubeconfig(self, name: str, *, url: str | None = None) -> Path:
        """Return a kubeconfig of the operator's service account; `url` is of a proxy in front of the API."""
        token = self.cluster.service_account_token(self.system, ACCOUNT)
        path = self.cluster.kubeconfig_for(name, token=token, namespace=self.system)
        if url is not None:
            path.write_text(path.read_text().replace(self.cluster.url, url))
        return path

    def lease_namespace(self) -> str:
        """Return a new namespace in which the operator may have its Lease: who leads there leads besides others."""
        name = make_namespace(self.cluster)
        role = json.loads(self.cluster.kubectl("get", "role", f"{ACCOUNT}-lease", f"-n={self.system}", "-o", "json"))
        binding = json.loads(
            self.cluster.kubectl("get", "rolebinding", f"{ACCOUNT}-lease", f"-n={self.system}", "-o", "json")
        )
        for copied in (role, binding):
            copied["metadata"] = {"name": copied["metadata"]["name"], "namespace": name}
        items = {"apiVersion": "v1", "kind": "List", "items": [role, binding]}
        self.cluster.kubectl("apply", "-f", "-", input=json.dumps(items))
        return name

    def lease(self) -> dict[str, Any]:
        """Return the spec of the operator's Lease."""
        found = self.cluster.kubectl("get", "lease", ACCOUNT, f"-n={self.system}", "-o", "json")
        spec: dict[str, Any] = json.loads(found)["spec"]
        return spec

    def objects(self) -> Objects:
        """Return every Tenant, Leaderboard and Secret by kind, namespace and name, as of about one moment."""
        text = self.cluster.kubectl("get", "tenants,leaderboards,secrets", "-A", "-o", "json")
        return {
            (item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]): item
            for item in json.loads(text)["items"]
        }

    def forget_lease(self) -> None:
        """Delete the Lease: the next replica that looks takes it."""
        self.cluster.kubectl("delete", "lease", ACCOUNT, f"-n={self.system}", "--ignore-not-found")

    def clear(self) -> None:
        """Remove all that there is of tenants and boards, no operator running."""
        for kube in self.kubes:
            delete_contents(self.cluster, kube.namespace)
        with psycopg.connect(self.platform.database) as conn:
            conn.execute("TRUNCATE tenants, projects, api_keys, leaderboards, score_events CASCADE")
        with redis.Redis.from_url(self.platform.redis_url) as client:
            for pattern in ("meta:*", "l:*", "order:*"):
                for name in client.scan_iter(pattern, count=1000):
                    client.delete(name)


@contextlib.contextmanager
def open_arena(folder: Path, *, binaries: KubernetesBinaries) -> Iterator[Arena]:
    """Run one while the block lasts. Redis keeps what it acknowledged over a kill, as Postgres does."""
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(servers.postgres(folder / "postgres"))
        redis = stack.enter_context(servers.redis(folder / "redis", appendfsync="always"))
        cluster = stack.enter_context(embedded(folder / "kubernetes", binaries=binaries))
        database = postgres.create_database("arena")
        migrate.apply(database)
        platform = Platform(folder / "platform", redis_url=redis.url, database=database)
        stack.callback(platform.stop)
        platform.start()
        install_crds(cluster)
        system, *names = [make_namespace(cluster) for _ in range(3)]
        install_rbac(cluster, binaries.helm, namespace=system, tenant_namespaces=names)
        yield Arena(
            folder / "pods",
            postgres=postgres,
            redis=redis,
            cluster=cluster,
            platform=platform,
            system=system,
            kubes=[Kube(cluster, name) for name in names],
        )


def leader_of(pods: Sequence[OperatorPod], *, seconds: float = 90) -> OperatorPod:
    """Wait until one of `pods` leads, and has its epoch; return it."""
    found: list[OperatorPod] = []

    def one_leads() -> bool:
        found[:] = [pod for pod in pods if pod.metric("leaderboard_operator_epoch") > 0]
        return bool(found)

    logs = "\n".join(str(pod.log_path) for pod in pods)
    assert wait_until(one_leads, seconds=seconds, pause=0.05), f"nobody leads after {seconds:g} s; logs:\n{logs}"
    return max(found, key=lambda pod: pod.metric("leaderboard_operator_epoch"))


def lease_settings(*, seconds: int, renew: float, retry: float) -> dict[str, str]:
    """Return the environment of a replica that has the Lease for `seconds`; see `OperatorConfig`."""
    settings = {"LEASE": seconds, "RENEW": renew, "RETRY": retry}
    return {f"LEADERBOARD_OPERATOR_{name}_SECONDS": str(value) for name, value in settings.items()}
