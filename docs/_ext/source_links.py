"""Links from a page to a file of the repository that is no page.

On a git host `[the schema](../app/x.sql)` leads to the file. The site has no such file, and a strict build refuses the
link; so it becomes a link to `source_url` (conf.py) where that is set, and its text alone where not. A link to a folder
of pages becomes one to the folder's README.md.
"""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

_FENCE = re.compile(r"^( *)(`{3,}|~{3,}).*?^ *\2 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def rewrite(text: str, *, page: Path, docs: Path, url: str) -> str:
    """Return the Markdown of `page` with its links to what is no page made good; code blocks stay as they are."""

    def link(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2], found[3] or ""
        if re.match(r"[a-z]+:", target):
            return found[0]
        path = (page.parent / target).resolve()
        if path.is_dir() and path.is_relative_to(docs) and (path / "README.md").exists():
            return f"[{label}]({target.rstrip('/')}/README.md{anchor})"
        if path.is_relative_to(docs) and path.suffix == ".md":
            return found[0]
        if not path.exists() or not path.is_relative_to(docs.parent):
            return found[0]
        return f"[{label}]({url.rstrip('/')}/{path.relative_to(docs.parent)}{anchor})" if url else label

    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(link, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(link, text[end:])])


def _on_read(app: Sphinx, docname: str, source: list[str]) -> None:
    docs = Path(app.srcdir).resolve()
    source[0] = rewrite(source[0], page=Path(app.env.doc2path(docname)).resolve(), docs=docs, url=app.config.source_url)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_config_value("source_url", "", "env")
    app.connect("source-read", _on_read)
    return {"parallel_read_safe": True}
