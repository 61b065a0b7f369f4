"""What is in the image, and what is not."""

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.engine import Engine, build_arguments

COMPILES = re.compile(
    r"(?:[\w-]+-)?(?:gcc|g\+\+|cc|c\+\+|cpp|clang|clang\+\+|tcc|cc1|cc1plus|ld|as|make|cargo|rustc|go)(?:-[\d.]+)?"
)
INSTALLS = re.compile(r"pip|pip[\d.]+|uvx?|hatch(?:ling)?|easy_install.*|wheel")
SETTINGS = re.compile(r"pip\.conf|pip\.ini|uv\.toml|[._]netrc|\.pypirc|\.npmrc|\.env|\.git|id_[a-z0-9]+")
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}")
ELF = b"\x7fELF"  # libraries of TLS have keys of nobody's to test themselves with
# Folders that everybody may write to, by Debian's own rules; on a read-only root only /tmp can be, as it is mounted.
PUBLIC = {"/tmp", "/var/tmp", "/run/lock", "/var/lock"}

WRITABLE = """
import json, os
found = []
for folder, folders, files in os.walk("/"):
    if folder == "/":
        folders[:] = [name for name in folders if name not in ("proc", "sys", "dev")]
    paths = [folder, *(os.path.join(folder, name) for name in files)]
    found += [path for path in paths if not os.path.islink(path) and os.access(path, os.W_OK)]
print(json.dumps([os.getuid(), os.getgid(), os.getgroups(), found]))
"""
COMPILED = """
import sys
import leaderboard.cli, leaderboard.api.server, leaderboard.store.postgres.migrate, leaderboard.worker.run
import leaderboard_operator.runtime, uvloop, uvicorn, gunicorn.arbiter
from importlib.util import cache_from_source
from pathlib import Path
sources = {getattr(module, "__file__", None) or "" for module in sys.modules.values()}
sources = {source for source in sources if source.endswith(".py")}
assert len(sources) > 500
print("\\n".join(source for source in sources if not Path(cache_from_source(source)).exists()))
"""
IMPORTABLE = """
from importlib.util import find_spec
print("\\n".join(filter(find_spec, ["pip", "setuptools", "ensurepip", "wheel", "uv", "hatchling"])))
"""
PROGRAMS = """
import os
folders = filter(os.path.isdir, os.environ["PATH"].split(":"))
print("\\n".join(entry.name for folder in folders for entry in os.scandir(folder)))
"""


def configuration(engine: Engine, image: str) -> dict[str, Any]:
    """Return what a container of the image starts with."""
    found: dict[str, Any] = json.loads(engine("image", "inspect", image))[0]["Config"]
    return found


def python(engine: Engine, image: str, script: str, *, program: str = "python") -> str:
    """Return what a script prints in the image."""
    return engine("run", "--rm", "--network=none", image, program, "-c", script)


@pytest.fixture(scope="module")
def saved(engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image as the engine gives it away."""
    path = tmp_path_factory.mktemp("saved") / "image.tar"
    engine("save", f"--output={path}", image)
    return path


def everything(saved: Path) -> Iterator[tuple[str, bytes]]:
    """Give path and content of every file in every layer, and of the documents that describe the image."""
    with tarfile.open(saved) as image:
        for member in image:
            content = image.extractfile(member)
            if content is None:
                continue
            layer = tarfile.is_tarfile(content)
            content.seek(0)
            if not layer:
                yield f"/image/{member.name}", content.read()
                continue
            with tarfile.open(fileobj=content) as entries:
                for entry in entries:
                    file = entries.extractfile(entry) if entry.isfile() else None
                    yield f"/{entry.name.removeprefix('./')}", b"" if file is None else file.read()


def test_it_says_what_it_is(engine, image):
    config = configuration(engine, image)
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] == "SIGTERM"
    assert not config["Entrypoint"], "the command names the role"
    assert set(config["ExposedPorts"]) == {"8080/tcp", "8081/tcp"}
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    given = build_arguments()
    assert (labels["title"], labels["licenses"]) == ("leaderboard", "Apache-2.0")
    assert (labels["version"], labels["revision"]) == (given["VERSION"], given["REVISION"])


def test_its_user_can_change_nothing_in_it(engine, image):
    uid, gid, groups, writable = json.loads(python(engine, image, WRITABLE))
    assert (uid, gid) == (65532, 65532)
    assert set(groups) <= {65532}
    assert set(writable) <= PUBLIC


def test_it_has_the_dashboard(engine, image):
    script = (
        "from leaderboard.api.resources.dashboard import BUILT; print(*sorted(p.suffix for p in BUILT.rglob('*.*')))"
    )
    assert python(engine, image, script).split() == [".css", ".html", ".js", ".svg"]


def test_nothing_is_compiled_at_a_start(engine, image):
    assert python(engine, image, COMPILED).split() == []


def test_nothing_in_it_installs_or_builds(engine, image):
    names = python(engine, image, PROGRAMS).split()
    assert {"leaderboard", "leaderboard-operator", "python3"} <= set(names)
    assert [name for name in names if INSTALLS.fullmatch(name) or COMPILES.fullmatch(name)] == []
    base = python(engine, image, "import sys; print(sys._base_executable)").strip()
    for program in ("python", base):
        assert python(engine, image, IMPORTABLE, program=program).split() == []


def test_no_layer_has_a_compiler_or_anything_secret(saved):
    index = build_arguments()["INDEX_URL"].split("//")[1].encode()
    names, guilty = set(), []
    for path, content in everything(saved):
        folder, _, name = path.rpartition("/")
        names.add(name)
        compiler = folder.endswith("bin") and COMPILES.fullmatch(name)
        key = PRIVATE_KEY.search(content) and not content.startswith(ELF)
        if compiler or key or SETTINGS.fullmatch(name) or index in content:
            guilty.append(path)
    assert guilty == []
    assert {"manifest.json", "cli.py", "update.lua", "0001.initial.sql", "openapi.yaml"} <= names, (
        "the layers were read"
    )


def test_its_history_tells_nothing_of_the_build(engine, image):
    history = engine("history", "--no-trunc", "--format={{.CreatedBy}}", image)
    assert "65532:65532" in history
    assert build_arguments()["INDEX_URL"].split("//")[1] not in history
    assert "INDEX_URL" not in history
