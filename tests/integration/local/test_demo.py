"""`make demo` as a newcomer meets it: the list is right, and the lines it prints work when pasted into a shell."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leaderboard.local.demo import PLAYERS
from leaderboard.local.process import free_port, wait_until
from support.servers import in_containers

pytestmark = pytest.mark.skipif(in_containers(), reason="the demo always runs the embedded servers")

ROOT = Path(__file__).parents[3]
DEADLINE = 60.0
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("LEADERBOARD_")}


def command(folder: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "leaderboard.local.demo", "--data", str(folder), "--port", str(free_port())),
        *more,
    ]


def run_to_the_end(folder: Path) -> str:
    done = subprocess.run(
        command(folder, "--exit"), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def listed(output: str) -> list[tuple[int, str, int]]:
    rows = re.findall(r"^ +(\d+)  (\w+) +([\d,]+)$", output, re.MULTILINE)
    return [(int(rank), user, int(score.replace(",", ""))) for rank, user, score in rows]


def expected(times: int) -> list[tuple[int, str, int]]:
    # Of two with the same score the first to reach it is ahead; sorted() keeps the order in which they were sent.
    best = sorted(PLAYERS, key=lambda player: -player[1])[:10]
    return [(rank, user, score * times) for rank, (user, score) in enumerate(best, 1)]


def test_the_list_is_right_and_a_second_demo_goes_on_with_the_same_key(tmp_path: Path) -> None:
    first = run_to_the_end(tmp_path / "data")
    assert listed(first) == expected(1)
    assert (tmp_path / "data" / "demo-keys").stat().st_mode & 0o777 == 0o600
    second = run_to_the_end(tmp_path / "data")
    assert listed(second) == expected(2)
    keys = [set(re.findall(r"lb_live_\w+", output)) for output in (first, second)]
    assert keys[0] == keys[1]


def test_a_lost_key_is_replaced(tmp_path: Path) -> None:
    first = run_to_the_end(tmp_path / "data")
    (tmp_path / "data" / "demo-keys").unlink()
    second = run_to_the_end(tmp_path / "data")
    assert listed(second) == expected(2)
    assert not set(re.findall(r"lb_live_\w+", first)) & set(re.findall(r"lb_live_\w+", second))


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[str]:
    """The output of a demo that stays; it ends with Ctrl-C, and then has to say goodbye."""
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command(tmp_path / "data"), cwd=ROOT, env=ENVIRONMENT, stdout=file, stderr=file, process_group=0
        )
    try:
        wait_until(lambda: "Ctrl-C stops" in output.read_text() or process.poll() is not None, seconds=DEADLINE)
        assert process.poll() is None, output.read_text()
        yield output.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(DEADLINE)
    assert code == 0, output.read_text()


def paste(line: str) -> Any:
    """Run one printed line in a shell and return the decoded answer."""
    done = subprocess.run(line + " --fail-with-body --noproxy '*'", shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_the_printed_lines_work_as_printed(demo: str) -> None:
    score, top, rank, around, public = (line for line in demo.splitlines() if line.startswith("curl "))
    assert paste(score)["rank"] == 1
    assert [entry["user"] for entry in paste(top)["entries"]] == ["you", "ada", "barbara", "hedy", "radia"]
    assert (paste(rank)["rank"], paste(rank)["total"]) == (1, len(PLAYERS) + 1)
    assert paste(around)["entries"][0] == {"rank": 1, "user": "you", "score": 1000}
    assert paste(public)["entries"][0] == {"rank": 1, "user": "niklaus", "score": 54.5}
