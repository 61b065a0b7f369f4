"""The CRDs and the Python types say the same: fields, defaults, choices, patterns and bounds. No servers."""

import copy
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.domain import names
from leaderboard.domain.boards import MAX_ENTRIES_LIMIT
from leaderboard.domain.bounds import MAX_INTERVAL_SECONDS
from leaderboard.domain.documents import API_VERSION, LeaderboardSpec, TenantSpec, parse, seconds
from leaderboard.domain.errors import DomainError
from leaderboard.domain.plans import MAX_REQUESTS_PER_SECOND, PLANS
from leaderboard.domain.tiers import MAX_TIERS, MAX_TOP, MIN_PERCENT
from support.custom_resources import (
    CRDS,
    KINDS,
    MINIMAL,
    MISSING,
    NODES,
    ONLY_THE_SCHEMA,
    Json,
    Node,
    at_the_bounds,
    document,
    fitting,
    rules,
    schema,
    spec_schema,
    version,
    walk,
    with_value,
)

TYPES: dict[str, type[msgspec.Struct]] = {"Tenant": TenantSpec, "Leaderboard": LeaderboardSpec}
EVERY_NODE = [pytest.param(kind, node, id=f"{kind}-{node.path}") for kind in KINDS for node in NODES[kind]]


def parses(kind: str, spec: Json) -> bool:
    try:
        parse(document(kind, spec))
    except DomainError:
        return False
    return True


def by_path(kind: str) -> dict[str, Node]:
    return {node.path: node for node in NODES[kind]}


# --- The types


def python_fields(struct: type[msgspec.Struct], path: str) -> Iterator[tuple[str, msgspec.inspect.Field, Any]]:
    """Each field with its path and its type, None taken away."""
    described = msgspec.inspect.type_info(struct)
    assert isinstance(described, msgspec.inspect.StructType)
    for field in described.fields:
        inner = field.type
        if isinstance(inner, msgspec.inspect.UnionType):
            (inner,) = (kind for kind in inner.types if not isinstance(kind, msgspec.inspect.NoneType))
        place = f"{path}.{field.encode_name}"
        yield place, field, inner
        if isinstance(inner, msgspec.inspect.StructType):
            yield from python_fields(inner.cls, place)
        elif isinstance(inner, msgspec.inspect.VarTupleType) and isinstance(
            inner.item_type, msgspec.inspect.StructType
        ):
            yield from python_fields(inner.item_type.cls, f"{place}[]")


def default_of(field: msgspec.inspect.Field) -> Any:
    """A field's default as the CRD writes it; MISSING for none."""
    if field.required:
        return MISSING
    default = field.default
    if default is msgspec.NODEFAULT:
        default = field.default_factory()
    if default is None or default == ():
        return MISSING
    written = msgspec.json.decode(msgspec.json.encode(default))
    if isinstance(written, dict):
        return {name: value for name, value in written.items() if value is not None}
    return written


JSON_TYPES = {
    msgspec.inspect.StrType: "string",
    msgspec.inspect.IntType: "integer",
    msgspec.inspect.FloatType: "number",
    msgspec.inspect.BoolType: "boolean",
    msgspec.inspect.EnumType: "string",
    msgspec.inspect.VarTupleType: "array",
    msgspec.inspect.StructType: "object",
    msgspec.inspect.DictType: "object",
}


@pytest.mark.parametrize("kind", KINDS)
def test_both_have_the_same_fields_types_and_defaults(kind):
    ours = {path: (field, inner) for path, field, inner in python_fields(TYPES[kind], "spec")}
    theirs = {path: node for path, node in by_path(kind).items() if not path.endswith(("[]", "{}"))}
    # The selector is a plain dict in Python.
    assert set(ours) == {path for path in theirs if "selector." not in path}
    for path, (field, inner) in ours.items():
        node = theirs[path]
        assert node.schema["type"] == JSON_TYPES[type(inner)], path
        assert (node.name in node.parent.get("required", ())) == field.required, path
        assert node.schema.get("default", MISSING) == default_of(field), path


@pytest.mark.parametrize("kind", KINDS)
def test_both_have_the_same_choices(kind):
    ours = {
        path: [member.value for member in inner.cls]
        for path, _, inner in python_fields(TYPES[kind], "spec")
        if isinstance(inner, msgspec.inspect.EnumType)
    }
    if kind == "Tenant":
        ours["spec.plan"] = list(PLANS)
    theirs = {path: node.schema["enum"] for path, node in by_path(kind).items() if "enum" in node.schema}
    theirs.pop("spec.allowedNamespaces.selector.matchExpressions[].operator", None)
    assert theirs == ours


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_schema_fills_in_means_what_the_parser_fills_in(kind):
    filled = with_defaults(MINIMAL[kind], spec_schema(kind))
    assert filled != MINIMAL[kind]
    assert parse(document(kind, filled)) == parse(document(kind, MINIMAL[kind]))


def with_defaults(value: Json, part: dict[str, Any]) -> Json:
    """What the API server stores of `value`: defaults at every depth."""
    if isinstance(value, dict):
        value = dict(value)
        for name, inner in part.get("properties", {}).items():
            if name not in value and "default" in inner:
                value[name] = copy.deepcopy(inner["default"])
            if name in value:
                value[name] = with_defaults(value[name], inner)
    return value


# --- Patterns and bounds


def test_the_patterns_are_those_of_the_names():
    tenant, board = by_path("Tenant"), by_path("Leaderboard")
    assert tenant["spec.slug"].schema["pattern"] == names.SLUG_PATTERN
    assert tenant["spec.projects[].name"].schema["pattern"] == names.PROJECT_PATTERN
    assert tenant["spec.projects[].allowedOrigins[]"].schema["pattern"] == names.ORIGIN_PATTERN
    assert board["spec.project"].schema["pattern"] == names.PROJECT_PATTERN
    assert board["spec.key"].schema["pattern"] == names.BOARD_KEY_PATTERN
    assert board["spec.tiers[].name"].schema["pattern"] == names.TIER_PATTERN


def test_the_bounds_are_those_of_the_domain():
    tenant, board = by_path("Tenant"), by_path("Leaderboard")
    assert board["spec.maxEntries"].schema["maximum"] == MAX_ENTRIES_LIMIT
    assert board["spec.tiers"].schema["maxItems"] == MAX_TIERS
    assert board["spec.tiers[].name"].schema["maxLength"] == names.TIER_LENGTH
    assert board["spec.tiers[].top"].schema["maximum"] == MAX_TOP
    assert board["spec.tiers[].percent"].schema["minimum"] == MIN_PERCENT
    assert board["spec.bounds.perSeconds"].schema["maximum"] == MAX_INTERVAL_SECONDS
    assert tenant["spec.quotas.requestsPerSecond"].schema["maximum"] == MAX_REQUESTS_PER_SECOND
    assert (
        max(plan.max_leaderboards for plan in PLANS.values())
        <= (tenant["spec.quotas.maxLeaderboards"].schema["maximum"])
    )


def test_the_resource_is_the_one_the_parser_reads():
    for kind in KINDS:
        assert f"{CRDS[kind]['spec']['group']}/{version(kind)['name']}" == API_VERSION
        assert parse(document(kind, MINIMAL[kind])).name == "one"


BOUNDED = [
    pytest.param(kind, path, bound, good, bad, id=f"{kind}-{path}-{bound}")
    for kind in KINDS
    for path, node in by_path(kind).items()
    if "selector" not in path
    for bound, good, bad in at_the_bounds(node.schema)
]


@pytest.mark.parametrize(("kind", "path", "bound", "good", "bad"), BOUNDED)
def test_the_parser_has_the_schemas_bounds(kind, path, bound, good, bad):
    assert parses(kind, with_value(kind, path, good))
    only_the_schema = f"{path} {bound}" in ONLY_THE_SCHEMA
    assert parses(kind, with_value(kind, path, bad)) == only_the_schema, "is ONLY_THE_SCHEMA up to date?"


PATTERNED = [
    pytest.param(kind, node, id=f"{kind}-{node.path}")
    for kind in KINDS
    for node in NODES[kind]
    if "pattern" in node.schema
]


@pytest.mark.parametrize(("kind", "node"), PATTERNED)
@given(data=st.data())
def test_what_matches_a_pattern_parses(kind, node, data):
    text = data.draw(fitting(node.schema))
    if node.path != "spec.apiKey.rotateEvery" or seconds(text, field="rotateEvery") > 0:
        assert parses(kind, with_value(kind, node.path, text))


@pytest.mark.parametrize(("kind", "node"), PATTERNED)
@given(text=st.text("azAZ09_.-/: éß\n\r\x00\x7f\x9f\u2028٣dhms", max_size=9))
def test_what_parses_matches_the_pattern(kind, node, text):
    if f"{node.path} pattern" not in ONLY_THE_SCHEMA and parses(kind, with_value(kind, node.path, text)):
        assert matches(node.schema["pattern"], text)
        assert node.schema.get("minLength", 0) <= len(text) <= node.schema["maxLength"]


def matches(pattern: str, text: str) -> bool:
    """As the API server does: `$` is the very end, where Python's may also be before a last newline."""
    return re.fullmatch(pattern.removeprefix("^").removesuffix("$"), text) is not None


# --- How the CRDs are written


@pytest.mark.parametrize(("kind", "node"), PATTERNED)
def test_a_pattern_is_said_in_words_too(kind, node):
    """The server's own message of a pattern is the expression; the rule next to it says what to write."""
    (rule,) = node.schema["x-kubernetes-validations"]
    inside = re.fullmatch(r"self\.matches\('(.*)'\)", rule["rule"])
    assert inside is not None
    assert inside[1].replace(r"\\", "\\") == node.schema["pattern"]
    assert rule["message"].startswith("write ")


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_has_a_message_and_bounded_operands(kind):
    for node, rule in rules(kind):
        assert len(rule["message"]) > 20, node.path
        assert "\n" not in rule["message"]
    for node in NODES[kind]:
        if node.schema["type"] == "string" and "enum" not in node.schema:
            assert "maxLength" in node.schema, node.path  # what a rule may cost is reckoned from it
        if node.schema["type"] == "array":
            assert "maxItems" in node.schema, node.path
            assert "x-kubernetes-list-type" in node.schema, node.path


IMMUTABLE = {
    "Tenant": ["slug"],
    "Leaderboard": ["tenantRef", "project", "key", "sortOrder", "scoreUpdate", "tiePolicy"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_immutable_fields_are_held_by_their_parent_and_always_there(kind):
    """At the field itself a rule would not run when the field is taken out; a default puts it back instead."""
    held = {
        rule["rule"]: (node.path, rule["fieldPath"], rule["reason"])
        for node, rule in rules(kind)
        if "oldSelf" in rule["rule"]
    }
    assert held == {
        f"self.{field} == oldSelf.{field}": ("spec", f".{field}", "FieldValueForbidden") for field in IMMUTABLE[kind]
    }
    spec = spec_schema(kind)
    for field in IMMUTABLE[kind]:
        assert field in spec["required"] or "default" in spec["properties"][field]
        assert "It cannot be changed." in spec["properties"][field]["description"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described(kind):
    for node in walk(schema(kind), ""):
        if node.path.startswith("metadata"):
            continue  # the API server describes it, and lets nobody else do so
        text = node.schema.get("description", "")
        assert text.endswith("."), node.path
        assert text[0].isupper() or text[0].isdigit(), node.path
        assert "  " not in text, node.path
        assert "\n" not in text, node.path


@pytest.mark.parametrize(("kind", "node"), EVERY_NODE)
def test_a_description_gives_default_choices_and_bounds(kind, node):
    text = node.schema["description"]
    if node.path.endswith(("[]", "{}")) or "selector." in node.path or node.schema["type"] == "object":
        return
    if node.name not in node.parent.get("required", ()):
        default = node.schema.get("default")
        said = re.search(r"\(the default\)|Default: ", text)
        assert said is not None, "what holds where it is left out?"
        if isinstance(default, str):
            assert f"Default: {default}" in text or f"{default} (the default)" in text
        elif isinstance(default, bool):
            assert f"Default: {str(default).lower()}" in text
        elif isinstance(default, int):
            assert f"Default: {default}" in text
    for choice in node.schema.get("enum", ()):
        assert re.search(rf"\b{choice}\b", text), choice
    for bound in ("minimum", "maximum", "maxItems"):
        if bound in node.schema:
            assert re.search(rf"\b{node.schema[bound]}\b", text), bound


COLUMNS = {
    "Tenant": ["Ready", "Synced", "Plan", "Boards", "Age"],
    "Leaderboard": ["Ready", "Synced", "Tenant", "Order", "Entries", "Age"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_columns_show_what_there_is(kind):
    columns = version(kind)["additionalPrinterColumns"]
    assert [column["name"] for column in columns if not column.get("priority")] == COLUMNS[kind]
    assert {column["name"] for column in columns if column.get("priority")} >= {"Reason", "Message"}
    fields = {node.path: node.schema for node in walk(schema(kind), "")}
    for column in columns:
        path = column["jsonPath"].removeprefix(".")
        condition = re.fullmatch(r'(status\.conditions)\[\?\(@\.type=="(?:Ready|Synced)"\)\]\.(\w+)', path)
        if condition is not None:
            path = f"{condition[1]}[].{condition[2]}"
        assert path == "metadata.creationTimestamp" or fields[path]["type"] == column["type"]


def test_conditions_are_the_same_in_both():
    tenant, board = (
        schema(kind)["properties"]["status"]["properties"]["conditions"] | {"description": ""} for kind in KINDS
    )
    assert tenant == board


def test_names_are_short_and_grouped():
    said = {
        kind: (crd["spec"]["names"]["shortNames"], crd["spec"]["names"]["categories"]) for kind, crd in CRDS.items()
    }
    assert said == {"Tenant": (["ten"], ["saas"]), "Leaderboard": (["lb"], ["saas"])}
