"""The reference of the REST API, written from openapi.yaml when the site is built: what follows on the page `api`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from leaderboard.api import pages, problems
from leaderboard.api.resources import docs as served

PAGE = "api"


def markdown(document: Mapping[str, Any]) -> str:
    """Return the operations, by tag, and the problem types as Markdown."""
    lines = [f"Version {document['info']['version']} of the API.", "", document["info"]["description"]]
    for tag in document["tags"]:
        lines += ["", f"## {tag['name']}", "", tag["description"]]
        for path, item in document["paths"].items():
            for method, operation in item.items():
                if method in pages.METHODS and operation["tags"] == [tag["name"]]:
                    shared = item.get("parameters", [])
                    lines += _operation(document, method, path, operation, shared)
    rows = (
        (f"`{kind.name}`", str(kind.status), f"{kind.title}. {kind.advice}")
        for kind in sorted(problems.TYPES.values(), key=lambda kind: (kind.status, kind.name))
    )
    lines += ["", "## Problem types", "", f"`type` is `{problems.PREFIX}` and the name.", ""]
    return "\n".join([*lines, *_table(("Type", "Status", "What it means and what to do"), rows)]) + "\n"


def _operation(
    document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any], shared: list[Any]
) -> list[str]:
    scope = operation.get("x-scope")
    lines = ["", f"### {operation['summary']}", "", f"`{method.upper()} {path}`", ""]
    lines += [f"Needs a key of scope `{scope}`." if scope else "Needs no key.", "", operation["description"], ""]
    parameters = [_resolve(document, node) for node in [*shared, *operation.get("parameters", [])]]
    if parameters:
        rows = (
            (
                f"`{p['name']}`",
                p["in"],
                "yes" if p.get("required") else "no",
                _kind(document, p["schema"]),
                p["description"],
            )
            for p in parameters
        )
        lines += ["**Parameters**", "", *_table(("Name", "In", "Required", "Type", "What it is"), rows)]
    if "requestBody" in operation:
        lines += ["**Body**", "", *_fields(document, operation["requestBody"]["content"]["application/json"]["schema"])]
    lines += ["**Example**", "", "```bash", pages.curl(document, method, path), "```", "", "**Answers**", ""]
    refused = []
    for status, node in operation["responses"].items():
        response = _resolve(document, node)
        media = response.get("content", {})
        if problems.MEDIA_TYPE in media:
            parts = media[problems.MEDIA_TYPE]["schema"]["allOf"]
            types = [name for part in parts for name in part.get("properties", {}).get("type", {}).get("enum", ())]
            names = ", ".join(f"`{name.removeprefix(problems.PREFIX)}`" for name in types)
            refused.append((status, names, response["description"]))
            continue
        lines += [f"`{status}`: {response['description'].strip()}", ""]
        for kind, content in media.items():
            if kind == "application/json":
                lines += _fields(document, content["schema"])
            example = content.get("example")
            if example is not None:
                shown = example if isinstance(example, str) else pages.example_json(example)
                lines += ["```text" if isinstance(example, str) else "```json", shown.strip(), "```", ""]
    return [*lines, *_table(("Status", "Problem types", "When"), refused)]


def _fields(document: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    schema = _resolve(document, schema)
    variants = [_resolve(document, node) for node in schema.get("oneOf", [schema])]
    for variant in variants:
        fields = {name: _resolve(document, field) for name, field in variant.get("properties", {}).items()}
        needed = variant.get("required", ())
        rows = [
            (f"`{name}`", "yes" if name in needed else "no", _kind(document, field), field.get("description", ""))
            for name, field in fields.items()
            if field.get("type") != "null"
        ]
        if rows:
            lead = [variant["description"].strip(), ""] if len(variants) > 1 else []
            lines += [*lead, *_table(("Field", "Required", "Type", "What it is"), rows)]
    return lines


def _kind(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    schema = _resolve(document, schema)
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "object")
    words = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if kind == "array":
        items = _resolve(document, schema.get("items", {}))
        named = ", ".join(f"`{name}`" for name in items.get("properties", {}))
        words = "list of " + (named or _kind(document, items))
    bounds = (("minimum", "from"), ("maximum", "to"), ("default", "default"))
    return ", ".join([words, *(f"{word} {schema[name]}" for name, word in bounds if name in schema)])


def _resolve(document: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        target: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    # A cell is one line of Markdown.
    body = ["| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |" for row in rows]
    if not body:
        return []
    return ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *body, ""]


def _on_read(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == PAGE:
        app.env.note_dependency(str(Path(pages.__file__).parent / "openapi.yaml"))
        source[0] += "\n" + markdown(served.document())


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", _on_read)
    return {"parallel_read_safe": True}
