"""Every role of the one image, on a read-only root, on a real Postgres, Redis and Kubernetes API."""

import json
import re

from leaderboard.local.kubernetes import EmbeddedKubernetes
from leaderboard.local.process import LOOPBACK, free_port, wait_until
from support.client import Connection
from support.engine import REPOSITORY
from support.kubernetes import install_crds
from support.operator import Kube, eventually
from support.release import answers

TENANT = (REPOSITORY / "examples" / "tenant.yaml").read_text()
KEY = re.compile(r"lb_live_\S+")


def assert_json(lines):
    """Fail unless every line is a log record in JSON."""
    records = [json.loads(line) for line in lines]
    assert records
    for record in records:
        assert {"time", "level", "logger", "message"} <= record.keys()


def test_migrate_brings_an_empty_database_up_to_date(run, release, postgres):
    database = postgres.create_database("image_migrate")
    env = release.env | {"LEADERBOARD_DATABASE_URL": database}
    first = run("leaderboard", "migrate", env=env)
    assert first.wait() == 0, first.lines()
    assert first.lines()[0].startswith("applied 0001")
    second = run("leaderboard", "migrate", env=env)
    assert second.wait() == 0
    assert second.lines() == ["the database is up to date"]
    postgres.drop_database("image_migrate")


async def test_a_score_goes_from_the_api_to_the_ledger(release, tmp_path):
    documents = tmp_path / "tenant.yaml"
    documents.write_text(TENANT)
    api, url = release.serve()
    worker = release.start("leaderboard", "work")
    apply = release.start("leaderboard", "apply", "-f", "/tenant.yaml", mounts=(f"{documents}:/tenant.yaml:ro",))
    assert apply.wait() == 0, apply.lines()
    key = KEY.search("\n".join(apply.lines()))[0]

    http = Connection(url)
    assert (await http.request("GET", "/healthz")).status == 200
    update = {"leaderboard": "global", "user": "u42", "increment": 5}
    answer = await http.request("POST", "/v1/scores/update", key=key, body=update)
    assert (answer.status, answer.json()["score"], answer.json()["rank"]) == (200, 5, 1)
    top = await http.request("GET", "/v1/leaderboards/global/top?limit=3", key=key)
    assert [(entry["user"], entry["score"]) for entry in top.json()["entries"]] == [("u42", 5)]
    await http.close()

    verify = release.start("leaderboard", "verify")
    assert verify.wait() == 0, verify.lines()
    assert "acme/default/global: 1 entries, as in the ledger" in verify.lines()
    assert worker.stop() == 0
    assert api.stop() == 0
    assert_json(worker.lines())
    assert_json(api.lines())


def test_a_wrong_configuration_is_said_in_words(run, release):
    bare = run("leaderboard", "serve")
    assert bare.wait() == 2
    assert bare.lines() == ["error: LEADERBOARD_REDIS_URL is not set; `leaderboard up` sets it for a local run"]
    operator = release.start("leaderboard-operator")
    assert operator.wait() == 2
    (said,) = operator.lines()
    assert said.startswith("error: LEADERBOARD_OPERATOR_NAMESPACE is not set")


async def test_the_operator_serves_a_tenant_of_kubernetes(release, kubernetes: EmbeddedKubernetes, tmp_path):
    install_crds(kubernetes)
    # In a pod the ServiceAccount's token is readable by the container's user; so must this copy be.
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(kubernetes.kubeconfig.read_bytes())
    kubeconfig.chmod(0o644)
    _, url = release.serve()
    health = f"{LOOPBACK}:{free_port()}"
    operator = release.start(
        "leaderboard-operator",
        mounts=(f"{kubeconfig}:/kubeconfig:ro",),
        KUBECONFIG="/kubeconfig",
        LEADERBOARD_OPERATOR_NAMESPACE="default",
        LEADERBOARD_OPERATOR_ENDPOINT=url,
        LEADERBOARD_OPERATOR_BIND=health,
    )
    assert wait_until(lambda: not operator.running or answers(f"http://{health}/readyz"), seconds=90, pause=0.1)
    kube = Kube(kubernetes, "default")
    kube("apply", "-f", str(REPOSITORY / "examples" / "tenant.yaml"))
    eventually(lambda: kube.condition("leaderboard", "global", "Ready")[0] == "True", "the board is Ready")
    secret = kube.secret("acme-default-api-key")
    assert secret is not None
    assert secret["endpoint"] == url

    http = Connection(url)
    update = {"leaderboard": "global", "user": "u42", "increment": 5}
    answer = await http.request("POST", "/v1/scores/update", key=secret["api-key"], body=update)
    assert (answer.status, answer.json()["rank"]) == (200, 1)
    await http.close()
    assert operator.stop() == 0
    assert_json(operator.lines())
