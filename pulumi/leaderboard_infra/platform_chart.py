"""The platform: the very chart in charts/leaderboard, its custom resources and the Secret that it reads."""

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random
import yaml

from leaderboard_infra.component import Component
from leaderboard_infra.global_stack import GlobalStack
from leaderboard_infra.postgres import Postgres
from leaderboard_infra.redis import Redis
from leaderboard_infra.settings import PROJECT, Settings

CHART = "../charts/leaderboard"
"""From pulumi/, where the program and its providers run; an absolute path would be another one on each machine."""
_SECONDS = 600  # for images, the migration, and pods to be ready
_CRDS = Path(__file__).parents[2] / "charts" / "leaderboard" / "crds"


class Platform(Component):
    """The release of the chart; `url` is where clients reach the API, '' without an Ingress."""

    def __init__(
        self,
        settings: Settings,
        *,
        namespace: pulumi.Input[str],
        redis: Redis,
        postgres: Postgres,
        otlp_endpoint: str,
        shared: GlobalStack | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("region:Platform", settings, opts=opts)
        if settings.pepper is not None:
            pepper = settings.pepper.output
        else:
            pepper = self._random_pepper() if shared is None else shared.pepper
        held: dict[str, pulumi.Input[str]] = {"database-url": postgres.url, "redis-url": redis.url, "pepper": pepper}
        if settings.signing_key is not None:
            held["signing-key"] = settings.signing_key.output
        secret = kubernetes.core.v1.Secret(
            self.name("credentials"),
            metadata={"name": f"{PROJECT}-credentials", "namespace": namespace},
            string_data=held,
            opts=self.kept,
        )
        host = shared.host if shared is not None and not settings.host else pulumi.Output.from_input(settings.host)
        self.url = host.apply(lambda known: f"https://{known}" if known else "")
        self.release = kubernetes.helm.v3.Release(
            self.name("release"),
            name=settings.namespace,
            chart=CHART,
            namespace=namespace,
            values=self._values(
                secret=secret.metadata["name"],
                # Pods read a Secret only as they start. The digest is keyed by the pepper, so it gives nothing away.
                credentials=pulumi.Output.unsecret(pulumi.Output.all(**held).apply(_digest)),
                host=host,
                redis_port=redis.port,
                postgres_port=postgres.port,
                otlp_endpoint=otlp_endpoint,
            ),
            skip_crds=True,  # Helm would never change them again; those below it may
            atomic=True,
            wait_for_jobs=True,
            max_history=10,
            timeout=_SECONDS,
            opts=self.after(*self._custom_resources()),
        )
        self.register_outputs({"url": self.url})

    def _random_pepper(self) -> pulumi.Output[str]:
        return pulumi.Output.secret(
            random.RandomPassword(self.name("pepper"), length=64, special=False, opts=self.kept).result
        )

    def _custom_resources(self) -> list[kubernetes.apiextensions.v1.CustomResourceDefinition]:
        """Tenant and Leaderboard. Without their definition all of them would go: they outlive the stack."""
        made = []
        for path in sorted(_CRDS.glob("*.yaml")):
            document = yaml.safe_load(path.read_text())
            made.append(
                kubernetes.apiextensions.v1.CustomResourceDefinition(
                    self.name(f"crd-{path.stem}"),
                    metadata=document["metadata"],
                    spec=document["spec"],
                    opts=self.kept,
                )
            )
        return made

    def _values(
        self,
        *,
        secret: pulumi.Input[str],
        credentials: pulumi.Input[str],
        host: pulumi.Output[str],
        redis_port: int,
        postgres_port: pulumi.Input[int],
        otlp_endpoint: str,
    ) -> Mapping[str, Any]:
        settings = self.settings
        annotations = {"leaderboard.saas/credentials": credentials}
        telemetry = urlsplit(otlp_endpoint)
        return {
            "image": {
                "repository": settings.image_repository,
                "tag": settings.image_tag,
                "digest": settings.image_digest,
            },
            "region": settings.region,
            "keyEnv": settings.key_env,
            "logLevel": settings.log_level,
            "existingSecret": secret,
            "settings": dict(settings.platform_settings),
            "telemetry": {"enabled": bool(otlp_endpoint), "endpoint": otlp_endpoint},
            "api": {
                "replicas": settings.api_replicas,
                "workers": settings.api_workers,
                "autoscaling": {
                    "enabled": settings.api_max_replicas > 0,
                    "minReplicas": settings.api_replicas,
                    "maxReplicas": max(settings.api_max_replicas, settings.api_replicas),
                },
                "ingress": {
                    "enabled": host.apply(bool),
                    "className": settings.ingress_class,
                    "host": host,
                    "tlsSecret": settings.tls_secret,
                },
                "podAnnotations": annotations,
            },
            "worker": {"replicas": settings.worker_replicas, "podAnnotations": annotations},
            "operator": {
                "enabled": settings.operator,
                "tenantNamespaces": list(settings.tenant_namespaces),
                "endpoint": self.url,
                "podAnnotations": annotations,
            },
            "networkPolicy": {
                "egress": {
                    "database": {"port": postgres_port},
                    "redis": {"port": redis_port},
                    "otlp": {"port": telemetry.port or (443 if telemetry.scheme == "https" else 80)},
                }
            },
        }


def _digest(held: Mapping[str, str]) -> str:
    others = "\n".join(value for name, value in held.items() if name != "pepper")
    return hmac.new(held["pepper"].encode(), others.encode(), hashlib.sha256).hexdigest()[:16]
