"""Whoever owns one namespace gets at nothing in another, and the operator at no Secret that it does not need.

The intruders' user may do everything with our resources, their statuses and finalizers, and with Secrets, in a
namespace of their own: what an administrator of a namespace usually may.
"""

import re

import pytest

from leaderboard.local.process import wait_until
from leaderboard_operator.key_secrets import candidate_names
from support.kubernetes import delete_namespace, make_namespace
from support.operator import Kube, eventually, install_rbac, leaderboard, tenant
from support.team import Team

PAUSED = {"leaderboard.saas/paused": "true"}
ADOPT = {"leaderboard.saas/adopt": "true"}
FINALIZER = "leaderboard.saas/cleanup"
EVERYTHING = [
    {"apiGroups": ["leaderboard.saas"], "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": [""], "resources": ["secrets", "configmaps", "events"], "verbs": ["*"]},
]


def annotated(found, annotations):
    return {**found, "metadata": {**found["metadata"], "annotations": annotations}}


def forge(kube, found, **status):
    """Write into a status what only the operator should."""
    kube.patch(found["kind"], found["metadata"]["name"], {"status": status}, "--subresource=status")


def conditions(**said):
    return [
        {
            "type": type,
            "status": "True",
            "reason": reason,
            "message": "forged",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-03-01T12:00:00Z",
        }
        for type, reason in said.items()
    ]


ALL_IS_WELL = conditions(
    Accepted="Accepted", Synced="ReconcileSuccess", CredentialsReady="KeyIssued", Ready="Available"
)


def hold(kube, found):
    """Put the operator's finalizer on an object."""
    kube.patch(found["kind"], found["metadata"]["name"], {"metadata": {"finalizers": [FINALIZER]}})


def resume(team, found):
    team.annotate(found, paused=None)


def across(name, team):
    """A reference to a Tenant of the team."""
    return {"name": name, "namespace": team.kube.namespace}


def boards_of(stores, tenant_id):
    return stores.rows(
        "SELECT l.* FROM leaderboards l JOIN projects p ON p.id = l.project_id WHERE p.tenant_id = %s", tenant_id
    )


def told(team, found):
    """What the conditions and the Events of an object say, as one text."""
    return f"{team.status(found)['conditions']} {team.events(found)}"


@pytest.fixture(scope="module")
def without_postgres(shared_world):
    """The log of a replica that found no Postgres."""
    nowhere = re.sub(r"@[^/]+/", "@127.0.0.1:1/", shared_world.platform.database)
    pod = shared_world.pod("early", env={"LEADERBOARD_DATABASE_URL": nowhere, "LEADERBOARD_LOG_LEVEL": "debug"})
    pod.start()
    assert wait_until(lambda: "waits for Postgres" in pod.log_path.read_text(), seconds=90)
    pod.stop()
    return pod.log_path.read_text()


@pytest.fixture(scope="module")
def shared_operator(shared_world, without_postgres):
    """As the shared one, and it logs all it can."""
    pod = shared_world.pod(env={"LEADERBOARD_OPERATOR_SWEEP_SECONDS": "1", "LEADERBOARD_LOG_LEVEL": "debug"})
    pod.start()
    pod.wait_ready(seconds=90)
    yield pod
    assert pod.child.alive, pod.child.how_it_ended()
    bugs = [line for line in pod.log_path.read_text().splitlines() if "Traceback" in line]
    assert not bugs, bugs[0]


@pytest.fixture(scope="module")
def intruders(shared_world, shared_operator):
    """Who owns the second namespace and nothing else."""
    cluster, namespace = shared_world.cluster, shared_world.kubes[1].namespace
    admin = shared_world.kubes[1]
    admin("create", "serviceaccount", "intruder")
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "intruder"}}
    admin.apply({**role, "rules": EVERYTHING})
    admin("create", "rolebinding", "intruder", "--role=intruder", f"--serviceaccount={namespace}:intruder")
    token = cluster.service_account_token(namespace, "intruder")
    kubeconfig = cluster.kubeconfig_for(f"{namespace}-intruder", token=token, namespace=namespace)
    kube = Kube(cluster, namespace, kubeconfig=kubeconfig)
    for what in ("patch tenants/status", "create leaderboards", "create secrets"):
        verb, resource = what.split()
        resource, _, subresource = resource.partition("/")
        ask = ["auth", "can-i", verb, resource, *([f"--subresource={subresource}"] if subresource else [])]
        assert wait_until(lambda ask=ask: kube(*ask, check=False).startswith("yes"), seconds=90)
    return Team(kube, shared_world.platform.url)


def test_the_intruders_see_nothing_of_the_other_namespace(team, intruders):
    for kind in ("tenants", "leaderboards", "secrets", "events"):
        answer = intruders.kube("get", kind, f"--namespace={team.kube.namespace}", check=False)
        assert "Forbidden" in answer, answer
        assert "Forbidden" in intruders.kube("get", kind, "--all-namespaces", check=False)


# -- through tenantRef


def test_a_reference_makes_nothing_uses_nothing_up_and_does_not_tell_what_is_there(
    team, intruders, stores, shared_operator, name
):
    acme = tenant(name, quotas={"maxLeaderboards": 1})
    team.apply(acme)
    tenant_id = team.status(acme)["tenantID"]
    there = leaderboard(f"{name}-there", of=across(name, team), key="global")
    nowhere = leaderboard(f"{name}-nowhere", of=across(f"{name}-none", team), key="global")
    lured = leaderboard(f"{name}-lured", of=across(name, team), key="global", project="other")
    for board in (there, nowhere, lured):
        intruders.kube.apply(annotated(board, PAUSED))
        intruders.says(board, "Synced", "False", "ReconcilePaused")
        # As if the operator had let it in and made its board.
        hold(intruders.kube, board)
        forge(intruders.kube, board, leaderboardID=1, seal="0" * 32, redisNamespace="x", conditions=ALL_IS_WELL)
        resume(intruders, board)

    def said(board, of):
        message = intruders.says(board, "Accepted", "False", "RefNotPermitted")
        intruders.says(board, "Ready", "False", "RefNotPermitted")
        return message.replace(of, "TENANT")

    assert said(there, name) == said(nowhere, f"{name}-none") == said(lured, name)
    # Once more while the operator knows them, and with the wish to take over.
    for board in (there, nowhere):
        forge(intruders.kube, board, leaderboardID=2, conditions=ALL_IS_WELL)
        intruders.annotate(board, adopt="true")
    shared_operator.wait_sweep()
    assert said(there, name) == said(nowhere, f"{name}-none")
    assert boards_of(stores, tenant_id) == []
    assert team.status(acme)["leaderboards"] == 0

    # The one board that the quota allows, under the key that they ask for, is the team's to have.
    own = leaderboard(f"{name}-own", of=name, key="global", deletionPolicy="Delete")
    team.apply(own)
    assert [row["managed_by"] for row in boards_of(stores, tenant_id)] == [team.now(own)["metadata"]["uid"]]
    shared_operator.wait_sweep()
    assert said(there, name) == said(nowhere, f"{name}-none")
    intruders.delete(there, nowhere, lured)
    assert team.rest(acme).top("global") == []


def test_boards_that_are_not_let_in_neither_block_a_key_nor_hold_up_a_deletion(
    team, intruders, stores, shared_operator, name
):
    acme = tenant(name, deletionPolicy="Delete")
    team.apply(acme)
    paused = leaderboard(f"{name}-paused", of=across(name, team), key="global")
    judged = leaderboard(f"{name}-judged", of=across(name, team), key="global")
    intruders.kube.apply(annotated(paused, PAUSED), judged)
    intruders.says(judged, "Accepted", "False", "RefNotPermitted")
    for board in (paused, judged):
        hold(intruders.kube, board)
        forge(intruders.kube, board, leaderboardID=3, seal="f" * 32, conditions=ALL_IS_WELL)
    intruders.outlive(judged)

    own = leaderboard(f"{name}-own", of=name, key="global", deletionPolicy="Delete")
    team.apply(own)
    assert team.rest(acme).add("global", "ada", 5).status == 200
    # Their deletion does not reach it.
    intruders.delete(judged)
    shared_operator.wait_sweep()
    assert team.rest(acme).top("global") == [("ada", 5)]
    assert intruders.kube.namespace not in told(team, acme) + told(team, own)
    team.delete(own, acme)
    resume(intruders, paused)
    intruders.says(paused, "Accepted", "False", "RefNotPermitted")
    intruders.delete(paused)


# -- through conflicts and adoption


def test_a_slug_that_is_taken_stays_where_it_is_whatever_is_forged(team, intruders, stores, shared_operator, name):
    slug = f"{name}-slug"
    acme = tenant(f"{name}-theirs", slug=slug)
    board = leaderboard(f"{name}-global", of=f"{name}-theirs", key="global")
    team.apply(acme, board)
    rest, before = team.rest(acme), team.now(acme)
    assert rest.add("global", "ada", 5).status == 200
    keys = stores.keys(before["status"]["tenantID"])

    squat = tenant(f"{name}-squat", slug=slug, deletionPolicy="Delete")
    lodger = leaderboard(f"{name}-lodger", of=f"{name}-squat", key="global", deletionPolicy="Delete")
    intruders.kube.apply(*(annotated(found, PAUSED | ADOPT) for found in (squat, lodger)))
    for found in (squat, lodger):
        intruders.says(found, "Synced", "False", "ReconcilePaused")
        hold(intruders.kube, found)
    status = {field: before["status"][field] for field in ("tenantID", "seal", "apiKeys", "leaderboards")}
    forge(intruders.kube, squat, observedGeneration=1, **status, conditions=ALL_IS_WELL)
    forge(intruders.kube, lodger, leaderboardID=team.status(board)["leaderboardID"], conditions=ALL_IS_WELL)
    for found in (squat, lodger):
        resume(intruders, found)
    intruders.says(squat, "Accepted", "False", "SlugConflict")
    intruders.says(squat, "Ready", "False", "SlugConflict")
    eventually(
        lambda: intruders.kube.condition("leaderboard", f"{name}-lodger", "Ready")[0] == "False", "it has no board"
    )
    forge(intruders.kube, squat, **status, conditions=ALL_IS_WELL)
    shared_operator.wait_sweep()
    intruders.says(squat, "Ready", "False", "SlugConflict")

    words = told(intruders, squat) + told(intruders, lodger)
    assert before["metadata"]["uid"] not in words
    assert team.kube.namespace not in words
    assert f"{name}-theirs" not in words
    prefix = f"--field-selector=metadata.name={name}-squat-default-api-key"
    assert intruders.kube.items("secrets", prefix) == []
    intruders.delete(lodger, squat)
    assert stores.keys(before["status"]["tenantID"]) == keys
    assert stores.tenant(before["status"]["tenantID"])["managed_by"] == before["metadata"]["uid"]
    assert rest.top("global") == [("ada", 5)]
    assert "SlugConflict" not in team.reasons(acme)


def test_what_was_retained_goes_to_no_other_namespace_and_is_there_when_its_own_comes_back(
    team, intruders, stores, name
):
    acme = tenant(name)
    board = leaderboard(f"{name}-global", of=name, key="global")
    team.apply(acme, board)
    before, board_id = team.status(acme), team.status(board)["leaderboardID"]
    assert team.rest(acme).add("global", "ada", 5).status == 200
    team.delete(board, acme)

    # The slug is free, so they may have it: a tenant with nothing in it.
    taken = annotated(tenant(name, deletionPolicy="Delete"), PAUSED | ADOPT)
    theirs = leaderboard(f"{name}-global", of=name, key="global", deletionPolicy="Delete")
    intruders.kube.apply(taken, annotated(theirs, PAUSED | ADOPT))
    intruders.says(taken, "Synced", "False", "ReconcilePaused")
    forge(intruders.kube, taken, **{field: before[field] for field in ("tenantID", "seal", "apiKeys")})
    forge(intruders.kube, theirs, leaderboardID=board_id, seal=before["seal"])
    resume(intruders, taken)
    resume(intruders, theirs)
    intruders.wait(taken, theirs)
    assert intruders.status(taken)["tenantID"] != before["tenantID"]
    assert intruders.status(theirs)["leaderboardID"] != board_id
    assert intruders.rest(taken).top("global") == []
    team.kube.apply(annotated(acme, ADOPT))
    message = team.says(acme, "Accepted", "False", "SlugConflict")
    assert intruders.kube.namespace not in message
    intruders.delete(theirs, taken)

    team.wait(acme)
    team.apply(annotated(board, ADOPT))
    assert team.status(acme)["tenantID"] == before["tenantID"]
    assert team.rest(acme).top("global") == [("ada", 5)]


def test_a_board_that_nobody_owns_is_the_tenants_own_namespaces_to_take_over(team, intruders, stores, name):
    acme = tenant(name, allowedNamespaces={"from": "All"})
    team.apply(acme)
    made = team.rest(acme)("POST", "/v1/leaderboards", {"key": "global"})
    assert made.status == 201, made.body
    theirs = leaderboard(f"{name}-theirs", of=across(name, team), key="global")
    intruders.kube.apply(annotated(theirs, ADOPT))
    intruders.says(theirs, "Accepted", "False", "KeyConflict")
    assert [row["managed_by"] for row in boards_of(stores, team.status(acme)["tenantID"])] == [None]
    intruders.delete(theirs)


def test_a_forged_number_is_not_given_when_its_row_is_gone(team, intruders, stores, shared_operator, name):
    acme = tenant(name)
    board = leaderboard(f"{name}-global", of=name, key="global")
    team.apply(acme, board)
    assert team.rest(acme).add("global", "ada", 5).status == 200
    stores.record()
    before, board_before = team.status(acme), team.status(board)
    tenant_id, board_id = before["tenantID"], board_before["leaderboardID"]
    for found in (acme, board):
        team.annotate(found, paused="true")
        team.says(found, "Synced", "False", "ReconcilePaused")
    projects = f"(SELECT id FROM projects WHERE tenant_id = {tenant_id})"
    stores.run(f"DELETE FROM leaderboards WHERE project_id IN {projects}")
    stores.run(f"DELETE FROM api_keys WHERE project_id IN {projects}")
    stores.run(f"DELETE FROM projects WHERE tenant_id = {tenant_id}")
    stores.run(f"DELETE FROM tenants WHERE id = {tenant_id}")

    # Even with the seals of the true ones, which they cannot see.
    other = tenant(f"{name}-other")
    theirs = leaderboard(f"{name}-theirs", of=f"{name}-other", key="global")
    intruders.kube.apply(annotated(other, PAUSED), annotated(theirs, PAUSED))
    for found, status in ((other, before), (theirs, board_before)):
        intruders.says(found, "Synced", "False", "ReconcilePaused")
        fields = ("tenantID", "leaderboardID", "seal", "redisNamespace", "conditions")
        forge(intruders.kube, found, **{field: status[field] for field in fields if field in status})
        resume(intruders, found)
    eventually(lambda: intruders.status(other)["tenantID"] != tenant_id, "they have a number of their own")
    intruders.wait(other)
    eventually(lambda: intruders.status(theirs)["leaderboardID"] != board_id, "their board has a number of its own")
    intruders.wait(theirs)
    assert intruders.rest(other).top("global") == []
    assert stores.tenant(tenant_id) is None
    assert stores.board(board_id) is None

    for found in (acme, board):
        resume(team, found)
    for found, kept in ((acme, tenant_id), (board, board_id)):
        team.says(found, "Synced", "True", "ReconcileSuccess")
        assert kept in team.status(found).values()
    team.wait(acme, board)
    assert team.rest(acme).top("global") == [("ada", 5)]


# -- through Secrets' names


def owned_by(uid, name):
    owner = {"apiVersion": "leaderboard.saas/v1alpha1", "kind": "Tenant", "name": name, "uid": uid}
    return [{**owner, "controller": True}]


def secret_named(name, **metadata):
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, **metadata},
        "stringData": {"password": "mine"},
    }


def test_a_secret_made_beforehand_gets_a_key_only_of_the_tenant_that_it_claims_to_be_of(team, intruders, name):
    acme = tenant(name)
    team.apply(acme)
    uid = team.now(acme)["metadata"]["uid"]
    key = team.rest(acme).key
    # The name that the operator uses in the other namespace, and the owner that it goes by.
    trap = secret_named(f"{name}-default-api-key", ownerReferences=owned_by(uid, name))
    intruders.kube.apply(trap)
    own = tenant(name, slug=f"{name}-own")
    intruders.apply(own)
    assert intruders.kube.secret(f"{name}-default-api-key") == {"password": "mine"}
    assert intruders.key_status(own)["secretName"] != f"{name}-default-api-key"
    assert team.rest(acme).key == key
    # A rotation goes to the true one as well.
    team.spec(acme, apiKey={"rotationTrigger": "again"})
    eventually(lambda: team.rest(acme).key != key, "a new key is in the Secret")
    assert intruders.kube.secret(f"{name}-default-api-key") == {"password": "mine"}
    # Deleting the other Tenant of that name does not take it either.
    team.delete(acme)
    assert intruders.kube.secret(f"{name}-default-api-key") == {"password": "mine"}
    assert intruders.rest(own).status == 200
    intruders.delete(own)
    assert intruders.kube.secret(f"{name}-default-api-key") == {"password": "mine"}


def test_tenants_whose_secrets_would_have_one_name_have_one_each(team, name):
    tenants = [
        tenant(f"{name}-a", projects=[{"name": "b-c"}, {"name": "b_c"}]),
        tenant(f"{name}-a-b", projects=[{"name": "c"}]),
        tenant(f"{name}-a-b-c", projects=[{"name": "default"}]),
        tenant(f"{name}-a-b-c-default", projects=[{"name": "default"}]),
    ]
    # One more, named so that its plain name is what the first has with digits behind it.
    team.apply(*tenants)
    uid = team.now(tenants[0])["metadata"]["uid"]
    digits = candidate_names(f"{name}-a", "b_c", uid=uid)[-1].removesuffix("-api-key").rpartition("-")[2]
    tenants.append(tenant(f"{name}-a-b-c-x", slug=f"{name}-x", projects=[{"name": digits}]))
    tenants.append(tenant(f"{name}-a-b", slug=f"{name}-a-b", projects=[{"name": "c"}, {"name": f"c-{digits}"}]))
    team.apply(*tenants[-2:])
    del tenants[1]
    eventually(lambda: bool(team.key_status(tenants[-1], f"c-{digits}")), "the project that was added has a key")
    team.wait(*tenants)
    names, ids = [], []
    for each in tenants:
        for project in each["spec"]["projects"]:
            names.append(team.key_status(each, project["name"])["secretName"])
            answer = team.rest(each, project["name"])("GET", "/v1/leaderboards")
            assert answer.status == 200
            secret = team.secret(each, project["name"])
            assert (secret["project"], secret["tenant-id"]) == (project["name"], str(team.status(each)["tenantID"]))
            ids.append(secret["api-key-id"])
    assert len(set(names)) == len(set(ids)) == len(names) == 7
    # The deletion of one takes its own.
    team.delete(tenants[0])
    assert [team.rest(each).status for each in tenants[2:3]] == [200]
    assert all(team.secret(each, project["name"]) for each in tenants[1:] for project in each["spec"]["projects"])


@pytest.mark.parametrize("slash", ["/", "%2F"])
def test_a_forged_status_does_not_lead_the_operator_into_another_namespace(team, intruders, name, slash):
    own = tenant(name)
    intruders.apply(own)
    uid = intruders.now(own)["metadata"]["uid"]
    victim = f"{name}-victim-api-key"
    # Nobody should have put that owner there; it is all that would stop the operator.
    team.kube.apply(secret_named(victim, ownerReferences=owned_by(uid, name)))
    intruders.annotate(own, paused="true")
    intruders.says(own, "Synced", "False", "ReconcilePaused")
    places = [f"{team.kube.namespace}/secrets/{name}-victim", "kube-system/secrets/x"]
    paths = [f"0/../../../{place}".replace("/", slash) for place in places]
    forge(intruders.kube, own, apiKeys=[{"project": path, "id": "0" * 16, "secretName": victim} for path in paths])
    intruders.kube("delete", "tenant", name, "--wait=false")
    resume(intruders, own)
    eventually(lambda: intruders.gone(own), "the Tenant is gone")
    assert team.kube.secret(victim) == {"password": "mine"}
    # It goes without asking for those: a refusal there would have ended it.
    assert intruders.kube.secret(f"{name}-default-api-key") is None


# -- what the operator may read, and what it tells


def test_the_operator_may_read_secrets_by_name_in_the_namespaces_of_tenants_only(shared_world, team, intruders):
    cluster, system = shared_world.cluster, shared_world.system
    token = cluster.service_account_token(system, "leaderboard-operator")
    kubeconfig = cluster.kubeconfig_for(f"{system}-asked", token=token, namespace=system)
    outside = [system, "default", "kube-system"]
    for namespace in (*outside, team.kube.namespace):
        kube = Kube(cluster, namespace, kubeconfig=kubeconfig)
        assert "Forbidden" in kube("get", "secrets", check=False)
        assert "Forbidden" in kube("get", "secrets", "--watch", check=False)
        assert "Forbidden" in kube("delete", "secrets", "--all", check=False)
        by_name = kube("get", "secret", "a-secret-that-is-not-there", check=False)
        assert ("NotFound" if namespace == team.kube.namespace else "Forbidden") in by_name
    everywhere = Kube(cluster, system, kubeconfig=kubeconfig)
    assert "Forbidden" in everywhere("get", "secrets", "--all-namespaces", check=False)
    # Nor may it make itself a right to.
    assert "Forbidden" in everywhere("create", "role", "more", "--verb=list", "--resource=secrets", check=False)
    assert "is forbidden" in everywhere("create", "token", "default", check=False)


def test_a_tenant_elsewhere_says_what_to_do_and_is_ready_when_that_is_done(
    shared_world, shared_operator, kubernetes_binaries, name
):
    cluster = shared_world.cluster
    elsewhere = make_namespace(cluster)
    outside = Team(Kube(cluster, elsewhere), shared_world.platform.url)
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name, key="global")
    outside.kube.apply(acme, board)
    for type in ("Synced", "CredentialsReady", "Ready"):
        message = outside.says(acme, type, "False", "SecretAccessDenied")
        assert f"add namespace {elsewhere!r} to the chart's operator.tenantNamespaces" in message
    assert "SecretAccessDenied" in outside.says(board, "Ready", "False", "TenantNotReady")
    assert outside.kube.items("secrets") == []

    names = [*(kube.namespace for kube in shared_world.kubes), elsewhere]
    install_rbac(cluster, kubernetes_binaries.helm, namespace=shared_world.system, tenant_namespaces=names)
    outside.wait(acme, board)
    assert outside.rest(acme).top("global") == []
    outside.delete(board, acme)
    delete_namespace(cluster, elsewhere)


def test_no_key_and_no_password_is_in_the_log_a_status_or_an_event(
    shared_world, shared_operator, without_postgres, team, intruders, name
):
    acme = tenant(name, projects=[{"name": "default"}, {"name": "race_app"}])
    team.apply(acme)
    first = team.rest(acme).key
    team.spec(acme, apiKey={"rotationTrigger": "again"})
    eventually(lambda: team.rest(acme).key != first, "a new key is in the Secret")
    team.kube("delete", "secret", f"{name}-default-api-key")
    eventually(lambda: bool(team.secret(acme)), "the Secret is there again")
    team.kube.patch("secret", f"{name}-default-api-key", {"stringData": {"api-key": f"{first}x"}})
    eventually(lambda: team.rest(acme).key not in (first, f"{first}x"), "the Secret is right again")
    team.kube.patch("secret", f"{name}-default-api-key", {"stringData": {"api-key-id": "x"}, "immutable": True})
    eventually(lambda: team.secret(acme).get("api-key-id", "x") != "x", "the Secret is right once more")
    shared_operator.wait_sweep()

    log = shared_operator.log_path.read_text()
    assert "debug" in log.lower(), "the log is to have all there is"
    texts = [log, without_postgres]
    for each in (team, intruders):
        for kind in ("tenants", "leaderboards", "events"):
            texts.append(each.kube(*("get", kind, "-o", "yaml")))
    password = re.search(r"//[^:]+:([^@]+)@", shared_world.platform.database)
    assert password is not None
    secret = re.compile(f"lb_live_[0-9A-Za-z]{{16}}_|{shared_world.platform.pepper}|{re.escape(password[1])}")
    assert secret.search(team.rest(acme).key)
    for text in texts:
        found = secret.search(text)
        assert found is None, text[max(0, found.start() - 300) : found.end()]
