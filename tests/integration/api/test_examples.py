"""The document's own examples, as the curl lines of /docs, sent to the API; and what they answer is what is written."""

import json
import shutil
import subprocess

import pytest

from leaderboard.api.pages import IN_BROWSER, METHODS, curl
from leaderboard.api.resources.docs import document

# In an order in which each finds what it needs: `laps` is made by its own example and deleted by none.
FIRST = ["createLeaderboard", "updateScore", "updateScores"]
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
    calls = {
        operation["operationId"]: (method, path, operation)
        for path, item in document()["paths"].items()
        for method, operation in item.items()
        if method in METHODS and IN_BROWSER not in operation["tags"]
    }
    between = [name for name in calls if name not in FIRST + LAST]
    for name in FIRST + between + LAST:
        method, path, operation = calls[name]
        status = run(curl(document(), method, path).replace("0123456789abcdef", key).replace(example, erasure))
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
