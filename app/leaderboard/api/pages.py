"""HTML pages: the reference made from the OpenAPI document, and the frame of every page.

A page is one file: no script, nothing fetched from elsewhere, light or dark as the reader's system is. Whatever comes
from a document is escaped.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any
from urllib.parse import quote, urlencode

from leaderboard.api import problems

METHODS = ("get", "post", "put", "patch", "delete")
IN_BROWSER = "Dashboard"
"""The tag of what is for a browser, which keeps the cookie: a line of curl would only mislead."""
ORIGIN = "$LEADERBOARD_URL"
KEY = "$LEADERBOARD_KEY"

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5c6675; --page: #fff; --box: #f5f6f8; --line: #dfe3e8;
  --link: #0b5cad; --get: #0b6e4f; --post: #0b5cad; --patch: #8a5a00; --delete: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #9aa5b4; --page: #14181e; --box: #1d232b;
  --line: #333c47; --link: #7ab8f5; --get: #5fc9a0; --post: #7ab8f5; --patch: #e0b05c; --delete: #f2877f; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 60rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.4rem; margin: 3rem 0 .5rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.1rem; margin: 0; } h4 { font-size: .9rem; margin: 1.2rem 0 .3rem; color: var(--soft); }
p, ul { margin: .5rem 0; } a { color: var(--link); }
code, pre { font: .875em/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
pre { background: var(--box); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem; margin: .4rem 0;
  white-space: pre-wrap; overflow-wrap: anywhere; }
article { border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.1rem; margin: 1rem 0; }
.call { display: flex; flex-wrap: wrap; gap: .2rem .6rem; align-items: baseline; margin: .3rem 0; }
.call code { font-size: .95rem; font-weight: 600; overflow-wrap: anywhere; }
.verb { font-weight: 700; } .get { color: var(--get); } .post { color: var(--post); } .patch { color: var(--patch); }
.delete { color: var(--delete); }
.note { color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } td p { margin: 0 0 .2rem; } td:first-child { white-space: nowrap; }
td:last-child { min-width: 14rem; }
summary { color: var(--soft); font-size: .9rem; margin-top: .8rem; cursor: pointer; }
nav ul { list-style: none; padding: 0; display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr));
  gap: .1rem 1rem; } nav a { text-decoration: none; }
"""


def page(title: str, body: str) -> str:
    """Return a whole HTML page of `body`, which is HTML already; `title` is text."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{_STYLE}</style></head>'
        f"<body>{body}</body></html>\n"
    )


def reference(document: Mapping[str, Any]) -> str:
    """Return the reference of an OpenAPI document as a page."""
    return page(document["info"]["title"], _Reference(document).body())


def curl(document: Mapping[str, Any], method: str, path: str) -> str:
    """Return a command line that makes the operation's call, from the document's own examples."""
    return _Reference(document).curl(method, path)


def _text(markdown: str) -> str:
    # The little that descriptions use: paragraphs, `code` and **strong**.
    escaped = escape(markdown.strip(), quote=False)
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    escaped = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped)
    return "".join(f"<p>{paragraph}</p>" for paragraph in re.split(r"\n\s*\n", escaped))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    # Cells are HTML.
    top = "".join(f"<th>{name}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _code(text: object) -> str:
    return f"<code>{escape(str(text), quote=False)}</code>"


class _Reference:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def body(self) -> str:
        """Return the page's body."""
        info = self._document["info"]
        operations = [
            (tag["name"], method, path, operation)
            for tag in self._document["tags"]
            for path, item in self._document["paths"].items()
            for method, operation in item.items()
            if method in METHODS and operation["tags"] == [tag["name"]]
        ]
        parts = [
            f'<h1>{escape(info["title"])}</h1><p class="note">Version {escape(info["version"])} · '
            '<a href="/openapi.json">openapi.json</a></p>',
            _text(info["description"]),
            "<h2>Calls</h2><nav><ul>",
            *(
                f'<li><a href="#{escape(operation["operationId"])}">{escape(operation["summary"])}</a></li>'
                for _, _, _, operation in operations
            ),
            '<li><a href="#problems">Problem types</a></li></ul></nav>',
            f"<h4>In the examples</h4><pre>{ORIGIN[1:]}=https://…   # where this page comes from\n{KEY[1:]}=lb_…</pre>",
        ]
        for tag in self._document["tags"]:
            parts.append(f"<h2>{escape(tag['name'])}</h2>{_text(tag['description'])}")
            parts += [self._operation(method, path, op) for name, method, path, op in operations if name == tag["name"]]
        rows = (
            (
                f'<a href="{problems.PREFIX}{kind.name}">{_code(kind.name)}</a>',
                str(kind.status),
                f"<p>{escape(kind.title)}</p><p class='note'>{escape(kind.advice)}</p>",
            )
            for kind in sorted(problems.TYPES.values(), key=lambda kind: (kind.status, kind.name))
        )
        parts.append(
            f'<h2 id="problems">Problem types</h2><p>{_code("type")} is {_code(problems.PREFIX)} and the name.</p>'
            + _table(("Type", "Status", "What it means and what to do"), rows)
        )
        return "".join(parts)

    def _operation(self, method: str, path: str, operation: Mapping[str, Any]) -> str:
        scope = operation.get("x-scope")
        needs = f"scope {_code(scope)}" if scope else "no key"
        parts = [
            f'<article id="{escape(operation["operationId"])}"><h3>{escape(operation["summary"])}</h3>'
            f'<div class="call"><span class="verb {method}">{method.upper()}</span>{_code(path)}'
            f'<span class="note">{needs}</span></div>{_text(operation["description"])}'
        ]
        parameters = self._parameters(path, operation)
        if parameters:
            rows = (
                (
                    _code(parameter["name"]),
                    escape(parameter["in"]),
                    _text(parameter["description"])
                    + f'<p class="note">{"" if parameter.get("required") else "optional; "}'
                    + f"{self._summary(parameter['schema'])}</p>",
                )
                for parameter in parameters
            )
            parts.append("<h4>Parameters</h4>" + _table(("Name", "In", "What it is"), rows))
        if "requestBody" in operation:
            parts.append("<h4>Body</h4>" + self._fields(operation["requestBody"]["content"]["application/json"]))
        if IN_BROWSER not in operation["tags"]:
            parts.append(f"<h4>Example</h4><pre>{escape(self.curl(method, path), quote=False)}</pre>")
        return "".join(parts) + self._answers(operation) + "</article>"

    def _answers(self, operation: Mapping[str, Any]) -> str:
        # Problems are many and much the same everywhere: folded away, for who looks for one.
        rows: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
        for status, node in operation["responses"].items():
            response = self._resolve(node)
            cell = _text(response["description"])
            media = response.get("content", {})
            if problems.MEDIA_TYPE in media:
                parts = media[problems.MEDIA_TYPE]["schema"]["allOf"]
                types = [name for part in parts for name in part.get("properties", {}).get("type", {}).get("enum", ())]
                names = ", ".join(_code(name.removeprefix(problems.PREFIX)) for name in types)
                cell += f'<p class="note">{names}</p>'
            elif "text/event-stream" in media:
                cell += f"<pre>{escape(media['text/event-stream']['example'].strip(), quote=False)}</pre>"
            elif "application/json" in media:
                cell += self._fields(media["application/json"])
                example = media["application/json"].get("example")
                cell += f"<pre>{escape(example_json(example), quote=False)}</pre>" if example else ""
            rows[problems.MEDIA_TYPE in media].append((_code(status), cell))
        head = ("Status", "What it means")
        folded = f"<details><summary>Problems</summary>{_table(head, rows[True])}</details>"
        return "<h4>Answers</h4>" + _table(head, rows[False]) + folded

    def _fields(self, media: Mapping[str, Any]) -> str:
        schema = self._resolve(media["schema"])
        variants = schema.get("oneOf", [schema])
        tables = []
        for variant in map(self._resolve, variants):
            required = variant.get("required", ())
            rows = [
                (
                    _code(name),
                    f'<span class="note">{"" if name in required else "optional; "}{self._summary(field)}</span>'
                    + _text(self._resolve(field).get("description", "")),
                )
                for name, field in variant.get("properties", {}).items()
                if self._resolve(field).get("type") != "null"
            ]
            if rows:
                lead = _text(variant["description"]) if len(variants) > 1 else ""
                tables.append(lead + _table(("Field", "What it is"), rows))
        return "".join(tables)

    def _summary(self, schema: Mapping[str, Any]) -> str:
        # One line of HTML: the type and its bounds.
        schema = self._resolve(schema)
        kind = schema.get("type", "")
        if kind == "array":
            items = self._resolve(schema["items"])
            fields = ", ".join(items.get("properties", {}))
            words = "list of " + (f"{{{escape(fields)}}}" if fields else self._summary(items) or "objects")
        else:
            words = " or ".join(kind) if isinstance(kind, list) else escape(kind)
        bounds = [
            f"{word} {escape(_number(schema[name]))}"
            for name, word in (("minimum", "from"), ("maximum", "to"), ("default", "default"))
            if name in schema
        ]
        if "enum" in schema:
            words = "one of " + ", ".join(map(_code, schema["enum"]))
        if "const" in schema:
            words = _code(schema["const"])
        return ", ".join(filter(None, [words, " ".join(bounds[:2]), *bounds[2:]]))

    def curl(self, method: str, path: str) -> str:
        """Return the call's command line: required parameters and those with an example, the first body example."""
        operation = self._document["paths"][path][method]
        query: list[tuple[str, str]] = []
        headers: list[str] = []
        for parameter in self._parameters(path, operation):
            if "example" not in parameter:
                continue
            name, value = parameter["name"], parameter["example"]
            if parameter["in"] == "path":
                path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
            elif parameter["in"] == "query":
                query += [(name, str(item)) for item in (value if isinstance(value, list) else [value])]
            else:
                headers.append(f"{name}: {value}")
        target = path + (f"?{urlencode(query)}" if query else "")
        options = "" if method == "get" else f"-X {method.upper()} "
        if "text/event-stream" in self._resolve(operation["responses"].get("200", {})).get("content", {}):
            options += "-N "  # each event as it comes
        lines = [f'curl {options}"{ORIGIN}{target}"']
        if any("bearerAuth" in rule for rule in operation.get("security", self._document["security"])):
            lines.append(f'-H "Authorization: Bearer {KEY}"')
        lines += [f"-H {shlex.quote(header)}" for header in headers]
        if "requestBody" in operation:
            examples = operation["requestBody"]["content"]["application/json"]["examples"]
            body = json.dumps(next(iter(examples.values()))["value"], ensure_ascii=False)
            lines += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(body)}"]
        return " \\\n  ".join(lines)

    def _parameters(self, path: str, operation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        shared = self._document["paths"][path].get("parameters", [])
        return [self._resolve(parameter) for parameter in [*shared, *operation.get("parameters", [])]]

    def _resolve(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in node:
            return node
        target: Any = self._document
        for name in node["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        # What stands beside a reference counts over what it names (OpenAPI 3.1).
        return {**self._resolve(target), **{key: value for key, value in node.items() if key != "$ref"}}


def _number(value: object) -> str:
    return {2**53: "2^53", -(2**53): "-2^53"}.get(value, json.dumps(value)) if isinstance(value, int) else str(value)


def example_json(value: object) -> str:
    # One line for what fits, else two levels deep and lines within: readable without being long.
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= 90 or not isinstance(value, dict):
        return text
    lines = []
    for key, item in value.items():
        inner = json.dumps(item, ensure_ascii=False)
        if isinstance(item, list) and len(inner) > 60:
            inner = "[\n    " + ",\n    ".join(json.dumps(entry, ensure_ascii=False) for entry in item) + "\n  ]"
        lines.append(f"  {json.dumps(key)}: {inner}")
    return "{\n" + ",\n".join(lines) + "\n}"
