"""From nothing to a ranked score: CRDs, the operator with its RBAC, `kubectl apply`, the key, the API."""

import json
import urllib.request
from pathlib import Path

from leaderboard.local.up import opener

EXAMPLE = Path(__file__).parents[3] / "examples" / "tenant.yaml"


def request(world, method, path, *, key, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    asked = urllib.request.Request(world.platform.url + path, data=data, method=method, headers=headers)
    with opener.open(asked, timeout=10) as answer:
        return json.loads(answer.read())


def test_the_example_becomes_a_board_that_ranks(world, operator):
    kube = world.kube
    kube("apply", "-f", str(EXAMPLE))
    # The one time bound of the issue: Ready in less than 5 s.
    kube("wait", "--for=condition=Ready", "--timeout=5s", "tenants,leaderboards", "--all")

    secret = kube.secret("acme-default-api-key")
    assert secret is not None
    assert secret["project"] == "default"
    assert secret["endpoint"] == world.platform.url
    status = kube.get("tenant", "acme")["status"]
    assert secret["tenant-id"] == str(status["tenantID"])
    assert next((key["project"], key["secretName"]) for key in status["apiKeys"]) == (
        "default",
        "acme-default-api-key",
    )
    update = {"leaderboard": "global", "user": "ada", "increment": 5}
    answer = request(world, "POST", "/v1/scores/update", key=secret["api-key"], body=update)
    assert (answer["score"], answer["rank"]) == (5, 1)
    top = request(world, "GET", "/v1/leaderboards/global/top", key=secret["api-key"])
    assert [entry["user"] for entry in top["entries"]] == ["ada"]


def test_the_project_with_an_underscore_has_a_secret_of_a_valid_name(world, operator):
    kube = world.kube
    kube("apply", "-f", str(EXAMPLE))
    kube("wait", "--for=condition=Ready", "--timeout=10s", "tenants,leaderboards", "--all")
    (named,) = [
        key["secretName"] for key in kube.get("tenant", "acme")["status"]["apiKeys"] if key["project"] == "race_app"
    ]
    assert named.startswith("acme-race-app-")
    secret = kube.secret(named)
    assert secret is not None
    assert secret["project"] == "race_app"
    board = request(world, "GET", "/v1/leaderboards/fastest-lap", key=secret["api-key"])
    assert board["public_read"] is True
