"""What the chart lets one set: each value described, used, and refused with words that help where it is wrong."""

import re
import subprocess
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from leaderboard import config
from leaderboard.config import Config, ConfigError
from leaderboard_operator import config as operator_config
from leaderboard_operator.config import OperatorConfig
from support.chart import (
    DEFAULTS,
    FULL,
    MATRIX,
    MINIMAL,
    OWN_SECRET,
    PEPPER,
    SCHEMA,
    Chart,
    ChartRefused,
    default,
    described,
    leaves,
    merged,
    nested,
    settled,
    templates,
)
from support.kubernetes import CHART

STORES = {"database-url": "postgresql://db/leaderboard", "redis-url": "rediss://redis", "pepper": PEPPER}
BY_OTHER_VALUES = {
    "redis_url",
    "database_url",
    "pepper",
    "signing_key",
    "bind",
    "workers",
    "log_level",
    "region",
    "key_env",
} | {"telemetry"}
OPERATORS_BY_OTHER_VALUES = {"namespace", "endpoint", "identity", "bind"}


def camel(field: str) -> str:
    first, *rest = field.split("_")
    return first + "".join(word.capitalize() for word in rest)


def refusal(chart: Chart, values: Mapping[str, Any], *, release: str = "rel") -> str:
    with pytest.raises(ChartRefused) as refused:
        chart(values, release=release)
    return str(refused.value)


# --- Described


def test_every_value_is_described_and_has_its_default_in_the_file():
    for path, node in described():
        assert node.get("description", "").endswith((".", "`")), path
        if "properties" in node:
            assert node["additionalProperties"] is False, path
        if path != "global" and not path.startswith(("settings.", "operator.settings.")):
            holds = default(path)
            assert holds is not None, path
            assert "properties" not in node or set(holds) <= set(node["properties"]), path
    assert set(DEFAULTS) == set(SCHEMA["properties"]) - {"global"}


@pytest.mark.parametrize(
    ("values", "kind", "elsewhere"),
    [
        ("settings", Config, BY_OTHER_VALUES),
        # `identity` is the pod's name and a random part, which the operator makes itself.
        ("operator.settings", OperatorConfig, OPERATORS_BY_OTHER_VALUES),
    ],
)
def test_the_settings_are_those_of_the_application(values, kind, elsewhere):
    (schema,) = [node["properties"] for path, node in described() if path == values]
    fields = {field.name: field for field in msgspec.structs.fields(kind) if field.name not in elsewhere}
    assert set(schema) == {camel(name) for name in fields}
    assert {name: schema[camel(name)]["default"] for name in fields} == {
        name: field.default for name, field in fields.items()
    }


@pytest.mark.parametrize("name", sorted(SCHEMA["properties"]["settings"]["properties"]))
def test_a_setting_has_the_same_bound_in_the_chart_and_in_the_application(chart: Chart, name):
    schema = SCHEMA["properties"]["settings"]["properties"][name]
    least = schema["minimum"]
    less = least / 2 if schema["type"] == "number" else least - 1
    pod = templates(chart({"settings": {name: least}}))["api"]
    environ = settled(pod, secret=STORES)
    (variable,) = [key for key in environ if key.replace("_", "").lower() == f"leaderboard{name.lower()}"]
    config.load(environ)
    with pytest.raises(ConfigError, match=variable):
        config.load(environ | {variable: str(less)})
    assert f"/settings/{name}" in refusal(chart, {"settings": {name: less}})


# --- Used


OTHER: dict[str, Any] = {
    "image.repository": "another",
    "image.tag": ("7", {"image": {"digest": ""}}),
    "image.digest": f"sha256:{'f' * 64}",
    "image.pullPolicy": "Never",
    "image.pullSecrets": ["another"],
    "region": "mars",
    "keyEnv": "other",
    "logLevel": "error",
    "existingSecret": ("another", {"existingSecret": "one", "secret": dict.fromkeys(OWN_SECRET["secret"], "")}),
    "secret.databaseUrl": "postgresql://other/db",
    "secret.redisUrl": "rediss://other",
    "secret.pepper": PEPPER[::-1],
    "secret.signingKey": "cd" * 32,
    **{f"settings.{name}": 1234 for name in SCHEMA["properties"]["settings"]["properties"]},
    "telemetry.enabled": False,
    "telemetry.endpoint": "https://other:4318",
    "api.replicas": (7, {"api": {"autoscaling": {"enabled": False}}}),
    "api.workers": 7,
    "api.autoscaling.enabled": False,
    "api.autoscaling.minReplicas": 7,
    "api.autoscaling.maxReplicas": 77,
    "api.autoscaling.targetCPUUtilizationPercentage": 7,
    "api.podDisruptionBudget.enabled": False,
    "api.podDisruptionBudget.maxUnavailable": 7,
    "api.service.type": "NodePort",
    "api.service.port": 77,
    "api.service.annotations": {"another": "1"},
    "api.ingress.enabled": False,
    "api.ingress.className": "another",
    "api.ingress.host": "another.example.com",
    "api.ingress.annotations": {"another": "1"},
    "api.ingress.tlsSecret": "another",
    "api.gateway.enabled": False,
    "api.gateway.parentRefs": [{"name": "another"}],
    "api.gateway.hostnames": ["another.example.com"],
    "api.preStopSeconds": 7,
    "api.terminationGracePeriodSeconds": 77,
    "worker.replicas": 7,
    "operator.enabled": (False, {"serviceMonitor": {"enabled": False}}),
    "operator.replicas": 7,
    "operator.tenantNamespaces": ["another"],
    "operator.endpoint": "https://another.example.com",
    "operator.settings.sweepSeconds": 7,
    "operator.settings.leaseSeconds": 77,
    "operator.settings.renewSeconds": 21.5,
    "operator.settings.retrySeconds": 7,
    "operator.settings.boardBatch": 7,
    "operator.settings.tenantWorkers": 7,
    "operator.settings.apiConnections": 7,
    "migrate.enabled": False,
    "migrate.backoffLimit": 7,
    "migrate.ttlSecondsAfterFinished": 77,
    "networkPolicy.enabled": False,
    "networkPolicy.ingress.from": [{"ipBlock": {"cidr": "10.7.0.0/16"}}],
    "networkPolicy.metrics.from": [{"ipBlock": {"cidr": "10.7.0.0/16"}}],
    "networkPolicy.egress.kubernetesApi.ports": [7],
    **{f"networkPolicy.egress.{to}.port": 7 for to in ("database", "redis")},
    "networkPolicy.egress.otlp.port": (7, {"telemetry": {"endpoint": "http://collector"}}),
    **{f"networkPolicy.egress.{to}.cidr": "10.7.0.0/16" for to in ("database", "redis", "otlp", "kubernetesApi")},
    "serviceMonitor.enabled": False,
    "serviceMonitor.interval": "7s",
    "serviceMonitor.labels": {"another": "1"},
}
for _role in ("api", "worker", "operator", "migrate"):
    OTHER |= {
        f"{_role}.resources.requests": {"cpu": "7m", "memory": "7Mi"},
        f"{_role}.resources.limits": {"cpu": "7", "memory": "7Gi"},
        f"{_role}.podAnnotations": {"another": "1"},
        f"{_role}.nodeSelector": {"another": "1"},
        f"{_role}.tolerations": [{"key": "another"}],
    }


def test_no_value_is_without_use(chart: Chart):
    """Each, changed by itself, changes what is made."""
    assert set(OTHER) == {path for path, _ in leaves()}
    full = chart(FULL)
    idle = []
    for path, change in OTHER.items():
        value, around = change if isinstance(change, tuple) else (change, {})
        base = merged(FULL, around)
        if chart(merged(base, nested(path, value))) == (chart(base) if around else full):
            idle.append(path)
    assert idle == []


def test_no_use_is_without_a_value():
    known = {path for path, _ in described()}
    used = {
        path
        for file in (CHART / "templates").iterdir()
        for path in re.findall(r"\.Values\.([A-Za-z]+(?:\.[A-Za-z]+)*)", file.read_text())
    }
    assert used - known == set()
    assert len(used) > 40


# --- Refused


SCHEMA_REFUSES: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 2}, "additional properties 'replicas' not allowed"),
    ({"api": {"replica": 2}}, "at '/api': additional properties 'replica' not allowed"),
    ({"settings": {"redisUrl": "redis://x"}}, "at '/settings': additional properties 'redisUrl' not allowed"),
    ({"api": {"replicas": 0}}, "at '/api/replicas': minimum: got 0, want 1"),
    ({"api": {"replicas": "two"}}, "at '/api/replicas': got string, want integer"),
    ({"api": {"workers": 1.5}}, "at '/api/workers': got number, want integer"),
    ({"api": {"service": {"port": 70000}}}, "at '/api/service/port': maximum: got 70,000, want 65,535"),
    ({"api": {"service": {"type": "ExternalName"}}}, "must be one of 'ClusterIP', 'NodePort', 'LoadBalancer'"),
    ({"api": {"podDisruptionBudget": {"maxUnavailable": 0}}}, "maxUnavailable': minimum: got 0, want 1"),
    ({"api": {"podDisruptionBudget": {"maxUnavailable": "0%"}}}, "maxUnavailable': '0%' does not match pattern"),
    ({"api": {"resources": {"limits": {"memory": None}}}}, "at '/api/resources/limits': missing property 'memory'"),
    ({"api": {"resources": {"requests": {"cpu": "a lot"}}}}, "at '/api/resources/requests/cpu': 'a lot' does not"),
    ({"api": {"gateway": {"parentRefs": [{"namespace": "x"}]}}}, "gateway/parentRefs/0': missing property 'name'"),
    ({"image": {"tag": "a tag"}}, "at '/image/tag': 'a tag' does not match pattern"),
    ({"image": {"digest": "sha256:123"}}, "at '/image/digest': 'sha256:123' does not match pattern"),
    ({"keyEnv": "Live"}, "at '/keyEnv': 'Live' does not match pattern '^[a-z]{2,8}$'"),
    ({"logLevel": "loud"}, "at '/logLevel': value must be one of 'debug', 'info', 'warning', 'error', 'critical'"),
    ({"migrate": {"ttlSecondsAfterFinished": 0}}, "ttlSecondsAfterFinished': minimum: got 0, want 60"),
    ({"networkPolicy": {"egress": {"redis": {"cidr": "redis.example.com"}}}}, "redis/cidr': 'redis.example.com'"),
    ({"networkPolicy": {"ingress": {"from": [{}]}}}, "from/0': minProperties: got 0, want 1"),
    ({"serviceMonitor": {"interval": "often"}}, "at '/serviceMonitor/interval': 'often' does not match pattern"),
    ({"telemetry": {"endpoint": "collector:4317"}}, "at '/telemetry/endpoint': 'collector:4317' does not match"),
    ({"operator": {"settings": {"sweepSeconds": 0}}}, "sweepSeconds': exclusiveMinimum: got 0, want 0"),
]


@pytest.mark.parametrize(("values", "says"), SCHEMA_REFUSES)
def test_the_schema_names_the_value_and_what_it_should_be(chart: Chart, values, says):
    assert says in refusal(chart, values)


def own(**change: str) -> dict[str, Any]:
    return merged(OWN_SECRET, {"secret": change})


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"existingSecret": ""}, "existingSecret is not set: name a Secret with the keys database-url, redis-url and"),
    ({"secret": OWN_SECRET["secret"]}, "existingSecret is set, so secret.databaseUrl, secret.redisUrl, secret.pepper"),
    (own(redisUrl="", pepper=""), "secret.redisUrl, secret.pepper is not set: without existingSecret all three"),
    (own(pepper="too short"), "secret.pepper has fewer than 32 characters: make one with  openssl rand -hex 32"),
    (own(signingKey="ab" * 31), "secret.signingKey has to be 64 hexadecimal digits: make one with  leaderboard"),
    ({"secret": {"signingKey": "ab" * 32}}, "existingSecret is set, so secret.signingKey would not be used"),
    (own(redisUrl="redis.example.com:6379"), "secret.redisUrl has to begin with redis:// or rediss://"),
    ({"image": {"tag": "latest"}}, 'image.tag is "latest", which says nothing about what runs: name a version'),
    ({"telemetry": {"enabled": True}}, "telemetry.endpoint is empty: set it to the collector's"),
    ({"api": {"ingress": {"enabled": True}}}, "api.ingress.host is empty: set it to the host name clients use"),
    ({"api": {"gateway": {"enabled": True}}}, "api.gateway.parentRefs is empty: name the Gateway"),
    (
        {"api": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}},
        "api.autoscaling.minReplicas (5) is more than maxReplicas (4)",
    ),
    (
        {"api": {"preStopSeconds": 20}},
        "api.terminationGracePeriodSeconds is 45: a pod would be killed with requests under way. It has to be 50",
    ),
    ({"operator": {"enabled": False}, "serviceMonitor": {"enabled": True}}, "there is nothing to scrape"),
]


@pytest.mark.parametrize(("values", "says"), CONTRADICTIONS)
def test_values_that_contradict_each_other_are_refused_with_what_to_do(chart: Chart, values, says):
    assert says in refusal(chart, values)


PORTS = [
    ("redisUrl", "redis://redis:6379/0", None),
    ("redisUrl", "rediss://redis", None),
    ("redisUrl", "rediss://user:1234@redis:6380", "6380, but networkPolicy.egress.redis.port is 6379"),
    ("redisUrl", "redis://:s3cr3t:77@redis:7000/2?x=1", "7000, but networkPolicy.egress.redis.port is 6379"),
    ("redisUrl", "redis://[fd00::64]:6379", None),
    ("databaseUrl", "postgresql://user:pass7@db:5432/leaderboard", None),
    ("databaseUrl", "postgresql://db:6432?sslmode=require", "6432, but networkPolicy.egress.database.port is 5432"),
    ("databaseUrl", "host=db port=6432 dbname=leaderboard", "6432, but networkPolicy.egress.database.port is 5432"),
    ("databaseUrl", "host=db password=a:12 dbname=leaderboard", None),
]


@pytest.mark.parametrize(("name", "url", "says"), PORTS)
def test_a_port_that_the_policies_do_not_open_is_refused(chart: Chart, name, url, says):
    if says is None:
        chart(own(**{name: url}))
    else:
        assert f"secret.{name} has port {says}" in refusal(chart, own(**{name: url}))
        chart(own(**{name: url}) | {"networkPolicy": {"enabled": False}})


def test_a_collectors_port_has_to_be_open_where_it_is_used(chart: Chart):
    telemetry = {"enabled": True, "endpoint": "http://collector:4319"}
    assert "telemetry.endpoint has port 4319" in refusal(chart, {"telemetry": telemetry})
    chart({"telemetry": telemetry, "networkPolicy": {"egress": {"otlp": {"port": 4319}}}})
    chart({"telemetry": telemetry | {"enabled": False}})


def test_all_contradictions_are_said_at_once(chart: Chart):
    said = refusal(chart, {"image": {"tag": "latest"}, "telemetry": {"enabled": True}, "existingSecret": ""})
    assert len(re.findall(r"^  - ", said.rpartition("These values do not work:")[2], re.MULTILINE)) == 3


def test_what_is_refused_is_not_printed_where_it_is_secret(chart: Chart):
    for values in (own(pepper="sEcrEt"), own(redisUrl="sEcrEt@redis"), own(signingKey="sEcrEt"), own(databaseUrl="")):
        assert "sEcrEt" not in refusal(chart, values)
        assert PEPPER not in refusal(chart, own(redisUrl="http://x"))


@pytest.mark.parametrize("release", ["1st", "my.release"])
def test_a_release_that_no_service_can_be_named_after_is_refused(chart: Chart, release):
    assert f'the release\'s name "{release}" also names Services' in refusal(chart, {}, release=release)


LEASES = [(15, 10, 2), (15, 15, 2), (15, 10, 10), (9, 10, 2), (15, 16, 2), (30, 29.5, 29)]
LEASES += [(None, 14, None), (None, 15, None), (10, None, None), (None, None, 10), (None, 2, None)]


@pytest.mark.parametrize(("lease", "renew", "retry"), LEASES)
def test_the_chart_refuses_the_leases_that_the_operator_refuses(chart: Chart, lease, renew, retry):
    given = {"leaseSeconds": lease, "renewSeconds": renew, "retrySeconds": retry}
    given = {name: value for name, value in given.items() if value is not None}
    environ = {"LEADERBOARD_OPERATOR_NAMESPACE": "x"} | {
        f"LEADERBOARD_OPERATOR_{name.removesuffix('Seconds').upper()}_SECONDS": str(value)
        for name, value in given.items()
    }
    try:
        operator_config.load(environ)
    except ConfigError:
        assert "retrySeconds < renewSeconds < leaseSeconds has to hold" in refusal(
            chart, {"operator": {"settings": given}}
        )
    else:
        chart({"operator": {"settings": given}})


# --- Helm's own view


@pytest.mark.parametrize("name", MATRIX)
def test_lint_finds_nothing(chart: Chart, tmp_path, name):
    values = tmp_path / "values.json"
    values.write_bytes(msgspec.json.encode({"existingSecret": "stores"} | MATRIX[name]))
    command = [chart.helm, "lint", "--strict", CHART, "--kube-version=1.36.0", f"--values={values}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout + done.stderr


def test_the_least_is_three_things(chart: Chart):
    kinds = sorted(manifest["kind"] for manifest in chart(MINIMAL))
    assert kinds == ["Deployment", "Deployment", "Service", "ServiceAccount"]
