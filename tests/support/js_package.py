"""The JavaScript SDK as it is built and published."""

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from leaderboard.local.node import find_node
from support.docs import ROOT


class Package:
    """A copy of sdk/js in which programs can be run; the name of the package leads to what was built there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._env = os.environ | {"PATH": f"{find_node()}:{os.environ['PATH']}"}

    def run(self, *command: str, given: Any = None, **env: str) -> str:
        """Run it with `given` as JSON on its standard input; return what it printed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._env | env,
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def install_into(self, project: Path) -> None:
        """Unpack what would be published into the node_modules of `project`."""
        (packed,) = json.loads(self.run("npm", "pack", "--json"))
        place = project / "node_modules/leaderboard-sdk"
        with tarfile.open(self.folder / packed["filename"]) as archive:
            archive.extractall(place.parent, filter="data")
        place.with_name("package").rename(place)


def build_package(folder: Path) -> Package:
    """Copy sdk/js to `folder`, which is made, and build it there."""
    shutil.copytree(ROOT / "sdk/js", folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    built = Package(folder)
    built.run("npm", "ci", "--no-audit", "--no-fund")
    built.run("npm", "run", "build")
    return built
