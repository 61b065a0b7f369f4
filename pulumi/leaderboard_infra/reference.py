"""``python -m leaderboard_infra.reference``: write the settings into Pulumi.yaml and the two pages anew.

They are made of settings.py between two lines that say so, and tests hold them equal.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from leaderboard_infra.settings import FIELDS, default_of, is_secret, key_of, type_of

ROOT = Path(__file__).parents[2]
PROJECT_FILE = ROOT / "Pulumi.yaml"
README = ROOT / "pulumi" / "README.md"
PAGES = (README, ROOT / "docs" / "ops.md")
_PAGE_MARKS = ("<!-- made of settings.py by `make pulumi-docs` -->\n", "<!-- end -->\n")
_MARKS = {
    PROJECT_FILE: ("# -- made of settings.py by `make pulumi-docs`\n", "# -- end\n"),
    **dict.fromkeys(PAGES, _PAGE_MARKS),
}


def project_config() -> dict[str, dict[str, Any]]:
    """Return what Pulumi.yaml says under `config:`.

    A secret is not marked as one there: Pulumi would then refuse the default that it also demands of every key.
    config.py refuses the secret that is not encrypted instead.
    """
    return {key_of(field): _declaration(field) for field in FIELDS}


def _declaration(field: str) -> dict[str, Any]:
    declared: dict[str, Any] = {"type": type_of(field), "description": _description(field)}
    if declared["type"] == "array":
        declared["items"] = {"type": "string"}
    return declared | {"default": default_of(field)}


def _description(field: str) -> str:
    text = str(FIELDS[field].metadata["description"])
    return f"{text} A secret: set it with --secret." if is_secret(field) else text


def project_text() -> str:
    """Return the part of Pulumi.yaml that is made here."""
    return yaml.safe_dump({"config": project_config()}, sort_keys=False, width=120, allow_unicode=True)


def page_text() -> str:
    """Return the part of the pages that is made here: the table of settings."""
    return "\n".join(["| key | default | what |", "| --- | --- | --- |", *_rows(), ""])


def _rows() -> Iterator[str]:
    for name, field in FIELDS.items():
        metadata = field.metadata
        default = default_of(name)
        shown = (
            "*secret*"
            if is_secret(name)
            else ""
            if default in ("", [], {})
            else f"`{json.dumps(default) if isinstance(default, bool) else default}`"
        )
        yield f"| `{key_of(name)}` | {shown} | {metadata['description']}{_where(metadata)} |"


def _where(metadata: Mapping[str, Any]) -> str:
    if metadata["only"] is None:
        return ""
    decider, values = metadata["only"]
    if decider == "role" and values == ("region",):  # most are: the table says so once
        return ""
    return f" *With {key_of(decider)} {' or '.join(values)}.*"


def with_part(path: Path, part: str) -> str:
    """Return the text of the file with the part between its two marks replaced."""
    begin, end = _MARKS[path]
    before, _, rest = path.read_text().partition(begin)
    _, _, after = rest.partition(end)
    assert rest, f"{path} has no line {begin!r}"
    return f"{before}{begin}{part}{end}{after}"


def main() -> None:
    """Write all three files."""
    PROJECT_FILE.write_text(with_part(PROJECT_FILE, project_text()))
    for page in PAGES:
        page.write_text(with_part(page, page_text()))


if __name__ == "__main__":
    main()
