"""The commands that the documentation tells people to type, and a shell to run them in."""

import re
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^( *)```sh\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_ANY_BLOCK = re.compile(r"^```(sh|python|js|html)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^ *(```|~~~)(.*)$", re.MULTILINE)
_INLINE = re.compile(r"`([^`]+)`")
_REFUSED = "# refused"
"""How a comment begins that says of the next line, one command, that it fails."""


def blocks(page: str) -> list[str]:
    """Return the shell blocks of one page, in their order."""
    return [textwrap.dedent(block) for _, block in _BLOCK.findall((ROOT / page).read_text())]


def snippets(page: str) -> list[tuple[str, str]]:
    """Return (language, text) of the page's shell, Python, JavaScript and HTML blocks, in their order."""
    return _ANY_BLOCK.findall((ROOT / page).read_text())


def pages() -> list[str]:
    """Return the paths of all Markdown that is part of the checkout."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
    return listed.stdout.split()


def fences(page: str) -> list[str]:
    """Return what stands behind the opening fence of each of the page's blocks: its language, or nothing."""
    return [label.strip() for _, label in _FENCE.findall((ROOT / page).read_text())][::2]


def outside(page: str) -> str:
    """Return the page without its blocks."""
    parts = re.split(r"^ *(?:```|~~~).*$", (ROOT / page).read_text(), flags=re.MULTILINE)
    return "".join(parts[::2])


def inline(page: str, program: str) -> list[str]:
    """Return the commands of `program` in the page's text, each on one line."""
    found = (" ".join(text.split()) for text in _INLINE.findall(outside(page)))
    return [text for text in found if text.startswith(f"{program} ")]


def run(script: str, *, env: Mapping[str, str], cwd: Path) -> str:
    """Run what people would type, in one shell; return what it printed.

    It ends at the first command that fails, and at one that should have been refused and was not.
    """
    # Answers that are no success are failures, and nothing goes by a proxy.
    script = script.replace("curl -s ", "curl -sS --noproxy '*' --fail-with-body ")
    command = ["bash", "-evuo", "pipefail", "-c", "\n".join(_expecting(script.splitlines()))]
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def _expecting(lines: Sequence[str]) -> list[str]:
    """Turn what is said to be refused into what must fail. A refusal may take a moment to be known everywhere."""
    return [
        f"for _ in $(seq 50); do if ! {line}; then break; fi; sleep 0.1; done; if {line}; then exit 9; fi"
        if before.startswith(_REFUSED)
        else line
        for before, line in zip(["", *lines], lines, strict=False)
    ]
