"""What the chart makes: pods, their environment and probes, what they may connect to, and how they end."""

import re
from typing import Any

import pytest

from leaderboard import config
from leaderboard.api.resources.health import CHECK_SECONDS
from leaderboard.api.server import GRACEFUL_SECONDS
from leaderboard.config import Config
from leaderboard_operator import config as operator_config
from leaderboard_operator.config import OperatorConfig
from support.chart import (
    FULL,
    MATRIX,
    OWN_SECRET,
    PEPPER,
    SCHEMA,
    Chart,
    ChartRefused,
    Manifest,
    container,
    of_kind,
    only,
    settled,
    templates,
)

STORES = {"database-url": "postgresql://db/leaderboard", "redis-url": "rediss://redis", "pepper": PEPPER}
ROLES = {"api", "worker", "operator", "migrate"}


@pytest.fixture(scope="module", params=["default", "full"])
def manifests(chart: Chart, request) -> list[Manifest]:
    return chart(MATRIX[request.param])


# --- Names, labels, images


def test_names_follow_the_release(chart: Chart):
    made = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in chart(release="games", namespace="saas")}
    assert {name.partition("-")[0] for _, name in made} == {"games"}
    assert {("Deployment", f"games-{role}") for role in ROLES - {"migrate"}} | {("Job", "games-migrate")} <= made
    assert ("Service", "games-api") in made


def test_every_namespaced_object_says_where_it_is(manifests):
    nowhere = {"ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    for manifest in manifests:
        if manifest["kind"] not in nowhere:
            assert manifest["metadata"]["namespace"] == "platform", manifest["metadata"]["name"]


def test_selectors_have_nothing_that_differs_between_versions(manifests):
    """A Deployment's can never be changed; and those of two roles or releases must not overlap."""
    for deployment in of_kind(manifests, "Deployment"):
        role = deployment["metadata"]["name"].removeprefix("rel-")
        assert deployment["spec"]["selector"]["matchLabels"] == {
            "app.kubernetes.io/name": "leaderboard",
            "app.kubernetes.io/instance": "rel",
            "app.kubernetes.io/component": role,
        }


def test_what_selects_pods_selects_those_it_is_for(manifests):
    pods = {role: template["metadata"]["labels"] for role, template in templates(manifests).items()}

    def selected(selector: dict[str, str]) -> set[str]:
        return {role for role, labels in pods.items() if selector.items() <= labels.items()}

    assert selected(only(manifests, "Service", "rel-api")["spec"]["selector"]) == {"api"}
    budget = only(manifests, "PodDisruptionBudget", "rel-api")["spec"]
    assert selected(budget["selector"]["matchLabels"]) == {"api"}
    for role, template in templates(manifests).items():
        for spread in template["spec"].get("topologySpreadConstraints", ()):
            assert selected(spread["labelSelector"]["matchLabels"]) == {role}


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, "leaderboard:0.1.0"),
        ({"repository": "r.example.com:5000/a/b"}, "r.example.com:5000/a/b:0.1.0"),
        ({"tag": "1.2"}, "leaderboard:1.2"),
        ({"tag": "1.2", "digest": FULL["image"]["digest"]}, f"leaderboard@{FULL['image']['digest']}"),
    ],
)
def test_one_image_for_all_roles(chart: Chart, image, expected):
    pods = templates(chart({"image": image}))
    assert {role: container(pod)["image"] for role, pod in pods.items()} == dict.fromkeys(ROLES, expected)


def test_each_role_runs_its_command(manifests):
    assert {role: container(pod)["command"] for role, pod in templates(manifests).items()} == {
        "api": ["leaderboard", "serve"],
        "worker": ["leaderboard", "work"],
        "migrate": ["leaderboard", "migrate"],
        "operator": ["leaderboard-operator"],
    }


# --- Pods


def test_no_pod_may_do_more_than_it_must(manifests):
    for role, pod in templates(manifests).items():
        spec, inner = pod["spec"], container(pod)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["runAsGroup"] == 65532
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert inner["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        # The kubelet's environment of Services would mix with LEADERBOARD_*.
        assert spec["enableServiceLinks"] is False
        assert [mount["mountPath"] for mount in inner["volumeMounts"]] == ["/tmp"]
        (volume,) = spec["volumes"]
        assert volume["emptyDir"]["sizeLimit"]
        assert {"requests", "limits"} <= set(inner["resources"]), role
        assert {"cpu", "memory"} <= set(inner["resources"]["limits"]), role


def test_only_the_operator_has_a_token(manifests):
    accounts = {account["metadata"]["name"]: account for account in of_kind(manifests, "ServiceAccount")}
    having = set()
    for role, pod in templates(manifests).items():
        account = accounts[pod["spec"]["serviceAccountName"]]
        if pod["spec"].get("automountServiceAccountToken", account.get("automountServiceAccountToken", True)):
            having.add(role)
    assert having == {"operator"}
    bound = [
        subject["name"]
        for binding in of_kind(manifests, "RoleBinding", "ClusterRoleBinding")
        for subject in binding["subjects"]
    ]
    assert set(bound) == {"rel-operator"}


def test_secrets_are_in_no_pod_but_by_reference(chart: Chart):
    manifests = chart(OWN_SECRET)
    for manifest in manifests:
        holds = any(value in str(manifest) for value in OWN_SECRET["secret"].values())
        assert holds == (manifest["kind"] == "Secret"), manifest["metadata"]["name"]
    for pod in templates(manifests).values():
        for variable in container(pod)["env"]:
            secret = re.search(r"DATABASE_URL|REDIS_URL|PEPPER|SIGNING_KEY", variable["name"])
            assert ("secretKeyRef" in variable.get("valueFrom", {})) == bool(secret), variable["name"]


def test_an_existing_secret_is_used_and_none_made(chart: Chart):
    manifests = chart({"existingSecret": "mine"})
    assert of_kind(manifests, "Secret") == []
    assert {secret_of(pod) for pod in templates(manifests).values()} == {"mine"}


def test_a_secret_of_the_charts_own_is_there_when_it_is_needed(chart: Chart):
    """The migration runs before anything else is made, so that it has one that is made for it alone."""
    manifests = chart(OWN_SECRET)
    used = {role: secret_of(pod) for role, pod in templates(manifests).items()}
    assert used == {"api": "rel", "worker": "rel", "operator": "rel", "migrate": "rel-migrate"}
    ours, migrations = only(manifests, "Secret", "rel"), only(manifests, "Secret", "rel-migrate")
    assert ours["stringData"] == migrations["stringData"]
    assert "annotations" not in ours["metadata"]
    assert migrations["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"


def secret_of(pod: Manifest) -> str:
    (name,) = {
        variable["valueFrom"]["secretKeyRef"]["name"]
        for variable in container(pod)["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    return name


def test_another_secret_starts_other_pods_and_nothing_else_does(chart: Chart):
    def annotations(values: dict[str, Any]) -> dict[str, Any]:
        return {role: pod["metadata"].get("annotations") for role, pod in templates(chart(values)).items()}

    first, again = annotations(OWN_SECRET), annotations(OWN_SECRET | {"worker": {"replicas": 2}})
    other = annotations(OWN_SECRET | {"secret": OWN_SECRET["secret"] | {"pepper": PEPPER[::-1]}})
    assert first == again
    assert {role for role in ROLES if first[role] != other[role]} == ROLES - {"migrate"}
    assert annotations({}) == dict.fromkeys(ROLES)  # what is in another's Secret is not known here


# --- Environment

SHARED = {"LEADERBOARD_DATABASE_URL", "LEADERBOARD_REDIS_URL", "LEADERBOARD_PEPPER"}
COMMON = SHARED | {"LEADERBOARD_LOG_LEVEL"}


def test_roles_get_their_environment_and_no_other(chart: Chart):
    found = {role: set(settled(pod, secret=STORES)) for role, pod in templates(chart()).items()}
    prefix = "LEADERBOARD_OPERATOR_"
    assert found == {
        "api": COMMON | {f"LEADERBOARD_{name}" for name in ("BIND", "WORKERS", "KEY_ENV", "REGION")},
        "worker": COMMON,
        "migrate": SHARED,
        "operator": COMMON | {"LEADERBOARD_KEY_ENV", f"{prefix}NAMESPACE", f"{prefix}BIND", f"{prefix}ENDPOINT"},
    }


def test_the_application_knows_every_variable(manifests):
    known = {f"LEADERBOARD_{field.upper()}" for field in Config.__struct_fields__}
    known |= {f"LEADERBOARD_OPERATOR_{field.upper()}" for field in OperatorConfig.__struct_fields__}
    opentelemetrys = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_RESOURCE_ATTRIBUTES"}
    for pod in templates(manifests).values():
        environ = settled(pod, secret=STORES)
        referred = {name for name in environ if any(f"$({name})" in str(v) for v in container(pod)["env"])}
        assert set(environ) - known - opentelemetrys - referred == set()


def test_what_is_set_arrives(chart: Chart):
    """The environment of a pod, read by the application itself."""
    settings = {name: node["default"] + 1 for name, node in SCHEMA["properties"]["settings"]["properties"].items()}
    pods = templates(chart(FULL | {"settings": settings}))
    for role in ROLES - {"migrate"}:
        loaded = config.load(settled(pods[role], secret=STORES))
        for name, value in settings.items():
            assert getattr(loaded, re.sub("([A-Z])", r"_\1", name).lower()) == value
        assert loaded.log_level == "debug"
        assert loaded.telemetry is True
        assert loaded.redis_url == STORES["redis-url"]
        assert loaded.pepper == PEPPER
    api = config.load(settled(pods["api"], secret=STORES))
    assert api.signing_key == ""
    signing = config.load(settled(pods["api"], secret=STORES | {"signing-key": "ab" * 32}))
    assert signing.signing_key == "ab" * 32
    assert (api.bind, api.workers, api.region, api.key_env) == ("0.0.0.0:8080", 2, "eu-west", "test")
    assert config.load(settled(pods["operator"], secret=STORES)).key_env == "test"
    assert config.load(settled(pods["migrate"], secret=STORES)).database_url == STORES["database-url"]

    operator = operator_config.load(settled(pods["operator"], secret=STORES))
    assert (operator.namespace, operator.bind) == ("platform", "0.0.0.0:8081")
    assert operator.endpoint == "https://scores.example.com"
    assert (operator.sweep_seconds, operator.lease_seconds, operator.renew_seconds) == (30.5, 30, 20)


@pytest.mark.parametrize("number", [1, 999_999, 1_000_000, 123_456_789_012])
def test_large_numbers_stay_numbers(chart: Chart, number):
    pod = templates(chart({"settings": {"outboxMax": number}}))["api"]
    assert settled(pod, secret=STORES)["LEADERBOARD_OUTBOX_MAX"] == str(number)


def test_telemetry_says_where_it_comes_from(chart: Chart):
    pods = templates(chart({"telemetry": FULL["telemetry"]}))
    for role in ROLES - {"migrate"}:
        environ = settled(pods[role], secret=STORES)
        assert environ["OTEL_EXPORTER_OTLP_ENDPOINT"] == FULL["telemetry"]["endpoint"]
        attributes = dict(part.split("=") for part in environ["OTEL_RESOURCE_ATTRIBUTES"].split(","))
        assert attributes == {
            "service.namespace": "rel",
            "k8s.namespace.name": "platform",
            "k8s.pod.name": "a-pod",
        }


@pytest.mark.parametrize(
    ("values", "endpoint"),
    [
        ({}, "http://rel-api.platform.svc"),
        ({"api": {"service": {"port": 8080}}}, "http://rel-api.platform.svc:8080"),
        ({"operator": {"endpoint": "https://scores.example.com"}}, "https://scores.example.com"),
    ],
)
def test_keys_secrets_name_an_address_that_is_there(chart: Chart, values, endpoint):
    environ = settled(templates(chart(values))["operator"], secret=STORES)
    assert environ["LEADERBOARD_OPERATOR_ENDPOINT"] == endpoint


# --- Probes, and how pods end


def test_probes_ask_what_is_served(manifests):
    pods = templates(manifests)
    for role, live, ready in (("api", "/healthz", "/readyz"), ("operator", "/livez", "/readyz")):
        inner = container(pods[role])
        assert inner["livenessProbe"]["httpGet"] == {"path": live, "port": "http"}
        assert inner["readinessProbe"]["httpGet"] == {"path": ready, "port": "http"}
        (port,) = inner["ports"]
        bind = settled(pods[role], secret=STORES)[{"api": "LEADERBOARD_BIND"}.get(role, "LEADERBOARD_OPERATOR_BIND")]
        assert port["name"] == "http"
        assert bind == f"0.0.0.0:{port['containerPort']}"
    for role in ("worker", "migrate"):
        assert not {"livenessProbe", "readinessProbe", "ports"} & set(container(pods[role]))


def test_readiness_waits_longer_than_the_api_takes_to_say_that_postgres_is_away(manifests):
    assert container(templates(manifests)["api"])["readinessProbe"]["timeoutSeconds"] >= CHECK_SECONDS + 1


def test_an_ending_pod_has_the_time_it_needs(manifests):
    spec = templates(manifests)["api"]["spec"]
    pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] > pause + GRACEFUL_SECONDS


@pytest.mark.parametrize("pause", [1, 5, 60])
def test_a_grace_period_that_is_too_short_is_refused_to_the_second(chart: Chart, pause):
    enough = pause + GRACEFUL_SECONDS + 5
    chart({"api": {"preStopSeconds": pause, "terminationGracePeriodSeconds": enough}})
    with pytest.raises(ChartRefused, match=f"It has to be {enough} or more" if pause > 1 else "got 30, want 31"):
        chart({"api": {"preStopSeconds": pause, "terminationGracePeriodSeconds": enough - 1}})


def test_an_update_takes_no_pod_away_before_another_is_ready(manifests):
    assert only(manifests, "Deployment", "rel-api")["spec"]["strategy"]["rollingUpdate"] == {
        "maxUnavailable": 0,
        "maxSurge": 1,
    }


def test_the_autoscaler_alone_says_how_many(chart: Chart):
    manifests = chart({"api": {"autoscaling": {"enabled": True}}})
    assert "replicas" not in only(manifests, "Deployment", "rel-api")["spec"]
    scaler = only(manifests, "HorizontalPodAutoscaler", "rel-api")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "rel-api"}
    assert only(chart(), "Deployment", "rel-api")["spec"]["replicas"] == 2


# --- The migration


def test_everything_the_migration_needs_comes_before_it_and_goes_after_it(chart: Chart):
    hooks = [
        manifest for manifest in chart(OWN_SECRET) if "helm.sh/hook" in manifest["metadata"].get("annotations", {})
    ]
    assert sorted(hook["kind"] for hook in hooks) == ["Job", "NetworkPolicy", "Secret", "ServiceAccount"]
    for hook in hooks:
        annotations = hook["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
        before = int(annotations.get("helm.sh/hook-weight", "0")) < 0
        assert before == (hook["kind"] != "Job")
        policy = annotations["helm.sh/hook-delete-policy"].split(",")
        assert policy == ["before-hook-creation", *(["hook-succeeded"] if before else [])]


# --- NetworkPolicies

DNS = {("UDP", 53, ""), ("TCP", 53, "")}


def policies_of(manifests: list[Manifest], labels: dict[str, str]) -> list[Manifest]:
    return [
        policy["spec"]
        for policy in of_kind(manifests, "NetworkPolicy")
        if policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    ]


def let_through(manifests: list[Manifest], role: str, direction: str) -> set[tuple[str, int, str]]:
    """Protocol, port and address ("" for any, a peer's text otherwise) of all that a role's pods may do."""
    labels = templates(manifests)[role]["metadata"]["labels"]
    found = set()
    for policy in policies_of(manifests, labels):
        for rule in policy.get(direction, ()):
            peers = rule.get("to" if direction == "egress" else "from", [None])
            for port in rule["ports"]:  # a rule without would be one for all ports
                found |= {(port["protocol"], port["port"], "" if peer is None else peer_name(peer)) for peer in peers}
    return found


def peer_name(peer: dict[str, Any]) -> str:
    return peer["ipBlock"]["cidr"] if "ipBlock" in peer else str(peer)


def test_nothing_is_allowed_that_is_not_named(manifests):
    for role, template in templates(manifests).items():
        policies = policies_of(manifests, template["metadata"]["labels"])
        assert any(set(policy["policyTypes"]) == {"Ingress", "Egress"} for policy in policies), role
    deny = only(manifests, "NetworkPolicy", "rel-default-deny")["spec"]
    assert set(deny) == {"podSelector", "policyTypes"}
    for policy in of_kind(manifests, "NetworkPolicy"):
        assert policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "rel"


def test_each_role_reaches_what_it_needs_and_nothing_else(chart: Chart):
    manifests = chart()
    stores = {("TCP", 5432, ""), ("TCP", 6379, "")}
    assert {role: let_through(manifests, role, "egress") for role in ROLES} == {
        "api": DNS | stores,
        "worker": DNS | stores,
        "migrate": DNS | {("TCP", 5432, "")},
        "operator": DNS | stores | {("TCP", 443, ""), ("TCP", 6443, "")},
    }
    assert {role: let_through(manifests, role, "ingress") for role in ROLES} == {
        "api": {("TCP", 8080, "")},
        "worker": set(),
        "migrate": set(),
        "operator": set(),
    }


def test_addresses_and_peers_narrow_it(chart: Chart):
    manifests = chart(FULL)
    stores = {("TCP", 6432, "10.1.0.0/24"), ("TCP", 6380, "fd00::/64")}
    otlp = {("TCP", 4318, "10.3.0.0/24")}
    assert {role: let_through(manifests, role, "egress") for role in ROLES} == {
        "api": DNS | stores | otlp,
        "worker": DNS | stores | otlp,
        "migrate": DNS | {("TCP", 6432, "10.1.0.0/24")},
        "operator": DNS | stores | otlp | {("TCP", 6443, "10.4.0.1/32")},
    }
    ingress, metrics = FULL["networkPolicy"]["ingress"]["from"], FULL["networkPolicy"]["metrics"]["from"]
    assert let_through(manifests, "api", "ingress") == {("TCP", 8080, str(ingress[0]))}
    assert let_through(manifests, "operator", "ingress") == {("TCP", 8081, str(metrics[0]))}


def test_let_in_is_what_listens(manifests):
    pods = templates(manifests)
    for role in ROLES:
        listens = {port["containerPort"] for port in container(pods[role]).get("ports", ())}
        assert {port for _, port, _ in let_through(manifests, role, "ingress")} <= listens


# --- Ways in


def test_ways_in_lead_to_the_api(chart: Chart):
    manifests = chart(FULL)
    service = only(manifests, "Service", "rel-api")["spec"]
    (port,) = service["ports"]
    (named,) = container(templates(manifests)["api"])["ports"]
    assert port["targetPort"] == named["name"]
    ingress = only(manifests, "Ingress", "rel-api")["spec"]
    (path,) = ingress["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": "rel-api", "port": {"name": port["name"]}}
    assert ingress["tls"] == [{"hosts": ["scores.example.com"], "secretName": "scores-tls"}]
    route = only(manifests, "HTTPRoute", "rel-api")["spec"]
    assert route["rules"] == [{"backendRefs": [{"name": "rel-api", "port": port["port"]}]}]


def test_prometheus_finds_the_operator(chart: Chart):
    manifests = chart({"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}})
    monitor = only(manifests, "ServiceMonitor", "rel-operator")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    service = only(manifests, "Service", "rel-operator")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    (port,) = service["spec"]["ports"]
    assert endpoint["port"] == port["name"]
    others = [found["metadata"]["labels"] for found in of_kind(manifests, "Service") if found is not service]
    assert not any(monitor["spec"]["selector"]["matchLabels"].items() <= labels.items() for labels in others)


def test_without_the_operator_nothing_of_it_is_there(chart: Chart):
    manifests = chart({"operator": {"enabled": False}})
    assert not [manifest for manifest in manifests if "operator" in manifest["metadata"]["name"]]
    assert not of_kind(manifests, "ClusterRole", "Role", "ValidatingAdmissionPolicy")
