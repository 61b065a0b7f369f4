"""The keys that a project's own people make, rotate and revoke."""

from datetime import datetime, timedelta

import pytest
from api_helpers import apply, assert_problem, in_control, sql

from leaderboard.api import problems
from leaderboard.control.own_keys import MAX_KEYS
from leaderboard.domain import documents, keys
from leaderboard.local.process import wait_until
from support.platform import Platform

OWNER = "0c5a7f0e-0000-4000-8000-000000000001"


@pytest.fixture
def admin(new_tenant, connect):
    return connect(new_tenant().key)


def made(client, scope: str = "read", **more) -> dict:
    answer = client.post("/v1/keys", {"scope": scope, **more})
    assert answer.status == 201, answer
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def listed(client) -> dict[str, dict]:
    answer = client.get("/v1/keys")
    assert answer.status == 200, answer
    return {key["id"]: key for key in answer.json()["keys"]}


def refused(client) -> bool:
    return client.get("/v1/usage").status == 401


def test_a_new_key_works_at_once_and_within_its_scope(admin, connect):
    new = made(admin, name="web page")
    assert keys.parse_key(new["secret"]).id == new["id"]
    assert (new["scope"], new["name"], new["expires_at"], new["previous_id"]) == ("read", "web page", None, None)
    reader = connect(new["secret"])
    assert reader.get("/v1/leaderboards/global/top").status == 200
    update = {"leaderboard": "global", "user": "u", "increment": 1}
    assert_problem(reader.post("/v1/scores/update", update), problems.INSUFFICIENT_SCOPE)


def test_the_list_has_what_works_and_no_secret(admin):
    own = keys.parse_key(admin.key).id
    first, second = made(admin, "write", name="game server"), made(admin)
    found = listed(admin)
    assert list(found) == [own, first["id"], second["id"]]
    assert found[own]["current"]
    assert not found[first["id"]]["current"]
    assert (found[first["id"]]["scope"], found[first["id"]]["name"]) == ("write", "game server")
    text = admin.get("/v1/keys").body.decode()
    assert all(key["secret"].split("_")[3] not in text for key in (first, second))


def test_a_revoked_key_is_refused_everywhere_and_gone(served, admin, connect):
    new = made(admin)
    clients = [connect(new["secret"]) for _ in range(8)]  # enough connections to meet both workers
    assert not any(refused(client) for client in clients)
    assert admin.call("DELETE", f"/v1/keys/{new['id']}").status == 204
    assert wait_until(lambda: all(refused(client) for client in clients), seconds=90, pause=0.01)
    assert new["id"] not in listed(admin)
    assert_problem(admin.call("DELETE", f"/v1/keys/{new['id']}"), problems.KEY_NOT_FOUND)


def test_rotation_keeps_scope_and_name_and_the_old_key_for_its_grace(admin, connect):
    old = made(admin, "write", name="game server")
    answer = admin.post(f"/v1/keys/{old['id']}/rotate", {"grace_seconds": 3600})
    assert answer.status == 201
    new = answer.json()
    assert (new["scope"], new["name"], new["previous_id"]) == ("write", "game server", old["id"])
    ends = datetime.fromisoformat(new["previous_expires_at"])
    assert ends - datetime.fromisoformat(new["created_at"]) == timedelta(hours=1)
    assert listed(admin)[old["id"]]["expires_at"] == new["previous_expires_at"]
    for key in (old, new):
        assert not refused(connect(key["secret"]))


def test_after_its_grace_the_old_key_is_refused(admin, connect):
    old = made(admin)
    client = connect(old["secret"])
    assert not refused(client)
    assert admin.post(f"/v1/keys/{old['id']}/rotate", {"grace_seconds": 1}).status == 201
    assert wait_until(lambda: refused(client), seconds=90, pause=0.05)
    assert old["id"] not in listed(admin)


def test_no_grace_ends_it_at_once(admin, connect):
    old = made(admin)
    client = connect(old["secret"])
    assert not refused(client)
    new = admin.post(f"/v1/keys/{old['id']}/rotate", {"grace_seconds": 0}).json()
    assert wait_until(lambda: refused(client), seconds=90, pause=0.01)
    assert not refused(connect(new["secret"]))


def test_a_second_rotation_does_not_lengthen_a_life(admin):
    old = made(admin)
    first = admin.post(f"/v1/keys/{old['id']}/rotate", {"grace_seconds": 600}).json()
    again = admin.post(f"/v1/keys/{old['id']}/rotate", {"grace_seconds": 86400}).json()
    assert again["previous_expires_at"] == first["previous_expires_at"]


def test_a_key_may_rotate_itself(admin, connect):
    own = keys.parse_key(admin.key).id
    new = admin.post(f"/v1/keys/{own}/rotate", {}).json()
    found = listed(connect(new["secret"]))
    assert found[new["id"]]["current"]
    assert found[own]["expires_at"] == new["previous_expires_at"]


def test_the_documents_next_application_leaves_them_alone(served, new_tenant, connect):
    tenant = new_tenant()
    admin = connect(tenant.key)
    kept, rotated = made(admin, "write"), made(admin, "read")
    replaced = admin.post(f"/v1/keys/{rotated['id']}/rotate", {"grace_seconds": 3600}).json()
    before = listed(admin)
    # A new scope for the document's keys, and a trigger; the command line has nowhere to put a new key here.
    spec = {"slug": tenant.slug, "plan": "enterprise", "apiKey": {"scope": "read", "rotationTrigger": "now"}}
    apply(served, "Tenant", tenant.slug, **spec)
    assert listed(admin) == before
    for key in (kept, replaced):
        assert not refused(connect(key["secret"]))


def test_a_rotated_document_key_is_still_the_documents(served, new_tenant, connect):
    tenant = new_tenant()
    own = keys.parse_key(tenant.key).id
    admin = connect(tenant.key)
    new = admin.post(f"/v1/keys/{own}/rotate", {"grace_seconds": 3600}).json()
    outcome = in_control(served, lambda control: control.reconcile(_tenant(tenant.slug), sink=_NoSink()))
    assert [key.id for key in outcome.keys_in_force] == [new["id"]]
    assert outcome.keys == ()


def test_a_resources_key_is_the_resources_to_rotate(served, new_tenant, connect):
    tenant = new_tenant()
    admin = connect(tenant.key)
    mine = made(admin, "admin")
    sql(served, "UPDATE tenants SET managed_by = %s WHERE id = %s", OWNER, tenant.id)
    own = keys.parse_key(tenant.key).id
    assert {key["id"]: key["managed"] for key in listed(admin).values()} == {own: True, mine["id"]: False}
    rotation = admin.post(f"/v1/keys/{own}/rotate", {})
    assert_problem(rotation, problems.KEY_MANAGED, detail="rotationTrigger")
    assert_problem(admin.call("DELETE", f"/v1/keys/{own}"), problems.KEY_MANAGED)
    assert admin.post(f"/v1/keys/{mine['id']}/rotate", {}).status == 201


def test_another_projects_keys_are_not_found(admin, new_tenant, connect):
    theirs = made(connect(new_tenant().key))
    assert theirs["id"] not in listed(admin)
    assert_problem(admin.post(f"/v1/keys/{theirs['id']}/rotate", {}), problems.KEY_NOT_FOUND)
    assert_problem(admin.call("DELETE", f"/v1/keys/{theirs['id']}"), problems.KEY_NOT_FOUND)
    assert not refused(connect(theirs["secret"]))


def test_they_end_with_their_tenant(served, new_tenant, connect):
    tenant = new_tenant()
    new = made(connect(tenant.key))
    client = connect(new["secret"])
    assert not refused(client)
    in_control(served, lambda control: control.delete_tenant(tenant.slug))
    assert wait_until(lambda: refused(client), seconds=90, pause=0.01)


def test_a_project_has_a_bound_of_them(served, new_tenant, connect):
    tenant = new_tenant()
    admin = connect(tenant.key)
    sql(
        served,
        "INSERT INTO api_keys (id, project_id, hmac, scope, state, created_at, made_by_api)"
        " SELECT lpad(n::text, 16, 'x'), p.id, sha256(n::text::bytea), 'read', 'active', now(), true"
        " FROM generate_series(2, %s) n, projects p WHERE p.tenant_id = %s",
        MAX_KEYS,
        tenant.id,
    )
    last = made(admin)
    assert_problem(admin.post("/v1/keys", {"scope": "read"}), problems.QUOTA_EXCEEDED)
    assert admin.call("DELETE", f"/v1/keys/{last['id']}").status == 204
    made(admin)


@pytest.mark.parametrize(
    "body",
    [{}, {"scope": "root"}, {"scope": "read", "name": "two\nlines"}, {"scope": "read", "name": "x" * 65}, {"a": 1}],
)
def test_a_bad_request_for_a_key_is_refused(admin, body):
    assert_problem(admin.post("/v1/keys", body), problems.INVALID_REQUEST)


@pytest.mark.parametrize("grace", [-1, 2_592_001, 1.5, "1h"])
def test_a_grace_out_of_bounds_is_refused(admin, grace):
    new = made(admin)
    assert_problem(admin.post(f"/v1/keys/{new['id']}/rotate", {"grace_seconds": grace}), problems.INVALID_REQUEST)
    assert listed(admin)[new["id"]]["expires_at"] is None


def test_secrets_are_in_no_log(served: Platform, admin):
    new = made(admin)
    rotated = admin.post(f"/v1/keys/{new['id']}/rotate", {}).json()
    assert admin.post(f"/v1/keys/{new['secret']}/rotate", {}).status == 404
    logged = "\n".join(served.lines("api"))
    for key in (new, rotated):
        assert key["secret"].split("_")[3] not in logged


def _tenant(slug: str):
    return documents.parse(
        {
            "apiVersion": documents.API_VERSION,
            "kind": "Tenant",
            "metadata": {"name": slug},
            "spec": {"slug": slug, "plan": "enterprise"},
        }
    )


class _NoSink:
    """A sink like the terminal's that must not be given anything."""

    keeps = False

    async def deliver(self, delivery) -> None:
        raise AssertionError("no key was due")

    async def holds(self, project: str, key_id: str, hmac: bytes) -> bool:
        return False
