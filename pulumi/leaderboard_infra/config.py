"""A stack's configuration, read once into one frozen object, before any resource is made.

A wrong, unknown or contradictory value is a ConfigError; it names each key and what to do about it.
"""

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pulumi.runtime import config as runtime

from leaderboard_infra.settings import FIELDS, PROJECT, Secret, Settings, is_secret, key_of, type_of

LONGEST_REGION = 20  # names made of it, such as `leaderboard-<region>-api`, stay far below Kubernetes' 63
_REGION = re.compile(rf"[a-z](?:[-a-z0-9]{{0,{LONGEST_REGION - 2}}}[a-z0-9])?")
_QUANTITY = re.compile(r"[1-9]\d*(?:Mi|Gi|Ti)")
_DAYS = re.compile(r"[1-9]\d*d")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_STACK = re.compile(r"[^/\s]+/[^/\s]+/[^/\s]+")
_DEFAULTS = Settings()
_PEPPER_LEAST = 32  # characters, as the platform itself asks


class ConfigError(Exception):
    """A stack's configuration cannot be used. `missing` are the keys that have to be set and are not."""

    def __init__(self, problems: Sequence[str], *, missing: Sequence[str] = ()) -> None:
        super().__init__("The stack's configuration cannot be used:\n" + "\n".join(f"  - {each}" for each in problems))
        self.problems = tuple(problems)
        self.missing = tuple(missing)


def load() -> Settings:
    """Return the stack's configuration. Raises ConfigError."""
    prefix = f"{PROJECT}:"
    given = {key: value for key, value in _all().items() if key.startswith(prefix)}
    secret = {key.removeprefix(prefix) for key in given if runtime.is_config_secret(key)}
    return read({key.removeprefix(prefix): str(value) for key, value in given.items()}, secret_keys=secret)


def _all() -> Mapping[str, Any]:
    return {**runtime.get_config_env(), **runtime.CONFIG.get()}


def read(given: Mapping[str, str], *, secret_keys: Collection[str] = ()) -> Settings:
    """Return the settings that `given` spells, as Pulumi gives them: text, lists and objects as JSON.

    Raises ConfigError with all that is wrong, not the first of it.
    """
    problems: list[str] = []
    fields = {key_of(field): field for field in FIELDS}
    values: dict[str, Any] = {}
    for key, text in given.items():
        field = fields.get(key)
        if field is None:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            problems.append(f"{key}: there is no such setting; {hint}remove it with: pulumi config rm {key}")
        elif text != "":
            try:
                values[field] = _converted(field, text, secret=key in secret_keys)
            except ValueError as error:
                problems.append(f"{key}: {error}")
    if problems:  # the rest would only repeat them
        raise ConfigError(problems)
    settings = Settings(**values)
    missing: list[str] = []
    problems = list(_contradictions(settings, missing))
    if problems:
        raise ConfigError(problems, missing=missing)
    return settings


def _converted(field: str, text: str, *, secret: bool) -> Any:
    """Return the value that `text` spells; raises ValueError that says what it must be."""
    kind, metadata = type_of(field), FIELDS[field].metadata
    if is_secret(field):
        if not secret:
            raise ValueError(f"is a secret and must be encrypted; set it with: {_set_command(field)}")
        return Secret(text)
    if kind == "boolean":
        if text.lower() not in ("true", "false"):
            raise ValueError(f"must be true or false, not {text!r}")
        return text.lower() == "true"
    if kind == "integer":
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"must be a whole number, not {text!r}") from None
        if metadata["least"] is not None and number < metadata["least"]:
            raise ValueError(f"must be {metadata['least']} or more, not {number}")
        return number
    if kind in ("array", "object"):
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = None
        if kind == "array" and isinstance(value, list) and all(isinstance(each, str) for each in value):
            return tuple(value)
        if kind == "object" and isinstance(value, dict):
            return value
        what = "a list of texts" if kind == "array" else "an object"
        raise ValueError(f"must be {what}, such as {metadata['example']}, not {text!r}")
    if metadata["choices"] and text not in metadata["choices"]:
        raise ValueError(f"must be one of {', '.join(metadata['choices'])}, not {text!r}")
    return text


def _set_command(field: str) -> str:
    """The command that sets the field; a secret is typed in, so that no shell keeps it."""
    if is_secret(field):
        return f"pulumi config set --secret {key_of(field)}"
    example = FIELDS[field].metadata["example"]
    return f"pulumi config set {key_of(field)} {example if example.isascii() and ' ' not in example else repr(example)}"


def _contradictions(settings: Settings, missing: list[str]) -> Iterator[str]:
    """Give what does not fit together; `missing` gets the keys that have to be set."""

    def needed(field: str, why: str) -> Iterator[str]:
        if not getattr(settings, field):
            missing.append(key_of(field))
            yield f"{key_of(field)} is not set, and {why}; set it with: {_set_command(field)}"

    yield from _unused(settings)
    yield from _malformed(settings)
    if settings.role == "global":
        if settings.cloudflare_zone_id:
            yield from needed("addresses", "cloudflareZoneId asks for records of the regions")
        if settings.cloudflare_zone_id or settings.addresses:
            yield from needed("domain", "the regions' host names are made of it")
        if settings.primary_region:
            yield from needed("primary_database_url", "regions that copy primaryRegion's database write to it")
        if settings.primary_database_url:
            yield from needed("primary_region", "primaryDatabaseUrl is the Postgres of a region")
        if settings.grafana_url:
            yield from needed("grafana_auth", "grafanaUrl needs it to accept dashboards")
        if settings.grafana_auth:
            yield from needed("grafana_url", "grafanaAuth is a token for it")
        return

    yield from needed("region", "it is part of every name")
    match settings.cluster_mode:
        case "existing":
            yield from needed("kube_context", "clusterMode is existing")
        case mode:
            for field in ("cloud_region", "kubernetes_version", "node_type"):
                yield from needed(field, f"clusterMode is {mode}")
            other = "eks_subnet_ids" if mode == "eks" else "api_allowed_cidrs"
            yield from needed(other, f"clusterMode is {mode}")
            if mode == "eks" and len(settings.eks_subnet_ids) == 1:
                yield "eksSubnetIds has one subnet; EKS asks for two in different zones: add another"
            if settings.node_max < settings.node_min:
                yield f"nodeMax ({settings.node_max}) is below nodeMin ({settings.node_min}): raise it or lower nodeMin"
    if settings.redis_mode == "external":
        yield from needed("redis_url", "redisMode is external")
    if settings.postgres_mode == "external":
        yield from needed("postgres_url", "postgresMode is external")
    if settings.observability_mode == "external":
        yield from needed("otlp_endpoint", "observabilityMode is external")
    if settings.backup_url:
        for field in ("backup_access_key_id", "backup_secret_access_key"):
            yield from needed(field, "backupUrl needs it")
    if settings.is_replica:
        why = f"postgresPrimaryRegion ({settings.postgres_primary_region}) is another region"
        yield from needed("backup_url", f"{why}, whose backups are read")
        yield from needed("global_stack", f"{why}, whose database the global stack knows")
        if settings.operator:
            yield f"operator is true, and {why}: one Postgres has one operator; pulumi config set operator false"
    if settings.api_max_replicas and settings.api_max_replicas < settings.api_replicas:
        yield (
            f"apiMaxReplicas ({settings.api_max_replicas}) is below apiReplicas ({settings.api_replicas}): "
            "raise it, or set it to 0 for a fixed number"
        )
    for field in ("ingress_class", "tls_secret"):
        if getattr(settings, field) and not (settings.host or settings.global_stack):
            yield f"{key_of(field)} is set, but there is no Ingress: set host too, or remove {key_of(field)}"


def _unused(settings: Settings) -> Iterator[str]:
    for name, field in FIELDS.items():
        only = field.metadata["only"]
        if only is None or getattr(settings, name) == getattr(_DEFAULTS, name):
            continue
        decider, values = only
        chosen = getattr(settings, decider)
        # A mode that is itself of the other role has its default, which says nothing.
        if FIELDS[decider].metadata["only"] and settings.role == "global":
            decider, values, chosen = "role", ("region",), settings.role
        if chosen not in values:
            yield (
                f"{key_of(name)} is not used where {key_of(decider)} is {chosen}, only where it is "
                f"{' or '.join(values)}: remove it with: pulumi config rm {key_of(name)}"
            )


def _malformed(settings: Settings) -> Iterator[str]:
    for field in ("region", "postgres_primary_region", "primary_region"):
        value = getattr(settings, field)
        if value and not _REGION.fullmatch(value):
            yield _region_rule(key_of(field), value)
    for region, address in settings.addresses.items():
        if not _REGION.fullmatch(region):
            yield _region_rule("addresses", region)
        if not isinstance(address, str) or not address:
            yield f"addresses: the address of {region} must be a host name or an IP address"
    for field in ("redis_memory", "redis_storage", "postgres_memory", "postgres_storage", "telemetry_storage"):
        if not _QUANTITY.fullmatch(getattr(settings, field)):
            yield f"{key_of(field)} must be a size such as 512Mi or 20Gi, not {getattr(settings, field)!r}"
    for field in ("backup_retention", "telemetry_retention"):
        if not _DAYS.fullmatch(getattr(settings, field)):
            yield f"{key_of(field)} must be days such as 15d, not {getattr(settings, field)!r}"
    for field, schemes in (
        ("redis_url", ("redis", "rediss")),
        ("postgres_url", ("postgres", "postgresql")),
        ("primary_database_url", ("postgres", "postgresql")),
    ):
        secret = getattr(settings, field)
        if secret is not None and not secret.is_url(*schemes):
            example = FIELDS[field].metadata["example"]
            yield f"{key_of(field)} must be a {schemes[-1]}:// URL such as {example}: set it again with --secret"
    for field in ("otlp_endpoint", "grafana_url", "backup_endpoint"):
        value = getattr(settings, field)
        if value and not value.startswith(("http://", "https://")):
            yield f"{key_of(field)} must begin with http:// or https://, not {value!r}"
    if settings.backup_url and not re.fullmatch(r"s3://[^/]+(/.*[^/])?", settings.backup_url):
        yield f"backupUrl must be a bucket such as s3://acme-backups, without / at its end, not {settings.backup_url!r}"
    if len(settings.backup_schedule.split()) != 6:
        example = FIELDS["backup_schedule"].default
        yield f"backupSchedule must have six fields, seconds first, as {example!r}, not {settings.backup_schedule!r}"
    if settings.image_tag == "latest":
        yield "imageTag must not be latest, which says nothing about what runs: name a version, or set imageDigest"
    if settings.image_digest and not _DIGEST.fullmatch(settings.image_digest):
        yield f"imageDigest must be sha256: and 64 hexadecimal digits, not {settings.image_digest!r}"
    if settings.pepper is not None and len(settings.pepper) < _PEPPER_LEAST:
        yield f"pepper must have {_PEPPER_LEAST} characters or more; make one with: openssl rand -hex 32"
    if settings.signing_key is not None and not settings.signing_key.is_key:
        yield "signingKey must be 64 hexadecimal digits; make one with: leaderboard signing-key"
    if settings.global_stack and not _STACK.fullmatch(settings.global_stack):
        yield f"globalStack must be organization/project/stack, not {settings.global_stack!r}"


def _region_rule(key: str, value: str) -> str:
    return (
        f"{key}: a region's name must be 1 to {LONGEST_REGION} lower-case letters, digits and -, "
        f"beginning with a letter, such as us-east, not {value!r}"
    )
