"""The operators that run Redis and Postgres, each by its own Helm chart at a pinned version.

================= ========================================================================================
chart             for
================= ========================================================================================
redis-operator    redisMode cluster: replication, Sentinels, the Service that follows the primary
cloudnative-pg    postgresMode cloudnative-pg
barman-cloud      its backups. The operator's own are deprecated since 1.26 and gone in 1.31, the plugin is
                  what its project asks for; it has to be in the operator's namespace
cert-manager      certificates between operator and plugin: the plugin's chart makes its resources
================= ========================================================================================
"""

from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from leaderboard_infra.component import Component, namespace_spec, resources
from leaderboard_infra.settings import Settings

REDIS_OPERATOR = "0.23.0"
CLOUDNATIVE_PG = "0.29.0"  # the operator 1.30.0
BARMAN_CLOUD = "0.7.0"  # the plugin 0.13.0
CERT_MANAGER = "v1.21.2"

_REDIS_CHARTS = "https://ot-container-kit.github.io/helm-charts"
_POSTGRES_CHARTS = "https://cloudnative-pg.github.io/charts"
_CERTIFICATE_CHARTS = "https://charts.jetstack.io"
_SECONDS = 600  # for images to be pulled and pods to be ready


class Operators(Component):
    """`redis` and `postgres` are what their resources have to wait for, None where there is no such operator."""

    redis: kubernetes.helm.v3.Release | None = None
    postgres: kubernetes.helm.v3.Release | None = None

    def __init__(self, settings: Settings, *, opts: pulumi.ResourceOptions) -> None:
        super().__init__("region:Operators", settings, opts=opts)
        self._namespace = kubernetes.core.v1.Namespace(
            self.name("operators-namespace"), metadata=namespace_spec(settings.operators_namespace), opts=self.inside
        )
        if settings.redis_mode == "cluster":
            self.redis = self._release(
                "redis-operator",
                REDIS_OPERATOR,
                repository=_REDIS_CHARTS,
                values={
                    "redisOperator": {
                        "watchNamespace": settings.namespace,
                        "imagePullPolicy": "IfNotPresent",
                    },
                    "resources": resources("256Mi"),
                },
            )
        if settings.postgres_mode == "cloudnative-pg":
            self.postgres = self._release(
                "cloudnative-pg",
                CLOUDNATIVE_PG,
                repository=_POSTGRES_CHARTS,
                values={"resources": resources("256Mi")},
            )
            if settings.backup_url:
                certificates = self._release(
                    "cert-manager",
                    CERT_MANAGER,
                    repository=_CERTIFICATE_CHARTS,
                    values={"crds": {"enabled": True}, "resources": resources("128Mi")},
                )
                self.postgres = self._release(
                    "plugin-barman-cloud",
                    BARMAN_CLOUD,
                    repository=_POSTGRES_CHARTS,
                    values={"resources": resources("128Mi")},
                    after=(self.postgres, certificates),
                )
        self.register_outputs({})

    def _release(
        self,
        chart: str,
        version: str,
        *,
        repository: str,
        values: dict[str, Any],
        after: tuple[pulumi.Resource, ...] = (),
    ) -> kubernetes.helm.v3.Release:
        return kubernetes.helm.v3.Release(
            self.name(chart),
            name=f"{chart}-{self.settings.region}",
            chart=chart,
            version=version,
            repository_opts={"repo": repository},
            namespace=self._namespace.metadata["name"],
            values=values,
            atomic=True,
            timeout=_SECONDS,
            opts=self.after(*after),
        )
