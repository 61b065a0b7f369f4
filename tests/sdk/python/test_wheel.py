"""The wheel of the Python SDK: what is in it, what it asks for, and that it can be used alone."""

import email
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from support.docs import ROOT

PROJECT = ROOT / "sdk/python"
PACKAGE = PROJECT / "src/leaderboard_sdk"
METADATA = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
INFO = f"leaderboard_sdk-{METADATA['version']}.dist-info"
INDEXES = {"UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "VIRTUAL_ENV"}
"""What the Makefile leaves out too, so that the cache is looked at as it was filled."""

ALONE = """
import sys
import httpx  # its own dependencies are its own business
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
import leaderboard_sdk
from importlib import metadata
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(leaderboard_sdk.__file__)
print(sorted(new - sys.stdlib_module_names))
print(metadata.version("leaderboard-sdk"))
print(sorted(name for name in leaderboard_sdk.__all__ if not hasattr(leaderboard_sdk, name)))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy, as the backend would leave what it makes beside the sources."""
    uv = shutil.which(ROOT / ".uv/bin/uv") or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is missing: neither .uv/bin/uv (make setup) nor on PATH")
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(PROJECT, folder / "project", ignore=shutil.ignore_patterns("__pycache__"))
    # What a checkout may have beside the sources must not get into it.
    (folder / "project/tests").mkdir()
    (folder / "project/tests/test_no_part_of_it.py").touch()
    # Offline: the backend is in uv's cache, since `make setup` builds the repository's own package with it.
    command = [uv, "--no-config", "build", "--wheel", "--offline", "--python", sys.executable, "--out-dir", str(folder)]
    env = {name: value for name, value in os.environ.items() if name not in INDEXES}
    done = subprocess.run([*command, str(folder / "project")], env=env, capture_output=True, text=True, timeout=120)
    if done.returncode and "not found in the cache" in " ".join(done.stderr.split()):
        pytest.skip(f"uv's cache has no hatchling (make setup): {done.stderr[-500:]}")
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_it_is_the_package_and_nothing_else(wheel: Path) -> None:
    modules = {f"leaderboard_sdk/{path.name}" for path in PACKAGE.glob("*.py")}
    assert len(modules) > 5
    about = {f"{INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")}
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) == modules | {"leaderboard_sdk/py.typed"} | about
        for name in modules:
            assert archive.read(name) == (PROJECT / "src" / name).read_bytes()
        assert archive.read(f"{INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_its_metadata_asks_for_what_the_project_does(wheel: Path) -> None:
    assert wheel.name == f"leaderboard_sdk-{METADATA['version']}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        told = email.message_from_bytes(archive.read(f"{INFO}/METADATA"))
    assert told["Name"] == "leaderboard-sdk"
    assert told["Version"] == METADATA["version"]
    assert told.get_all("Requires-Dist") == METADATA["dependencies"] == ["httpx>=0.28"]
    assert told["Requires-Python"] == METADATA["requires-python"]
    assert told["License-Expression"] == "Apache-2.0"
    assert told.get_payload() == (PROJECT / "README.md").read_text()


def test_it_is_imported_from_the_wheel_alone_and_needs_only_httpx(wheel: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(wheel)], cwd=wheel.parent, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    file, new, version, missing = done.stdout.splitlines()
    assert file == str(wheel / "leaderboard_sdk/__init__.py")
    assert new == "['leaderboard_sdk']"
    assert version == METADATA["version"]
    assert missing == "[]"
