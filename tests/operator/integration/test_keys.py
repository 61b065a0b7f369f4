"""API keys in Secrets: delivered, rotated, re-scoped, and never over somebody else's Secret."""

import pytest

from leaderboard_operator.key_secrets import candidate_names
from support.kubernetes import delete_namespace, make_namespace
from support.operator import Kube, eventually, leaderboard, tenant
from support.team import Rest, Team

BOTH = [{"name": "default"}, {"name": "race_app"}]
PAUSED = {"leaderboard.saas/paused": "true"}


def foreign_secret(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"password": "theirs"}}


@pytest.fixture
def denied(shared_world, shared_operator):
    """A team in a namespace whose Secrets the operator may not use."""
    name = make_namespace(shared_world.cluster)
    yield Team(Kube(shared_world.cluster, name), shared_world.platform.url)
    delete_namespace(shared_world.cluster, name)


def test_each_project_has_a_working_key_in_a_secret_of_its_own(team, shared_world, name):
    acme = tenant(name, projects=BOTH)
    team.apply(acme)
    now = team.now(acme)
    for project in ("default", "race_app"):
        told, secret = team.key_status(acme, project), team.secret(acme, project)
        assert secret.pop("api-key").startswith(f"lb_live_{told['id']}_")
        assert secret == {
            "api-key-id": told["id"],
            "tenant-id": str(now["status"]["tenantID"]),
            "project": project,
            "endpoint": shared_world.platform.url,
        }
        metadata = team.kube.get("secret", told["secretName"])["metadata"]
        assert metadata["labels"] == {"app.kubernetes.io/managed-by": "leaderboard-operator"}
        (owner,) = metadata["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Tenant", name, now["metadata"]["uid"])
        assert team.rest(acme, project).status == 200
    assert team.key_status(acme)["secretName"] == f"{name}-default-api-key"
    assert team.says(acme, "CredentialsReady", "True", "KeyIssued")


def test_a_project_that_is_added_gets_a_key_and_one_taken_out_keeps_its_own(team, name):
    acme = tenant(name)
    team.apply(acme)
    before = team.secret(acme)
    team.spec(acme, projects=[{"name": "racing"}])
    eventually(lambda: bool(team.key_status(acme, "racing")), "the new project has a key")
    team.wait(acme)
    assert team.rest(acme, "racing").status == 200
    assert team.secret(acme) == before
    assert team.rest(acme).status == 200
    assert [told["project"] for told in team.status(acme)["apiKeys"]] == ["default", "racing"]


def test_another_rotation_trigger_replaces_the_keys_and_the_old_ones_work_on_for_the_grace_period(
    team, stores, shared_operator, name
):
    acme = tenant(name, projects=BOTH, apiKey={"gracePeriod": "1h"})
    team.apply(acme)
    old = {project: team.rest(acme, project) for project in ("default", "race_app")}
    ids = {project: team.key_status(acme, project)["id"] for project in old}
    team.spec(acme, apiKey={"rotationTrigger": "2026-03-01"})
    team.says(acme, "CredentialsReady", "True", "Rotating")
    rows = {row["id"]: row for row in stores.keys(team.status(acme)["tenantID"])}
    for project, before in old.items():
        told = team.key_status(acme, project)
        assert told["id"] != ids[project]
        assert told["previousID"] == ids[project]
        assert told["previousExpiresAt"] == f"{rows[ids[project]]['expires_at']:%Y-%m-%dT%H:%M:%SZ}"
        assert team.rest(acme, project).key != before.key
        assert (team.rest(acme, project).status, before.status) == (200, 200)
        lasts = rows[ids[project]]["expires_at"] - rows[told["id"]]["activated_at"]
        assert lasts.total_seconds() == pytest.approx(3600, abs=30)
    # Once: the same trigger asks for nothing more.
    shared_operator.wait_sweep()
    assert len(stores.keys(team.status(acme)["tenantID"])) == 4


def test_the_old_key_ends_with_the_grace_period_and_the_status_says_so(team, name):
    acme = tenant(name, apiKey={"gracePeriod": "2s"})
    team.apply(acme)
    old = team.rest(acme)
    team.spec(acme, apiKey={"rotationTrigger": "now"})
    eventually(lambda: team.rest(acme).key != old.key, "a new key is in the Secret")
    eventually(lambda: old.status == 401, "the old key is refused")
    team.says(acme, "CredentialsReady", "True", "KeyIssued")
    assert team.key_status(acme).keys() == {"project", "id", "secretName"}
    assert team.rest(acme).status == 200


def test_without_a_grace_period_the_old_key_ends_at_once(team, stores, name):
    acme = tenant(name, apiKey={"gracePeriod": "0s"})
    team.apply(acme)
    old, before = team.rest(acme), team.key_status(acme)["id"]
    team.spec(acme, apiKey={"rotationTrigger": "leaked"})
    eventually(lambda: team.key_status(acme)["id"] != before, "the status names the new key")
    eventually(lambda: old.status == 401, "the old key is refused", seconds=20)
    assert team.rest(acme).status == 200
    assert "previousID" not in team.key_status(acme)
    assert [row["state"] for row in stores.keys(team.status(acme)["tenantID"])] == ["revoked", "active"]
    assert "Rotating" not in team.reasons(acme)


def test_keys_are_replaced_when_they_reach_their_age(team, name):
    acme = tenant(name, apiKey={"rotateEvery": "3s", "gracePeriod": "2s"})
    team.apply(acme)
    seen: list[Rest] = []

    def three() -> bool:
        now = team.rest(acme)
        if not seen or now.key != seen[-1].key:
            seen.append(now)
            # A new key is in the Secret a moment before it works.
            eventually(lambda: now.status == 200, "the key in the Secret works")
        return len(seen) == 3

    eventually(three, "the key was replaced twice", seconds=40)
    eventually(lambda: seen[0].status == 401, "the first key ended")
    assert "Repaired" not in team.reasons(acme)
    team.delete(acme)


def test_a_changed_scope_holds_for_the_key_there_is(team, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    rest = team.rest(acme)
    key = board["spec"]["key"]
    assert rest.add(key, "ada", 1).status == 200
    team.spec(acme, apiKey={"scope": "read"})
    eventually(lambda: rest.add(key, "ada", 1).status == 403, "the key may write no more")
    assert rest.status == 200
    team.spec(acme, apiKey={"scope": "write"})
    eventually(lambda: rest.add(key, "ada", 1).status == 200, "the key may write again")
    team.wait(acme)
    assert team.rest(acme).key == rest.key
    assert "Repaired" not in team.reasons(acme)


def test_somebody_elses_secret_under_the_name_stays_and_the_key_takes_another(team, name):
    taken = f"{name}-default-api-key"
    team.kube.apply(foreign_secret(taken))
    acme = tenant(name)
    team.apply(acme)
    assert team.key_status(acme)["secretName"] != taken
    assert team.rest(acme).status == 200
    team.delete(acme)
    assert team.kube.secret(taken) == {"password": "theirs"}


def test_without_a_free_name_the_tenant_says_so_until_there_is_one(team, stores, name):
    acme = tenant(name)
    acme["metadata"]["annotations"] = PAUSED
    team.kube.apply(acme)
    names = candidate_names(name, "default", uid=team.now(acme)["metadata"]["uid"])
    team.kube.apply(*(foreign_secret(taken) for taken in names))
    team.annotate(acme, paused=None)
    message = team.says(acme, "CredentialsReady", "False", "SecretConflict")
    assert f"Secret {names[-1]!r} is not this Tenant's" in message
    assert team.kube.condition("tenant", name, "Ready")[:2] == ("False", "SecretConflict")
    team.kube("delete", "secret", names[-1])
    team.wait(acme)
    assert team.key_status(acme)["secretName"] == names[-1]
    assert team.rest(acme).status == 200
    # Keys that were not delivered leave nothing behind.
    assert [row["state"] for row in stores.keys(team.status(acme)["tenantID"])] == ["active"]
    assert team.kube.secret(names[0]) == {"password": "theirs"}


def test_where_the_operator_may_use_no_secrets_the_tenant_says_so_and_can_be_deleted(denied, name):
    acme = tenant(name)
    denied.kube.apply(acme)
    message = denied.says(acme, "Synced", "False", "SecretAccessDenied")
    assert "operator.tenantNamespaces" in message
    assert denied.kube.condition("tenant", name, "CredentialsReady")[:2] == ("False", "SecretAccessDenied")
    denied.delete(acme)
    assert denied.kube.items("secrets") == []
