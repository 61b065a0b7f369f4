"""The document's own examples, as the curl lines of /docs, sent to the API; and what they answer is what is written."""

import contextlib
import json
import shutil
import subprocess
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from api_helpers import Client

from leaderboard.api.pages import IN_BROWSER, METHODS, curl
from leaderboard.api.resources.docs import document
from leaderboard.local.process import wait_until

# In an order in which each finds what it needs: `laps` is made by its own example and deleted by none; the season that
# is read has a user, and so has the one after it.
FIRST = ["createLeaderboard", "updateScore", "resetLeaderboard", "updateScore", "updateScores"]
OF_THE_PAST = ["getHistoryTop", "getHistoryRank"]
LAST = ["removeMember", "eraseUser", "deleteLeaderboard", "rotateKey", "revokeKey"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_every_curl_line_works_as_printed(served, new_tenant):
    tenant = new_tenant(slug="acme", boards=[{"key": "seed"}])
    environment = {"LEADERBOARD_URL": served.url, "LEADERBOARD_KEY": tenant.key, "PATH": "/usr/bin:/bin"}

    def run(line: str, *, answer: bool = False) -> str:
        shown = line.replace("curl ", "curl -s " if answer else "curl -s -o /dev/null -w '%{http_code}' ", 1)
        endless = "curl -N " in line
        if endless:
            shown += " --max-time 2"
        done = subprocess.run(["bash", "-c", shown], env=environment, capture_output=True, text=True, timeout=30)
        assert done.returncode == (28 if endless else 0), (line, done.stderr)  # 28: its time was up
        return done.stdout

    # `global` stands for a board of the reader's own.
    made = curl(document(), "post", "/v1/leaderboards").replace('"laps"', '"global"').replace("best", "sum")
    assert run(made.replace('"public_read": false', '"public_read": true')) == "201"
    key = json.loads(run(curl(document(), "post", "/v1/keys"), answer=True))["id"]
    erasing = curl(document(), "post", "/v1/users/{user}/erasure").replace("u42", "nobody")
    erasure = json.loads(run(erasing, answer=True))["id"]
    example = document()["components"]["parameters"]["Erasure"]["example"]
    held_example = document()["components"]["parameters"]["Hold"]["example"]

    def hold(number: int) -> str:
        """Let `global`, which the examples bound to nothing, hold an update; return its id."""
        with contextlib.closing(Client(served.url, tenant.key)) as client:
            client.call("PATCH", "/v1/leaderboards/global", {"bounds": {"max_score": 1e9}})
            sent = {"leaderboard": "global", "user": "someone", "increment": 1e9 + number}
            held = client.post("/v1/scores/update", sent).json()["held"]["id"]
            client.call("PATCH", "/v1/leaderboards/global", {"bounds": None})
        return str(held)

    calls = {
        operation["operationId"]: (method, path, operation)
        for path, item in document()["paths"].items()
        for method, operation in item.items()
        if method in METHODS and IN_BROWSER not in operation["tags"]
    }
    between = [name for name in calls if name not in FIRST + LAST]
    for name in FIRST + between + LAST:
        if name == between[0]:
            archived = curl(document(), *calls["getSeasonTop"][:2])
            assert wait_until(lambda archived=archived: run(archived) == "200", seconds=90)
            released, rejected = (hold(number) for number in (1, 2))
        method, path, operation = calls[name]
        line = curl(document(), method, path).replace("0123456789abcdef", key).replace(example, erasure)
        if "{hold}" in path:
            line = line.replace(held_example, rejected if name == "rejectHeldUpdate" else released)
        if name in OF_THE_PAST:
            # When the example was written there was nobody on the board; a moment ago there was.
            line = line.replace(quote("2026-01-31T09:00:00Z"), quote(datetime.now(UTC).isoformat()))
            assert wait_until(lambda line=line: run(line) != "503", seconds=90, pause=0.2)
        status = run(line)
        assert status in operation["responses"], (name, status)
        assert status in ("200", "201", "202", "204"), (name, status)


def test_every_body_example_is_accepted(client):
    client.make("laps", score_update="best", sort_order="ascending")
    for path in ("/v1/scores/update", "/v1/scores/batch"):
        examples = document()["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        for name, example in examples.items():
            answer = client.post(path, example["value"])
            assert answer.status == 200, (path, name, answer)
            for item in answer.json().get("results", []):
                assert item["status"] == 200, item
