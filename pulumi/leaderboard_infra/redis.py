"""Redis: one keyspace, whatever runs it.

`external`  a URL.
`single`    a StatefulSet of one pod with an append-only file. While it is replaced, writes answer 503.
`cluster`   a primary and two replicas with Sentinels, run by OT-CONTAINER-KIT's redis-operator. The platform keeps one
            outbox stream, which a script changes together with a board; so it wants one keyspace that fails over, and
            not one that is sharded, as a Redis Cluster's is. The operator's `redis-master` Service follows the primary.
"""

from typing import Any

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
from leaderboard_infra.operators import Operators
from leaderboard_infra.settings import Settings

PORT = 6379
SERVER_IMAGE = "docker.io/library/redis:8.2.1"
# The operator starts only images that are made for it.
REPLICATED_IMAGE = "quay.io/opstree/redis:v7.0.15"
SENTINEL_IMAGE = "quay.io/opstree/redis-sentinel:v7.0.15"
_USER = 999
_REPLICATED_USER = 1000
_NODES = 3
_DATA_PERCENT = 75  # of the memory; the rest is for buffers, and for the copy-on-write of a rewritten file
_API = "redis.redis.opstreelabs.in/v1beta2"


class Redis(Component):
    """`url` is a secret, known when the server is ready; `port` is what network policies have to let through."""

    def __init__(
        self,
        settings: Settings,
        *,
        namespace: pulumi.Input[str],
        storage_class: pulumi.Input[str] | None,
        operators: Operators | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("region:Redis", settings, opts=opts)
        self._namespace = namespace
        self._storage_class = storage_class
        self.port = PORT
        match settings.redis_mode:
            case "external":
                assert settings.redis_url is not None
                self.url = settings.redis_url.output
                self.port = settings.redis_url.port or PORT
            case "cluster":
                assert operators is not None
                self.url = self._cluster(operators)
            case _:
                self.url = self._single()
        self.register_outputs({"url": self.url})

    def _password(self) -> tuple[pulumi.Output[str], kubernetes.core.v1.Secret]:
        password = random.RandomPassword(
            self.name("redis-password"),
            length=32,
            special=False,  # it goes into a URL
            keepers={"version": str(self.settings.redis_password_version)},
            opts=self.inside,
        ).result
        secret = kubernetes.core.v1.Secret(
            self.name("redis-credentials"),
            metadata={"name": "redis", "namespace": self._namespace},
            string_data={"password": password},
            opts=self.inside,
        )
        return pulumi.Output.secret(password), secret

    def _options(self) -> list[str]:
        """Lines of redis.conf."""
        return [
            "appendonly yes",
            f"appendfsync {self.settings.redis_appendfsync}",
            # Full is an error that clients see; anything else would drop boards.
            "maxmemory-policy noeviction",
        ]

    def _single(self) -> pulumi.Output[str]:
        settings, selected = self.settings, labels("redis")
        limit = bytes_of(settings.redis_memory) * _DATA_PERCENT // 100
        password, secret = self._password()
        config = kubernetes.core.v1.ConfigMap(
            self.name("redis-config"),
            metadata={"name": "redis", "namespace": self._namespace},
            data={"redis.conf": "\n".join([*self._options(), f"maxmemory {limit}", "dir /data", ""])},
            opts=self.inside,
        )
        service = kubernetes.core.v1.Service(
            self.name("redis-service"),
            metadata={"name": "redis", "namespace": self._namespace, "labels": selected},
            spec={"clusterIP": "None", "selector": selected, "ports": [{"name": "redis", "port": PORT}]},
            opts=self.inside,
        )
        kubernetes.networking.v1.NetworkPolicy(
            self.name("redis-policy"),
            metadata={"name": "redis", "namespace": self._namespace},
            spec=only_from("redis", SAME_NAMESPACE, port=PORT),
            opts=self.inside,
        )
        # Reads the password from the environment and not from the command line.
        alive = {"exec": {"command": ["redis-cli", "ping"]}, "periodSeconds": 10, "timeoutSeconds": 5}
        from_secret = {"secretKeyRef": {"name": secret.metadata["name"], "key": "password"}}
        server = kubernetes.apps.v1.StatefulSet(
            self.name("redis-server"),
            metadata={"name": "redis", "namespace": self._namespace, "labels": selected},
            spec={
                "serviceName": service.metadata["name"],
                "replicas": 1,
                "selector": {"matchLabels": selected},
                "persistentVolumeClaimRetentionPolicy": RETAIN_CLAIMS,
                "template": {
                    "metadata": {
                        "labels": selected,
                        # A pod reads both only as it starts.
                        "annotations": {
                            "leaderboard.saas/password-version": str(settings.redis_password_version),
                            "leaderboard.saas/config": f"{settings.redis_appendfsync} {limit}",
                        },
                    },
                    "spec": {
                        "automountServiceAccountToken": False,
                        "enableServiceLinks": False,
                        "securityContext": run_as(_USER),
                        # Time to write its file, should the disk be slow.
                        "terminationGracePeriodSeconds": 60,
                        "containers": [
                            {
                                "name": "redis",
                                "image": SERVER_IMAGE,
                                "args": ["redis-server", "/etc/redis/redis.conf", "--requirepass", "$(REDISCLI_AUTH)"],
                                "env": [{"name": "REDISCLI_AUTH", "valueFrom": from_secret}],
                                "ports": [{"name": "redis", "containerPort": PORT}],
                                "startupProbe": {**alive, "periodSeconds": 2, "failureThreshold": 300},
                                "livenessProbe": {**alive, "failureThreshold": 6},
                                "readinessProbe": alive,
                                "resources": resources(settings.redis_memory),
                                "securityContext": CONFINED,
                                "volumeMounts": [
                                    {"name": "data", "mountPath": "/data"},
                                    {"name": "config", "mountPath": "/etc/redis", "readOnly": True},
                                ],
                            }
                        ],
                        "volumes": [{"name": "config", "configMap": {"name": config.metadata["name"]}}],
                    },
                },
                "volumeClaimTemplates": [claim(settings.redis_storage, storage_class=self._storage_class)],
            },
            opts=self.stateful,
        )
        # Through the StatefulSet's own outputs: they come when its pod is ready, which a migration has to wait for.
        return _url(password, service.metadata["name"], server.metadata["namespace"])

    def _cluster(self, operators: Operators) -> pulumi.Output[str]:
        settings = self.settings
        assert operators.redis is not None
        password, secret = self._password()
        password_key = {"name": secret.metadata["name"], "key": "password"}
        config = kubernetes.core.v1.ConfigMap(
            self.name("redis-config"),
            metadata={"name": "redis", "namespace": self._namespace},
            data={
                "redis-additional.conf": "\n".join(
                    [
                        *self._options(),
                        # A primary that was cut off from its replicas stops taking writes that would be lost.
                        "min-replicas-to-write 1",
                        "min-replicas-max-lag 10",
                        "",
                    ]
                )
            },
            opts=self.inside,
        )
        kubernetes.networking.v1.NetworkPolicy(
            self.name("redis-policy"),
            metadata={"name": "redis", "namespace": self._namespace},
            spec={
                "podSelector": {
                    "matchExpressions": [
                        {"key": "redis_setup_type", "operator": "In", "values": ["replication", "sentinel"]}
                    ]
                },
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [SAME_NAMESPACE, in_namespace(settings.operators_namespace)]}],
            },
            opts=self.inside,
        )
        pod = {
            "podSecurityContext": run_as(_REPLICATED_USER),
            # Not read-only: the image writes its configuration as it starts.
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "pdb": {"enabled": True, "maxUnavailable": 1},
        }
        replication = kubernetes.apiextensions.CustomResource(
            self.name("redis-replication"),
            api_version=_API,
            kind="RedisReplication",
            metadata={
                "name": "redis",
                "namespace": self._namespace,
                "annotations": {"pulumi.com/waitFor": "jsonpath={.status.masterNode}"},
            },
            spec={
                **pod,
                "clusterSize": _NODES,
                "kubernetesConfig": {
                    "image": REPLICATED_IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "redisSecret": password_key,
                    "resources": resources(settings.redis_memory),
                    "persistentVolumeClaimRetentionPolicy": RETAIN_CLAIMS,
                },
                "redisConfig": {
                    "additionalRedisConfig": config.metadata["name"],
                    "maxMemoryPercentOfLimit": _DATA_PERCENT,
                },
                "storage": {
                    "keepAfterDelete": True,
                    "volumeClaimTemplate": {
                        "spec": claim(settings.redis_storage, storage_class=self._storage_class)["spec"]
                    },
                },
                "topologySpreadConstraints": [_spread("redis")],
            },
            opts=pulumi.ResourceOptions.merge(self.guarded, pulumi.ResourceOptions(depends_on=[operators.redis])),
        )
        kubernetes.apiextensions.CustomResource(
            self.name("redis-sentinel"),
            api_version=_API,
            kind="RedisSentinel",
            metadata={"name": "redis", "namespace": self._namespace},
            spec={
                **pod,
                "clusterSize": _NODES,
                "kubernetesConfig": {
                    "image": SENTINEL_IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "resources": resources("64Mi"),
                },
                "redisSentinelConfig": {
                    "redisReplicationName": replication.metadata["name"],
                    "redisReplicationPassword": {"secretKeyRef": password_key},
                    "quorum": "2",
                    "downAfterMilliseconds": "5000",
                    "failoverTimeout": "10000",
                },
                "topologySpreadConstraints": [_spread("redis-sentinel")],
            },
            opts=self.inside,
        )
        return _url(
            password,
            pulumi.Output.concat(replication.metadata["name"], "-master"),
            replication.metadata["namespace"],
        )


def _spread(app: str) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": app}},
    }


def _url(password: pulumi.Output[str], service: pulumi.Input[str], namespace: pulumi.Input[str]) -> pulumi.Output[str]:
    return pulumi.Output.secret(pulumi.Output.concat("redis://:", password, "@", service, ".", namespace, f":{PORT}/0"))
