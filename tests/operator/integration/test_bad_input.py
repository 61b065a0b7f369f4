"""What the schema cannot see becomes a condition, and nothing that anybody applies wedges the operator."""

import contextlib
import copy
import json
import random

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from leaderboard_operator.key_secrets import candidate_names
from support.custom_resources import CRDS, PLURALS, document, specs
from support.kube_client import KubeClient
from support.kubernetes import install_crds
from support.operator import eventually, leaderboard, tenant
from support.team import Team

PAUSED = {"leaderboard.saas/paused": "true"}
KINDS = ("Tenant", "Leaderboard")
RANDOM_OBJECTS = {"Tenant": 250, "Leaderboard": 750}
DRAWN = 100  # specs of each kind that the objects are put together from: to draw one takes 40 ms
OWN_ERRORS = ("an error of the operator's own", "the sweep failed", "Traceback")


def paused(found):
    return {**found, "metadata": {**found["metadata"], "annotations": PAUSED}}


def unharmed(pod, *, pid):
    """Assert that the operator is the process it was and met no error of its own."""
    assert (pod.child.alive, pod.child.pid, pod.starts) == (True, pid, 1)
    bad = [line for line in pod.log_path.read_text().splitlines() if any(words in line for words in OWN_ERRORS)]
    assert not bad, bad[0]


@pytest.fixture(autouse=True)
def _unharmed(request):
    """The operator that a test shares is as well after it as before."""
    if "shared_operator" not in request.fixturenames:
        yield
        return
    pod = request.getfixturevalue("shared_operator")
    pid = pod.child.pid
    yield
    unharmed(pod, pid=pid)


# -- what the schema cannot see


def test_a_plan_that_the_platform_has_no_more_stalls_its_tenants_until_it_is_back(team, stores, name):
    acme, other = tenant(name, plan="enterprise"), tenant(f"{name}-other")
    stores.run("DELETE FROM plans WHERE name = 'enterprise'")
    try:
        team.kube.apply(acme)
        assert "plan must be one of free, pro; got 'enterprise'" in team.says(acme, "Stalled", "True", "InvalidSpec")
        team.says(acme, "Ready", "False", "InvalidSpec")
        team.apply(other)
    finally:
        stores.run(
            "INSERT INTO plans (name, max_leaderboards, requests_per_second) VALUES ('enterprise', 100000, 50000)"
        )
    team.wait(acme)
    assert team.kube.condition("tenant", name, "Stalled") == ("", "", "")
    assert team.rest(acme).status == 200


def test_a_quota_of_nothing_and_a_project_that_is_not_there_are_told(team, name):
    acme = tenant(name, quotas={"maxLeaderboards": 0})
    team.apply(acme)
    board = leaderboard(f"{name}-global", of=name)
    astray = leaderboard(f"{name}-astray", of=name, project="attic")
    team.kube.apply(board, astray)
    assert "maxLeaderboards" in team.says(board, "Accepted", "False", "QuotaExceeded")
    assert "'attic'" in team.says(astray, "Accepted", "False", "ProjectNotFound")
    for found in (board, astray):
        assert team.kube.condition("leaderboard", found["metadata"]["name"], "Ready")[0] == "False"
    team.spec(acme, quotas={"maxLeaderboards": 2}, projects=[{"name": "default"}, {"name": "attic"}])
    team.wait(acme, board, astray)


def test_many_that_want_one_slug_and_one_key_get_one_each(team, name):
    rivals = [tenant(f"{name}-{number}", slug=name) for number in range(8)]
    team.kube.apply(*rivals)

    def settled():
        said = [team.kube.condition("tenant", each["metadata"]["name"], "Accepted")[1] for each in rivals]
        return sorted(said) == ["Accepted"] + ["SlugConflict"] * 7

    eventually(settled, "one has the slug", seconds=60)
    (won,) = [each for each in rivals if team.kube.condition("tenant", each["metadata"]["name"], "Ready")[0] == "True"]
    boards = [
        leaderboard(f"{name}-{number}", of=won["metadata"]["name"], key="global", deletionPolicy="Delete")
        for number in range(8)
    ]
    team.kube.apply(*boards)

    def one_has_it():
        said = [team.kube.condition("leaderboard", each["metadata"]["name"], "Accepted")[1] for each in boards]
        return sorted(said) == ["Accepted"] + ["KeyConflict"] * 7

    eventually(one_has_it, "one has the key", seconds=60)
    team.kube("delete", "leaderboards,tenants", "--all", "--timeout=60s")


@pytest.mark.parametrize(
    "odd",
    [{"immutable": True}, {"type": "leaderboard.saas/odd"}, {"immutable": True, "type": "leaderboard.saas/odd"}, {}],
    ids=["immutable", "type", "both", "plain"],
)
def test_a_secret_of_its_own_that_cannot_be_written_over_is_replaced(team, name, odd):
    acme = tenant(name)
    team.kube.apply(paused(acme))
    uid = team.now(acme)["metadata"]["uid"]
    owner = {"apiVersion": "leaderboard.saas/v1alpha1", "kind": "Tenant", "name": name, "uid": uid}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{name}-default-api-key"}}
    secret["metadata"]["ownerReferences"] = [owner]
    team.kube.apply({**secret, **odd, "stringData": {"api-key": "odd"}})
    team.annotate(acme, paused=None)
    team.wait(acme)
    assert team.rest(acme).status == 200
    now = team.kube.get("secret", f"{name}-default-api-key")
    assert (now["type"], now.get("immutable", False)) == ("Opaque", False)


def test_somebody_elses_immutable_secret_in_the_way_is_told_and_left(team, name):
    acme = tenant(name)
    team.kube.apply(paused(acme))
    names = candidate_names(name, "default", uid=team.now(acme)["metadata"]["uid"])
    for taken in names:
        team.kube.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "leaderboard.saas/odd",
                "immutable": True,
                "metadata": {"name": taken},
                "stringData": {"password": "theirs"},
            }
        )
    team.annotate(acme, paused=None)
    assert "delete or rename it" in team.says(acme, "CredentialsReady", "False", "SecretConflict")
    assert [team.kube.secret(taken) for taken in names] == [{"password": "theirs"}] * 2
    team.kube("delete", "secret", names[0])
    team.wait(acme)
    team.delete(acme)
    assert team.kube.secret(names[1]) == {"password": "theirs"}


def test_the_longest_names_there_can_be_work(team, name):
    """Of Secrets and of Events, which are made from them."""
    acme = tenant("a" * 63, slug=name, projects=[{"name": "p" * 63}, {"name": "_" * 63}])
    board = leaderboard(
        ".".join(["b" * 63] * 3 + ["b" * 61]), of="a" * 63, key="k" * 128, project="_" * 63, deletionPolicy="Delete"
    )
    assert len(board["metadata"]["name"]) == 253
    team.apply(acme, board)
    assert team.rest(acme, "_" * 63).add("k" * 128, "ada", 1).status == 200
    team.spec(board, suspend=True)
    team.says(board, "Ready", "False", "Suspended")
    eventually(lambda: "Suspended" in team.reasons(board), "its Event is told")
    team.delete(board, acme)


# -- a thousand objects


def drawn(kind, *, seed):
    """Specs that fit the schema, and some that just do not."""
    made = []

    @hypothesis.seed(seed)
    @settings(
        max_examples=DRAWN,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(specs(kind))
    def collect(spec):
        made.append(copy.deepcopy(spec))

    collect()
    return made


def wanted(seed, *, tenants):
    """The objects in a random order: each has some fields of one spec that was drawn and some of another.

    Half of the Leaderboards name a Tenant that is there; half of all have a slug or a key that nobody else has.
    """
    chance = random.Random(seed)
    objects = []
    for kind, number in RANDOM_OBJECTS.items():
        pool = drawn(kind, seed=seed)
        for count in range(number):
            one, other = chance.choice(pool), chance.choice(pool)
            spec = {**one, **{field: value for field, value in other.items() if chance.random() < 0.3}}
            if chance.random() < 0.5:
                spec["slug" if kind == "Tenant" else "key"] = f"{tenants[0]}-x{count}"
            if kind == "Leaderboard" and chance.random() < 0.5:
                spec["tenantRef"] = {"name": chance.choice(tenants)}
                spec.pop("project", None)
            objects.append(document(kind, spec, name=f"x{count}"))
    chance.shuffle(objects)
    return objects


def spoken_of(found):
    """Whether the operator said of the object, as it is now, whether it is ready and why."""
    status, generation = found.get("status") or {}, found["metadata"]["generation"]
    ready = [each for each in status.get("conditions") or () if each["type"] == "Ready"]
    return (
        status.get("observedGeneration") == generation
        and bool(ready)
        and ready[0]["observedGeneration"] == generation
        and bool(ready[0]["reason"])
    )


def test_a_thousand_random_objects_do_not_wedge_it(shared_world, shared_operator, neighbours, name):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    kube = neighbours.kube
    real = [f"{name}-{number}" for number in range(4)]
    neighbours.apply(*(tenant(each, plan="pro") for each in real))
    objects = wanted(seed, tenants=real)
    assert len(objects) == 1000

    accepted, refused = {kind: set() for kind in KINDS}, dict.fromkeys(KINDS, 0)
    with contextlib.closing(KubeClient(shared_world.cluster, kube.namespace)) as client:
        for each in objects:
            answer = client.create(each)
            if answer.accepted:
                accepted[each["kind"]].add(each["metadata"]["name"])
            else:
                assert answer.status in (400, 422), answer.body
                assert len(answer.body["message"]) > 20, answer.body
                refused[each["kind"]] += 1
    print(f"accepted { {kind: len(names) for kind, names in accepted.items()} }, refused {refused}")
    assert min(*map(len, accepted.values()), *refused.values()) > 30

    silent = []

    def all_spoken_of():
        silent[:] = [
            (kind, found["metadata"]["name"], found["spec"], found.get("status"))
            for kind in KINDS
            for found in kube.items(PLURALS[kind])
            if not spoken_of(found)
        ]
        return not silent

    try:
        eventually(all_spoken_of, "every object has conditions of its generation", seconds=180)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: nothing is said of {len(silent)}, such as {silent[:3]}") from error
    for kind in KINDS:
        assert accepted[kind] <= {found["metadata"]["name"] for found in kube.items(PLURALS[kind])}
    boards = {found["metadata"]["name"]: found for found in kube.items("leaderboards")}
    ready = [found for found in boards.values() if condition(found, "Ready") == ("True", "Available")]
    assert len(ready) > 30

    for queue in ("tenant", "leaderboard"):
        eventually(lambda queue=queue: depth(shared_operator, queue) == 0, f"the queue of {queue} is empty", seconds=60)
    acme, board = tenant(f"{name}-plain"), leaderboard(f"{name}-plain", of=f"{name}-plain", key="global")
    neighbours.apply(acme, board)
    assert neighbours.rest(acme).add("global", "ada", 5).status == 200

    # And they go again.
    kube("delete", "--raw", f"/apis/leaderboard.saas/v1alpha1/namespaces/{kube.namespace}/leaderboards")
    eventually(lambda: kube.items("leaderboards") == [], "the Leaderboards are gone", seconds=180)
    free = [found for found in kube.items("tenants") if not found["spec"].get("preventDeletion")]
    names = [found["metadata"]["name"] for found in free[:60]]
    kube("delete", "tenants", *names, "--wait=false")

    def gone():
        return not {found["metadata"]["name"] for found in kube.items("tenants")} & set(names)

    eventually(gone, "the Tenants are gone", seconds=180)


def condition(found, type):
    for each in (found.get("status") or {}).get("conditions") or ():
        if each["type"] == type:
            return each["status"], each["reason"]
    return "", ""


def depth(pod, queue):
    return pod.metric("workqueue_depth", name=queue)


# -- what was written before a rule was there

ODD_TENANTS = {
    "nothing": {},
    "slug-number": {"slug": 5},
    "slug-map": {"slug": {"a": "b"}},
    "slug-upper": {"slug": "ACME"},
    "projects-text": {"slug": "o1", "projects": "default"},
    "projects-texts": {"slug": "o2", "projects": ["default"]},
    "projects-path": {"slug": "o3", "projects": [{"name": "../../x"}]},
    "projects-none": {"slug": "o4", "projects": []},
    "rotate-weekly": {"slug": "o5", "apiKey": {"rotateEvery": "1w"}},
    "rotate-short": {"slug": "o6", "apiKey": {"rotateEvery": "1h", "gracePeriod": "24h"}},
    "rotate-list": {"slug": "o7", "apiKey": ["24h"]},
    "no-selector": {"slug": "o8", "allowedNamespaces": {"from": "Selector"}},
    "empty-selector": {"slug": "o9", "allowedNamespaces": {"from": "Selector", "selector": {}}},
    "plan": {"slug": "o10", "plan": "gold"},
    "quota": {"slug": "o11", "quotas": {"maxLeaderboards": -1}},
    "policy": {"slug": "o12", "deletionPolicy": "Perhaps"},
    "sugar": {"slug": "o13", "sugar": "x", "suspend": "yes"},
}
ODD_BOARDS = {
    "nothing": {},
    "no-tenant": {"key": "global"},
    "tenant-text": {"key": "global", "tenantRef": "good"},
    "tenant-empty": {"key": "global", "tenantRef": {}},
    "tenant-list": {"key": "global", "tenantRef": {"name": ["good"]}},
    "no-key": {"tenantRef": {"name": "good"}},
    "key-number": {"tenantRef": {"name": "good"}, "key": 7},
    "key-list": {"tenantRef": {"name": "good"}, "key": ["global"]},
    "key-path": {"tenantRef": {"name": "good"}, "key": "../x"},
    "project": {"tenantRef": {"name": "good"}, "key": "b1", "project": ["default"]},
    "order": {"tenantRef": {"name": "good"}, "key": "b2", "sortOrder": "Sideways"},
    "entries": {"tenantRef": {"name": "good"}, "key": "b3", "maxEntries": "many"},
    "policy": {"tenantRef": {"name": "good"}, "key": "b4", "deletionPolicy": "Perhaps"},
}


def install_loose_crds(cluster):
    """The CRDs as if nobody had yet thought of what a spec may be."""
    for crd in CRDS.values():
        loose = copy.deepcopy(crd)
        (version,) = loose["spec"]["versions"]
        version.pop("selectableFields", None)
        schema = version["schema"]["openAPIV3Schema"]
        for place in (schema, schema["properties"].get("metadata", {})):
            place.pop("x-kubernetes-validations", None)
        schema.pop("required", None)
        schema["properties"]["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(loose))


def odd(kind):
    objects = {"Tenant": ODD_TENANTS, "Leaderboard": ODD_BOARDS}[kind]
    return [document(kind, spec, name=f"odd-{name}") for name, spec in objects.items()]


def test_what_an_older_schema_let_in_is_told_and_does_not_stop_the_others(make_world, make_kubernetes):
    cluster = make_kubernetes()
    world = make_world(cluster=cluster, namespaces=2)
    team, neighbours = (Team(each, world.platform.url) for each in world.kubes)
    kube = team.kube
    install_loose_crds(cluster)

    def taken():
        with contextlib.suppress(Exception):
            kube.apply(*odd("Tenant"), *odd("Leaderboard"), document("Tenant", None, name="odd-null"))
            return True
        return False

    eventually(taken, "the API server takes odd objects", seconds=60)
    # An odd selector is looked at only when somebody asks to be let in.
    guarded = tenant("guarded", allowedNamespaces={"from": "Selector", "selector": {"matchExpressions": "x"}})
    kube.apply(guarded)
    stranger = leaderboard("stranger", of={"name": "guarded", "namespace": kube.namespace})
    good, board = tenant("good"), leaderboard("good", of="good", key="global")

    def run(name):
        pod = world.pod(name, env={"LEADERBOARD_OPERATOR_SWEEP_SECONDS": "1"})
        pod.start()
        pod.wait_ready(seconds=90)
        pid = pod.child.pid
        kube.apply(good, board)
        team.wait(good, board)
        silent = []

        def told():
            silent[:] = [
                f"{kind}/{found['metadata']['name']}: {found.get('spec')} {found.get('status')}"
                for kind in KINDS
                for found in kube.items(PLURALS[kind])
                if found["metadata"]["name"].startswith("odd-") and condition(found, "Ready")[0] != "False"
            ]
            return not silent

        try:
            eventually(told, "the odd ones say that they are not ready", seconds=60)
        except AssertionError as error:
            raise AssertionError("\n".join([*silent, pod.log_path.read_text()[-3000:]])) from error
        neighbours.kube.apply(stranger)
        neighbours.says(stranger, "Accepted", "False", "RefNotPermitted")
        pod.wait_sweep(seconds=60)
        for queue in ("tenant", "leaderboard"):
            eventually(lambda queue=queue: depth(pod, queue) == 0, f"the queue of {queue} is empty", seconds=60)
        unharmed(pod, pid=pid)
        return pod

    run("loose").stop()
    install_crds(cluster)
    pod = run("strict")
    pid = pod.child.pid
    kube("delete", "leaderboards,tenants", "--all", "--wait=false")

    def left():
        return [found["metadata"]["name"] for kind in KINDS for found in kube.items(PLURALS[kind])]

    # The API server evaluates no rule of a list that is a text, so it takes no change, a finalizer's removal included.
    eventually(lambda: left() == ["guarded"], "all others are gone", seconds=90)
    kube.patch("tenant", "guarded", {"spec": {"allowedNamespaces": {"from": "Same", "selector": None}}})
    eventually(lambda: not left(), "all of them are gone", seconds=90)
    unharmed(pod, pid=pid)
