"""What people and programs are told: kubectl's columns and descriptions, conditions, Events, health and metrics."""

from datetime import datetime

from prometheus_client.parser import text_string_to_metric_families

from support.operator import eventually, leaderboard, tenant

CONTROLLER_RUNTIME = {
    "controller_runtime_active_workers",
    "controller_runtime_reconcile",
    "controller_runtime_reconcile_errors",
    "controller_runtime_reconcile_time_seconds",
    "leader_election_master_status",
    "rest_client_requests",
    "workqueue_adds",
    "workqueue_depth",
    "workqueue_queue_duration_seconds",
    "workqueue_retries",
}
"""Their counters without `_total`, as the parser names families."""


def conditions(team, found):
    return {told["type"]: told for told in team.status(found)["conditions"]}


def row(table, name):
    """The cells of a table's line that begins with a name, by the column's title."""
    head, *lines = [line.split() for line in table.splitlines() if line.strip()]
    (cells,) = [line for line in lines if line[0] == name]
    return dict(zip(head, cells, strict=False))


# -- kubectl


def test_kubectl_get_shows_what_matters_in_columns(team, name):
    acme, board = tenant(name, plan="pro"), leaderboard(f"{name}-global", of=name, sortOrder="Ascending")
    team.apply(acme, board)
    assert team.rest(acme).add(f"{name}-global", "ada", 5).status == 200
    eventually(lambda: team.status(board)["entries"] == 1, "the count follows")
    eventually(lambda: team.status(acme)["leaderboards"] == 1, "the Tenant counts it")
    told = row(team.kube("get", "ten", name), name)
    assert told.pop("AGE")
    assert told == {"NAME": name, "READY": "True", "SYNCED": "True", "PLAN": "pro", "BOARDS": "1"}
    told = row(team.kube("get", "lb", f"{name}-global"), f"{name}-global")
    assert told.pop("AGE")
    assert told == {
        "NAME": f"{name}-global",
        "READY": "True",
        "SYNCED": "True",
        "TENANT": name,
        "ORDER": "Ascending",
        "ENTRIES": "1",
    }
    both = team.kube("get", "saas")
    assert f"tenant.leaderboard.saas/{name} " in both
    assert f"leaderboard.leaderboard.saas/{name}-global " in both


def test_kubectl_get_and_describe_say_what_is_wrong_and_what_to_do(team, name):
    board = leaderboard(f"{name}-global", of=name)
    team.kube.apply(board)
    team.says(board, "Accepted", "False", "TenantNotFound")
    wide = team.kube("get", "lb", f"{name}-global", "-o", "wide")
    what_to_do = f"there is no Tenant {name!r} in namespace {team.kube.namespace!r}; apply it"
    assert row(wide, f"{name}-global")["READY"] == "False"
    assert f"TenantNotFound   {what_to_do}" in wide
    eventually(lambda: bool(team.events(board)), "the Event is told")
    description = team.kube("describe", "leaderboard", f"{name}-global")
    state, _, events = description.partition("\nEvents:")
    assert "Reason:                TenantNotFound" in state
    assert f"Message:               {what_to_do}" in state
    (line,) = [line.split(maxsplit=4) for line in events.splitlines() if "TenantNotFound" in line]
    assert (line[0], line[1], line[3], line[4]) == ("Warning", "TenantNotFound", "leaderboard-operator", what_to_do)


def test_kubectl_wait_waits_for_the_present_spec_and_for_other_conditions(team, name):
    acme = tenant(name)
    team.kube.apply(acme)
    team.kube("wait", "--for=condition=CredentialsReady", "--timeout=20s", f"tenant/{name}")
    team.spec(acme, suspend=True)
    team.kube("wait", "--for=condition=Ready=False", "--timeout=20s", f"tenant/{name}")
    team.spec(acme, suspend=False)
    # An answer about the spec before would be "False"; this one waits for the new.
    team.kube("wait", "--for=condition=Ready", "--timeout=20s", f"tenant/{name}")
    team.kube("delete", "tenant", name, "--wait=false")
    team.kube("wait", "--for=delete", "--timeout=20s", f"tenant/{name}")


# -- conditions


def test_every_condition_speaks_of_the_present_spec_and_changes_its_time_only_with_its_status(team, name):
    acme = tenant(name)
    team.apply(acme)
    first = conditions(team, acme)
    assert first.keys() == {"Accepted", "Synced", "CredentialsReady", "Ready"}
    assert {told["observedGeneration"] for told in first.values()} == {1}

    team.spec(acme, displayName="Acme Games")
    team.wait(acme)
    second = conditions(team, acme)
    assert team.status(acme)["observedGeneration"] == 2
    assert {told["observedGeneration"] for told in second.values()} == {2}
    assert _times(second) == _times(first)

    # Times are in whole seconds.
    team.outlive(acme)
    team.spec(acme, suspend=True)
    team.says(acme, "Ready", "False", "Suspended")
    third = conditions(team, acme)
    assert _times(third)["Ready"] > _times(first)["Ready"]
    assert _times(third) | {"Ready": None} == _times(first) | {"Ready": None}
    assert {told["observedGeneration"] for told in third.values()} == {3}


def test_a_paused_resource_speaks_of_its_present_spec_in_one_condition_only(team, name):
    acme = tenant(name)
    team.apply(acme)
    team.annotate(acme, paused="true")
    team.spec(acme, plan="pro")
    team.says(acme, "Synced", "False", "ReconcilePaused")
    spoken_of = {type: told["observedGeneration"] for type, told in conditions(team, acme).items()}
    assert spoken_of == {"Accepted": 1, "CredentialsReady": 1, "Ready": 1, "Synced": 2}


def _times(told):
    return {type: datetime.fromisoformat(each["lastTransitionTime"]) for type, each in told.items()}


# -- Events


def test_events_tell_transitions_once_however_often_the_sweep_looks(team, shared_operator, name):
    acme, board = tenant(name, quotas={"maxLeaderboards": 1}), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    refused = leaderboard(f"{name}-more", of=name)
    team.kube.apply(refused)
    team.says(refused, "Accepted", "False", "QuotaExceeded")
    team.spec(acme, suspend=True)
    team.says(board, "Ready", "False", "TenantNotReady")
    team.spec(acme, suspend=False)
    team.wait(acme, board)
    eventually(lambda: team.status(acme)["leaderboards"] == 1, "the Tenant counts it")
    for _ in range(3):
        shared_operator.wait_sweep()
    assert team.reasons(acme) == ["Available", "Suspended", "Available"]
    assert team.reasons(board) == ["TenantNotReady", "Available"]
    assert team.reasons(refused) == ["QuotaExceeded"]


def test_an_object_that_is_as_it_should_be_is_not_written_again(team, shared_operator, name):
    acme, board = tenant(name), leaderboard(f"{name}-global", of=name)
    team.apply(acme, board)
    eventually(lambda: team.status(acme)["leaderboards"] == 1, "the Tenant counts it")
    before = [team.now(found)["metadata"]["resourceVersion"] for found in (acme, board)]
    secret = team.kube.get("secret", f"{name}-default-api-key")["metadata"]["resourceVersion"]
    shared_operator.wait_sweep()
    assert [team.now(found)["metadata"]["resourceVersion"] for found in (acme, board)] == before
    assert team.kube.get("secret", f"{name}-default-api-key")["metadata"]["resourceVersion"] == secret


# -- health and metrics


def test_the_endpoints_say_that_all_is_well_and_count_by_controller_runtimes_names(team, shared_operator, name):
    team.apply(tenant(name), leaderboard(f"{name}-global", of=name))
    shared_operator.wait_sweep()
    for path in ("/livez", "/readyz"):
        answer = shared_operator.get(path)
        assert (answer.status, answer.body) == (200, b"ok\n")
    families = {family.name for family in text_string_to_metric_families(_metrics(shared_operator))}
    assert families >= CONTROLLER_RUNTIME
    for controller in ("tenant", "leaderboard"):
        success = {"controller": controller, "result": "success"}
        assert shared_operator.metric("controller_runtime_reconcile_total", **success) >= 1
        assert shared_operator.metric("workqueue_adds_total", name=controller) >= 1
    assert shared_operator.metric("leader_election_master_status") == 1
    assert shared_operator.metric("leaderboard_operator_epoch") >= 1
    assert shared_operator.metric("leaderboard_operator_resources", kind="Tenant", ready="True") >= 1
    assert shared_operator.metric("leaderboard_operator_sweep_last_success_timestamp_seconds") > 0
    assert shared_operator.metric("rest_client_requests_total", code="200", method="PATCH") >= 1


def _metrics(pod):
    answer = pod.get("/metrics")
    assert answer.status == 200
    return answer.body.decode()
