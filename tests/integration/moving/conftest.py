import contextlib
import io
import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from leaderboard import cli
from support.world import open_world, tenant

LEADERBOARD = [sys.executable, "-m", "leaderboard.cli"]


@pytest.fixture
async def world(database, redis_url):
    async with open_world(database, redis_url) as world:
        await world.apply(tenant(plan="enterprise"))
        yield world


@pytest.fixture
def environment(database, redis_url):
    return os.environ | {
        "LEADERBOARD_REDIS_URL": redis_url,
        "LEADERBOARD_DATABASE_URL": database,
        "LEADERBOARD_PEPPER": "p" * 32,
    }


@pytest.fixture
def leaderboard_cli(environment, monkeypatch):
    """Run a command to its end and return what it printed; its exit code has to be `code`.

    In a thread of this process, with a loop of its own: a process for each would take longer to start than to run.
    """
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(*args, code=0):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), ThreadPoolExecutor(1) as thread:
            done = thread.submit(cli._main, [str(arg) for arg in args]).result(timeout=120)
        assert done == code, printed.getvalue()
        return printed.getvalue()

    return run


@pytest.fixture
def start_worker(environment):
    """Start `leaderboard work`; those that run at the end are stopped."""
    started = []

    def start():
        process = subprocess.Popen([*LEADERBOARD, "work"], env=environment, stderr=subprocess.PIPE, text=True)
        assert "worker started" in process.stderr.readline()
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


@pytest.fixture
def worker(start_worker):
    return start_worker()


@pytest.fixture
def csv_file(tmp_path):
    """Write (user, score) lines as a CSV file."""

    def write(members, name="scores.csv"):
        path = tmp_path / name
        lines = [f"{user},{score!r}\n" for user, score in members]
        path.write_text("user,score\n" + "".join(lines))
        return path

    return write


@pytest.fixture
def members():
    """Make `count` members with ties, full-precision and whole scores, from a seed."""

    def make(count, *, seed=1):
        chance = random.Random(seed)
        scores = [lambda: chance.randint(-50, 50), lambda: chance.uniform(-1e9, 1e9), lambda: 0.1 + 0.2, lambda: 1e-300]
        return [(f"üser-{number:06}", chance.choice(scores)()) for number in chance.sample(range(10 * count), count)]

    return make
