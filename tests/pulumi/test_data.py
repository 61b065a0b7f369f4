"""What the ops page says of data, done to real Postgres and Redis."""

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from leaderboard.local import postgres as local_postgres
from leaderboard_infra.postgres import SET_PASSWORD
from support.platform import MakePlatform, Platform
from support.servers import MakeRedis

DOCUMENTS = """
apiVersion: leaderboard.saas/v1alpha1
kind: Tenant
metadata: {name: acme}
spec: {slug: acme, plan: pro, homeRegion: %(region)s, suspend: %(suspend)s}
---
apiVersion: leaderboard.saas/v1alpha1
kind: Leaderboard
metadata: {name: global}
spec: {tenantRef: {name: acme}, key: global, sortOrder: Descending, scoreUpdate: Sum, tiePolicy: FirstToReach}
"""


def leaderboard(platform: Platform, *args: str, input: str | None = None) -> str:
    """Run the command line as somebody in one of the platform's pods would."""
    done = subprocess.run(
        [sys.executable, "-m", "leaderboard.cli", *args], env=platform.env, input=input, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def call(platform: Platform, key: str, path: str, body: Any = None) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{platform.url}/v1/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_tenant_moves_to_another_region_as_the_ops_page_says(
    make_platform: MakePlatform, make_redis: MakeRedis
) -> None:
    pepper = {"LEADERBOARD_PEPPER": "the regions share one, of 32 characters"}
    east = make_platform(env=pepper | {"LEADERBOARD_REGION": "us-east"})
    west = make_platform(redis_url=make_redis().url, env=pepper | {"LEADERBOARD_REGION": "eu-west"})

    def apply(platform: Platform, *, region: str, suspend: bool) -> str:
        text = DOCUMENTS % {"region": region, "suspend": str(suspend).lower()}
        return leaderboard(platform, "apply", "-f", "-", input=text)

    (key,) = re.findall(r"lb_live_\w+", apply(east, region="us-east", suspend=False))
    scores = {f"u{number}": number % 7 for number in range(50)}
    for user, score in scores.items():
        assert call(east, key, "scores/update", {"leaderboard": "global", "user": user, "increment": score})[0] == 200
    before = call(east, key, "leaderboards/global/top?limit=100")[1]
    assert call(west, key, "leaderboards/global/top")[0] == 421

    apply(east, region="us-east", suspend=True)
    assert call(east, key, "leaderboards/global/top")[0] == 403
    assert "0 differences" in leaderboard(east, "verify", "--board", "acme/default/global")
    apply(west, region="eu-west", suspend=True)
    assert "rebuilt" in leaderboard(west, "rebuild", "--board", "acme/default/global")
    apply(west, region="eu-west", suspend=False)

    status, after = call(west, key, "leaderboards/global/top?limit=100")
    assert status == 200
    assert after["entries"] == before["entries"]
    assert call(west, key, "scores/update", {"leaderboard": "global", "user": "u1", "increment": 100})[1]["rank"] == 1
    assert call(east, key, "leaderboards/global/top")[0] in (403, 421)
    assert "0 differences" in leaderboard(west, "verify", "--board", "acme/default/global")


@pytest.mark.parametrize("password", ["0123456789abcdefghijABCDEFGHIJ", 'it\'s "quoted" and $has $(words)'])
def test_a_pod_that_starts_gives_postgres_the_password_of_its_secret(
    make_postgres: Callable[[], Any], password: str
) -> None:
    server = make_postgres()
    url = urlsplit(server.url)
    assert (url.username, url.path) == ("leaderboard", "/leaderboard")
    env = os.environ | {
        "PATH": f"{local_postgres.binaries()}{os.pathsep}{os.environ['PATH']}",
        # In the pod it asks the socket, which lets it in without a password.
        "PGHOST": str(url.hostname),
        "PGPORT": str(url.port),
        "PGPASSWORD": str(url.password),
        "POSTGRES_PASSWORD": password,
    }
    done = subprocess.run(["sh", "-c", SET_PASSWORD], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    where: dict[str, Any] = {"host": url.hostname, "port": url.port, "user": "leaderboard", "dbname": "leaderboard"}
    psycopg.connect(**where, password=password).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(**where, password=url.password)
