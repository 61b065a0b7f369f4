"""Every setting of a stack, in one list. Pulumi.yaml's `config:` and the table in pulumi/README.md are made of it.

How it is read, and what is refused: config.py.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import pulumi

PROJECT = "leaderboard"


class Secret:
    """A secret of the configuration: masked when printed, marked secret as an Output."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret(***)"

    @property
    def output(self) -> pulumi.Output[str]:
        """The value, as an Output that Pulumi encrypts wherever it is kept."""
        return pulumi.Output.secret(self._value)

    @property
    def port(self) -> int | None:
        """The port of a URL; it is no secret: network policies need it."""
        return urlsplit(self._value).port

    def is_url(self, *schemes: str) -> bool:
        """Whether the value is a URL with a host and one of `schemes`."""
        try:
            parts = urlsplit(self._value)
            _ = parts.port
        except ValueError:
            return False
        return parts.scheme in schemes and bool(parts.hostname)

    @property
    def is_key(self) -> bool:
        """Whether the value is 32 bytes in hexadecimal."""
        return re.fullmatch("[0-9a-fA-F]{64}", self._value) is not None

    def __len__(self) -> int:
        return len(self._value)


def _setting(
    default: Any,
    description: str,
    *,
    choices: Sequence[str] = (),
    least: int | None = None,
    only: tuple[str, Sequence[str]] | None = None,
    example: str = "",
) -> Any:
    """Declare one setting. `only`: the field and its values for which this one is used; elsewhere it is an error."""
    metadata = {"description": description, "choices": choices, "least": least, "only": only, "example": example}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


_REGION_ROLE = ("role", ("region",))
_GLOBAL_ROLE = ("role", ("global",))
_NEW_CLUSTER = ("cluster_mode", ("eks", "doks"))
_OWN_REDIS = ("redis_mode", ("single", "cluster"))
_OWN_POSTGRES = ("postgres_mode", ("single", "cloudnative-pg"))
_CLOUDNATIVE_PG = ("postgres_mode", ("cloudnative-pg",))
_BUNDLED = ("observability_mode", ("bundled",))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """A field ``redis_mode`` is the key ``leaderboard:redisMode``."""

    role: str = _setting(
        "region",
        "What the stack is: `region`, a Cell with everything in it, or `global`, what the regions share.",
        choices=("region", "global"),
    )
    region: str = _setting(
        "",
        "The region's name: part of every name made here, and the home region of tenants (`LEADERBOARD_REGION`).",
        only=_REGION_ROLE,
        example="us-east",
    )
    global_stack: str = _setting(
        "",
        "The stack with role `global` whose addresses and primary database this region uses. Empty: none.",
        only=_REGION_ROLE,
        example="organization/leaderboard/global",
    )
    protect_data: bool = _setting(
        True, "Refuse to delete what holds data or keys; set it to false, and `pulumi up`, before tearing down."
    )

    cluster_mode: str = _setting(
        "existing",
        "`existing`: a cluster that is there; `eks`: Amazon; `doks`: DigitalOcean.",
        choices=("existing", "eks", "doks"),
        only=_REGION_ROLE,
    )
    kube_context: str = _setting(
        "",
        "The kubeconfig's context. Never the current one by itself: that may be any cluster.",
        only=("cluster_mode", ("existing",)),
        example="my-cluster",
    )
    kubeconfig: str = _setting(
        "",
        "Path of the kubeconfig. Empty: as kubectl finds it.",
        only=("cluster_mode", ("existing",)),
    )
    cloud_region: str = _setting("", "The provider's name of its region.", only=_NEW_CLUSTER, example="us-east-1")
    kubernetes_version: str = _setting(
        "", "The new cluster's version, as the provider spells it.", only=_NEW_CLUSTER, example="1.33"
    )
    node_type: str = _setting("", "Machine type of the nodes.", only=_NEW_CLUSTER, example="m7g.large")
    node_min: int = _setting(
        3, "Nodes at least; three let each replica be in a zone of its own.", least=1, only=_NEW_CLUSTER
    )
    node_max: int = _setting(6, "Nodes at most.", least=1, only=_NEW_CLUSTER)
    eks_subnet_ids: tuple[str, ...] = _setting(
        (),
        "Two or more private subnets of one VPC, in different zones. The cluster's API is reachable only from there.",
        only=("cluster_mode", ("eks",)),
        example='["subnet-0a", "subnet-0b"]',
    )
    api_allowed_cidrs: tuple[str, ...] = _setting(
        (),
        "Who may reach the cluster's API, which has a public address on DigitalOcean.",
        only=("cluster_mode", ("doks",)),
        example='["203.0.113.7/32"]',
    )
    storage_class: str = _setting(
        "",
        "StorageClass of every volume. Empty: the cluster's default; on EKS an encrypted gp3 made here.",
        only=_REGION_ROLE,
    )

    redis_mode: str = _setting(
        "single",
        "`external`: a server that is there; `single`: one pod; `cluster`: three with fail-over by redis-operator.",
        choices=("external", "single", "cluster"),
        only=_REGION_ROLE,
    )
    redis_url: Secret | None = _setting(
        None,
        "The external Redis. `rediss://` is TLS.",
        only=("redis_mode", ("external",)),
        example="rediss://default:password@redis.example.com:6379",
    )
    redis_memory: str = _setting(
        "1Gi", "Memory of a Redis pod. Three quarters of it are for data; then writes are refused.", only=_OWN_REDIS
    )
    redis_storage: str = _setting("10Gi", "Volume of a Redis pod, for its append-only file.", only=_OWN_REDIS)
    redis_appendfsync: str = _setting(
        "everysec",
        "`always`: no acknowledged write is lost when Redis dies, at a price; `everysec`: at most the last second.",
        choices=("everysec", "always"),
        only=_OWN_REDIS,
    )
    redis_password_version: int = _setting(1, "Add one for a new password.", least=1, only=_OWN_REDIS)

    postgres_mode: str = _setting(
        "single",
        "`external`: a server that is there; `single`: one pod; `cloudnative-pg`: instances with fail-over, backups.",
        choices=("external", "single", "cloudnative-pg"),
        only=_REGION_ROLE,
    )
    postgres_url: Secret | None = _setting(
        None,
        "The external Postgres. A pooler before it must be in session mode.",
        only=("postgres_mode", ("external",)),
        example="postgresql://leaderboard:password@postgres.example.com:5432/leaderboard?sslmode=require",
    )
    postgres_memory: str = _setting("1Gi", "Memory of a Postgres pod.", only=_OWN_POSTGRES)
    postgres_storage: str = _setting("20Gi", "Volume of a Postgres pod.", only=_OWN_POSTGRES)
    postgres_password_version: int = _setting(1, "Add one for a new password.", least=1, only=_OWN_POSTGRES)
    postgres_instances: int = _setting(3, "Instances: one primary, the rest standbys.", least=1, only=_CLOUDNATIVE_PG)
    postgres_primary_region: str = _setting(
        "",
        "The region whose Postgres this one copies from its backups, to read from and to fail over to. Empty: none.",
        only=_CLOUDNATIVE_PG,
        example="us-east",
    )
    backup_url: str = _setting(
        "",
        "Where cloudnative-pg keeps backups, an S3 bucket; each region has a folder there. Empty: no backups.",
        only=_CLOUDNATIVE_PG,
        example="s3://acme-leaderboard-backups",
    )
    backup_endpoint: str = _setting(
        "",
        "Endpoint of an S3 that is not Amazon's.",
        only=_CLOUDNATIVE_PG,
        example="https://nyc3.digitaloceanspaces.com",
    )
    backup_access_key_id: Secret | None = _setting(
        None, "The bucket's access key.", only=_CLOUDNATIVE_PG, example="AKIAEXAMPLE"
    )
    backup_secret_access_key: Secret | None = _setting(
        None, "Its secret.", only=_CLOUDNATIVE_PG, example="an-access-key's-secret"
    )
    backup_schedule: str = _setting(
        "0 0 3 * * *", "When a base backup is made: six fields, seconds first, UTC.", only=_CLOUDNATIVE_PG
    )
    backup_retention: str = _setting("30d", "How far back a restore can go.", only=_CLOUDNATIVE_PG)

    image_repository: str = _setting(
        PROJECT, "The platform's image, without a tag. Build it from the Dockerfile.", only=_REGION_ROLE
    )
    image_tag: str = _setting("", "Its tag. Empty: the chart's version.", only=_REGION_ROLE)
    image_digest: str = _setting(
        "", "Its digest, which wins over the tag.", only=_REGION_ROLE, example=f"sha256:{'0' * 64}"
    )
    api_replicas: int = _setting(2, "API pods, at least.", least=1, only=_REGION_ROLE)
    api_max_replicas: int = _setting(
        0, "API pods at most, by their CPU. 0: always apiReplicas.", least=0, only=_REGION_ROLE
    )
    api_workers: int = _setting(
        1, "API processes in a pod. One saturates a core; a pod may use as many cores.", least=1, only=_REGION_ROLE
    )
    worker_replicas: int = _setting(1, "Pods that move events from Redis to Postgres.", least=1, only=_REGION_ROLE)
    operator: bool = _setting(
        True, "Run the operator, which serves Tenant and Leaderboard resources.", only=_REGION_ROLE
    )
    tenant_namespaces: tuple[str, ...] = _setting(
        (),
        "Namespaces in which Tenants can be, see docs/kubernetes.md; they must exist. Empty: the platform's own.",
        only=_REGION_ROLE,
        example='["games"]',
    )
    pepper: Secret | None = _setting(
        None,
        "The secret of key hashing. Unset: the global stack's, or a random one.",
        example="0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    )
    signing_key: Secret | None = _setting(
        None,
        "The key that signs final standings, of `leaderboard signing-key`. Unset: they are not signed.",
        only=_REGION_ROLE,
        example="0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    )
    key_env: str = _setting("live", "The `<env>` part of new API keys.", only=_REGION_ROLE)
    log_level: str = _setting(
        "info", "How much the platform logs.", choices=("debug", "info", "warning", "error"), only=_REGION_ROLE
    )
    host: str = _setting(
        "",
        "Host name of the API, for an Ingress. Empty: the global stack's for this region, or no Ingress.",
        only=_REGION_ROLE,
        example="us-east.leaderboards.example.com",
    )
    ingress_class: str = _setting("", "Ingress class. Empty: the cluster's default.", only=_REGION_ROLE)
    tls_secret: str = _setting(
        "", "Secret with the host's certificate, in the platform's namespace.", only=_REGION_ROLE
    )
    platform_settings: Mapping[str, Any] = _setting(
        {},
        "Further settings of the platform, as the chart's `settings`.",
        only=_REGION_ROLE,
        example='{"idempotencyTtl": 7200}',
    )

    observability_mode: str = _setting(
        "bundled",
        "`bundled`: collector, Prometheus, Loki, Tempo and Grafana as small pods; `external`: OTLP; `off`.",
        choices=("bundled", "external", "off"),
        only=_REGION_ROLE,
    )
    otlp_endpoint: str = _setting(
        "",
        "Where telemetry goes, OTLP over HTTP.",
        only=("observability_mode", ("external",)),
        example="http://otel-collector.telemetry:4318",
    )
    telemetry_storage: str = _setting("20Gi", "Volume each of Prometheus, Loki and Tempo.", only=_BUNDLED)
    telemetry_retention: str = _setting("15d", "How long metrics, logs and traces are kept.", only=_BUNDLED)

    domain: str = _setting(
        "", "The regions are `<region>.<domain>`.", only=_GLOBAL_ROLE, example="leaderboards.example.com"
    )
    addresses: Mapping[str, Any] = _setting(
        {},
        "Each region's public address: the host name of its Ingress controller's load balancer.",
        only=_GLOBAL_ROLE,
        example='{"us-east": "lb-1.example.net"}',
    )
    cloudflare_zone_id: str = _setting(
        "",
        "The Cloudflare zone of the domain: records for the regions, and a cache for public boards. Empty: no DNS.",
        only=_GLOBAL_ROLE,
        example="0123456789abcdef0123456789abcdef",
    )
    primary_region: str = _setting(
        "", "The region with the primary Postgres, where regions share one.", only=_GLOBAL_ROLE, example="us-east"
    )
    primary_database_url: Secret | None = _setting(
        None,
        "That Postgres, as the other regions reach it.",
        only=_GLOBAL_ROLE,
        example="postgresql://leaderboard:password@postgres.us-east.internal:5432/leaderboard",
    )
    grafana_url: str = _setting(
        "",
        "A Grafana that shows all regions and gets the dashboards of grafana/. Empty: none.",
        only=_GLOBAL_ROLE,
        example="https://acme.grafana.net",
    )
    grafana_auth: Secret | None = _setting(
        None, "A service account's token for it.", only=_GLOBAL_ROLE, example="glsa_example"
    )

    @property
    def prefix(self) -> str:
        """What the names of all resources begin with: the region, or `global`."""
        return self.region or "global"

    @property
    def namespace(self) -> str:
        """Where platform and data are; network policies keep it to itself."""
        return f"{PROJECT}-{self.region}"

    @property
    def operators_namespace(self) -> str:
        """Where the operators of Redis and Postgres are."""
        return f"{PROJECT}-operators-{self.region}"

    @property
    def telemetry_namespace(self) -> str:
        """Where the observability servers are."""
        return f"{PROJECT}-telemetry-{self.region}"

    @property
    def is_replica(self) -> bool:
        """Whether this region's Postgres copies another region's."""
        return self.postgres_primary_region not in ("", self.region)

    @property
    def needs_operators(self) -> bool:
        """Whether Redis or Postgres are run by an operator of theirs."""
        return self.redis_mode == "cluster" or self.postgres_mode == "cloudnative-pg"


FIELDS: Mapping[str, dataclasses.Field[Any]] = {field.name: field for field in dataclasses.fields(Settings)}
_HINTS = typing.get_type_hints(Settings)


def key_of(field: str) -> str:
    """Return the configuration key of a field: ``redis_mode`` is ``redisMode``."""
    first, *rest = field.split("_")
    return first + "".join(word.capitalize() for word in rest)


def is_secret(field: str) -> bool:
    """Whether the field holds a Secret."""
    hint = _HINTS[field]
    return isinstance(hint, types.UnionType) and Secret in typing.get_args(hint)


def type_of(field: str) -> str:
    """Return the field's type as Pulumi.yaml spells it."""
    hint = _HINTS[field]
    kind = typing.get_origin(hint) or hint
    return {bool: "boolean", int: "integer", tuple: "array"}.get(kind, "object" if kind is _MAPPING else "string")


_MAPPING = typing.get_origin(Mapping[str, Any])


def default_of(field: str) -> Any:
    """Return the default as Pulumi.yaml has it. Pulumi demands a value of every key: an unset secret is ''."""
    default = getattr(_DEFAULTS, field)
    if default is None:
        return ""
    return list(default) if isinstance(default, tuple) else default


_DEFAULTS = Settings()
