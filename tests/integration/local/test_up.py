"""`leaderboard up` as its user meets it: a process with a terminal's signals and a data folder."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from leaderboard.local.process import command_line, free_port, pid_exists, processes, wait_until
from leaderboard.local.up import opener
from support.servers import in_containers

pytestmark = pytest.mark.skipif(in_containers(), reason="`leaderboard up` always runs the embedded servers")

DEADLINE = 60.0


class Up:
    """One run of `leaderboard up`."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.output = folder.with_name(f"output-{self.port}")
        with self.output.open("wb") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "leaderboard.cli", "up", "--data", str(folder), "--port", str(self.port)],
                stdout=file,
                stderr=file,
                process_group=0,
                env={name: value for name, value in os.environ.items() if not name.startswith("LEADERBOARD_")},
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait_ready(self) -> "Up":
        ready = wait_until(lambda: "Ctrl-C stops" in self.text or self.popen.poll() is not None, seconds=DEADLINE)
        assert ready, self.text
        assert self.popen.poll() is None, self.text
        return self

    def interrupt(self) -> int:
        """Press Ctrl-C; return the exit code."""
        self.popen.send_signal(signal.SIGINT)
        try:
            return self.popen.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            running = "\n".join(self.left())
            pytest.fail(f"`leaderboard up` did not stop; it said:\n{self.text}\nof it there still run:\n{running}")

    def env(self) -> dict[str, str]:
        lines = (self.folder / "env").read_text().splitlines()
        return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}

    def left(self) -> list[str]:
        """The processes of this folder, apart from the supervisor."""
        found = {pid: command_line(pid) for pid in processes() if pid != self.popen.pid and pid_exists(pid)}
        return [f"{pid} {line}" for pid, line in found.items() if str(self.folder) in line]

    def pid_of(self, part: str) -> int:
        [line] = [line for line in self.left() if part in line and "io worker" not in line][:1]
        return int(line.split()[0])


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    with contextlib.ExitStack() as stack:

        def start(*, port: int | None = None) -> Up:
            run = Up(tmp_path / "data", port=port)

            def end() -> None:
                if run.popen.poll() is None:
                    run.interrupt()

            stack.callback(end)
            return run

        yield start


def test_ctrl_c_stops_everything_and_leaves_no_process(up: Callable[..., Up]) -> None:
    run = up().wait_ready()
    assert len(run.left()) >= 4
    assert run.interrupt() == 0
    assert run.left() == []


def test_sigterm_stops_everything_too(up: Callable[..., Up]) -> None:
    run = up().wait_ready()
    run.popen.terminate()
    assert run.popen.wait(DEADLINE) == 0
    assert run.left() == []


def test_ctrl_c_while_it_starts_leaves_no_process_and_a_folder_that_works(up: Callable[..., Up]) -> None:
    run = up()
    assert wait_until((run.folder / "postgres").exists, seconds=DEADLINE)
    assert run.interrupt() == 0
    assert run.left() == []
    assert up().wait_ready().interrupt() == 0


def test_a_second_up_on_the_same_folder_names_the_process_that_has_it(up: Callable[..., Up]) -> None:
    first = up().wait_ready()
    second = up()
    assert second.popen.wait(DEADLINE) == 1
    assert f"process {first.popen.pid}" in second.text
    assert "--data" in second.text
    with opener.open(f"http://127.0.0.1:{first.port}/readyz", timeout=5) as answer:
        assert answer.status == 200


def test_a_folder_whose_supervisor_was_killed_is_taken_over(up: Callable[..., Up]) -> None:
    first = up().wait_ready()
    with psycopg.connect(first.env()["LEADERBOARD_DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    old = [int(line.split()[0]) for line in first.left()]
    first.popen.kill()
    first.popen.wait()
    second = up(port=first.port).wait_ready()
    assert not any(pid_exists(pid) for pid in old)
    with psycopg.connect(second.env()["LEADERBOARD_DATABASE_URL"]) as connection:
        connection.execute("SELECT n FROM kept")
    assert second.interrupt() == 0


def test_servers_that_outlive_their_supervisor_are_stopped_by_the_next(up: Callable[..., Up]) -> None:
    first = up().wait_ready()
    old = [int(line.split()[0]) for line in first.left()]
    # Stopped processes cannot react to the death of their parent, as on a system without PR_SET_PDEATHSIG.
    for pid in old:
        os.kill(pid, signal.SIGSTOP)
    first.popen.kill()
    first.popen.wait()
    assert all(pid_exists(pid) for pid in old)
    for pid in old:
        os.kill(pid, signal.SIGCONT)
    second = up(port=first.port).wait_ready()
    assert not any(pid_exists(pid) for pid in old)
    assert second.interrupt() == 0


def test_a_busy_port_is_named_with_the_option_to_change_it(up: Callable[..., Up]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = up(port=port)
        assert run.popen.wait(DEADLINE) == 1
    assert f"port {port}" in run.text
    assert "--port" in run.text
    assert run.left() == []


def test_a_restart_keeps_the_data_of_both_and_the_pepper(up: Callable[..., Up]) -> None:
    first = up().wait_ready()
    env = first.env()
    with psycopg.connect(env["LEADERBOARD_DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    with redis.Redis.from_url(env["LEADERBOARD_REDIS_URL"]) as client:
        client.set("kept", "1")
    assert first.interrupt() == 0
    second = up().wait_ready()
    assert second.env()["LEADERBOARD_PEPPER"] == env["LEADERBOARD_PEPPER"]
    with psycopg.connect(second.env()["LEADERBOARD_DATABASE_URL"]) as connection:
        connection.execute("SELECT n FROM kept")
    with redis.Redis.from_url(second.env()["LEADERBOARD_REDIS_URL"]) as client:
        assert client.get("kept") == b"1"


def test_what_is_secret_is_readable_by_its_owner_only(up: Callable[..., Up]) -> None:
    run = up().wait_ready()
    assert run.folder.stat().st_mode & 0o777 == 0o700
    for name in ("env", "pepper", "postgres/password", "redis/password", "redis/redis.conf"):
        assert (run.folder / name).stat().st_mode & 0o777 == 0o600, name


@pytest.mark.parametrize(
    ("name", "part"), [("redis", "redis.conf"), ("postgres", "postgres/data"), ("api", " serve"), ("worker", " work")]
)
def test_a_process_that_dies_is_named_and_stops_the_rest(up: Callable[..., Up], name: str, part: str) -> None:
    run = up().wait_ready()
    os.kill(run.pid_of(part), signal.SIGKILL)
    assert run.popen.wait(DEADLINE) == 1
    assert f"error: {name} was killed by SIGKILL" in run.text
    assert run.left() == []


def test_the_log_has_the_lines_of_every_process_under_its_name(up: Callable[..., Up]) -> None:
    run = up().wait_ready()
    names = set(re.findall(r"^(\w+) +\| ", (run.folder / "log").read_text(), re.MULTILINE))
    assert {"up", "initdb", "postgres", "redis", "api"} <= names
