"""What the README and the blueprints tell people to type works as it stands there."""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from support.client import Connection
from support.docs import ROOT, blocks, run

# Starting the platform, its tests and Kubernetes are other tests' business; see test_demo_kube.py for the latter.
ELSEWHERE = ("make ", ".venv/bin/leaderboard ", "kubectl ")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
@pytest.mark.parametrize("page", ["README.md", "docs/blueprints.md"])
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
