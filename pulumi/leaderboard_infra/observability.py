"""What shows how the platform is: collector, Prometheus, Loki, Tempo, Grafana, each one small pod.

Configuration and dashboards are the files of grafana/ at the root, the same that a docker-compose uses. So the Services
here have the names that those files know: `collector`, `prometheus`, `loki`, `tempo`. `external` sends telemetry
elsewhere, `off` makes none; neither makes anything here.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random

from leaderboard_infra.component import (
    CONFINED,
    RETAIN_CLAIMS,
    SAME_NAMESPACE,
    Component,
    claim,
    in_namespace,
    labels,
    namespace_spec,
    resources,
    run_as,
)
from leaderboard_infra.settings import Settings

FILES = Path(__file__).parents[2] / "grafana"
COLLECTOR_IMAGE = "docker.io/otel/opentelemetry-collector-contrib:0.161.0"
PROMETHEUS_IMAGE = "docker.io/prom/prometheus:v3.13.5"
LOKI_IMAGE = "docker.io/grafana/loki:3.7.8"
TEMPO_IMAGE = "docker.io/grafana/tempo:2.8.2"
GRAFANA_IMAGE = "docker.io/grafana/grafana:11.6.0"
OTLP_GRPC, OTLP_HTTP = 4317, 4318
GRAFANA_PORT = 3000
_CONFIG = "/etc/leaderboard"  # where each server finds its files, in docker-compose too
_USERS = {"collector": 10001, "prometheus": 65534, "loki": 10001, "tempo": 10001, "grafana": 472}


class Observability(Component):
    """`otlp_endpoint` is where the platform sends to, '' where telemetry is off."""

    def __init__(
        self, settings: Settings, *, storage_class: pulumi.Input[str] | None, opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("region:Observability", settings, opts=opts)
        self._storage_class = storage_class
        self.otlp_endpoint = settings.otlp_endpoint
        if settings.observability_mode == "bundled":
            self.otlp_endpoint = f"http://collector.{settings.telemetry_namespace}:{OTLP_HTTP}"
            self._bundled()
        self.register_outputs({"otlpEndpoint": self.otlp_endpoint})

    def _bundled(self) -> None:
        settings = self.settings
        self._namespace = kubernetes.core.v1.Namespace(
            self.name("telemetry-namespace"), metadata=namespace_spec(settings.telemetry_namespace), opts=self.kept
        ).metadata["name"]
        hours = f"{int(settings.telemetry_retention[:-1]) * 24}h"
        self._policies()
        self._server(
            "collector",
            COLLECTOR_IMAGE,
            [f"--config={_CONFIG}/collector.yaml"],
            config=_files("collector.yaml"),
            ports={"otlp-grpc": OTLP_GRPC, "otlp-http": OTLP_HTTP},
            health=("/", 13133),
            memory="512Mi",
        )
        self._server(
            "prometheus",
            PROMETHEUS_IMAGE,
            [
                f"--config.file={_CONFIG}/prometheus.yaml",
                "--storage.tsdb.path=/data",
                f"--storage.tsdb.retention.time={settings.telemetry_retention}",
                "--web.enable-remote-write-receiver",
                "--enable-feature=exemplar-storage",
            ],
            config=_files("prometheus.yaml", "rules/*.yaml"),
            ports={"http": 9090},
            health=("/-/ready", 9090),
            memory="1Gi",
            keeps=True,
        )
        self._server(
            "loki",
            LOKI_IMAGE,
            [f"-config.file={_CONFIG}/loki.yaml", "-config.expand-env=true"],
            config=_files("loki.yaml"),
            ports={"http": 3100},
            health=("/ready", 3100),
            memory="512Mi",
            env={"RETENTION": hours},
            keeps=True,
        )
        self._server(
            "tempo",
            TEMPO_IMAGE,
            [f"-config.file={_CONFIG}/tempo.yaml", "-config.expand-env=true"],
            config=_files("tempo.yaml"),
            ports={"http": 3200, "otlp-http": OTLP_HTTP},
            health=("/ready", 3200),
            memory="1Gi",
            env={"RETENTION": hours},
            keeps=True,
        )
        self._server(
            "grafana",
            GRAFANA_IMAGE,
            [],
            config=_files("provisioning/**/*.yaml", "dashboards/*.json"),
            ports={"http": GRAFANA_PORT},
            health=("/api/health", GRAFANA_PORT),
            memory="256Mi",
            env={
                "GF_PATHS_PROVISIONING": f"{_CONFIG}/provisioning",
                # All that is worth keeping is in grafana/.
                "GF_PATHS_DATA": "/tmp/grafana",
                "GF_PATHS_PLUGINS": "/tmp/plugins",
                "GF_LOG_MODE": "console",
                "GF_ANALYTICS_REPORTING_ENABLED": "false",
                "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
                "GF_USERS_ALLOW_SIGN_UP": "false",
                "GF_SECURITY_ADMIN_USER": "admin",
            },
            secret_env={"GF_SECURITY_ADMIN_PASSWORD": self._grafana_password()},
        )

    def _grafana_password(self) -> kubernetes.core.v1.Secret:
        password = random.RandomPassword(self.name("grafana-password"), length=24, special=False, opts=self.inside)
        return kubernetes.core.v1.Secret(
            self.name("grafana-credentials"),
            metadata={"name": "grafana", "namespace": self._namespace},
            string_data={"password": password.result},
            opts=self.inside,
        )

    def _policies(self) -> None:
        """The servers are reached by each other, the collector also by the platform."""
        for name, selected, peer, ports in (
            ("among-themselves", {}, SAME_NAMESPACE, ()),
            (
                "from-platform",
                {"matchLabels": {"app.kubernetes.io/name": "collector"}},
                in_namespace(self.settings.namespace),
                (OTLP_GRPC, OTLP_HTTP),
            ),
        ):
            rule: dict[str, Any] = {"from": [peer]}
            if ports:
                rule["ports"] = [{"protocol": "TCP", "port": port} for port in ports]
            kubernetes.networking.v1.NetworkPolicy(
                self.name(f"telemetry-{name}"),
                metadata={"name": name, "namespace": self._namespace},
                spec={"podSelector": selected, "policyTypes": ["Ingress"], "ingress": [rule]},
                opts=self.inside,
            )

    def _server(
        self,
        name: str,
        image: str,
        args: Sequence[str],
        *,
        config: Mapping[str, str],
        ports: Mapping[str, int],
        health: tuple[str, int],
        memory: str,
        env: Mapping[str, str] = {},
        secret_env: Mapping[str, kubernetes.core.v1.Secret] = {},
        keeps: bool = False,
    ) -> None:
        """Make one server, whose `config` files, by their path in grafana/, lie in /etc/leaderboard.

        `secret_env` are variables with the `password` of a Secret. One that `keeps` has a volume at /data.
        """
        selected = labels(name)
        meta = {"name": name, "namespace": self._namespace, "labels": selected}
        mounts, volumes = self._mounted(name, config)
        if keeps:
            mounts.append({"name": "data", "mountPath": "/data"})
        else:
            mounts.append({"name": "tmp", "mountPath": "/tmp"})
            volumes.append({"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}})
        get = {"httpGet": {"path": health[0], "port": health[1]}, "periodSeconds": 10, "timeoutSeconds": 5}
        variables: list[dict[str, Any]] = [{"name": key, "value": value} for key, value in env.items()]
        variables += [
            {"name": key, "valueFrom": {"secretKeyRef": {"name": secret.metadata["name"], "key": "password"}}}
            for key, secret in secret_env.items()
        ]
        container = {
            "name": name,
            "image": image,
            "env": variables,
            "ports": [{"name": port, "containerPort": number} for port, number in ports.items()],
            "startupProbe": {**get, "periodSeconds": 2, "failureThreshold": 150},
            "readinessProbe": get,
            "resources": resources(memory),
            "securityContext": CONFINED,
            "volumeMounts": mounts,
        }
        if args:
            container["args"] = list(args)
        spec: dict[str, Any] = {
            "replicas": 1,
            "selector": {"matchLabels": selected},
            "template": {
                # A server reads its files only as it starts.
                "metadata": {"labels": selected, "annotations": {"leaderboard.saas/config": _digest(config)}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": run_as(_USERS[name]),
                    "containers": [container],
                    "volumes": volumes,
                },
            },
        }
        service = kubernetes.core.v1.Service(
            self.name(f"{name}-service"),
            metadata=meta,
            spec={
                "type": "ClusterIP",
                "selector": selected,
                "ports": [{"name": port, "port": number} for port, number in ports.items()],
            },
            opts=self.inside,
        )
        if not keeps:
            kubernetes.apps.v1.Deployment(self.name(name), metadata=meta, spec=spec, opts=self.inside)
            return
        spec |= {
            "serviceName": service.metadata["name"],
            "persistentVolumeClaimRetentionPolicy": RETAIN_CLAIMS,
            "volumeClaimTemplates": [claim(self.settings.telemetry_storage, storage_class=self._storage_class)],
        }
        kubernetes.apps.v1.StatefulSet(self.name(name), metadata=meta, spec=spec, opts=self.stateful)

    def _mounted(self, server: str, config: Mapping[str, str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Put each file into a ConfigMap of its own, which may have 1 MiB; return the mount and the volume of all."""
        sources = []
        for path, text in config.items():
            stem = Path(path).with_suffix("").as_posix().replace("/", "-").replace("_", "-")
            name = stem if stem == server else f"{server}-{stem}"
            made = kubernetes.core.v1.ConfigMap(
                self.name(f"{name}-config"),
                metadata={"name": name, "namespace": self._namespace},
                data={Path(path).name: text},
                opts=self.inside,
            )
            item = {"key": Path(path).name, "path": path}
            sources.append({"configMap": {"name": made.metadata["name"], "items": [item]}})
        return (
            [{"name": "config", "mountPath": _CONFIG, "readOnly": True}],
            [{"name": "config", "projected": {"sources": sources}}],
        )


def _files(*patterns: str) -> dict[str, str]:
    """The files of grafana/ that match, by their path there, in a fixed order; a folder may be missing or empty."""
    paths = sorted({path for pattern in patterns for path in FILES.glob(pattern)})
    return {path.relative_to(FILES).as_posix(): path.read_text() for path in paths}


def _digest(config: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for path, text in config.items():
        digest.update(f"{path}\0{text}\0".encode())
    return digest.hexdigest()[:16]
