"""``make bench-newcomer``: how long from a clone to the first ranked score, by the quick start alone.

make bench-newcomer                        with empty caches; a few minutes
make bench-newcomer BENCH_ARGS=--write     put the table into docs/performance.md

Clones this repository into a new folder and runs the blocks of docs/quickstart.md there as they stand, one after the
other: those of a language as the file that the page says to save, `leaderboard up` as in a terminal of its own. uv and
npm get caches that are empty. What a person reads and types is not in it. The page's port, 8080, has to be free.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import report
from leaderboard.local.process import wait_until
from support.docs import ROOT, snippets

PORT = 8080
UP = ".venv/bin/leaderboard up\n"
FILES = {"python": "first.py", "js": "first.mjs"}
FIRST = {"With Python": "ada has 5 points", "With JavaScript": "alan has 6 points", "With curl": '"user":"grace"'}
"""What the page's section prints once its score is ranked."""
_UP_SECONDS = 60


class Failed(RuntimeError):
    """A step of the page did not do what the page says."""


@contextmanager
def _terminal(folder: Path, env: dict[str, str]) -> Iterator[None]:
    """Run `leaderboard up` in `folder`; return when it takes connections."""
    log = folder / "up.log"
    with log.open("wb") as file, subprocess.Popen(UP.split(), cwd=folder, env=env, stdout=file, stderr=file) as up:
        try:
            if (
                not wait_until(lambda: up.poll() is not None or _answers(), seconds=_UP_SECONDS)
                or up.poll() is not None
            ):
                raise Failed(f"{UP.strip()}: {log.read_text()}")
            yield
        finally:
            up.terminate()
            up.wait(30)


def _answers() -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", PORT)) == 0


class Shell:
    """One terminal: what a block exports is there for the next."""

    _END = "-- end of block --"

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash", "-eu", "-o", "pipefail"],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, block: str) -> str:
        """Run a block to its end; return what it printed. Raises Failed."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{block}\necho '{self._END}'\n")
        self._bash.stdin.flush()
        said = ""
        for line in self._bash.stdout:
            if line.strip().endswith(self._END):  # an answer of curl has no line end
                return said + line.replace(self._END, "")
            said += line
        raise Failed(f"{block}\n{said}")

    def close(self) -> None:
        """End it."""
        self._bash.communicate()


def measure(folder: Path) -> list[tuple[str, float]]:
    """Follow the page in `folder`; return (step, seconds since the clone began). Raises Failed."""
    if _answers():
        raise Failed(f"port {PORT} is in use, and the page uses it")
    env = os.environ | {"UV_CACHE_DIR": str(folder / "uv"), "npm_config_cache": str(folder / "npm")}
    env = {name: value for name, value in env.items() if not name.startswith(("LEADERBOARD_", "VIRTUAL_ENV"))}
    clone, began = folder / "clone", time.monotonic()
    found: list[tuple[str, float]] = []

    def done(step: str) -> None:
        found.append((step, time.monotonic() - began))
        print(f"{found[-1][1]:6.1f} s {step}", file=sys.stderr, flush=True)

    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    done("cloned")
    page = snippets("docs/quickstart.md")
    at = [text for _, text in page].index(UP)
    shell = Shell(clone, env)
    for _, text in page[:at]:
        shell.run(text)
    done("set up: make setup")
    with _terminal(clone, env):
        done("the platform is up")
        expected = list(FIRST.items())
        for language, text in page[at + 1 :]:
            if language in FILES:
                (clone / FILES[language]).write_text(text)
            elif expected and expected[0][1] in shell.run(text):
                done(f"first ranked score: {expected.pop(0)[0].lower()}")
    shell.close()
    if expected:
        raise Failed(f"no ranked score: {', '.join(name for name, _ in expected)}")
    return found


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        prog="bench/newcomer.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leaderboard-newcomer-") as folder:
        try:
            found = measure(Path(folder))
        except Failed as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    made = report.table(["since the clone began", "seconds"], [[step, f"{at:.0f}"] for step, at in found])
    print(made)
    if args.write:
        report.write(ROOT / "docs" / "performance.md", {"newcomer": made})
    return 0


if __name__ == "__main__":
    sys.exit(main())
