"""The life of a Tenant: suspended, paused, deleted, adopted, and two that want one slug."""

import json
import subprocess
import sys

import pytest

from leaderboard.local.kubernetes import KubectlFailed
from leaderboard.local.process import wait_until
from support.operator import eventually, leaderboard, tenant
from support.tenants import make_tenant

PAUSED = {"leaderboard.saas/paused": "true"}
ADOPT = {"leaderboard.saas/adopt": "true"}


def annotated(found, annotations):
    return {**found, "metadata": {**found["metadata"], "annotations": annotations}}


# -- suspended, paused


def test_a_suspended_tenant_is_refused_at_once_and_keeps_its_data(team, stores, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    rest, key = team.rest(acme), board["spec"]["key"]
    assert rest.add(key, "ada", 5).status == 200
    team.spec(acme, suspend=True)
    message = team.says(acme, "Ready", "False", "Suspended")
    assert wait_until(lambda: rest.add(key, "ada", 1).status == 403, seconds=20)
    assert rest.top(key) == 403
    assert "spec.suspend is true" in message
    assert "its Tenant is suspended" in team.says(board, "Ready", "False", "TenantNotReady")
    assert team.kube.condition("tenant", name, "Synced")[:2] == ("True", "ReconcileSuccess")

    team.spec(acme, suspend=False)
    team.wait(acme, board)
    eventually(lambda: rest.top(key) == [("ada", 5)], "the same key reads the same scores")


def test_a_paused_tenant_is_neither_changed_nor_repaired_until_it_is_resumed(team, stores, shared_operator, name):
    acme = tenant(name, plan="pro")
    team.apply(acme)
    tenant_id, rest = team.status(acme)["tenantID"], team.rest(acme)
    team.annotate(acme, paused="true")
    assert "leaderboard.saas/paused" in team.says(acme, "Synced", "False", "ReconcilePaused")
    # Somebody changes the spec, another one the row and the Secret: the operator looks on.
    team.spec(acme, plan="enterprise", suspend=True)
    stores.run("UPDATE tenants SET display_name = 'by hand' WHERE id = %s", tenant_id)
    team.kube("delete", "secret", f"{name}-default-api-key")
    shared_operator.wait_sweep()
    row = stores.tenant(tenant_id)
    assert (row["plan"], row["suspended"], row["display_name"]) == ("pro", False, "by hand")
    assert team.kube.secret(f"{name}-default-api-key") is None
    assert rest.status == 200
    # What was so stays said.
    assert team.kube.condition("tenant", name, "Ready")[:2] == ("True", "Available")

    team.annotate(acme, paused=None)
    team.says(acme, "Ready", "False", "Suspended")
    team.says(acme, "Synced", "True", "ReconcileSuccess")
    row = stores.tenant(tenant_id)
    assert (row["plan"], row["suspended"], row["display_name"]) == ("enterprise", True, None)
    team.spec(acme, suspend=False)
    team.wait(acme)
    assert team.rest(acme).status == 200
    assert rest.status == 401


def test_the_boards_of_a_paused_tenant_say_what_holds_and_not_what_its_spec_asks_for(team, shared_operator, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    team.annotate(acme, paused="true")
    team.says(acme, "Synced", "False", "ReconcilePaused")
    team.spec(acme, suspend=True)
    shared_operator.wait_sweep()
    assert team.rest(acme).top(board["spec"]["key"]) == []
    assert team.kube.condition("leaderboard", f"{name}-global", "Ready")[:2] == ("True", "Available")


def test_the_deletion_of_a_paused_tenant_waits_until_it_is_resumed(team, stores, shared_operator, name):
    acme = tenant(name, deletionPolicy="Delete")
    team.apply(acme)
    tenant_id, rest = team.status(acme)["tenantID"], team.rest(acme)
    team.annotate(acme, paused="true")
    team.says(acme, "Synced", "False", "ReconcilePaused")
    team.kube("delete", "tenant", name, "--wait=false")
    shared_operator.wait_sweep()
    assert stores.tenant(tenant_id)["deleted_at"] is None
    assert rest.status == 200
    team.annotate(acme, paused=None)
    eventually(lambda: team.gone(acme), "the Tenant is gone")
    assert stores.tenant(tenant_id)["deleted_at"] is not None


# -- deleted


def test_retain_revokes_the_keys_and_keeps_the_rest(team, stores, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    rest, key = team.rest(acme), board["spec"]["key"]
    tenant_id = team.status(acme)["tenantID"]
    board_id, namespace = (team.status(board)[field] for field in ("leaderboardID", "redisNamespace"))
    assert rest.add(key, "ada", 5).status == 200
    stores.record()
    team.delete(board, acme)

    row = stores.tenant(tenant_id)
    assert row["deleted_at"] is not None
    assert (row["managed_by"], row["adoptable_from"]) == (None, team.kube.namespace)
    assert {found["state"] for found in stores.keys(tenant_id)} == {"revoked"}
    kept = stores.board(board_id)
    assert (kept["state"], kept["managed_by"], kept["adoptable_from"]) == ("active", None, team.kube.namespace)
    assert stores.redis.zcard(namespace) == 1
    assert stores.recorded(board_id) == 1
    assert team.kube.secret(f"{name}-default-api-key") is None
    assert rest.status == 401


def test_delete_takes_boards_keys_and_secrets_and_leaves_the_ledger(team, stores, name):
    acme = tenant(name, projects=[{"name": "default"}, {"name": "race_app"}], deletionPolicy="Delete")
    # One board of a resource that is kept, one that was made through the API: both are the Tenant's to delete.
    board = leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    rest, tenant_id = team.rest(acme), team.status(acme)["tenantID"]
    secrets = [told["secretName"] for told in team.status(acme)["apiKeys"]]
    assert rest("POST", "/v1/leaderboards", {"key": "by-hand"}).status == 201
    boards = {row["key"]: row["id"] for row in stores.rows("SELECT b.id, b.key FROM leaderboards b"
              " JOIN projects p ON p.id = b.project_id WHERE p.tenant_id = %s", tenant_id)}  # fmt: skip
    for key in boards:
        assert rest.add(key, "ada", 5).status == 200
    stores.record()
    team.delete(board, acme)

    row = stores.tenant(tenant_id)
    assert (row["deleted_at"] is None, row["adoptable_from"]) == (False, None)
    assert {found["state"] for found in stores.keys(tenant_id)} == {"revoked"}
    stores.record()
    for key, board_id in boards.items():
        assert stores.board(board_id)["state"] == "deleted"
        assert stores.remains(f"l:{tenant_id}:default:{key}") == []
        kinds = stores.rows("SELECT kind::text FROM score_events WHERE leaderboard_id = %s ORDER BY seq", board_id)
        assert [event["kind"] for event in kinds] == ["u", "d"]
    assert [team.kube.secret(secret) for secret in secrets] == [None, None]
    assert rest.status == 401


def test_a_tenant_waits_for_its_leaderboards_and_serves_them_meanwhile(team, stores, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    rest, key = team.rest(acme), board["spec"]["key"]
    team.kube("delete", "tenant", name, "--wait=false")
    message = team.says(acme, "Ready", "False", "Deleting")
    assert f"such as {name}-global" in message
    assert rest.add(key, "ada", 5).status == 200
    late = leaderboard(f"{name}-late", of=name)
    team.kube.apply(late)
    assert "it is being deleted" in team.says(late, "Ready", "False", "TenantNotReady")
    team.delete(board)
    eventually(lambda: team.gone(acme), "the Tenant is gone")
    team.says(late, "Accepted", "False", "TenantNotFound")
    team.delete(late)


def test_deleting_tenant_and_leaderboards_of_one_file_ends(team, tmp_path, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    file = tmp_path / "both.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [acme, board]}))
    team.kube("delete", "-f", str(file), "--timeout=30s")
    assert team.gone(acme)
    assert team.gone(board)


def test_prevent_deletion_keeps_the_tenant_until_it_is_taken_back(team, name):
    acme = tenant(name, preventDeletion=True)
    team.apply(acme)
    with pytest.raises(KubectlFailed, match=f"Tenant {name} has spec.preventDeletion: true.*kubectl patch tenant"):
        team.kube("delete", "tenant", name)
    team.spec(acme, preventDeletion=False)
    team.delete(acme)


def test_prevent_deletion_also_stops_a_deletion_that_has_not_come_to_the_data(team, stores, shared_operator, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    team.kube("delete", "tenant", name, "--wait=false")
    team.says(acme, "Ready", "False", "Deleting")
    team.spec(acme, preventDeletion=True)
    team.delete(board)
    eventually(lambda: "preventDeletion" in team.says(acme, "Ready", "False", "Deleting"), "it says what to do")
    shared_operator.wait_sweep()
    assert stores.tenant(team.status(acme)["tenantID"])["deleted_at"] is None
    team.spec(acme, preventDeletion=False)
    eventually(lambda: team.gone(acme), "the Tenant is gone")


# -- adopted


def test_what_was_retained_is_had_back_by_annotation_with_new_keys(team, stores, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    old, key, before = team.rest(acme), board["spec"]["key"], team.status(acme)["tenantID"]
    assert old.add(key, "ada", 5).status == 200
    team.delete(board, acme)

    team.apply(annotated(acme, ADOPT), annotated(board, ADOPT))
    assert team.status(acme)["tenantID"] == before
    new = team.rest(acme)
    assert new.top(key) == [("ada", 5)]
    assert new.add(key, "ada", 1).json()["score"] == 6
    assert (new.key != old.key, old.status) == (True, 401)
    assert stores.tenant(before)["managed_by"] == team.now(acme)["metadata"]["uid"]


def test_without_the_annotation_a_new_tenant_begins_with_nothing(team, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    before = team.status(acme)["tenantID"]
    assert team.rest(acme).add(board["spec"]["key"], "ada", 5).status == 200
    team.delete(board, acme)
    team.apply(acme, board)
    assert team.status(acme)["tenantID"] != before
    assert team.rest(acme).top(board["spec"]["key"]) == []


def test_another_namespace_cannot_have_what_was_retained(team, neighbours, stores, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    before = team.status(acme)["tenantID"]
    assert team.rest(acme).add(board["spec"]["key"], "ada", 5).status == 200
    team.delete(board, acme)
    neighbours.apply(annotated(acme, ADOPT), annotated(board, ADOPT))
    assert neighbours.status(acme)["tenantID"] != before
    assert neighbours.rest(acme).top(board["spec"]["key"]) == []
    assert stores.tenant(before)["adoptable_from"] == team.kube.namespace


def test_a_tenant_of_the_command_line_is_taken_over_only_after_it_was_offered(
    team, shared_world, shared_operator, name
):
    made = make_tenant(shared_world.platform, slug=name, plan="free")
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name, key="global")
    team.kube.apply(acme)
    assert "leaderboard.saas/adopt" in team.says(acme, "Accepted", "False", "SlugConflict")
    team.annotate(acme, adopt="true")
    shared_operator.wait_sweep()
    team.says(acme, "Accepted", "False", "SlugConflict")
    command = [sys.executable, "-m", "leaderboard.cli", "offer", name, "--namespace", team.kube.namespace]
    subprocess.run(command, env=shared_world.platform.env, check=True, capture_output=True)
    team.wait(acme)
    assert team.status(acme)["tenantID"] == made.id

    assert team.rest(acme).status == 200
    # Its board was nobody's: the Tenant's own namespace may have it, by annotation.
    team.kube.apply(board)
    assert "leaderboard.saas/adopt" in team.says(board, "Accepted", "False", "KeyConflict")
    team.annotate(board, adopt="true")
    team.wait(board)


# -- two that want one slug


def test_the_older_of_two_tenants_gets_the_slug(team, neighbours, name):
    # The older one is paused, so that the younger comes first to the operator.
    acme = annotated(tenant(name), PAUSED)
    team.kube.apply(acme)
    team.outlive(acme)
    neighbours.kube.apply(tenant(name))
    message = neighbours.says(acme, "Accepted", "False", "SlugConflict")
    assert team.kube.namespace not in message, "what is in another namespace is nobody's business"
    team.annotate(acme, paused=None)
    team.wait(acme)
    assert neighbours.kube.condition("tenant", name, "Ready")[:2] == ("False", "SlugConflict")
    assert neighbours.kube.items("secrets", f"--field-selector=metadata.name={name}-default-api-key") == []
    # The one that lost may go, and takes nothing with it.
    neighbours.delete(acme)
    assert team.rest(acme).status == 200


def test_the_younger_of_two_tenants_takes_the_slug_when_the_older_one_is_gone(team, neighbours, name):
    acme = tenant(name, deletionPolicy="Delete")
    team.apply(acme)
    first = team.status(acme)["tenantID"]
    team.outlive(acme)
    neighbours.kube.apply(acme)
    neighbours.says(acme, "Accepted", "False", "SlugConflict")
    team.delete(acme)
    neighbours.wait(acme)
    assert neighbours.status(acme)["tenantID"] != first
    assert neighbours.rest(acme).status == 200
