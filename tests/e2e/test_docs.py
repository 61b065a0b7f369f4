"""What the README and the blueprints tell people to type works as it stands there."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.client import Connection

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Starting the platform and its tests are other tests' business.
ELSEWHERE = ("make ", ".venv/bin/leaderboard ")


def blocks(page: str) -> list[str]:
    """The shell blocks of one page that talk to a running platform."""
    found = BLOCK.findall((ROOT / page).read_text())
    return [block for block in found if not block.startswith(ELSEWHERE)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
@pytest.mark.parametrize("page", ["README.md", "docs/blueprints.md"])
def test_every_command_of_the_page_works(page, make_platform, tenant):
    platform = make_platform()
    acme = tenant(platform, slug="acme")
    asyncio.run(score(platform.url, acme.key, "u666"))
    env = platform.env | {
        "API": platform.url,
        "KEY": acme.key,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    commands = blocks(page)
    assert commands
    for block in commands:
        script = block.replace("localhost:8080", platform.url).replace("curl -s ", "curl -sS --fail-with-body ")
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


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
