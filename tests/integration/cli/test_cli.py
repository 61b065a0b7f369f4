"""The commands as processes, on real stores."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis as redis_py
from redis.asyncio import Redis

from leaderboard.control.reconcile import Control
from leaderboard.domain.names import ProjectId
from leaderboard.store.postgres.pool import open_pool

EXAMPLE = Path(__file__).parents[3] / "examples" / "tenant.yaml"


@pytest.fixture
def environment(database, redis_url):
    return os.environ | {
        "LEADERBOARD_REDIS_URL": redis_url,
        "LEADERBOARD_DATABASE_URL": database,
        "LEADERBOARD_PEPPER": "p" * 32,
    }


@pytest.fixture
def leaderboard(environment):
    def run(*args, code=0, **env):
        done = subprocess.run(
            [sys.executable, "-m", "leaderboard.cli", *args],
            env=environment | env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def worker(environment):
    process = subprocess.Popen(
        [sys.executable, "-m", "leaderboard.cli", "work"], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert "worker started" in process.stderr.readline()
    yield process
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log


def test_the_example_is_applied_and_each_key_is_shown_once(leaderboard):
    first = leaderboard("apply", "-f", str(EXAMPLE))
    keys = re.findall(r"lb_live_[0-9A-Za-z]{16}_[0-9A-Za-z]{49}", first)
    assert len(keys) == 2
    assert "it will not be shown again" in first
    assert "created, in Redis as l:1:race_app:fastest-lap" in first
    second = leaderboard("apply", "-f", str(EXAMPLE))
    assert "lb_live" not in second
    assert second.count("unchanged") == 3
    assert "is revoked" in leaderboard("revoke", keys[0].split("_")[2])
    assert "no API key" in leaderboard("revoke", "0" * 16, code=1)


def test_a_refused_document_is_named(leaderboard, tmp_path):
    board = tmp_path / "board.yaml"
    board.write_text(EXAMPLE.read_text().split("---")[1])
    assert "Leaderboard/global: there is no tenant 'acme'" in leaderboard("apply", "-f", str(board), code=1)


def test_verify_and_rebuild_after_redis_lost_everything(leaderboard, redis_url, worker):
    leaderboard("apply", "-f", str(EXAMPLE))
    assert "2 boards, 0 differences" in leaderboard("verify")
    assert "no board is missing" in leaderboard("rebuild", "--all-missing")
    with redis_py.Redis.from_url(redis_url) as client:
        client.flushall()
    assert "acme/default/global: missing" in leaderboard("verify", code=1)
    assert leaderboard("rebuild", "--all-missing").count("rebuilt with 0 entries") == 2
    assert "1 boards, 0 differences" in leaderboard("verify", "--board", "acme/default/global")
    assert "rebuilt" in leaderboard("rebuild", "--board", "acme:race_app:fastest-lap")
    assert "no leaderboard" in leaderboard("rebuild", "--board", "acme/default/none", code=1)


def test_receipts_are_listed_and_checked(leaderboard, environment, worker):
    leaderboard("apply", "-f", str(EXAMPLE))

    async def asked(member):
        pool = await open_pool(environment["LEADERBOARD_DATABASE_URL"], size=1, timeout=10)
        redis = Redis.from_url(environment["LEADERBOARD_REDIS_URL"])
        try:
            control = Control(pool, redis, pepper=b"p" * 32)
            receipt = await control.request_erasure(project_id=ProjectId(1), member=member, requested_by="k" * 16)
            while (await control.erasure(receipt.erasure.id, project_id=None)).erasure.state != "done":
                await asyncio.sleep(0.05)
            return receipt.erasure.id.hex
        finally:
            await redis.aclose()
            await pool.close()

    id = asyncio.run(asked("u42"))
    said = leaderboard("verify-erasure", id, "--user", "u42")
    assert said == "the receipt is as it was written\nit is this member's\nof the member there is nothing\n"
    assert "another member's" in leaderboard("verify-erasure", id, "--user", "u43", code=1)
    assert "there is no erasure" in leaderboard("verify-erasure", "0" * 32, "--user", "u42", code=1)
    assert "32 hexadecimal digits" in leaderboard("verify-erasure", "x", "--user", "u42", code=2)
    (line,) = map(json.loads, leaderboard("erasures").splitlines())
    assert (line["id"], line["project"], line["state"], line["intact"]) == (id, "acme/default", "done", True)
    assert leaderboard("erasures", "--since", "2999-01-01") == ""
    with psycopg.connect(environment["LEADERBOARD_DATABASE_URL"], autocommit=True) as conn:
        conn.execute("UPDATE erasures SET requested_by = 'somebody else'")
    assert "was changed" in leaderboard("verify-erasure", id, "--user", "u42", code=1)
    assert '"intact":false' in leaderboard("erasures", code=1)


def test_migrate_says_what_it_did(leaderboard, postgres):
    url = postgres.create_database("cli_migrate")
    assert "applied 0001.initial\napplied 0002.leadership" in leaderboard("migrate", LEADERBOARD_DATABASE_URL=url)
    assert "up to date" in leaderboard("migrate", LEADERBOARD_DATABASE_URL=url)
    assert "there was no lock" in leaderboard("migrate", "--break-lock", LEADERBOARD_DATABASE_URL=url)


def test_a_tenant_is_offered_to_a_namespace(leaderboard, database):
    leaderboard("apply", "-f", str(EXAMPLE))
    answer = leaderboard("offer", "acme", "--namespace", "games")
    assert "tenant acme is offered to namespace games" in answer
    assert 'leaderboard.saas/adopt: "true"' in answer
    with psycopg.connect(database) as conn:
        assert conn.execute("SELECT adoptable_from FROM tenants").fetchall() == [("games",)]
        conn.execute("UPDATE tenants SET managed_by = 'uid-1'")
    assert "uid-1" in leaderboard("offer", "acme", "--namespace", "games", code=1)
    assert "there is no tenant 'nobody'" in leaderboard("offer", "nobody", "--namespace", "games", code=1)
    assert "--namespace" in leaderboard("offer", "acme", code=2)


def test_a_store_that_is_away_is_a_message_and_no_stack(leaderboard):
    answer = leaderboard(
        "verify",
        code=1,
        LEADERBOARD_DATABASE_URL="postgresql://x@127.0.0.1:1/x",
        LEADERBOARD_DATABASE_TIMEOUT="0.5",
    )
    assert "PostgreSQL is unavailable" in answer
    assert "Traceback" not in answer


def test_a_wrong_setting_exits_2(leaderboard):
    assert "LEADERBOARD_PEPPER" in leaderboard("verify", code=2, LEADERBOARD_PEPPER="short")
