"""The custom resources on a real API server: what is taken, what is refused and how, what kubectl shows."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from leaderboard.domain.documents import parse, seconds
from leaderboard.domain.errors import DomainError
from leaderboard.local.kubernetes import Cluster
from support.custom_resources import (
    API_VERSION,
    EXAMPLE,
    KINDS,
    MINIMAL,
    MISSING,
    NODES,
    ONLY_THE_SCHEMA,
    PLURALS,
    at_the_bounds,
    document,
    place,
    rules,
    schema,
    specs,
    steps_to,
    walk,
    with_value,
)
from support.kube_client import Answer, KubeClient
from support.kubernetes import install_crds

REAL_SERVER = settings(
    max_examples=300,
    deadline=None,
    # A smaller example is worth a minute; which of its parts could be otherwise is not.
    phases=set(settings.default.phases) - {Phase.explain},
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def cluster(kubernetes: Cluster) -> Cluster:
    install_crds(kubernetes)
    return kubernetes


@pytest.fixture
def client(cluster: Cluster, namespace: str) -> Iterator[KubeClient]:
    client = KubeClient(cluster, namespace)
    yield client
    client.close()


def refused(answer: Answer, *, field: str, says: str) -> None:
    """Assert that the answer is a refusal, because of `field`, in words that match the expression `says`."""
    assert answer.status == 422, answer.body
    assert any(cause.field == field and re.search(says, cause.message) for cause in answer.causes), answer.causes


def bounded(path: str) -> str:
    """A place of the schema as refusals name it, in a document that `with_value` made."""
    return path.replace("[]", "[0]").replace("{}", ".label")


# --- What is taken


def test_the_example_applies_unchanged_and_means_the_same_to_both(cluster: Cluster, namespace: str) -> None:
    apply = ("apply", f"--namespace={namespace}", f"--filename={EXAMPLE}")
    assert cluster.kubectl(*apply).count(" created\n") == 3
    assert cluster.kubectl(*apply).count(" unchanged\n") == 3
    for sent in yaml.safe_load_all(EXAMPLE.read_text()):
        name = f"{sent['kind']}/{sent['metadata']['name']}"
        stored = json.loads(cluster.kubectl("get", name, f"--namespace={namespace}", "--output=json"))
        assert parse(stored).spec == parse(sent).spec


def test_server_side_apply_changes_nothing_the_second_time(cluster: Cluster, namespace: str) -> None:
    def apply() -> list[tuple[str, str, int]]:
        listed = cluster.kubectl(
            "apply", "--server-side", f"--namespace={namespace}", f"--filename={EXAMPLE}", "--output=json"
        )
        items = json.loads(listed)["items"]
        return [tuple(item["metadata"][key] for key in ("uid", "resourceVersion", "generation")) for item in items]

    first = apply()
    assert len(first) == 3
    assert apply() == first


def test_two_may_apply_different_projects_of_one_tenant(cluster: Cluster, namespace: str) -> None:
    """A list by name: each manager owns the items it sent, not the list."""
    for project in ("default", "race_app"):
        manifest = document("Tenant", {"slug": "acme", "projects": [{"name": project}]}, namespace=namespace)
        cluster.kubectl(
            "apply", "--server-side", f"--field-manager={project}", "--filename=-", input=json.dumps(manifest)
        )
    stored = json.loads(cluster.kubectl("get", "tenant/one", f"--namespace={namespace}", "--output=json"))
    assert [project["name"] for project in stored["spec"]["projects"]] == ["default", "race_app"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_least_is_taken_and_filled_in(client: KubeClient, kind: str) -> None:
    answer = client.create(document(kind, MINIMAL[kind]), dry_run=True)
    assert answer.accepted
    described = schema(kind)["properties"]["spec"]["properties"]
    defaults = {name: part["default"] for name, part in described.items() if "default" in part}
    assert answer.body["spec"] == MINIMAL[kind] | defaults


# --- What is refused


WORDS = {
    "minimum": r"should be greater than or equal to [\d.]+",
    "exclusiveMinimum": r"should be greater than \d+",
    "maximum": r"should be less than or equal to \d+",
    "minLength": r"should be at least \d+ chars long",
    "maxLength": r"may not be more than \d+ bytes|should be at most \d+ chars long",
    "pattern": r"^Invalid value: \S+: write |should match",
    "minItems": r"should have at least \d+ items",
    "maxItems": r"must have at most \d+ items",
    "maxProperties": r"must have at most \d+ items|should have at most \d+ properties",
    "x-kubernetes-list-type": "Duplicate value",
    "enum": r'supported values: "\w+", "\w+"',
}
"""What the server says of a value that breaks a bound of the structure: what is allowed."""


def test_each_bound_takes_its_last_value_and_refuses_the_next(client: KubeClient) -> None:
    checked = 0
    for kind in KINDS:
        for node in NODES[kind]:
            for bound, good, bad in at_the_bounds(node.schema):
                spec = with_value(kind, node.path, good)
                assert client.create(document(kind, spec), dry_run=True).accepted, (node.path, bound)
                answer = client.create(document(kind, with_value(kind, node.path, bad)), dry_run=True)
                field = bounded(node.path) + ("[1]" if bound == "x-kubernetes-list-type" else "")
                refused(answer, field=field, says=WORDS[bound])
                checked += 1
    assert checked > 60


def test_each_pattern_is_refused_in_words(client: KubeClient) -> None:
    for kind in KINDS:
        for node in NODES[kind]:
            if "pattern" in node.schema:
                answer = client.create(document(kind, with_value(kind, node.path, "\x7f\x7f")), dry_run=True)
                (rule,) = node.schema["x-kubernetes-validations"]
                refused(answer, field=bounded(node.path), says=re.escape(rule["message"]))


def test_each_field_has_one_type_and_required_ones_must_be_there(client: KubeClient) -> None:
    for kind in KINDS:
        for node in NODES[kind]:
            wrong: Any = 5 if node.schema["type"] == "string" else "text"
            spec = (
                with_value(kind, "spec.allowedNamespaces.selector", {}) if "selector." in node.path else MINIMAL[kind]
            )
            spec = place(spec, steps_to(node.path), wrong)
            answer = client.create(document(kind, spec), dry_run=True)
            refused(answer, field=bounded(node.path), says=f"must be of type {node.schema['type']}")
            assert node.parent is not None
            if node.name in node.parent.get("required", ()):
                spec = with_value(kind, node.path, "a")
                answer = client.create(document(kind, place(spec, steps_to(node.path), MISSING)), dry_run=True)
                refused(answer, field=bounded(node.path), says="Required value")


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_field_is_named(client: KubeClient, kind: str) -> None:
    answer = client.create(document(kind, MINIMAL[kind] | {"sugar": "x"}), dry_run=True)
    assert answer.status == 400
    assert 'unknown field "spec.sugar"' in answer.body["message"]


def selecting(**selector: Any) -> dict[str, Any]:
    return {"slug": "acme", "allowedNamespaces": {"from": "Selector", "selector": selector}}


def expressing(operator: str, **more: Any) -> dict[str, Any]:
    return selecting(matchExpressions=[{"key": "team", "operator": operator, **more}])


LONGER = "lengthen rotateEvery or shorten gracePeriod"
VALUES = "add values or take them out"
REFUSED = [
    ({"apiKey": {"rotateEvery": "24h"}}, "apiKey.rotateEvery", LONGER),
    ({"apiKey": {"rotateEvery": "1d", "gracePeriod": "24h"}}, "apiKey.rotateEvery", LONGER),
    ({"apiKey": {"rotateEvery": "0s", "gracePeriod": "0s"}}, "apiKey.rotateEvery", LONGER),
    ({"apiKey": {"rotateEvery": "90m", "gracePeriod": "1h31m"}}, "apiKey.rotateEvery", LONGER),
    ({"allowedNamespaces": {"from": "Selector"}}, "allowedNamespaces.selector", "needs a selector: add one"),
    (
        {"allowedNamespaces": {"from": "All", "selector": {"matchLabels": {"a": "b"}}}},
        "allowedNamespaces.selector",
        "counts with from: Selector only: set that, or take the selector out",
    ),
    (
        {"allowedNamespaces": {"selector": {"matchLabels": {"a": "b"}}}},
        "allowedNamespaces.selector",
        "counts with from: Selector only",
    ),
    (selecting(), "allowedNamespaces.selector", "add matchLabels or matchExpressions, or set from to All"),
    (selecting(matchLabels={}, matchExpressions=[]), "allowedNamespaces.selector", "an empty selector would allow"),
    (expressing("In"), "allowedNamespaces.selector.matchExpressions[0].values", VALUES),
    (expressing("NotIn", values=[]), "allowedNamespaces.selector.matchExpressions[0].values", VALUES),
    (expressing("Exists", values=["a"]), "allowedNamespaces.selector.matchExpressions[0].values", VALUES),
    (expressing("DoesNotExist", values=["a"]), "allowedNamespaces.selector.matchExpressions[0].values", VALUES),
]


TIER = "give each tier either top, a rank, or percent, a share of the board"
TOPS = "each top must be larger than those of the tiers before it"
PERCENTS = "each percent must be larger than those of the tiers before it"
DIGITS = "write a percent with at most four digits after the point"
REFUSED_TIERS: list[tuple[list[dict[str, Any]], str, str]] = [
    ([{"name": "a"}], "tiers[0]", TIER),
    ([{"name": "a", "top": 1, "percent": 1}], "tiers[0]", TIER),
    ([{"name": "a", "top": 1}, {"name": "a", "top": 2}], "tiers", "give each tier a name of its own"),
    ([{"name": "a", "top": 2}, {"name": "b", "top": 1}], "tiers", TOPS),
    ([{"name": "a", "top": 2}, {"name": "b", "percent": 5}, {"name": "c", "top": 2}], "tiers", TOPS),
    ([{"name": "a", "percent": 2}, {"name": "b", "percent": 1.5}], "tiers", PERCENTS),
    ([{"name": "a", "percent": 2}, {"name": "b", "top": 5}, {"name": "c", "percent": 2.0}], "tiers", PERCENTS),
    ([{"name": "a", "percent": 33.33333}], "tiers[0].percent", DIGITS),
]


def test_what_rules_refuse_is_told_with_what_to_do(client: KubeClient) -> None:
    for spec, field, says in REFUSED:
        answer = client.create(document("Tenant", {"slug": "acme"} | spec), dry_run=True)
        refused(answer, field=f"spec.{field}", says=re.escape(says))
    for tiers, field, says in REFUSED_TIERS:
        answer = client.create(document("Leaderboard", MINIMAL["Leaderboard"] | {"tiers": tiers}), dry_run=True)
        refused(answer, field=f"spec.{field}", says=re.escape(says))


def test_tiers_of_both_kinds_in_any_digits_are_taken(client: KubeClient) -> None:
    shares = [0.0001, 0.57, 1.1, 5, 33.3333, 99.9999, 100]
    tiers = [
        *({"name": f"share {number}", "percent": share} for number, share in enumerate(shares)),
        *({"name": f"top {number}", "top": 10**number} for number in range(8)),
    ]
    answer = client.create(document("Leaderboard", MINIMAL["Leaderboard"] | {"tiers": tiers}), dry_run=True)
    assert answer.accepted, answer.body
    assert answer.body["spec"]["tiers"] == tiers


REFUSED_BOUNDS = [
    ({}, "bounds has no bound: add minScore, maxScore or maxGain"),
    ({"minScore": 1, "maxScore": 0.5}, "minScore is above maxScore"),
    ({"maxGain": 5}, "maxGain and perSeconds come together"),
    ({"maxScore": 5, "perSeconds": 60}, "maxGain and perSeconds come together"),
]


def test_what_a_board_cannot_believe_is_refused_with_what_to_do(client: KubeClient) -> None:
    for bounds, says in REFUSED_BOUNDS:
        answer = client.create(document("Leaderboard", MINIMAL["Leaderboard"] | {"bounds": bounds}), dry_run=True)
        refused(answer, field="spec.bounds", says=re.escape(says))


def test_a_tenants_name_leaves_room_for_its_secrets(client: KubeClient) -> None:
    assert client.create(document("Tenant", {"slug": "acme"}, name="a" * 63), dry_run=True).accepted
    answer = client.create(document("Tenant", {"slug": "acme"}, name="a" * 64), dry_run=True)
    refused(answer, field="metadata.name", says="make the Tenant again with a name of at most 63 characters")


CHANGES = [
    ("Tenant", "slug", "emca", "make a new Tenant with the other slug"),
    ("Leaderboard", "tenantRef", {"name": "emca"}, "make a new Leaderboard that refers to the other Tenant"),
    ("Leaderboard", "tenantRef", {"name": "acme"}, "make a new Leaderboard that refers to the other Tenant"),
    ("Leaderboard", "project", "race_app", "make a new Leaderboard in the other project"),
    ("Leaderboard", "key", "local", "make a new Leaderboard with the other key"),
    ("Leaderboard", "sortOrder", "Descending", "make a new Leaderboard with another key"),
    ("Leaderboard", "scoreUpdate", "Latest", "make a new Leaderboard with another key"),
    ("Leaderboard", "tiePolicy", "Shared", "make a new Leaderboard with another key"),
]
FIXED = {
    "Tenant": {"slug": "acme"},
    "Leaderboard": {
        "tenantRef": {"name": "acme", "namespace": "games"},
        "project": "mine",
        "key": "global",
        "sortOrder": "Ascending",
        "scoreUpdate": "Best",
        "tiePolicy": "UserId",
    },
}
"""Not the defaults, so that taking one out would be a change."""


@pytest.mark.parametrize(("kind", "field", "value", "says"), CHANGES)
def test_what_is_fixed_can_neither_be_changed_nor_taken_out(
    cluster: Cluster, namespace: str, kind: str, field: str, value: Any, says: str
) -> None:
    cluster.kubectl("create", "--filename=-", input=json.dumps(document(kind, FIXED[kind], namespace=namespace)))
    patch = ("patch", f"{kind}/one", f"--namespace={namespace}", "--type=json", "--patch")
    change = [{"op": "replace", "path": f"/spec/{field}", "value": value}]
    told = cluster.kubectl(*patch, json.dumps(change), check=False)
    assert f"spec.{field}: Forbidden: {field} cannot be changed" in told
    assert says in told
    told = cluster.kubectl(*patch, json.dumps([{"op": "remove", "path": f"/spec/{field}"}]), check=False)
    assert f"spec.{field}: Forbidden: {field} cannot be changed" in told or f"spec.{field}: Required value" in told


def test_the_rest_may_change(cluster: Cluster, namespace: str) -> None:
    changes: dict[str, dict[str, Any]] = {
        "Tenant": {"plan": "pro", "suspend": True, "projects": [{"name": "a"}], "apiKey": {"scope": "read"}},
        "Leaderboard": {
            "maxEntries": 5,
            "publicRead": True,
            "bounds": {"maxScore": 5},
            "suspend": True,
            "deletionPolicy": "Delete",
            "tiers": [{"name": "Gold", "percent": 10}],
        },
    }
    for kind, change in changes.items():
        cluster.kubectl("create", "--filename=-", input=json.dumps(document(kind, FIXED[kind], namespace=namespace)))
        cluster.kubectl(
            "patch", f"{kind}/one", f"--namespace={namespace}", "--type=merge", "--patch", json.dumps({"spec": change})
        )


def test_every_rule_has_an_example_above() -> None:
    said = [says for _, _, says in [*REFUSED, *REFUSED_TIERS]] + [says for *_, says in CHANGES]
    said.append("make the Tenant again with a name of at most 63 characters")
    said += [says for _, says in REFUSED_BOUNDS]
    for kind in KINDS:
        for node, rule in rules(kind):
            in_words = "pattern" in node.schema  # see test_each_pattern_is_refused_in_words
            assert in_words or any(says in rule["message"] for says in said), rule["message"]


# --- The schema and the parser


@st.composite
def durations(draw: st.DrawFn) -> str:
    units = draw(st.lists(st.sampled_from("dhms"), min_size=1, unique=True))
    return "".join(f"{draw(st.integers(0, 200)):0{draw(st.integers(1, 6))}d}{unit}" for unit in sorted(units))


@REAL_SERVER
@given(durations(), st.sampled_from([-1, 0, 1]))
def test_durations_are_compared_as_the_parser_does(client: KubeClient, rotate: str, more: int) -> None:
    total = seconds(rotate, field="rotateEvery")
    minutes, rest = divmod(max(total + more, 0), 60)
    api_key = {"rotateEvery": rotate, "gracePeriod": f"{minutes}m{rest}s"}
    answer = client.create(document("Tenant", {"slug": "acme", "apiKey": api_key}), dry_run=True)
    assert answer.accepted == (total > 0 and more < 0), api_key


SELECTOR = "spec.allowedNamespaces.selector"


def only_the_schema(answer: Answer) -> bool:
    """Whether a refusal is one that the parser need not share: see ONLY_THE_SCHEMA."""
    if not answer.causes:
        return f'unknown field "{SELECTOR}.' in answer.body["message"]
    listed = {bound.split()[0] for bound in ONLY_THE_SCHEMA}
    places = [re.sub(r"\[\d+\]", "[]", cause.field) for cause in answer.causes]
    return all(place in listed or place.startswith(SELECTOR) for place in places)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_server_takes_the_parser_reads(client: KubeClient, kind: str) -> None:
    taken, turned_down = 0, 0

    @REAL_SERVER
    @given(specs(kind))
    def check(spec: Any) -> None:
        nonlocal taken, turned_down
        sent = document(kind, spec, name="one")
        answer = client.create(sent, dry_run=True)
        try:
            read = parse(sent)
        except DomainError as error:
            read, why = None, str(error)
        if answer.accepted:
            taken += 1
            stored = parse(answer.body)
            if read is None:
                assert says_null_or_float(spec), f"only the parser refuses: {why}"
            else:
                assert read.spec == stored.spec
            return
        turned_down += 1
        assert answer.status in (400, 422), answer.body
        if read is not None:
            assert only_the_schema(answer), answer.body

    check()
    assert min(taken, turned_down) > 20, "the documents are all of one sort"


def says_null_or_float(value: Any) -> bool:
    """The API server puts the default in the place of null and 5 in that of 5.0 before anybody sees it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or isinstance(value, float) or any(map(says_null_or_float, inner))


# --- What kubectl shows


CONDITIONS = [
    {
        "type": kind,
        "status": "True",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
        "reason": reason,
        "message": "the API serves it",
    }
    for kind, reason in (("Ready", "Available"), ("Synced", "ReconcileSuccess"))
]
STATUS: dict[str, dict[str, Any]] = {
    "Tenant": {
        "observedGeneration": 1,
        "seal": "0" * 32,
        "tenantID": 23,
        "leaderboards": 2,
        "apiKeys": [
            {
                "project": "default",
                "id": "0123456789abcdef",
                "secretName": "one-default-api-key",
                "previousID": "fedcba9876543210",
                "previousExpiresAt": "2026-01-02T03:04:05Z",
            }
        ],
        "conditions": CONDITIONS,
    },
    "Leaderboard": {
        "observedGeneration": 1,
        "leaderboardID": 7,
        "seal": "0" * 32,
        "redisNamespace": "l:23:default:global",
        "entries": 1234567890123,
        "season": 3,
        "nextReset": "2026-11-30T09:00:00Z",
        "conditions": CONDITIONS,
    },
}


@pytest.fixture
def two(cluster: Cluster, namespace: str) -> str:
    """A namespace with a Tenant and a Leaderboard whose statuses are written."""
    for kind in KINDS:
        made = document(kind, MINIMAL[kind], namespace=namespace) | {"status": {"observedGeneration": 99}}
        cluster.kubectl("create", "--filename=-", input=json.dumps(made))
        patch = ("patch", f"{kind}/one", f"--namespace={namespace}", "--subresource=status", "--type=merge", "--patch")
        cluster.kubectl(*patch, json.dumps({"status": STATUS[kind], "spec": {"suspend": True}}))
    return namespace


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_status_is_kept_and_is_apart_from_the_spec(cluster: Cluster, two: str, kind: str) -> None:
    stored = json.loads(cluster.kubectl("get", f"{kind}/one", f"--namespace={two}", "--output=json"))
    assert stored["status"] == STATUS[kind]
    assert stored["spec"]["suspend"] is False
    assert stored["metadata"]["generation"] == 1
    described = {node.path for node in walk(schema(kind)["properties"]["status"], "status")}
    told = {"status" + "".join("[]" if step == 0 else f".{step}" for step in steps) for steps in _first(STATUS[kind])}
    assert told | {"status"} == described


def _first(value: Any) -> Iterator[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for step, part in inner:
        yield (step,)
        yield from ((step, *more) for more in _first(part))


def test_get_shows_both_in_their_columns(cluster: Cluster, two: str) -> None:
    shown = cluster.kubectl("get", "ten,lb", f"--namespace={two}").splitlines()
    rows = [line.split() for line in shown if line]
    assert [row[:-1] for row in rows if row[0] != "NAME"] == [
        ["tenant.leaderboard.saas/one", "True", "True", "free", "2"],
        ["leaderboard.leaderboard.saas/one", "True", "True", "acme", "Descending", "1234567890123"],
    ]
    assert [row[1:] for row in rows if row[0] == "NAME"] == [
        ["READY", "SYNCED", "PLAN", "BOARDS", "AGE"],
        ["READY", "SYNCED", "TENANT", "ORDER", "ENTRIES", "AGE"],
    ]


def test_wide_output_says_why(cluster: Cluster, two: str) -> None:
    shown = cluster.kubectl("get", "saas", f"--namespace={two}", "--output=wide")
    heads = sorted(line.split()[1:] for line in shown.splitlines() if line.startswith("NAME"))
    assert heads == [
        ["READY", "SYNCED", "PLAN", "BOARDS", "AGE", "SLUG", "REASON", "MESSAGE"],
        ["READY", "SYNCED", "TENANT", "ORDER", "ENTRIES", "AGE", "PROJECT", "KEY", "REASON", "MESSAGE"],
    ]
    assert len(re.findall(r"Available +the API serves it", shown)) == 2


def test_boards_are_found_by_their_tenant(cluster: Cluster, two: str) -> None:
    def found(selector: str) -> list[str]:
        get = ("get", "lb", f"--namespace={two}", "--output=name", "--field-selector", selector)
        return cluster.kubectl(*get).split()

    assert found("spec.tenantRef.name=acme,spec.project=default") == ["leaderboard.leaderboard.saas/one"]
    assert found("spec.tenantRef.name=other") == []


@pytest.mark.parametrize("kind", KINDS)
def test_kubectl_explains_every_field(cluster: Cluster, kind: str) -> None:
    explained: dict[str, str] = {}
    for node in walk(schema(kind), ""):
        inner = node.schema.get("items", node.schema)
        if "properties" in inner and not node.path.endswith("[]"):
            path = ".".join(part for part in (PLURALS[kind], node.path.replace("[]", "")) if part)
            text = cluster.kubectl("explain", path, f"--api-version={API_VERSION}")
            explained[node.path] = " ".join(text.split())
    for node in walk(schema(kind), ""):
        parent = node.path.rpartition(".")[0].removesuffix("[]")
        # What metadata is, the API server says itself.
        if node.path.startswith("metadata") or node.path.endswith(("[]", "{}")) or not node.path:
            continue
        assert " ".join(node.schema["description"].split()) in explained[parent], node.path
