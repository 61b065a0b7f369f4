import json

import pytest

from leaderboard_infra import config
from leaderboard_infra.config import ConfigError
from leaderboard_infra.settings import FIELDS, Secret, Settings, default_of, is_secret, key_of

SECRETS = {key_of(field) for field in FIELDS if is_secret(field)}
REGION = {"region": "us-east", "kubeContext": "kind"}
PEPPER = "0123456789abcdef0123456789abcdef"
EKS = {
    "region": "us-east",
    "clusterMode": "eks",
    "cloudRegion": "us-east-1",
    "kubernetesVersion": "1.33",
    "nodeType": "m7i.large",
    "eksSubnetIds": '["a", "b"]',
}
BACKED_UP = REGION | {
    "postgresMode": "cloudnative-pg",
    "backupUrl": "s3://backups",
    "backupAccessKeyId": "id",
    "backupSecretAccessKey": "secret",
}


def read(given: dict[str, str], *, secret_keys: set[str] = SECRETS) -> Settings:
    return config.read(given, secret_keys=secret_keys)


def test_a_region_needs_its_name_and_a_cluster_and_nothing_else() -> None:
    settings = read(REGION)
    assert (settings.region, settings.redis_mode, settings.postgres_mode) == ("us-east", "single", "single")
    assert settings.namespace == "leaderboard-us-east"


def test_the_defaults_that_pulumi_fills_in_change_nothing() -> None:
    filled_in = {key_of(field): default_of(field) for field in FIELDS}
    spelled = {key: value if isinstance(value, str) else json.dumps(value) for key, value in filled_in.items()}
    assert read(spelled | REGION) == read(REGION)


def test_values_become_what_their_field_says() -> None:
    settings = read(
        EKS
        | {"nodeMax": "9", "operator": "false", "tenantNamespaces": '["games", "apps"]', "pepper": PEPPER}
        | {"platformSettings": '{"idempotencyTtl": 60}'}
    )
    assert settings.node_max == 9
    assert settings.operator is False
    assert settings.tenant_namespaces == ("games", "apps")
    assert settings.platform_settings == {"idempotencyTtl": 60}
    assert isinstance(settings.pepper, Secret)


def test_a_secret_does_not_show_itself() -> None:
    settings = read(REGION | {"pepper": PEPPER, "redisMode": "external", "redisUrl": "rediss://u:hidden@redis:6380"})
    assert PEPPER not in repr(settings)
    assert "hidden" not in repr(settings)
    assert settings.redis_url is not None
    assert settings.redis_url.port == 6380


WRONG = [
    # what is given, and words of the error: the key, and what to do
    ({}, ["region is not set", "pulumi config set region us-east"]),
    ({"region": "us-east"}, ["kubeContext is not set", "pulumi config set kubeContext"]),
    (REGION | {"region": "US_EAST"}, ["region", "lower-case", "such as us-east"]),
    (REGION | {"region": "a-region-with-a-name-too-long"}, ["region", "1 to 20"]),
    (REGION | {"redisMod": "single"}, ["redisMod", "did you mean redisMode?", "pulumi config rm redisMod"]),
    (REGION | {"redisMode": "sharded"}, ["redisMode: must be one of external, single, cluster", "'sharded'"]),
    (REGION | {"apiReplicas": "two"}, ["apiReplicas", "whole number"]),
    (REGION | {"apiReplicas": "0"}, ["apiReplicas: must be 1 or more"]),
    (REGION | {"operator": "yes"}, ["operator: must be true or false"]),
    (REGION | {"tenantNamespaces": "games"}, ["tenantNamespaces: must be a list of texts", '["games"]']),
    (REGION | {"tenantNamespaces": "[1]"}, ["tenantNamespaces: must be a list of texts"]),
    (REGION | {"platformSettings": "[]"}, ["platformSettings: must be an object"]),
    (
        REGION | {"redisMode": "external"},
        ["redisUrl is not set", "redisMode is external", "config set --secret redisUrl"],
    ),
    (REGION | {"redisUrl": "redis://r:6379"}, ["redisUrl is not used where redisMode is single", "config rm redisUrl"]),
    (
        REGION | {"redisMode": "external", "redisUrl": "http://redis"},
        ["redisUrl must be a rediss:// URL", "--secret"],
    ),
    (
        REGION | {"redisMode": "external", "redisUrl": "redis://redis:port"},
        ["redisUrl must be a rediss:// URL"],
    ),
    (
        REGION | {"redisMode": "external", "redisUrl": "rediss://r", "redisAppendfsync": "always"},
        ["redisAppendfsync is not used where redisMode is external"],
    ),
    (REGION | {"postgresMode": "external"}, ["postgresUrl is not set", "--secret postgresUrl"]),
    (REGION | {"postgresMode": "external", "postgresUrl": "mysql://db"}, ["postgresUrl must be a postgresql:// URL"]),
    (REGION | {"backupUrl": "s3://b"}, ["backupUrl is not used where postgresMode is single", "cloudnative-pg"]),
    (
        REGION | {"postgresMode": "cloudnative-pg", "backupUrl": "s3://b"},
        ["backupAccessKeyId is not set", "backupSecretAccessKey is not set"],
    ),
    (BACKED_UP | {"backupUrl": "https://bucket"}, ["backupUrl must be a bucket such as s3://"]),
    (BACKED_UP | {"backupUrl": "s3://bucket/"}, ["backupUrl", "without / at its end"]),
    (BACKED_UP | {"backupSchedule": "0 3 * * *"}, ["backupSchedule must have six fields"]),
    (BACKED_UP | {"backupRetention": "a month"}, ["backupRetention must be days such as 15d"]),
    (BACKED_UP | {"postgresPrimaryRegion": "eu-west"}, ["globalStack is not set", "postgresPrimaryRegion (eu-west)"]),
    (
        REGION | {"postgresMode": "cloudnative-pg", "postgresPrimaryRegion": "eu-west", "globalStack": "o/p/s"},
        ["backupUrl is not set", "whose backups are read"],
    ),
    (BACKED_UP | {"postgresPrimaryRegion": "eu-west", "globalStack": "o/p/s"}, ["operator is true", "operator false"]),
    (REGION | {"redisMemory": "1G"}, ["redisMemory must be a size such as 512Mi"]),
    (REGION | {"telemetryRetention": "15"}, ["telemetryRetention must be days"]),
    (REGION | {"imageTag": "latest"}, ["imageTag must not be latest", "imageDigest"]),
    (REGION | {"imageDigest": "sha256:12"}, ["imageDigest must be sha256:"]),
    (REGION | {"pepper": "short"}, ["pepper must have 32 characters", "openssl rand -hex 32"]),
    (REGION | {"signingKey": "ab" * 31}, ["signingKey must be 64 hexadecimal digits", "leaderboard signing-key"]),
    (REGION | {"globalStack": "global"}, ["globalStack must be organization/project/stack"]),
    (REGION | {"apiMaxReplicas": "1"}, ["apiMaxReplicas (1) is below apiReplicas (2)", "set it to 0"]),
    (REGION | {"tlsSecret": "cert"}, ["tlsSecret is set, but there is no Ingress", "set host"]),
    (REGION | {"observabilityMode": "external"}, ["otlpEndpoint is not set"]),
    (REGION | {"otlpEndpoint": "http://c:4317"}, ["otlpEndpoint is not used where observabilityMode is bundled"]),
    (REGION | {"observabilityMode": "external", "otlpEndpoint": "c:4317"}, ["otlpEndpoint must begin with http://"]),
    (REGION | {"nodeType": "m7i.large"}, ["nodeType is not used where clusterMode is existing"]),
    (EKS | {"kubeContext": "kind"}, ["kubeContext is not used where clusterMode is eks"]),
    (EKS | {"eksSubnetIds": '["a"]'}, ["eksSubnetIds has one subnet", "add another"]),
    (EKS | {"nodeMin": "5", "nodeMax": "4"}, ["nodeMax (4) is below nodeMin (5)"]),
    (EKS | {"clusterMode": "doks", "eksSubnetIds": ""}, ["apiAllowedCidrs is not set", '["203.0.113.7/32"]']),
    (REGION | {"domain": "example.com"}, ["domain is not used where role is region"]),
    ({"role": "global", "region": "us-east"}, ["region is not used where role is global"]),
    ({"role": "global", "redisMemory": "2Gi"}, ["redisMemory is not used where role is global"]),
    ({"role": "global", "cloudflareZoneId": "z"}, ["addresses is not set", "domain is not set"]),
    ({"role": "global", "domain": "e.com", "addresses": '{"EU": "lb"}'}, ["addresses", "lower-case"]),
    ({"role": "global", "domain": "e.com", "addresses": '{"eu": 1}'}, ["addresses: the address of eu must be"]),
    ({"role": "global", "primaryRegion": "us-east"}, ["primaryDatabaseUrl is not set"]),
    ({"role": "global", "primaryDatabaseUrl": "postgres://db"}, ["primaryRegion is not set"]),
    ({"role": "global", "grafanaUrl": "https://g"}, ["grafanaAuth is not set"]),
    ({"role": "global", "grafanaAuth": "token"}, ["grafanaUrl is not set"]),
]


@pytest.mark.parametrize(("given", "words"), WRONG, ids=lambda value: " ".join(value)[:60])
def test_what_is_wrong_is_told_by_its_key_and_with_what_to_do(given: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(given)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("key", sorted(SECRETS))
def test_a_secret_in_plain_text_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: is a secret.*pulumi config set --secret {key}") as caught:
        read(REGION | {key: "what-nobody-may-see"}, secret_keys=set())
    assert "what-nobody-may-see" not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read({"redisMode": "external", "postgresMode": "external"})
    assert set(caught.value.missing) == {"region", "kubeContext", "redisUrl", "postgresUrl"}
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("field", FIELDS)
def test_every_setting_that_has_to_be_set_somewhere_has_an_example_that_will_do(field: str) -> None:
    example = FIELDS[field].metadata["example"]
    if is_secret(field):
        assert example
    if example and field not in ("region", "cloud_region"):
        config._converted(field, example, secret=True)
