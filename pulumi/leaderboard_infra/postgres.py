"""Postgres: the ledger, and who may do what.

`external`        a URL.
`single`          a StatefulSet of one pod. The platform's own connection pools are enough for it.
`cloudnative-pg`  one primary and its standbys, run by CloudNativePG, with backups in an S3 bucket and PgBouncer before
                  the primary. In a region whose `postgresPrimaryRegion` is another, a replica cluster that is fed from
                  that region's backups: to read from (the Service ending in -r), and to fail over to.

PgBouncer pools by session. The platform keeps state in its sessions: advisory locks that outlive a transaction, and
`leaderboard.epoch`, which fences a deposed operator (leaderboard.store.postgres.pool). In transaction mode the next
transaction may be on another connection, and both would silently mean nothing. What is left for the pooler to do is
to hold clients through a fail-over and to spare Postgres their coming and going; so it has a connection for each.
"""

from typing import Any
from urllib.parse import urlsplit

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random

from leaderboard_infra.component import (
    CONFINED,
    RETAIN_CLAIMS,
    SAME_NAMESPACE,
    Component,
    bytes_of,
    claim,
    in_namespace,
    labels,
    only_from,
    resources,
    run_as,
)
from leaderboard_infra.global_stack import GlobalStack
from leaderboard_infra.operators import Operators
from leaderboard_infra.settings import Settings

PORT = 5432
SERVER_IMAGE = "docker.io/library/postgres:18.4"
OPERATED_IMAGE = "ghcr.io/cloudnative-pg/postgresql:18.4-system-trixie"
POOLER_IMAGE = "ghcr.io/cloudnative-pg/pgbouncer:1.25.1"
_USER = 999
_NAME = "leaderboard"  # of the database and of its owner
_API = "postgresql.cnpg.io/v1"
_PLUGIN = "barman-cloud.cloudnative-pg.io"
_STATUS_PORT = 8000  # where CloudNativePG asks its instances how they are

_POOL = 4  # connections of one API process: LEADERBOARD_DATABASE_POOL
_WORKER_POOL = 10  # of one worker, whose tasks each have their own
_OPERATOR_POOL = 12  # of one operator: four tenant workers, six for boards, two to take over
_SPARE_CONNECTIONS = 20  # for migrations, backups, people

SET_PASSWORD = f"""
for _ in $(seq 120); do
  echo "ALTER ROLE {_NAME} PASSWORD :'password'" \\
    | psql --quiet --no-psqlrc --username={_NAME} --dbname={_NAME} --set=ON_ERROR_STOP=1 \\
      --set=password="$POSTGRES_PASSWORD" && exit 0
  sleep 1
done
exit 1
"""
"""Run beside a server as it starts. Its image sets the password only where there is no data yet; this is for a new one.

By way of the socket, which the image lets in without a password. The pod is not ready before.
"""


class Postgres(Component):
    """`url` is a secret, known when the server is ready; `read_host` the replicas' Service, None without."""

    def __init__(
        self,
        settings: Settings,
        *,
        namespace: pulumi.Input[str],
        storage_class: pulumi.Input[str] | None,
        operators: Operators | None,
        shared: GlobalStack | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("region:Postgres", settings, opts=opts)
        self._namespace = namespace
        self._storage_class = storage_class
        self.port: pulumi.Input[int] = PORT
        self.read_host: pulumi.Output[str] | None = None
        match settings.postgres_mode:
            case "external":
                assert settings.postgres_url is not None
                self.url = settings.postgres_url.output
                self.port = settings.postgres_url.port or PORT
            case "cloudnative-pg":
                assert operators is not None
                self.url = self._operated(operators, shared)
            case _:
                self.url = self._single()
        self.register_outputs({"url": self.url, "readHost": self.read_host})

    def _password(self) -> tuple[pulumi.Output[str], kubernetes.core.v1.Secret]:
        password = random.RandomPassword(
            self.name("postgres-password"),
            length=32,
            special=False,  # it goes into a URL
            keepers={"version": str(self.settings.postgres_password_version)},
            opts=self.inside,
        ).result
        # Kept with the data, which opens to this password alone.
        secret = kubernetes.core.v1.Secret(
            self.name("postgres-credentials"),
            metadata={
                "name": "postgres",
                "namespace": self._namespace,
                # CloudNativePG sets a changed password at once where it is told to look.
                "labels": {"cnpg.io/reload": "true"},
            },
            type="kubernetes.io/basic-auth",
            string_data={"username": _NAME, "password": password},
            opts=self.kept,
        )
        return pulumi.Output.secret(password), secret

    @property
    def _connections(self) -> int:
        """Connections that the platform opens at most, one API pod more than usual while it is upgraded included."""
        settings = self.settings
        api = (max(settings.api_replicas, settings.api_max_replicas) + 1) * settings.api_workers * _POOL
        operators = 2 * _OPERATOR_POOL if settings.operator else 0
        return api + (settings.worker_replicas + 1) * _WORKER_POOL + operators

    @property
    def _parameters(self) -> dict[str, str]:
        """Of postgresql.conf; a quarter of the memory for its own cache is Postgres's own advice."""
        return {
            "max_connections": str(max(100, self._connections + _SPARE_CONNECTIONS)),
            "shared_buffers": f"{bytes_of(self.settings.postgres_memory) // 4 >> 20}MB",
        }

    def _single(self) -> pulumi.Output[str]:
        settings, selected = self.settings, labels("postgres")
        password, secret = self._password()
        service = kubernetes.core.v1.Service(
            self.name("postgres-service"),
            metadata={"name": "postgres", "namespace": self._namespace, "labels": selected},
            spec={"clusterIP": "None", "selector": selected, "ports": [{"name": "postgres", "port": PORT}]},
            opts=self.inside,
        )
        kubernetes.networking.v1.NetworkPolicy(
            self.name("postgres-policy"),
            metadata={"name": "postgres", "namespace": self._namespace},
            spec=only_from("postgres", SAME_NAMESPACE, port=PORT),
            opts=self.inside,
        )

        def from_secret(key: str) -> dict[str, Any]:
            return {"valueFrom": {"secretKeyRef": {"name": secret.metadata["name"], "key": key}}}

        alive = {
            "exec": {"command": ["pg_isready", "--quiet", f"--username={_NAME}", f"--dbname={_NAME}"]},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
        }
        server = kubernetes.apps.v1.StatefulSet(
            self.name("postgres-server"),
            metadata={"name": "postgres", "namespace": self._namespace, "labels": selected},
            spec={
                "serviceName": service.metadata["name"],
                "replicas": 1,
                "selector": {"matchLabels": selected},
                "persistentVolumeClaimRetentionPolicy": RETAIN_CLAIMS,
                "template": {
                    "metadata": {
                        "labels": selected,
                        "annotations": {"leaderboard.saas/password-version": str(settings.postgres_password_version)},
                    },
                    "spec": {
                        "automountServiceAccountToken": False,
                        "enableServiceLinks": False,
                        "securityContext": run_as(_USER),
                        "terminationGracePeriodSeconds": 120,
                        "containers": [
                            {
                                "name": "postgres",
                                "image": SERVER_IMAGE,
                                "args": [f"--{name}={value}" for name, value in self._parameters.items()],
                                "env": [
                                    {"name": "POSTGRES_DB", "value": _NAME},
                                    {"name": "POSTGRES_USER", **from_secret("username")},
                                    {"name": "POSTGRES_PASSWORD", **from_secret("password")},
                                ],
                                "ports": [{"name": "postgres", "containerPort": PORT}],
                                "lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", SET_PASSWORD]}}},
                                "startupProbe": {**alive, "periodSeconds": 2, "failureThreshold": 300},
                                "livenessProbe": {**alive, "failureThreshold": 6},
                                "readinessProbe": alive,
                                "resources": resources(settings.postgres_memory),
                                "securityContext": CONFINED,
                                "volumeMounts": [
                                    {"name": "data", "mountPath": "/var/lib/postgresql"},
                                    {"name": "run", "mountPath": "/var/run/postgresql"},
                                    {"name": "tmp", "mountPath": "/tmp"},
                                ],
                            }
                        ],
                        "volumes": [{"name": "run", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
                    },
                },
                "volumeClaimTemplates": [claim(settings.postgres_storage, storage_class=self._storage_class)],
            },
            opts=self.stateful,
        )
        # Through the StatefulSet's own outputs: they come when its pod is ready, which a migration has to wait for.
        return _url(password, service.metadata["name"], server.metadata["namespace"])

    def _operated(self, operators: Operators, shared: GlobalStack | None) -> pulumi.Output[str]:
        settings = self.settings
        assert operators.postgres is not None
        name = _cluster_name(settings.region)
        ready = operators.postgres
        spec: dict[str, Any] = {
            "instances": settings.postgres_instances,
            "imageName": OPERATED_IMAGE,
            "storage": {
                "size": settings.postgres_storage,
                **({"storageClass": self._storage_class} if self._storage_class else {}),
            },
            "resources": resources(settings.postgres_memory),
            "affinity": {"topologyKey": "topology.kubernetes.io/zone"},
            "postgresql": {"parameters": self._parameters},
        }
        if settings.postgres_instances > 1:
            # An event leaves the outbox when Postgres has it: a fail-over must not lose it again. Without any standby
            # it goes on, since an outbox that fills up would in the end refuse writes.
            spec["postgresql"]["synchronous"] = {"method": "any", "number": 1, "dataDurability": "preferred"}
        if settings.backup_url:
            store = self._object_store(ready)
            spec |= {
                "plugins": [
                    {
                        "name": _PLUGIN,
                        "isWALArchiver": True,
                        "parameters": {"barmanObjectName": store.metadata["name"], "serverName": name},
                    }
                ]
            }
            if settings.is_replica:
                spec |= _copy_of(settings.postgres_primary_region, region=settings.region, store=store.metadata["name"])
        password: pulumi.Output[str] | None = None
        if not settings.is_replica:
            password, secret = self._password()
            spec["bootstrap"] = {
                "initdb": {"database": _NAME, "owner": _NAME, "secret": {"name": secret.metadata["name"]}}
            }
        cluster = kubernetes.apiextensions.CustomResource(
            self.name("postgres-cluster"),
            api_version=_API,
            kind="Cluster",
            metadata={
                "name": name,
                "namespace": self._namespace,
                "annotations": {"pulumi.com/waitFor": "condition=Ready"},
            },
            spec=spec,
            opts=pulumi.ResourceOptions.merge(self.kept, pulumi.ResourceOptions(depends_on=[ready])),
        )
        kubernetes.networking.v1.NetworkPolicy(
            self.name("postgres-policy"),
            metadata={"name": "postgres", "namespace": self._namespace},
            spec={
                "podSelector": {"matchLabels": {"cnpg.io/cluster": name}},
                "policyTypes": ["Ingress"],
                "ingress": [
                    {"from": [SAME_NAMESPACE]},
                    {
                        "from": [in_namespace(settings.operators_namespace)],
                        "ports": [{"protocol": "TCP", "port": _STATUS_PORT}],
                    },
                ],
            },
            opts=self.inside,
        )
        if settings.backup_url:
            kubernetes.apiextensions.CustomResource(
                self.name("postgres-backups"),
                api_version=_API,
                kind="ScheduledBackup",
                metadata={"name": name, "namespace": self._namespace},
                spec={
                    "schedule": settings.backup_schedule,
                    "immediate": True,
                    "cluster": {"name": cluster.metadata["name"]},
                    "method": "plugin",
                    "pluginConfiguration": {"name": _PLUGIN},
                },
                opts=self.inside,
            )
        self.read_host = pulumi.Output.concat(name, "-r.", cluster.metadata["namespace"])
        if password is None:
            assert shared is not None
            self.port = pulumi.Output.unsecret(
                shared.primary_database_url.apply(lambda url: urlsplit(url).port or PORT)
            )
            return shared.primary_database_url
        pooler = self._pooler(cluster)
        return _url(password, pooler.metadata["name"], cluster.metadata["namespace"])

    def _object_store(self, ready: pulumi.Resource) -> kubernetes.apiextensions.CustomResource:
        settings = self.settings
        assert settings.backup_access_key_id is not None
        assert settings.backup_secret_access_key is not None
        secret = kubernetes.core.v1.Secret(
            self.name("postgres-backups-credentials"),
            metadata={"name": "postgres-backups", "namespace": self._namespace},
            string_data={
                "access-key-id": settings.backup_access_key_id.output,
                "secret-access-key": settings.backup_secret_access_key.output,
            },
            opts=self.inside,
        )

        def key(which: str) -> dict[str, Any]:
            return {"name": secret.metadata["name"], "key": which}

        return kubernetes.apiextensions.CustomResource(
            self.name("postgres-backups-store"),
            api_version="barmancloud.cnpg.io/v1",
            kind="ObjectStore",
            metadata={"name": "postgres-backups", "namespace": self._namespace},
            spec={
                "configuration": {
                    "destinationPath": settings.backup_url,
                    **({"endpointURL": settings.backup_endpoint} if settings.backup_endpoint else {}),
                    "s3Credentials": {
                        "accessKeyId": key("access-key-id"),
                        "secretAccessKey": key("secret-access-key"),
                    },
                    "wal": {"compression": "gzip"},
                    "data": {"compression": "gzip"},
                },
                "retentionPolicy": settings.backup_retention,
                "instanceSidecarConfiguration": {"resources": resources("256Mi")},
            },
            opts=self.after(ready),
        )

    def _pooler(self, cluster: kubernetes.apiextensions.CustomResource) -> kubernetes.apiextensions.CustomResource:
        return kubernetes.apiextensions.CustomResource(
            self.name("postgres-pooler"),
            api_version=_API,
            kind="Pooler",
            metadata={"name": f"{_cluster_name(self.settings.region)}-pooler", "namespace": self._namespace},
            spec={
                "cluster": {"name": cluster.metadata["name"]},
                "type": "rw",
                "instances": 2,
                "pgbouncer": {
                    "poolMode": "session",
                    "image": POOLER_IMAGE,
                    "parameters": {
                        "default_pool_size": str(self._connections),
                        "max_client_conn": str(self._connections + _SPARE_CONNECTIONS),
                    },
                },
                "template": {
                    "spec": {
                        # The name tells the operator that this is its own container, to be completed by it.
                        "containers": [{"name": "pgbouncer", "resources": resources("64Mi")}],
                    }
                },
            },
            opts=self.inside,
        )


def _cluster_name(region: str) -> str:
    """Also the folder in the bucket, so that no two regions share one."""
    return f"postgres-{region}"


def _copy_of(primary: str, *, region: str, store: pulumi.Input[str]) -> dict[str, Any]:
    """What makes a Cluster a copy of the one in the region `primary`, by way of its backups."""
    source = _cluster_name(primary)
    both = [
        {
            "name": name,
            "plugin": {"name": _PLUGIN, "parameters": {"barmanObjectName": store, "serverName": name}},
        }
        for name in (source, _cluster_name(region))
    ]
    return {
        "bootstrap": {"recovery": {"source": source}},
        "replica": {"self": _cluster_name(region), "primary": source, "source": source},
        "externalClusters": both,
    }


def _url(password: pulumi.Output[str], service: pulumi.Input[str], namespace: pulumi.Input[str]) -> pulumi.Output[str]:
    return pulumi.Output.secret(
        pulumi.Output.concat(f"postgresql://{_NAME}:", password, "@", service, ".", namespace, f":{PORT}/{_NAME}")
    )
