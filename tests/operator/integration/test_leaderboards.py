"""The life of a Leaderboard: waiting for its Tenant, changed, suspended, paused, deleted, adopted, disputed."""

import pytest

from leaderboard.local.kubernetes import KubectlFailed
from support.operator import eventually, leaderboard, tenant

ADOPT = {"leaderboard.saas/adopt": "true"}


def annotated(found, annotations):
    return {**found, "metadata": {**found["metadata"], "annotations": annotations}}


# -- waiting for what it needs


def test_a_leaderboard_says_that_its_tenant_is_missing_and_is_ready_when_it_comes(team, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.kube.apply(board)
    message = team.says(board, "Accepted", "False", "TenantNotFound")
    assert message == f"there is no Tenant {name!r} in namespace {team.kube.namespace!r}; apply it"
    team.apply(acme)
    team.wait(board)
    assert team.rest(acme).top(f"{name}-global") == []


def test_a_leaderboard_says_that_its_project_is_missing_and_is_ready_when_it_is_added(team, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name, project="racing")
    team.apply(acme)
    team.kube.apply(board)
    assert "no project 'racing'" in team.says(board, "Accepted", "False", "ProjectNotFound")
    team.spec(acme, projects=[{"name": "default"}, {"name": "racing"}])
    team.wait(board)
    assert team.rest(acme, "racing").top(f"{name}-global") == []


def _ready(team, boards):
    return [
        board for board in boards if team.kube.condition("leaderboard", board["metadata"]["name"], "Ready")[0] == "True"
    ]


def test_past_the_quota_leaderboards_wait_until_there_is_room(team, name):
    acme = tenant(name, quotas={"maxLeaderboards": 1})
    boards = [leaderboard(f"{name}-{number}", of=name, deletionPolicy="Delete") for number in range(3)]
    team.apply(acme, boards[0])
    team.kube.apply(*boards[1:])
    for board in boards[1:]:
        assert "maxLeaderboards = 1" in team.says(board, "Accepted", "False", "QuotaExceeded")
    # One more is allowed: whichever of the two comes first has it, and exactly one.
    team.spec(acme, quotas={"maxLeaderboards": 2})
    eventually(lambda: len(_ready(team, boards)) == 2, "one more is Ready")
    (waiting,) = [board for board in boards if board not in _ready(team, boards)]
    # One goes, and the last one has its room.
    team.delete(boards[0])
    team.wait(waiting)
    assert sorted(found["key"] for found in team.rest(acme)("GET", "/v1/leaderboards").json()["leaderboards"]) == [
        f"{name}-1",
        f"{name}-2",
    ]
    eventually(lambda: team.status(acme)["leaderboards"] == 2, "the Tenant counts its boards")


# -- changed


@pytest.mark.parametrize("change", [{"key": "other"}, {"sortOrder": "Ascending"}, {"tenantRef": {"name": "other"}}])
def test_what_is_fixed_at_creation_cannot_be_changed(team, name, change):
    board = leaderboard(f"{name}-global", of=name)
    team.kube.apply(board)
    with pytest.raises(KubectlFailed, match=f"{next(iter(change))} cannot be changed"):
        team.spec(board, **change)


def test_changes_reach_redis_and_the_api(team, stores, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    rest, key = team.rest(acme), f"{name}-global"
    namespace = team.status(board)["redisNamespace"]
    for number in range(5):
        assert rest.add(key, f"user-{number}", number).status == 200
    public = f"/v1/public/{name}/default/leaderboards/{key}/top"
    assert rest("GET", public).status == 404

    team.spec(board, maxEntries=2, publicRead=True)
    eventually(lambda: stores.meta(namespace)["max"] == "2", "maxEntries is in Redis")
    eventually(lambda: rest.top(key) == [("user-4", 4), ("user-3", 3)], "the rest are trimmed")
    assert stores.meta(namespace)["pub"] == "1"
    eventually(lambda: rest("GET", public).status == 200, "anybody may read the top")
    eventually(lambda: team.status(board)["entries"] == 2, "the status has the new count")

    rank = f"/v1/leaderboards/{key}/rank/user-3"
    assert rest("GET", rank).json()["tier"] is None
    team.spec(board, tiers=[{"name": "Winner", "top": 1}, {"name": "All", "percent": 100}])
    eventually(lambda: rest("GET", rank).json()["tier"] == "All", "tiers are told")
    team.spec(board, tiers=None)
    eventually(lambda: rest("GET", rank).json()["tier"] is None, "tiers are taken away")

    team.spec(board, suspend=True)
    assert "spec.suspend is true" in team.says(board, "Ready", "False", "Suspended")
    assert (rest.top(key), rest.add(key, "ada", 1).status) == (403, 403)
    assert stores.redis.zcard(namespace) == 2
    team.spec(board, suspend=False)
    team.wait(board)
    assert rest.top(key) == [("user-4", 4), ("user-3", 3)]
    assert "Repaired" not in team.reasons(board)


def test_bounds_reach_redis_and_hold_what_breaks_them(team, stores, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    rest, key = team.rest(acme), f"{name}-global"
    namespace = team.status(board)["redisNamespace"]
    team.spec(board, bounds={"minScore": -0.5, "maxScore": 10, "maxGain": 8, "perSeconds": 3600})
    eventually(lambda: stores.meta(namespace)["bounds"] == "-0.5 10.0 8.0 3600", "bounds is in Redis")
    assert rest.add(key, "ada", 5).status == 200
    assert rest.add(key, "ada", 6).json()["held"]["bound"] == "max_score"
    assert rest.top(key) == [("ada", 5)]
    shown = {"min_score": -0.5, "max_score": 10, "max_gain": 8, "per_seconds": 3600}
    assert rest("GET", f"/v1/leaderboards/{key}").json()["bounds"] == shown
    refused = rest("PATCH", f"/v1/leaderboards/{key}", {"bounds": None})
    assert (refused.status, refused.json()["type"].rpartition("/")[2]) == (409, "managed-elsewhere")
    team.spec(board, bounds=None)
    eventually(lambda: stores.meta(namespace)["bounds"] == "", "bounds is gone from Redis")
    assert "held" not in rest.add(key, "ada", 6).json()
    assert rest.top(key) == [("ada", 11)]


def test_the_rest_api_changes_nothing_of_a_leaderboard_that_a_resource_owns(team, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    rest, path = team.rest(acme), f"/v1/leaderboards/{name}-global"
    for method, body in (("PATCH", {"max_entries": 5}), ("DELETE", None)):
        refused = rest(method, path, body)
        assert (refused.status, refused.json()["type"].rpartition("/")[2]) == (409, "managed-elsewhere")
    assert rest("POST", "/v1/leaderboards", {"key": f"{name}-global"}).status == 409
    assert rest("GET", path).json()["max_entries"] == 0


def test_the_status_follows_the_number_of_entries(team, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    assert team.status(board)["entries"] == 0
    for number in range(3):
        assert team.rest(acme).add(f"{name}-global", f"user-{number}", 1).status == 200
    eventually(lambda: team.status(board)["entries"] == 3, "the count follows")


def test_a_paused_leaderboard_is_not_changed_repaired_or_deleted_until_it_is_resumed(
    team, stores, shared_operator, name
):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name, deletionPolicy="Delete")
    team.apply(acme, board)
    namespace, board_id = (team.status(board)[field] for field in ("redisNamespace", "leaderboardID"))
    team.annotate(board, paused="true")
    assert "nothing is changed or repaired" in team.says(board, "Synced", "False", "ReconcilePaused")
    team.spec(board, maxEntries=7)
    stores.redis.hset(f"meta:{{{namespace}}}", "pub", "1")
    shared_operator.wait_sweep()
    assert (stores.meta(namespace)["max"], stores.meta(namespace)["pub"]) == ("0", "1")
    team.annotate(board, paused=None)
    team.says(board, "Synced", "True", "ReconcileSuccess")
    assert (stores.meta(namespace)["max"], stores.meta(namespace)["pub"]) == ("7", "0")

    team.annotate(board, paused="true")
    team.says(board, "Synced", "False", "ReconcilePaused")
    team.kube("delete", "leaderboard", f"{name}-global", "--wait=false")
    shared_operator.wait_sweep()
    assert stores.board(board_id)["state"] == "active"
    assert team.rest(acme).top(f"{name}-global") == []
    team.annotate(board, paused=None)
    eventually(lambda: team.gone(board), "the Leaderboard is gone")
    assert stores.board(board_id)["state"] == "deleted"


# -- deleted


def test_retain_leaves_the_board_in_service_and_owned_by_nobody(team, stores, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    rest, board_id = team.rest(acme), team.status(board)["leaderboardID"]
    assert rest.add(f"{name}-global", "ada", 5).status == 200
    team.delete(board)
    row = stores.board(board_id)
    assert (row["state"], row["managed_by"], row["adoptable_from"]) == ("active", None, team.kube.namespace)
    assert rest.top(f"{name}-global") == [("ada", 5)]
    # Nobody's: the API may change it now.
    assert rest("PATCH", f"/v1/leaderboards/{name}-global", {"max_entries": 5}).status == 200


def test_delete_takes_the_entries_and_leaves_the_ledger(team, stores, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name, deletionPolicy="Delete")
    team.apply(acme, board)
    rest, before = team.rest(acme), team.status(board)
    assert rest.add(f"{name}-global", "ada", 5).status == 200
    team.delete(board)
    assert stores.board(before["leaderboardID"])["state"] == "deleted"
    assert stores.remains(before["redisNamespace"]) == []
    assert rest.top(f"{name}-global") == 404
    stores.record()
    assert stores.recorded(before["leaderboardID"]) == 2  # the update, and the deletion itself
    # The key is free again, for a board that begins with nothing.
    team.apply(board)
    assert team.status(board)["leaderboardID"] != before["leaderboardID"]
    assert rest.top(f"{name}-global") == []


# -- adopted


def test_a_board_of_the_rest_api_is_taken_over_by_annotation_with_its_scores(team, stores, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name, maxEntries=10)
    team.apply(acme)
    rest = team.rest(acme)
    assert rest("POST", "/v1/leaderboards", {"key": f"{name}-global"}).status == 201
    assert rest.add(f"{name}-global", "ada", 5).status == 200
    team.kube.apply(board)
    assert "leaderboard.saas/adopt" in team.says(board, "Accepted", "False", "KeyConflict")
    team.annotate(board, adopt="true")
    team.wait(board)
    assert rest.top(f"{name}-global") == [("ada", 5)]
    status = team.status(board)
    assert (status["entries"], stores.meta(status["redisNamespace"])["max"]) == (1, "10")
    assert rest("DELETE", f"/v1/leaderboards/{name}-global").status == 409


def test_a_board_with_other_rules_cannot_be_taken_over(team, stores, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name, scoreUpdate="Best")
    team.apply(acme)
    assert team.rest(acme)("POST", "/v1/leaderboards", {"key": f"{name}-global"}).status == 201
    team.kube.apply(annotated(board, ADOPT))
    assert "cannot change" in team.says(board, "Stalled", "True", "InvalidSpec")
    assert team.kube.condition("leaderboard", f"{name}-global", "Ready")[:2] == ("False", "InvalidSpec")
    team.delete(board)
    # What it could not have is not its to delete or to give up.
    assert team.rest(acme)("PATCH", f"/v1/leaderboards/{name}-global", {"max_entries": 5}).status == 200


def test_what_was_retained_is_taken_over_from_its_namespace_only(team, neighbours, name):
    acme, board = tenant(name, allowedNamespaces={"from": "All"}), leaderboard(f"{name}-global", of=name)
    theirs = leaderboard(f"{name}-theirs", of={"name": name, "namespace": team.kube.namespace}, key=f"{name}-global")
    team.apply(acme, board)
    rest = team.rest(acme)
    assert rest.add(f"{name}-global", "ada", 5).status == 200
    team.delete(board)
    neighbours.kube.apply(annotated(theirs, ADOPT))
    neighbours.says(theirs, "Accepted", "False", "KeyConflict")
    neighbours.delete(theirs)
    team.apply(annotated(board, ADOPT))
    assert rest.top(f"{name}-global") == [("ada", 5)]


# -- two that want one key


def test_the_older_of_two_leaderboards_gets_the_key_and_the_younger_takes_over(team, name):
    acme = tenant(name)
    # Both wait for the Tenant, so that who comes first to the operator is not who is older.
    older = leaderboard(f"{name}-z", of=name, key="global", deletionPolicy="Delete")
    younger = leaderboard(f"{name}-a", of=name, key="global")
    team.kube.apply(older)
    team.outlive(older)
    team.kube.apply(younger)
    team.says(older, "Accepted", "False", "TenantNotFound")
    team.says(younger, "Accepted", "False", "TenantNotFound")
    team.apply(acme)
    team.wait(older)
    assert "choose another key" in team.says(younger, "Accepted", "False", "KeyConflict")
    rest = team.rest(acme)
    assert rest.add("global", "ada", 5).status == 200
    team.delete(older)
    team.wait(younger)
    assert rest.top("global") == []


# -- across namespaces


@pytest.fixture
def label(neighbours):
    """Put a label on the neighbours' namespace, as whoever runs the cluster; it is taken off afterwards."""

    def put(value):
        text = "games-" if value is None else f"games={value}"
        neighbours.kube.cluster.kubectl("label", "namespace", neighbours.kube.namespace, text, "--overwrite")

    yield put
    put(None)


def test_another_namespace_may_refer_to_a_tenant_only_where_that_says_so(team, neighbours, name, label):
    acme = tenant(name)
    board = leaderboard(f"{name}-global", of={"name": name, "namespace": team.kube.namespace}, deletionPolicy="Delete")
    neighbours.kube.apply(board)
    unknown = neighbours.says(board, "Accepted", "False", "RefNotPermitted")
    team.apply(acme)
    # Whether there is such a Tenant is not said.
    assert neighbours.says(board, "Accepted", "False", "RefNotPermitted") == unknown
    label("no")
    team.spec(acme, allowedNamespaces={"from": "Selector", "selector": {"matchLabels": {"games": "yes"}}})
    team.wait(acme)
    assert neighbours.kube.condition("leaderboard", f"{name}-global", "Ready")[:2] == ("False", "RefNotPermitted")
    label("yes")
    neighbours.wait(board)
    assert team.rest(acme).top(f"{name}-global") == []
    # The board is the Tenant's; its key stays in the Tenant's namespace.
    assert neighbours.kube.items("secrets", f"--field-selector=metadata.name={name}-default-api-key") == []
    eventually(lambda: team.status(acme)["leaderboards"] == 1, "the Tenant counts it")


def test_a_reference_that_is_revoked_closes_the_board_until_it_is_granted_again(team, neighbours, stores, name):
    acme = tenant(name, allowedNamespaces={"from": "All"})
    board = leaderboard(f"{name}-global", of={"name": name, "namespace": team.kube.namespace})
    team.apply(acme)
    neighbours.apply(board)
    rest, namespace = team.rest(acme), neighbours.status(board)["redisNamespace"]
    assert rest.add(f"{name}-global", "ada", 5).status == 200
    told = len(neighbours.events(board))

    team.spec(acme, allowedNamespaces={"from": "Same"})
    neighbours.says(board, "Accepted", "False", "RefNotPermitted")
    assert (rest.top(f"{name}-global"), rest.add(f"{name}-global", "ada", 1).status) == (403, 403)
    assert stores.redis.zcard(namespace) == 1
    team.spec(acme, allowedNamespaces={"from": "All"})
    neighbours.wait(board)
    assert rest.top(f"{name}-global") == [("ada", 5)]
    assert neighbours.reasons(board)[told:] == ["RefNotPermitted", "Available"]


def test_a_board_that_is_let_in_no_more_does_not_keep_the_tenant_from_being_retained(team, neighbours, stores, name):
    acme = tenant(name, allowedNamespaces={"from": "All"})
    board = leaderboard(f"{name}-global", of={"name": name, "namespace": team.kube.namespace})
    team.apply(acme)
    neighbours.apply(board)
    board_id = neighbours.status(board)["leaderboardID"]
    team.spec(acme, allowedNamespaces={"from": "Same"})
    neighbours.says(board, "Accepted", "False", "RefNotPermitted")
    team.delete(acme)
    neighbours.delete(board)
    assert stores.board(board_id)["managed_by"] is None


def test_a_tenant_deletes_no_board_that_another_resource_owns(team, neighbours, stores, name):
    acme = tenant(name, allowedNamespaces={"from": "All"}, deletionPolicy="Delete")
    board = leaderboard(f"{name}-global", of={"name": name, "namespace": team.kube.namespace})
    team.apply(acme)
    neighbours.apply(board)
    tenant_id = team.status(acme)["tenantID"]
    team.spec(acme, allowedNamespaces={"from": "Same"})
    neighbours.says(board, "Accepted", "False", "RefNotPermitted")
    team.kube("delete", "tenant", name, "--wait=false")
    message = team.says(acme, "Ready", "False", "Deleting")
    assert "belong to custom resources" in message
    assert neighbours.kube.namespace not in message
    neighbours.delete(board)
    eventually(lambda: team.gone(acme), "the Tenant is gone")
    assert {key["state"] for key in stores.keys(tenant_id)} == {"revoked"}
