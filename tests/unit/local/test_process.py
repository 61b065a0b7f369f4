import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderboard.local.process import (
    Child,
    Log,
    children,
    command_line,
    end_leftover,
    is_ours,
    keep,
    pid_exists,
    wait_until,
    write_private,
)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "log")
    yield log
    log.close()


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_what_is_kept_is_made_once_and_private(tmp_path: Path) -> None:
    made = iter(["first", "second"])
    assert [keep(tmp_path / "secret", lambda: next(made)) for _ in range(2)] == ["first", "first"]
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_private_text_replaces_what_a_crash_left_half_written(tmp_path: Path) -> None:
    (tmp_path / "secret.partial").write_text("half")
    write_private(tmp_path / "secret", "whole")
    assert (tmp_path / "secret").read_text() == "whole"
    assert os.listdir(tmp_path) == ["secret"]


def test_waiting_ends_at_the_deadline() -> None:
    assert wait_until(lambda: True, seconds=0)
    assert not wait_until(lambda: False, seconds=0)


def test_lines_of_a_child_are_marked_with_its_name(log: Log) -> None:
    child = Child(python("print('one'); print('two', end='')"), name="api", log=log)
    child.popen.wait()
    log.close()
    assert log.path.read_text() == "api      | one\napi      | two\n"


def test_the_end_of_a_child_is_told_with_its_last_lines(log: Log) -> None:
    # A full pipe, which the log has not read yet when the child is gone.
    child = Child(python("print('\\n' * 60_000 + 'out of luck', flush=True); raise SystemExit(3)"), name="api", log=log)
    child.popen.wait()
    told = child.how_it_ended()
    assert told.startswith("api ended with exit code 3; its last lines:\n")
    assert told.endswith("\nout of luck")


def test_a_child_that_ignores_the_signal_is_killed_with_its_group(log: Log) -> None:
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(inner.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    child = Child(python(code), name="api", log=log)
    assert wait_until(lambda: log.tail("api") != "", seconds=90)
    inner = int(log.tail("api"))
    assert children(child.pid) == [inner]
    assert not child.stop(seconds=0.2)
    assert child.how_it_ended().startswith("api was killed by SIGKILL")
    assert wait_until(lambda: not pid_exists(inner), seconds=90)


def test_who_got_the_id_of_a_child_that_ended_long_ago_is_spared(log: Log) -> None:
    child = Child(["true"], name="child", log=log)
    assert wait_until(lambda: not child.alive, seconds=90)
    stranger = subprocess.Popen(["sleep", "60"], process_group=0)
    child.popen.pid = stranger.pid  # what the kernel does once it has given out all other ids
    try:
        assert child.stop(seconds=90)
        child.kill()
        with pytest.raises(subprocess.TimeoutExpired):
            stranger.wait(0.2)
    finally:
        stranger.kill()
        stranger.wait()


def test_what_a_child_that_ended_left_behind_is_killed(log: Log) -> None:
    child = Child(["sh", "-c", "sleep 60 & echo $!"], name="child", log=log)
    assert wait_until(lambda: not child.alive and log.tail("child") != "", seconds=90)
    left = int(log.tail("child"))
    assert pid_exists(left)
    assert child.stop(seconds=90)
    assert wait_until(lambda: not pid_exists(left), seconds=90)


def test_a_leftover_is_known_by_a_whole_argument_and_a_stranger_is_spared() -> None:
    process = subprocess.Popen([*python("import time; time.sleep(60)"), "/data/folder"])
    try:
        assert wait_until(lambda: "/data/folder" in command_line(process.pid), seconds=90)
        assert not is_ours(process.pid, mark="/data/fold")
        assert not end_leftover(process.pid, mark="/data", seconds=0)
        assert process.poll() is None
        assert end_leftover(process.pid, mark="/data/folder", seconds=0)
        process.wait(10)
    finally:
        process.kill()
        process.wait()


def test_a_process_that_ended_but_was_not_waited_for_does_not_exist() -> None:
    process = subprocess.Popen(python(""))
    assert wait_until(lambda: not pid_exists(process.pid), seconds=90)
    process.wait()
    assert command_line(process.pid) == ""
