"""What the README and the blueprints tell people to type works as it stands there."""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from leaderboard.local.node import find_node
from leaderboard_sdk import Client
from support.client import Connection
from support.docs import ROOT, blocks, run, snippets

# Starting the platform, its tests and Kubernetes are other tests' business; see test_demo_kube.py for the latter.
ELSEWHERE = ("make ", ".venv/bin/leaderboard ", "kubectl ")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
@pytest.mark.parametrize("page", ["README.md", "docs/blueprints.md", "docs/faq.md"])
def test_every_command_of_the_page_works(page, make_platform, tenant, tmp_path):
    platform = make_platform()
    acme = tenant(platform, slug="acme")
    asyncio.run(score(platform.url, acme.key, "u666"))
    env = platform.env | {
        "API": platform.url,
        "KEY": acme.key,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    commands = [block for block in blocks(page) if not block.startswith(ELSEWHERE)]
    assert commands
    for block in commands:
        run(block.replace("localhost:8080", platform.url), env=env, cwd=tmp_path)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
def test_the_quick_start_works_word_for_word(make_platform, tmp_path):
    platform = make_platform()
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    for folder in ("examples", "sdk"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    files = {"python": "first.py", "js": "first.mjs"}
    script = []
    for language, text in snippets("docs/quickstart.md"):
        if language in files:
            script.append(f"cat >{files[language]} <<'EOF'\n{text}EOF")
        elif text == "make sdk-js\n":
            script.append(f"make -C {ROOT} sdk-js")
        elif text not in ("make setup\n", ".venv/bin/leaderboard up\n"):  # this test's platform is there already
            script.append(text)
    said = run(
        "\n".join(script).replace("localhost:8080", platform.url.removeprefix("http://")),
        env=platform.env | {"PATH": f"{find_node()}:{os.environ['PATH']}"},
        cwd=tmp_path,
    )
    assert "ada has 5 points and is number 1\n1 ada 5\n" in said
    assert "alan has 6 points and is number 1\n1 alan 6\n2 ada 5\n" in said
    assert '"user":"grace","score":7,"rank":1' in said


def test_the_snippets_of_the_python_sdk_work(make_platform, tenant, capsys):
    platform = make_platform()
    key = tenant(platform, slug="acme").key
    codes = [text for language, text in snippets("sdk/python/README.md") if language == "python"]
    assert len(codes) == 3
    exec(codes[0].replace("https://leaderboards.example.com", platform.url), {"api_key": key})
    with Client(platform.url, key) as client:
        exec(codes[1], {"client": client})
        assert capsys.readouterr().out.endswith("\n1 ['u42']\n")
        exec(codes[2], {"client": client})
        assert client.rank("season-1", "u42").score == 10


def test_every_page_with_snippets_is_tested_somewhere():
    tested = {"quickstart.md", "faq.md"}
    new = ("index", "quickstart", "concepts", "security", "faq", "api", "sdk-python", "sdk-js")
    assert {f"{name}.md" for name in new if snippets(f"docs/{name}.md")} == tested


async def score(url: str, key: str, user: str) -> None:
    """Put `user` on the board."""
    http = Connection(url)
    body = {"leaderboard": "global", "user": user, "increment": 1}
    assert (await http.request("POST", "/v1/scores/update", key=key, body=body)).status == 200
    await http.close()


def test_every_link_of_the_documentation_leads_somewhere():
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
        if not target.startswith("https://") and not (page.parent / target).exists()
    ]
    assert broken == []
