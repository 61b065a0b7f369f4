"""The chart's CRDs as Python sees them, and documents made from their schemas: what fits, and what just does not."""

import copy
import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hypothesis import strategies as st

REPO = Path(__file__).parents[2]
CHART = REPO / "charts" / "leaderboard"
EXAMPLE = REPO / "examples" / "tenant.yaml"
API_VERSION = "leaderboard.saas/v1alpha1"
CRDS: dict[str, dict[str, Any]] = {
    crd["spec"]["names"]["kind"]: crd
    for crd in (yaml.safe_load(path.read_text()) for path in sorted((CHART / "crds").glob("*.yaml")))
}
PLURALS = {kind: crd["spec"]["names"]["plural"] for kind, crd in CRDS.items()}
MINIMAL: dict[str, dict[str, Any]] = {
    "Tenant": {"slug": "acme"},
    "Leaderboard": {"tenantRef": {"name": "acme"}, "key": "global"},
}
"""The least that each kind's spec may say."""

KINDS = tuple(MINIMAL)

ONLY_THE_SCHEMA = {
    "spec.plan enum",  # control asks the table of plans
    # What a name may be is Kubernetes's to say; without it, tenantRef.name is a slug that exists or does not.
    "spec.tenantRef.name minLength",
    "spec.tenantRef.name maxLength",
    "spec.tenantRef.name pattern",
    "spec.tenantRef.namespace minLength",
    "spec.tenantRef.namespace maxLength",
    "spec.tenantRef.namespace pattern",
}
"""The bounds that only the API server holds: the parser admits more. What is inside a selector is not listed."""

SAMPLES = {
    "^[0-9A-Za-z*/,#-]+( +[0-9A-Za-z*/,#-]+){4}$": (
        *("* * * * *", "0 9 * * MON", "*/5 0-6 1,15 jan 5L", "00 9 * * 1" + ",1" * 45),
    ),
    "^[A-Za-z0-9_+/-]{1,32}$": ("GB", "UTC", "Etc/GMT+5", "America/Argentina/ComodRivadavia"),
}
"""By its pattern, some of what the parser takes, where that is less than the schema admits: the longest is there."""

Json = Any
Steps = tuple[str | int, ...]
"""The way to a value inside a document: keys and indexes."""

MISSING: Any = type("Missing", (), {"__repr__": lambda _: "MISSING"})()
"""Put in a place, it takes the field away."""


def version(kind: str) -> dict[str, Any]:
    """The one version of a kind's CRD."""
    (only,) = CRDS[kind]["spec"]["versions"]
    return only


def schema(kind: str) -> dict[str, Any]:
    """The whole schema of a kind."""
    return version(kind)["schema"]["openAPIV3Schema"]


def spec_schema(kind: str) -> dict[str, Any]:
    """The schema of a kind's spec."""
    return schema(kind)["properties"]["spec"]


def document(kind: str, spec: Json, *, name: str = "one", **metadata: Json) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}


class Node(NamedTuple):
    """One place of a schema: `path` as the API server and `kubectl explain` write it, without indexes."""

    path: str
    schema: dict[str, Any]
    parent: dict[str, Any] | None

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def walk(part: dict[str, Any], path: str, parent: dict[str, Any] | None = None) -> Iterator[Node]:
    """Every place of a schema, from its root; the items of a list and the values of a map have a place of their own."""
    yield Node(path, part, parent)
    for name, inner in part.get("properties", {}).items():
        yield from walk(inner, f"{path}.{name}" if path else name, part)
    for key, ending in (("items", "[]"), ("additionalProperties", "{}")):
        if key in part:
            yield from walk(part[key], path + ending, part)


NODES = {kind: [node for node in walk(spec_schema(kind), "spec") if node.path != "spec"] for kind in KINDS}
"""Every place inside a kind's spec."""


def rules(kind: str) -> Iterator[tuple[Node, dict[str, Any]]]:
    """Every CEL rule of a kind, with the place it stands at."""
    for node in walk(schema(kind), ""):
        for rule in node.schema.get("x-kubernetes-validations", ()):
            yield node, rule


def place(spec: Json, steps: Steps, value: Json) -> Json:
    """A copy of `spec` with `value` at `steps`; whatever is missing on the way is made."""
    result = copy.deepcopy(spec)
    at = result
    for step, following in itertools.pairwise(steps):
        if isinstance(at, list):
            at += [{} for _ in range(int(step) + 1 - len(at))]
        else:
            at.setdefault(step, [] if isinstance(following, int) else {})
        at = at[step]
    if isinstance(at, list):
        at[int(steps[-1]) : int(steps[-1]) + 1] = [] if value is MISSING else [value]
    elif value is MISSING:
        at.pop(steps[-1], None)
    else:
        at[steps[-1]] = value
    return result


def steps_of(value: Json, prefix: Steps = ()) -> Iterator[Steps]:
    """The way to every value inside `value`."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, part in inner:
        yield (*prefix, step)
        yield from steps_of(part, (*prefix, step))


def steps_to(path: str) -> Steps:
    """The way to a place of the schema in a document: the first item of every list, one label of every map."""
    flat = path.removeprefix("spec").replace("[]", ".[]").replace("{}", ".{}")
    return tuple(0 if step == "[]" else "label" if step == "{}" else step for step in flat.split(".") if step)


def least(part: dict[str, Any]) -> Json:
    """A value that fits a schema and says as little as possible."""
    if "enum" in part:
        return part["enum"][0]
    match part["type"]:
        case "string":
            if part.get("pattern") in SAMPLES:
                return min(SAMPLES[part["pattern"]], key=len)
            return "1s" if _is_duration(part) else "http://a" if _is_origin(part) else "a"
        case "object":
            return {name: least(part["properties"][name]) for name in part.get("required", ())}
        case "array":
            return [least(part["items"])] * part.get("minItems", 0)
        case kind:
            number = 1.5 if part.get("exclusiveMinimum") else part.get("minimum", 1.5)
            return {"boolean": False, "integer": part.get("minimum", 0), "number": number}[kind]


def at_the_bounds(part: dict[str, Any]) -> Iterator[tuple[str, Json, Json]]:
    """Each bound with a value that it just admits and the one next to it that it refuses."""
    if part.get("exclusiveMinimum"):
        yield "exclusiveMinimum", math.nextafter(part["minimum"], math.inf), part["minimum"]
    elif "minimum" in part:
        yield "minimum", part["minimum"], part["minimum"] - 1
    if "maximum" in part:
        yield "maximum", part["maximum"], part["maximum"] + 1
    if "minLength" in part:
        yield "minLength", least(part), ""
    if "maxLength" in part:
        most, over = "a" * part["maxLength"], "a" * (part["maxLength"] + 1)
        if _is_duration(part):
            most, over = "999999d999999h999999m999999s", "1999999d999999h999999m999999s"
        if _is_origin(part):
            most, over = f"https://{'a' * 253}:99999", f"https://{'a' * 254}:99999"
        if part.get("pattern") in SAMPLES:
            most = max(SAMPLES[part["pattern"]], key=len)
            over = most + most[-1]
        yield "maxLength", most, over
    if "pattern" in part:
        yield "pattern", least(part), "\x7f\x7f"
    if "minItems" in part:
        yield "minItems", least(part), []
    if "maxItems" in part:
        items = [least(part["items"]) for _ in range(part["maxItems"] + 1)]
        if part["x-kubernetes-list-type"] == "map":
            items = [{"name": f"p{number}"} for number in range(len(items))]
        if part["x-kubernetes-list-type"] == "set":
            items = [f"{item}{number}" for number, item in enumerate(items)]
        yield "maxItems", items[:-1], items
    if "maxProperties" in part:
        labels = {f"l{number}": "a" for number in range(part["maxProperties"] + 1)}
        yield "maxProperties", {"l0": "a"}, labels
    if part.get("x-kubernetes-list-type") == "map":
        yield "x-kubernetes-list-type", [{"name": "a"}, {"name": "b"}], [{"name": "a"}, {"name": "a"}]
    for choice in part.get("enum", ()):
        yield "enum", choice, choice.swapcase()


SELECTOR = {
    "matchLabels": {"label": "a"},
    "matchExpressions": [{"key": "a", "operator": "In", "values": ["a"]}],
}


def with_value(kind: str, path: str, value: Json) -> Json:
    """A spec with `value` at `path` and what else it takes for that to be possible."""
    spec = MINIMAL[kind]
    if "selector" in path or value == "Selector":
        spec = spec | {"allowedNamespaces": {"from": "Selector", "selector": SELECTOR}}
    if path == "spec.apiKey.rotateEvery":
        spec = spec | {"apiKey": {"gracePeriod": "0s"}}
    if path.startswith("spec.projects[]."):
        spec = spec | {"projects": [{"name": "default"}]}
    if path == "spec.tiers":
        value = [{"name": f"t{number}", "top": number} for number in range(1, len(value) + 1)]
    if path == "spec.tiers[].name":
        spec = spec | {"tiers": [{"top": 1}]}
    if path.startswith("spec.tiers[].") and not path.endswith(".name"):
        spec = spec | {"tiers": [{"name": "a"}]}
    if path in ("spec.bounds.maxGain", "spec.bounds.perSeconds"):
        spec = spec | {"bounds": {"maxGain": 1, "perSeconds": 1}}
    if path.endswith(".matchExpressions"):
        value = [line | {"operator": "Exists"} for line in value]
    spec = place(spec, steps_to(path), value)
    if value in ("Exists", "DoesNotExist"):
        spec = place(spec, (*steps_to(path)[:-1], "values"), MISSING)
    return spec


def _is_origin(part: dict[str, Any]) -> bool:
    return "://" in part.get("pattern", "")


def _is_tier(part: dict[str, Any]) -> bool:
    return "percent" in part["properties"]


def _is_duration(part: dict[str, Any]) -> bool:
    return "m)?" in part.get("pattern", "")


def _plain(text: str) -> bool:
    return not re.search("[\ud800-\udfff]", text)  # cannot be sent: UTF-8 has no form for half a pair


def fitting(part: dict[str, Any]) -> st.SearchStrategy[Json]:
    """Values that fit a schema as far as it is structure; its CEL rules may still refuse them."""
    if "enum" in part:
        return st.sampled_from(part["enum"])
    match part["type"]:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(part.get("minimum", -(2**63)), part.get("maximum", 2**63 - 1))
        case "number":
            if "maximum" in part:
                return st.floats(part["minimum"], part["maximum"]) | st.integers(1, 1_000_000).map(lambda n: n / 10_000)
            numbers = st.integers(-100, 100) | st.floats(allow_nan=False, allow_infinity=False)
            return numbers.filter(lambda number: number > 0) if part.get("exclusiveMinimum") else numbers
        case "string":
            least, most = part.get("minLength", 0), part.get("maxLength", 40)
            if part.get("pattern") in SAMPLES:
                texts = st.sampled_from(SAMPLES[part["pattern"]])
            elif "pattern" in part:
                pattern = part["pattern"].removeprefix("^").removesuffix("$")
                texts = st.from_regex(pattern, fullmatch=True)
            else:
                texts = st.text("aZ5-._/ü ", min_size=least, max_size=min(most, 20))
            return texts.filter(lambda text: least <= len(text) <= most and _plain(text))
        case "array":
            keys = part.get("x-kubernetes-list-map-keys", ())
            return st.lists(
                fitting(part["items"]),
                min_size=part.get("minItems", 0),
                max_size=min(part.get("maxItems", 4), 4),
                unique_by=(lambda item: tuple(item[key] for key in keys)) if keys else None,
            )
        case _:
            if "additionalProperties" in part:
                return st.dictionaries(st.text("az/.-", max_size=5), fitting(part["additionalProperties"]), max_size=3)
            if _is_tier(part):
                name, *bounds = (fitting(part["properties"][name]) for name in ("name", "top", "percent"))
                pairs = zip(("top", "percent"), bounds, strict=True)
                return st.one_of(st.fixed_dictionaries({"name": name, bound: values}) for bound, values in pairs)
            required = part.get("required", ())
            fields = {name: fitting(inner) for name, inner in part["properties"].items()}
            return st.fixed_dictionaries(
                {name: values for name, values in fields.items() if name in required},
                optional={name: values for name, values in fields.items() if name not in required},
            )


_JUNK = st.one_of(
    st.sampled_from([MISSING, None, True, 0, -1, 1.0, 1.5, 2**31, 2**63 - 1]),
    st.sampled_from(["", "A", "a\n", "-a", "a b", "é", "0s", "1w", "24h", "a" * 41, "a" * 129, "\x7f", "\u2028"]),
    st.sampled_from([[], [{}], ["a"], {}, {"name": "a"}, {"x": 1}]),
)


@st.composite
def specs(draw: st.DrawFn, kind: str) -> Json:
    """A spec that fits, in one case of two with one or two of its values replaced by what may not."""
    made = draw(fitting(spec_schema(kind)))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        places = list(steps_of(made))
        if not places:
            break
        where = draw(st.sampled_from(places))
        if isinstance(where[-1], str) and draw(st.integers(0, 9)) == 0:
            where = (*where[:-1], "unknown")
        made = place(made, where, draw(_JUNK))
    return made
