"""What each stack asks for: its shape, its names, its secrets."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pulumi import RunError

from leaderboard_infra import plan
from leaderboard_infra.plan import DISABLED, Plan, Resource, physical_name

STACKS = plan.stack_names()
# Every mode that a setting has is in one of these.
MODES = {
    "as the file says": {},
    "everything external": {
        "redis_mode": "external",
        "redis_url": "rediss://u:hidden-redis@redis.example.com:6380",
        "postgres_mode": "external",
        "postgres_url": "postgresql://u:hidden-postgres@postgres.example.com:6432/db",
        "observability_mode": "external",
        "otlp_endpoint": "https://otlp.example.com",
        "redis_memory": "1Gi",
        "redis_storage": "10Gi",
        "postgres_memory": "1Gi",
        "postgres_storage": "20Gi",
        "telemetry_storage": "20Gi",
        "telemetry_retention": "15d",
    },
    "no telemetry": {
        "observability_mode": "off",
        "telemetry_storage": "20Gi",
        "telemetry_retention": "15d",
    },
    "operators without backups": {"redis_mode": "cluster", "postgres_mode": "cloudnative-pg"},
    "one instance": {"postgres_mode": "cloudnative-pg", "postgres_instances": "1"},
    "an Ingress": {"host": "scores.example.com", "tls_secret": "cert", "ingress_class": "nginx"},
}
RUNS = [(stack, {}) for stack in STACKS] + [("local", changes) for changes in MODES.values() if changes]
each_run = pytest.mark.parametrize(
    ("stack", "changes"), RUNS, ids=[*STACKS, *(f"local, {name}" for name in MODES if MODES[name])]
)
both = pytest.mark.parametrize("preview", [False, True], ids=["up", "preview"])


def top(stack: str) -> str:
    return "leaderboard:global:Shared" if stack == "global" else "leaderboard:region:Cell"


@each_run
@both
def test_every_resource_is_in_the_one_cell(planned, stack: str, changes: dict[str, str], preview: bool) -> None:
    plan = planned(stack, preview=preview, **changes)
    (root,) = [each for each in plan.resources.values() if each.parent not in plan.resources]
    assert root.kind == top(stack)
    assert root.parent.endswith(f"pulumi:pulumi:Stack::leaderboard-{stack}")
    for resource in plan.resources.values():
        if resource is not root:
            assert plan.chain(resource)[-1] is root
            assert not plan.resources[resource.parent].custom, "a resource's parent is a component"


@each_run
@both
def test_no_resource_is_made_by_a_default_provider(planned, stack: str, changes: dict[str, str], preview: bool) -> None:
    plan = planned(stack, preview=preview, **changes)
    providers = {each.urn: each for each in plan.resources.values() if each.kind.startswith("pulumi:providers:")}
    for resource in plan.resources.values():
        if not resource.custom or resource.urn in providers or resource.kind == "pulumi:pulumi:StackReference":
            continue
        package = resource.kind.partition(":")[0]
        urn = resource.provider.rpartition("::")[0]
        assert urn in providers, f"{resource.name} has no provider of this stack"
        assert providers[urn].kind == f"pulumi:providers:{package}"
    assert len([each for each in providers.values() if each.kind.endswith(":kubernetes")]) <= 1


@pytest.mark.parametrize("stack", STACKS)
def test_every_stack_has_default_providers_turned_off(stack: str) -> None:
    assert plan.stack_file(stack)[DISABLED] == ["*"]


# Theirs are the names of what there can only be one of in a cluster or account, whatever the region.
_NAMED_BY_OTHERS = {"apiextensions.k8s.io/v1:CustomResourceDefinition", "eks/addon:Addon"}


@each_run
@both
def test_the_region_is_in_every_name(planned, stack: str, changes: dict[str, str], preview: bool) -> None:
    for resource in planned(stack, preview=preview, **changes).resources.values():
        assert resource.name.startswith(f"{stack}-")
        name = physical_name(resource)
        if not name or resource.kind.partition(":")[2] in _NAMED_BY_OTHERS:
            continue
        if stack == "global":
            assert "global" in name or re.match(r"(us-east|eu-west)\.", name)
        elif resource.kind == "pulumi:pulumi:StackReference":
            assert name == "organization/leaderboard/global"
        else:
            assert stack in name, f"{resource.kind} {name}"


@each_run
@both
def test_namespaced_objects_are_in_a_namespace_of_the_cell(
    planned, stack: str, changes: dict[str, str], preview: bool
) -> None:
    plan = planned(stack, preview=preview, **changes)
    made = {
        each.inputs["metadata"]["name"]
        for each in plan.resources.values()
        if each.kind == "kubernetes:core/v1:Namespace"
    }
    cluster_wide = {"Namespace", "CustomResourceDefinition", "StorageClass"}
    for resource in plan.resources.values():
        if resource.kind.startswith("kubernetes:") and resource.kind.rpartition(":")[2] not in cluster_wide:
            inputs = resource.inputs
            namespace = inputs["namespace"] if "namespace" in inputs else inputs["metadata"]["namespace"]
            assert namespace in made


# The words that the mocks and the examples use where there is a secret.
_HIDDEN = re.compile(r"made-up|hidden-|an-access-key's-secret|AKIAEXAMPLE|glsa_example|0123456789abcdef{5,}")


def texts(value: object, path: tuple[str | int, ...] = ()):
    if isinstance(value, dict):
        for key, below in value.items():
            yield from texts(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from texts(below, (*path, index))
    elif isinstance(value, str):
        yield path, value


def is_marked(resource: Resource, path: tuple[str | int, ...]) -> bool:
    return any(path[:length] in resource.secrets for length in range(len(path) + 1))


@each_run
def test_secrets_stay_secret(planned, stack: str, changes: dict[str, str]) -> None:
    plan = planned(stack, **changes)
    found = 0
    for resource in plan.resources.values():
        if resource.kind == "pulumi:pulumi:StackReference":
            continue
        for path, text in texts(dict(resource.inputs)):
            if _HIDDEN.search(text):
                found += 1
                assert is_marked(resource, path), f"{resource.name} shows {path}"
                assert resource.kind in ("kubernetes:core/v1:Secret", "pulumi:providers:grafana")
    assert found
    for name, value in plan.outputs.items():
        if _HIDDEN.search(str(value)):
            assert name in plan.secret_outputs, f"the output {name} shows a secret"


@pytest.mark.parametrize("stack", [stack for stack in STACKS if stack != "global"])
def test_a_preview_leaves_secret_what_is_not_known_yet(planned, stack: str) -> None:
    plan = planned(stack, preview=True)
    (credentials,) = [each for each in plan.resources.values() if each.name == f"{stack}-credentials"]
    assert ("stringData",) in credentials.secrets


def shape(plan: Plan) -> dict[str, tuple[object, ...]]:
    return {
        each.urn: (each.parent, each.provider, each.protect, each.retain, each.inputs, each.secrets)
        for each in plan.resources.values()
    }


@pytest.mark.parametrize("stack", STACKS)
def test_the_same_configuration_gives_the_same_graph(stack: str) -> None:
    configuration, secret_keys = plan.stack_config(stack)
    runs = [plan.run(stack, given=configuration, secret_keys=secret_keys) for _ in range(2)]
    assert shape(runs[0]) == shape(runs[1])
    assert runs[0].outputs == runs[1].outputs


@settings(max_examples=6, deadline=None)
@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            "redis_mode": st.sampled_from(["single", "cluster"]),
            "redis_appendfsync": st.sampled_from(["everysec", "always"]),
            "postgres_mode": st.sampled_from(["single", "cloudnative-pg"]),
            "api_replicas": st.integers(1, 50).map(str),
            "api_workers": st.integers(1, 8).map(str),
            "operator": st.sampled_from(["true", "false"]),
            "host": st.sampled_from(["", "scores.example.com"]),
            "protect_data": st.sampled_from(["true", "false"]),
            "storage_class": st.sampled_from(["", "fast"]),
        },
    )
)
def test_whatever_is_set_the_graph_is_the_same_again_and_in_one_cell(changes: dict[str, str]) -> None:
    configuration, secret_keys = plan.stack_config("local", **changes)
    runs = [plan.run("local", given=configuration, secret_keys=secret_keys) for _ in range(2)]
    assert shape(runs[0]) == shape(runs[1])
    for resource in runs[0].resources.values():
        assert resource.kind == top("local") or runs[0].chain(resource)[-1].kind == top("local")


@pytest.mark.parametrize("stack", STACKS)
def test_a_preview_shows_the_resources_that_up_makes(planned, stack: str) -> None:
    before, after = planned(stack, preview=True), planned(stack)
    assert before.resources.keys() == after.resources.keys()


def test_each_stack_up_on_its_own_configuration_says_what_is_still_to_be_set() -> None:
    configuration, _ = plan.stack_config("us-east")
    configuration = {key: value for key, value in configuration.items() if "backup" not in key.lower()}
    configuration |= {"leaderboard:backupUrl": "s3://acme"}
    with pytest.raises(RunError, match="pulumi config set --secret backupAccessKeyId"):
        plan.run("us-east", given=configuration, secret_keys=set())


@pytest.mark.parametrize(
    ("stack", "words"), [("us-east", "get-token"), ("eu-west", "kind: Config")], ids=["eks", "doks"]
)
def test_a_new_cluster_s_kubeconfig_reaches_its_provider(planned, stack: str, words: str) -> None:
    provider = planned(stack).by_name[f"{stack}-kubernetes"]
    assert words in provider.inputs["kubeconfig"]
    assert (("kubeconfig",) in provider.secrets) is (stack == "eu-west")
    assert "context" not in provider.inputs


def test_nodes_have_the_role_that_was_made_for_them(planned) -> None:
    nodes = planned("us-east").by_name["us-east-nodes"].inputs
    assert nodes["nodeRoleArn"] == "arn:aws:iam::000000000000:role/us-east-node-role"


class TestHandOver:
    def test_a_region_takes_host_pepper_and_primary_from_the_global_stack(self, planned) -> None:
        eu_west = planned("eu-west")
        secret = eu_west.by_name["eu-west-credentials"].inputs["stringData"]
        assert secret["database-url"] == plan.GLOBAL_OUTPUTS["primaryDatabaseUrl"]
        assert secret["pepper"] == plan.GLOBAL_OUTPUTS["pepper"]
        assert eu_west.outputs["url"] == "https://eu-west.leaderboards.example.com"
        assert eu_west.outputs["primaryRegion"] == "us-east"

    def test_the_global_stack_exports_exactly_what_is_handed_over(self, planned) -> None:
        from leaderboard_infra.global_stack import HANDED_OVER

        exported = planned("global").outputs
        assert exported.keys() == HANDED_OVER.keys() == plan.GLOBAL_OUTPUTS.keys()
        for name, kind in HANDED_OVER.items():
            assert isinstance(exported[name], kind)
            assert isinstance(plan.GLOBAL_OUTPUTS[name], kind)
        assert planned("global").secret_outputs == {"pepper", "primaryDatabaseUrl"}

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"primaryRegion": "ap-south"}, "says ap-south: both must name the same region"),
            ({"primaryDatabaseUrl": ""}, "knows no primary database: set its `primaryRegion`"),
            ({"hosts": {"us-east": "a.example.com"}}, "has no address of eu-west"),
            ({"hosts": "a.example.com"}, "does not export hosts as dict, but str: run pulumi up there first"),
            ({"pepper": None}, "does not export pepper as str"),
        ],
    )
    def test_what_is_not_as_agreed_stops_the_region(self, change: dict[str, object], words: str) -> None:
        configuration, secret_keys = plan.stack_config("eu-west")
        with pytest.raises(Exception, match=re.escape(words)):
            plan.run(
                "eu-west",
                given=configuration,
                secret_keys=secret_keys,
                global_outputs={**plan.GLOBAL_OUTPUTS, **change},
            )


def test_the_tree_shows_every_resource_below_its_parent(planned, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["plan", "local"])
    plan.main()
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"stack local: {len(planned('local').resources)} resources"
    assert len(lines) == len(planned("local").resources)
    assert lines[0] == "local-cell  leaderboard:region:Cell"
    at = lines.index("`- local-redis  leaderboard:region:Redis")
    assert any("local-redis-server  StatefulSet leaderboard-local/redis" in line for line in lines[at:])
    assert "|- local-namespace  Namespace leaderboard-local  [retained]" in lines
