"""What the chart gives the operator, as Helm renders it and as the API server decides; and `preventDeletion`."""

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from leaderboard.local.kubernetes import Cluster, KubernetesBinaries
from leaderboard.local.process import wait_until
from support.custom_resources import CHART, MINIMAL, document
from support.kubernetes import MakeNamespace, install_crds

Manifests = list[dict[str, Any]]
Render = Callable[..., Manifests]
OURS, CORE, COORDINATION = "leaderboard.saas", "", "coordination.k8s.io"


@pytest.fixture(scope="session")
def render(kubernetes_binaries: KubernetesBinaries) -> Render:
    """(tenant_namespaces=None, release="rel", namespace="platform") -> what `helm template` renders."""

    def render(
        tenant_namespaces: list[str] | None = None, *, release: str = "rel", namespace: str = "platform"
    ) -> Manifests:
        command = [str(kubernetes_binaries.helm), "template", release, str(CHART), f"--namespace={namespace}"]
        command.append("--kube-version=1.36.0")  # else what this build of Helm takes for usual
        command.append("--set=existingSecret=stores")
        if tenant_namespaces is not None:
            command += ["--set-json", f"operator.tenantNamespaces={json.dumps(tenant_namespaces)}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise ValueError(done.stderr)
        return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]

    return render


# --- As rendered


def of_kind(manifests: Manifests, *kinds: str) -> Manifests:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def is_operators(manifest: dict[str, Any]) -> bool:
    return manifest["metadata"]["labels"].get("app.kubernetes.io/component") == "operator"


def rights(manifests: Manifests) -> set[tuple[str, str, str, str, str]]:
    """Every right that is bound: namespace ("" for all), API group, resource, name ("" for any), verb."""
    roles = {
        (role["kind"], role["metadata"].get("namespace", ""), role["metadata"]["name"]): role
        for role in of_kind(manifests, "Role", "ClusterRole")
    }
    found = set()
    for binding in of_kind(manifests, "RoleBinding", "ClusterRoleBinding"):
        where = binding["metadata"].get("namespace", "")
        refers = binding["roleRef"]
        role = roles.pop((refers["kind"], where, refers["name"]))
        (account,) = (found for found in of_kind(manifests, "ServiceAccount") if is_operators(found))
        subject = {key: account["metadata"][key] for key in ("name", "namespace")}
        assert binding["subjects"] == [{"kind": "ServiceAccount", **subject}]
        for rule in role["rules"]:
            assert set(rule) <= {"apiGroups", "resources", "resourceNames", "verbs"}
            found |= {
                (where, group, resource, name, verb)
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for name in rule.get("resourceNames", [""])
                for verb in rule["verbs"]
            }
    assert not roles, "a role that is not bound"
    return found


EVERYWHERE = {
    *(("", OURS, kind, "", verb) for kind in ("tenants", "leaderboards") for verb in ("get", "list", "watch", "patch")),
    *(("", OURS, f"{kind}/status", "", "patch") for kind in ("tenants", "leaderboards")),
    *(("", OURS, f"{kind}/finalizers", "", "update") for kind in ("tenants", "leaderboards")),
    ("", CORE, "events", "", "create"),
    ("", CORE, "namespaces", "", "get"),
}
LEASE = {
    ("platform", COORDINATION, "leases", "", "create"),
    *(("platform", COORDINATION, "leases", "leaderboard-operator", verb) for verb in ("get", "update")),
}
SECRETS = ("get", "create", "update", "delete")


@pytest.mark.parametrize(
    ("given", "places"),
    [
        (None, ["platform"]),
        ([], ["platform"]),
        (["team-a"], ["team-a"]),
        (["platform", "team-a"], ["platform", "team-a"]),
        (["*"], [""]),
    ],
)
def test_the_rights_are_these_and_no_others(render: Render, given: list[str] | None, places: list[str]) -> None:
    secrets = {(place, CORE, "secrets", "", verb) for place in places for verb in SECRETS}
    assert rights(render(given)) == EVERYWHERE | LEASE | secrets


@pytest.mark.parametrize("given", [None, ["team-a"], ["*"]])
def test_there_is_no_wildcard(render: Render, given: list[str] | None) -> None:
    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            value = [*value, *value.values()]
        if isinstance(value, list):
            for part in value:
                yield from texts(part)
        elif isinstance(value, str):
            yield value

    assert "*" not in set(texts(render(given)))


@pytest.mark.parametrize(
    ("given", "says"),
    [(["*", "team-a"], "maxItems: got 2, want 1"), (["Team_A"], "does not match pattern"), (["a", "a"], "are equal")],
)
def test_bad_namespaces_are_refused(render: Render, given: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=r"at '/operator/tenantNamespaces") as refused:
        render(given)
    assert says in str(refused.value)


# --- As the API server decides


@pytest.fixture
def install(kubernetes: Cluster, render: Render) -> Iterator[Callable[..., str]]:
    """(release namespace, tenant_namespaces) -> the operator's user name, its rights and the policy installed.

    They go again. Of what runs nothing is installed: the cluster may be a real one.
    """
    install_crds(kubernetes)
    installed: list[str] = []

    def install(namespace: str, tenant_namespaces: list[str] | None = None) -> str:
        made = render(tenant_namespaces, release=namespace, namespace=namespace)
        manifests = [found for found in made if is_operators(found) and found["kind"] != "Deployment"]
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        installed.append(text)
        kubernetes.kubectl("apply", "--filename=-", input=text)
        user = f"system:serviceaccount:{namespace}:{namespace}-operator"
        # RBAC works from a watch, so a grant takes a moment; the bindings of a namespace may come after the others.
        for place in tenant_namespaces or [namespace]:
            where = "default" if place == "*" else place
            assert wait_until(lambda where=where: can(kubernetes, user, "get secrets", where), seconds=90)
        assert wait_until(lambda: can(kubernetes, user, "list tenants.leaderboard.saas", "default"), seconds=90)
        assert wait_until(lambda: can(kubernetes, user, "create leases.coordination.k8s.io", namespace), seconds=90)
        return user

    yield install
    for text in installed:
        kubernetes.kubectl("delete", "--ignore-not-found", "--filename=-", input=text)


def can(cluster: Cluster, user: str, what: str, namespace: str) -> bool:
    """Whether `user` may do `what` ("patch tenants/status") there."""
    verb, resource = what.split()
    options = []
    if match := re.fullmatch(r"(\S+)/(status|finalizers|token)", resource):
        resource = match[1]
        options.append(f"--subresource={match[2]}")
    told = cluster.kubectl(
        "auth", "can-i", verb, resource, *options, f"--namespace={namespace}", f"--as={user}", check=False
    )
    answer = told.split("\n", 1)[0]
    assert answer in ("yes", "no"), told
    return answer == "yes"


ANYWHERE_CAN = [
    *(f"{verb} {kind}.{OURS}" for kind in ("tenants", "leaderboards") for verb in ("get", "list", "watch", "patch")),
    *(f"patch {kind}.{OURS}/status" for kind in ("tenants", "leaderboards")),
    *(f"update {kind}.{OURS}/finalizers" for kind in ("tenants", "leaderboards")),
    "create events",
    "get namespaces",
]
ANYWHERE_CANNOT = [
    *(f"{verb} tenants.{OURS}" for verb in ("create", "update", "delete", "deletecollection")),
    *(f"{verb} leaderboards.{OURS}" for verb in ("create", "update", "delete", "deletecollection")),
    f"update tenants.{OURS}/status",
    f"get leaderboards.{OURS}/status",
    *(f"{verb} events" for verb in ("get", "list", "watch", "patch", "delete")),
    "create events.events.k8s.io",
    *(f"{verb} namespaces" for verb in ("list", "create", "watch", "patch", "delete")),
    *(f"{verb} secrets" for verb in ("list", "watch", "patch", "deletecollection")),
    *(f"{verb} configmaps" for verb in ("get", "list", "create")),
    *(f"{verb} pods" for verb in ("get", "list", "create")),
    "create serviceaccounts/token",
    "get customresourcedefinitions.apiextensions.k8s.io",
    "patch customresourcedefinitions.apiextensions.k8s.io",
    "create clusterrolebindings.rbac.authorization.k8s.io",
    "escalate clusterroles.rbac.authorization.k8s.io",
    "bind roles.rbac.authorization.k8s.io",
    "impersonate users",
    "delete validatingadmissionpolicies.admissionregistration.k8s.io",
    *(f"{verb} leases.coordination.k8s.io" for verb in ("get", "list", "watch", "patch", "delete")),
    "get leases.coordination.k8s.io/another",
]
SECRETS_CAN = [f"{verb} secrets" for verb in SECRETS]
LEASE_CAN = [
    "create leases.coordination.k8s.io",
    "get leases.coordination.k8s.io/leaderboard-operator",
    "update leases.coordination.k8s.io/leaderboard-operator",
]


def test_the_server_grants_what_is_needed_where_it_is_needed(
    kubernetes: Cluster, make_namespace: MakeNamespace, install: Callable[..., str]
) -> None:
    release, team, other = make_namespace(), make_namespace(), make_namespace()
    user = install(release, [team])
    granted = {
        release: {*ANYWHERE_CAN, *LEASE_CAN},
        team: {*ANYWHERE_CAN, *SECRETS_CAN},
        other: {*ANYWHERE_CAN},
    }
    for where, expected in granted.items():
        asked = {*ANYWHERE_CAN, *SECRETS_CAN, *LEASE_CAN}
        assert {what for what in asked if can(kubernetes, user, what, where)} == expected
    assert [what for what in ANYWHERE_CANNOT if can(kubernetes, user, what, team)] == []
    others_leases = [what for what in ANYWHERE_CANNOT if "lease" in what]
    assert [what for what in others_leases if can(kubernetes, user, what, release)] == []


def test_secrets_of_the_release_are_the_default_and_a_star_is_all(
    kubernetes: Cluster, make_namespace: MakeNamespace, install: Callable[..., str]
) -> None:
    first, second = make_namespace(), make_namespace()
    user = install(first)
    assert [can(kubernetes, user, "get secrets", where) for where in (first, second)] == [True, False]
    user = install(second, ["*"])
    for where in (first, second, "kube-system"):
        assert {
            what for what in (*SECRETS_CAN, "list secrets", "patch secrets") if can(kubernetes, user, what, where)
        } == {*SECRETS_CAN}


# --- preventDeletion


def test_a_protected_tenant_is_deleted_only_after_saying_so(
    kubernetes: Cluster, namespace: str, install: Callable[..., str]
) -> None:
    install(namespace)
    made = document("Tenant", MINIMAL["Tenant"] | {"preventDeletion": True}, namespace=namespace, name="acme")
    kubernetes.kubectl("create", "--filename=-", input=json.dumps(made))
    delete = ("delete", "tenant", "acme", f"--namespace={namespace}")
    # A policy works from a watch too.
    assert wait_until(lambda: "denied" in kubernetes.kubectl(*delete, "--dry-run=server", check=False), seconds=90)

    for attempt in (delete, ("delete", "tenants", "--all", f"--namespace={namespace}")):
        told = kubernetes.kubectl(*attempt, check=False)
        assert "Tenant acme has spec.preventDeletion: true" in told
    kubernetes.kubectl("get", "tenant", "acme", f"--namespace={namespace}")

    command = re.search(r"kubectl (patch .*\}')", told)
    assert command is not None, told
    kubernetes.kubectl(*shlex.split(command[1]))
    kubernetes.kubectl(*delete)
    assert "NotFound" in kubernetes.kubectl("get", "tenant", "acme", f"--namespace={namespace}", check=False)


def test_other_deletions_pass(kubernetes: Cluster, namespace: str, install: Callable[..., str]) -> None:
    install(namespace)
    for name, spec in (("protected", {"preventDeletion": True}), ("plain", {})):
        made = document("Tenant", MINIMAL["Tenant"] | spec, namespace=namespace, name=name)
        kubernetes.kubectl("create", "--filename=-", input=json.dumps(made))
    made = document("Leaderboard", MINIMAL["Leaderboard"], namespace=namespace, name="board")
    kubernetes.kubectl("create", "--filename=-", input=json.dumps(made))
    delete = ("delete", f"--namespace={namespace}")
    protected = (*delete, "tenant/protected", "--dry-run=server")
    assert wait_until(lambda: "denied" in kubernetes.kubectl(*protected, check=False), seconds=90)
    kubernetes.kubectl(*delete, "tenant/plain", "leaderboard/board")
