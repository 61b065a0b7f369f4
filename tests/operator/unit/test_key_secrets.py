"""The names a key's Secret may have, and whose Secrets are written to, and over what."""

import asyncio
import base64
import hashlib
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.control.keys import KEY_ENTROPY_BYTES, KeyDelivery, KeySink
from leaderboard.domain.keys import digest, make_key
from leaderboard.domain.names import TenantId
from leaderboard_operator.client import ApiUnavailable, Conflict, Forbidden, NotFound
from leaderboard_operator.key_secrets import (
    MANAGED_BY,
    SecretAccessDenied,
    SecretConflict,
    SecretSink,
    candidate_names,
)
from leaderboard_operator.seals import seal
from support.custom_resources import fitting, spec_schema
from support.memory_api import MemoryApi
from support.resources import make_tenant

UID = "0b9f3a52-6f0e-4d0c-9d62-3a5a3f1d0c11"

_LABEL = "[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?"
TENANTS = st.from_regex(rf"{_LABEL}(\.{_LABEL})?", fullmatch=True) | st.sampled_from(["a", "a" * 63, "a.b-c"])
PROJECTS = fitting(spec_schema("Tenant")["properties"]["projects"]["items"]["properties"]["name"]) | st.sampled_from(
    ["default", "race_app", "-", "_", "_" * 63, "9" * 63, "-a-", "a--b", "a-0123abcd", "a-0123abcde"]
)
UIDS = st.uuids().map(str)

is_dns_1123_subdomain = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*").fullmatch


@given(TENANTS, PROJECTS, UIDS)
def test_kubernetes_takes_every_name(tenant, project, uid):
    for name in candidate_names(tenant, project, uid=uid):
        assert is_dns_1123_subdomain(name)
        assert len(name) <= 253


@given(TENANTS, PROJECTS, UIDS)
def test_the_plain_name_is_the_first_choice_unless_it_had_to_be_changed(tenant, project, uid):
    names = candidate_names(tenant, project, uid=uid)
    if "_" in project or re.search(r"-[0-9a-f]{8}\Z", project):
        assert len(names) == 1
        assert names[0] != f"{tenant}-{project.replace('_', '-')}-api-key"
    else:
        assert names[0] == f"{tenant}-{project}-api-key"
        assert len(set(names)) == 2


def test_the_digits_are_of_sha256_over_uid_and_project():
    assert candidate_names("acme", "default", uid=UID) == (
        "acme-default-api-key",
        "acme-default-2373c051-api-key",
    )
    assert candidate_names("acme", "race_app", uid=UID) == ("acme-race-app-bdaf4a1a-api-key",)


@given(st.sets(st.tuples(UIDS, PROJECTS), min_size=2, max_size=12))
def test_no_two_projects_share_the_name_with_digits(owners):
    """Also where all Tenants are called the same; by chance two would in one of a hundred million runs."""
    names = [candidate_names("acme", project, uid=uid)[-1] for uid, project in owners]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("one", "other"), [("a_b", "a-b"), ("a_b", "a__b"), ("a_b_c", "a_b-c")])
def test_projects_of_one_tenant_that_differ_in_what_is_replaced_are_kept_apart(one, other):
    assert not set(candidate_names("acme", one, uid=UID)) & set(candidate_names("acme", other, uid=UID))


@given(PROJECTS, PROJECTS, UIDS)
def test_no_plain_name_is_the_name_with_digits_of_another_project(one, other, uid):
    """Both would be this Tenant's, and each would write its key over the other's for ever."""
    hashed = candidate_names("acme", one, uid=uid)[-1]
    digits = hashed.removeprefix("acme-").removesuffix("-api-key")
    for project in {other, digits, digits[1:]} - {one}:
        assert candidate_names("acme", project, uid=uid)[0] != hashed


@given(TENANTS, PROJECTS, UIDS)
def test_the_names_are_the_same_every_time(tenant, project, uid):
    assert candidate_names(tenant, project, uid=uid) == candidate_names(tenant, project, uid=uid)


PEPPER = b"p" * 32
ENDPOINT = "https://scores.example.com"
SECRETS = "/api/v1/namespaces/games/secrets"
TENANT = make_tenant(uid=UID, status={"tenantID": 7, "seal": seal(7, uid=UID, pepper=PEPPER)})
PLAIN, HASHED = candidate_names("acme", "default", uid=UID)
_numbers = itertools.count(1)


@pytest.fixture
def api():
    return MemoryApi()


def sink(api, tenant=TENANT, *, endpoint=ENDPOINT):
    return SecretSink(api, tenant, endpoint=endpoint, pepper=PEPPER)


def new_key(project="default"):
    key = make_key(hashlib.sha512(b"%d" % next(_numbers)).digest()[:KEY_ENTROPY_BYTES], env="test")
    return KeyDelivery(tenant="acme", tenant_id=TenantId(7), project=project, key=key)


def hmac_of(delivery):
    return digest(delivery.key, pepper=PEPPER)


async def holds(into, delivery):
    return await into.holds(delivery.project, delivery.key.id, hmac_of(delivery))


def data(api, name=PLAIN):
    return {field: base64.b64decode(text).decode() for field, text in api.objects[f"{SECRETS}/{name}"]["data"].items()}


def change(api, name=PLAIN, *, fields=None, **changed):
    """As somebody with kubectl would."""
    path = f"{SECRETS}/{name}"
    return api.put(path, {**api.objects[path], **changed, "stringData": fields or {}})


def somebody_elses(api, name):
    return api.put(f"{SECRETS}/{name}", {"metadata": {"name": name}, "type": "Opaque", "stringData": {"theirs": "1"}})


def written(api):
    return [(method, path.removeprefix(f"{SECRETS}").lstrip("/")) for method, path in api.asked]


class TestDelivering:
    async def test_a_new_key_is_in_a_secret_that_is_the_tenants(self, api):
        into, delivery = sink(api), new_key()
        await into.deliver(delivery)
        assert into.names == {"default": PLAIN}
        assert data(api) == {
            "api-key": delivery.key.text,
            "api-key-id": delivery.key.id,
            "tenant-id": "7",
            "project": "default",
            "endpoint": ENDPOINT,
        }
        metadata = api.objects[f"{SECRETS}/{PLAIN}"]["metadata"]
        assert [(owner["kind"], owner["uid"], owner["controller"]) for owner in metadata["ownerReferences"]] == [
            ("Tenant", UID, True)
        ]
        assert metadata["labels"] == MANAGED_BY
        assert await holds(sink(api), delivery)

    async def test_a_rotated_key_is_written_over_the_one_before(self, api):
        first, second = new_key(), new_key()
        await sink(api).deliver(first)
        into = sink(api)
        await into.look("default")
        await into.deliver(second)
        assert data(api)["api-key"] == second.key.text
        assert into.names == {"default": PLAIN}
        assert not await holds(sink(api), first)

    async def test_labels_and_annotations_of_others_stay(self, api):
        await sink(api).deliver(new_key())
        metadata = api.objects[f"{SECRETS}/{PLAIN}"]["metadata"]
        change(api, metadata={**metadata, "labels": {"team": "blue"}, "annotations": {"note": "x"}})
        await sink(api).deliver(new_key())
        metadata = api.objects[f"{SECRETS}/{PLAIN}"]["metadata"]
        assert metadata["labels"] == {"team": "blue", **MANAGED_BY}
        assert metadata["annotations"] == {"note": "x"}

    async def test_each_project_has_its_own(self, api):
        into = sink(api)
        for project in ("default", "race_app"):
            await into.deliver(new_key(project))
        (hashed,) = candidate_names("acme", "race_app", uid=UID)
        assert into.names == {"default": PLAIN, "race_app": hashed}
        assert data(api, hashed)["project"] == "race_app"

    def test_it_is_what_control_asks_for(self, api):
        given: KeySink = sink(api)
        assert given.keeps


class TestInTheWay:
    async def test_where_the_plain_name_is_somebody_elses_it_is_the_one_with_digits(self, api):
        theirs = somebody_elses(api, PLAIN)
        into, delivery = sink(api), new_key()
        await into.deliver(delivery)
        assert into.names == {"default": HASHED}
        assert data(api, HASHED)["api-key"] == delivery.key.text
        assert api.objects[f"{SECRETS}/{PLAIN}"] == theirs
        assert await holds(sink(api), delivery)

    async def test_where_both_are_somebody_elses_that_is_said(self, api):
        both = [somebody_elses(api, name) for name in (PLAIN, HASHED)]
        with pytest.raises(SecretConflict, match=f"{HASHED}.*project 'default'.*delete or rename it"):
            await sink(api).deliver(new_key())
        assert [api.objects[f"{SECRETS}/{name}"] for name in (PLAIN, HASHED)] == both

    async def test_a_secret_of_the_tenant_before_is_somebody_elses(self, api):
        """Of the same name, and deleted: its Secrets go with it."""
        await sink(api, make_tenant(uid="uid-before")).deliver(new_key())
        into = sink(api)
        assert await into.look("default") is None
        await into.deliver(new_key())
        assert into.names == {"default": HASHED}

    async def test_one_that_came_since_we_looked_is_in_the_way_too(self, api):
        into = sink(api)
        await into.look("default")
        somebody_elses(api, PLAIN)
        await into.deliver(new_key())
        assert into.names == {"default": HASHED}


class TestSomebodyWasFaster:
    """A leader was stopped between looking and delivering; its key is none by now, and must not get into the Secret."""

    async def test_a_secret_that_changed_since_is_not_written_over(self, api):
        await sink(api).deliver(new_key())
        slow, right = sink(api), new_key()
        await slow.look("default")
        await sink(api).deliver(right)
        with pytest.raises(Conflict):
            await slow.deliver(new_key())
        assert data(api)["api-key"] == right.key.text

    @pytest.mark.parametrize("taken", [False, True], ids=["plain name", "name with digits"])
    async def test_one_that_was_made_since_is_not_either(self, api, taken):
        if taken:
            somebody_elses(api, PLAIN)
        slow, right = sink(api), new_key()
        assert await slow.look("default") is None
        await sink(api).deliver(right)
        with pytest.raises(Conflict):
            await slow.deliver(new_key())
        assert await holds(sink(api), right)

    @pytest.mark.parametrize("again", [False, True], ids=["deleted", "made again"])
    async def test_one_that_was_deleted_since_is_not_made(self, api, again):
        await sink(api).deliver(new_key())
        slow, right = sink(api), new_key()
        await slow.look("default")
        del api.objects[f"{SECRETS}/{PLAIN}"]
        if again:
            await sink(api).deliver(right)
        with pytest.raises(Conflict if again else NotFound):
            await slow.deliver(new_key())
        assert (f"{SECRETS}/{PLAIN}" in api.objects) is again

    async def test_one_that_had_to_be_replaced_since_is_left_alone(self, api):
        await sink(api).deliver(new_key())
        change(api, immutable=True)
        slow, right = sink(api), new_key()
        await slow.look("default")
        await sink(api).deliver(right)
        with pytest.raises(Conflict):
            await slow.deliver(new_key())
        assert data(api)["api-key"] == right.key.text

    async def test_the_secret_is_read_once(self, api):
        delivery = new_key()
        await sink(api).deliver(delivery)
        into = sink(api)
        await into.look("default")
        change(api, fields={"api-key": "another"})
        assert await holds(into, delivery)
        assert not await holds(sink(api), delivery)


class TestWhatCannotBeWrittenOver:
    @pytest.mark.parametrize("changed", [{"immutable": True}, {"type": "example.com/other"}, {"type": None}])
    async def test_it_is_replaced(self, api, changed):
        await sink(api).deliver(new_key())
        before = change(api, **changed)["metadata"]["uid"]
        into, delivery = sink(api), new_key()
        await into.look("default")
        await into.deliver(delivery)
        after = api.objects[f"{SECRETS}/{PLAIN}"]
        assert after["metadata"]["uid"] != before
        assert (after["type"], "immutable" in after) == ("Opaque", False)
        assert await holds(sink(api), delivery)

    async def test_its_key_stays_when_only_its_other_fields_are_wrong(self, api):
        delivery = new_key()
        await sink(api).deliver(delivery)
        change(api, immutable=True, fields={"endpoint": "https://old.example.com"})
        into = sink(api)
        assert await holds(into, delivery)
        assert into.repaired == [PLAIN]
        assert (data(api)["endpoint"], data(api)["api-key"]) == (ENDPOINT, delivery.key.text)

    async def test_one_that_is_right_is_left_alone(self, api):
        delivery = new_key()
        await sink(api).deliver(delivery)
        kept = change(api, immutable=True)
        assert await holds(sink(api), delivery)
        assert api.objects[f"{SECRETS}/{PLAIN}"] == kept


class TestHolding:
    async def test_a_secret_that_is_right_is_not_written(self, api):
        delivery = new_key()
        await sink(api).deliver(delivery)
        api.asked.clear()
        into = sink(api)
        assert await holds(into, delivery)
        assert (api.asked, into.repaired, into.names) == ([], [], {"default": PLAIN})

    @pytest.mark.parametrize("field", ["api-key-id", "tenant-id", "project", "endpoint"])
    @pytest.mark.parametrize("wrong", ["", "else"])
    async def test_its_other_fields_are_put_right(self, api, field, wrong):
        delivery = new_key()
        await sink(api).deliver(delivery)
        right = data(api)
        change(api, fields={field: wrong})
        into = sink(api)
        assert await holds(into, delivery)
        assert data(api) == right
        assert into.repaired == [PLAIN]

    async def test_one_that_was_put_right_can_take_the_next_key_at_once(self, api):
        """A rotation that is due while the endpoint is another."""
        old, new = new_key(), new_key()
        await sink(api).deliver(old)
        into = sink(api, endpoint="https://new.example.com")
        assert await holds(into, old)
        await into.deliver(new)

    async def test_what_is_not_ours_in_it_goes_when_it_is_written(self, api):
        delivery = new_key()
        await sink(api).deliver(delivery)
        change(api, fields={"more": "1"})
        assert await holds(sink(api), delivery)
        assert "more" in data(api)  # not worth a write of its own
        change(api, fields={"endpoint": ""})
        assert await holds(sink(api), delivery)
        assert "more" not in data(api)

    @pytest.mark.parametrize("status", [{}, {"tenantID": 8}, {"tenantID": 8, "seal": TENANT.status["seal"]}])
    async def test_a_tenant_whose_status_has_no_number_of_ours_keeps_the_secrets(self, api, status):
        delivery = new_key()
        await sink(api).deliver(delivery)
        into = sink(api, make_tenant(uid=UID, status=status))
        assert await holds(into, delivery)
        assert into.repaired == []

    @pytest.mark.parametrize(
        "edited",
        ["", "no key", "lb_test_", "ü", new_key().key.text],
        ids=["empty", "no key", "half", "not ASCII", "another key"],
    )
    async def test_a_secret_that_was_edited_has_no_key(self, api, edited):
        delivery = new_key()
        await sink(api).deliver(delivery)
        change(api, fields={"api-key": edited})
        assert not await holds(sink(api), delivery)

    async def test_the_right_id_with_another_secret_part_is_another_key(self, api):
        delivery = new_key()
        await sink(api).deliver(delivery)
        assert not await sink(api).holds("default", delivery.key.id, hmac_of(new_key()))

    @pytest.mark.parametrize("stored", ["%", "a", "=", "####"])
    async def test_what_is_not_base64_has_no_key(self, api, stored):
        delivery = new_key()
        await sink(api).deliver(delivery)
        change(api, data={"api-key": stored})
        assert not await holds(sink(api), delivery)

    async def test_one_without_data_has_no_key(self, api):
        delivery = new_key()
        await sink(api).deliver(delivery)
        del api.objects[f"{SECRETS}/{PLAIN}"]["data"]
        assert not await holds(sink(api), delivery)

    async def test_somebody_elses_secret_has_no_key_whatever_is_in_it(self, api):
        delivery = new_key()
        await sink(api).deliver(delivery)
        metadata = api.objects[f"{SECRETS}/{PLAIN}"]["metadata"]
        kept = change(api, metadata={**metadata, "ownerReferences": []})
        assert not await holds(sink(api), delivery)
        assert api.objects[f"{SECRETS}/{PLAIN}"] == kept

    async def test_where_there_is_none_there_is_no_key(self, api):
        assert not await holds(sink(api), new_key())
        assert api.asked == []


class TestDeleting:
    async def test_ours_are_deleted_and_others_are_not(self, api):
        theirs = somebody_elses(api, PLAIN)
        for project in ("default", "race_app"):
            await sink(api).deliver(new_key(project))
        api.asked.clear()
        await sink(api).delete(["default", "race_app", "never-had"])
        assert api.objects == {f"{SECRETS}/{PLAIN}": theirs}
        assert sorted(written(api)) == [("DELETE", name) for name in sorted([HASHED, "acme-race-app-bdaf4a1a-api-key"])]

    @pytest.mark.parametrize("again", [False, True], ids=["gone", "another"])
    async def test_one_that_went_meanwhile_is_no_fault(self, api, again):
        await sink(api).deliver(new_key())

        def interfere(method, path):
            if method == "DELETE":
                del api.objects[path]
                if again:
                    somebody_elses(api, PLAIN)

        api.before = interfere
        await sink(api).delete(["default"])
        assert (f"{SECRETS}/{PLAIN}" in api.objects) is again


class TestNotAllowed:
    @pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
    async def test_it_is_said_with_what_to_do_and_why(self, api, method):
        if method == "PUT":
            await sink(api).deliver(new_key())

        def refuse(asked, path):
            if asked == method:
                raise Forbidden("exceeded quota: secrets=10", status=403)

        api.before = refuse
        with pytest.raises(SecretAccessDenied, match=r"'games'.*operator\.tenantNamespaces.*exceeded quota"):
            await sink(api).deliver(new_key())

    async def test_an_api_that_is_away_is_not_a_conflict(self, api):
        def away(method, path):
            raise ApiUnavailable("away")

        api.before = away
        for ask in (sink(api).deliver(new_key()), holds(sink(api), new_key()), sink(api).delete(["default"])):
            with pytest.raises(ApiUnavailable):
                await ask


@given(st.lists(st.sampled_from(["deliver", "lose", "edit", "take", "freeze"]), max_size=8))
def test_whatever_happens_a_leader_that_was_stopped_does_not_get_its_key_into_the_secret(steps):
    async def scenario():
        api, stopped = MemoryApi(), []
        for step in [*steps, "deliver"]:
            stopped.append(sink(api))
            await stopped[-1].look("default")
            ours = [path for path, found in api.objects.items() if found["metadata"].get("ownerReferences")]
            for path in ours:
                match step:
                    case "lose":
                        del api.objects[path]
                    case "edit":
                        change(api, path.rpartition("/")[2], fields={"endpoint": "wrong"})
                    case "take" if PLAIN in path:
                        somebody_elses(api, PLAIN)
                    case "freeze":
                        change(api, path.rpartition("/")[2], immutable=True)
            if step == "deliver":
                newest = new_key()
                await sink(api).deliver(newest)
                assert await holds(sink(api), newest)
        for slow in stopped:
            with pytest.raises((Conflict, NotFound)):
                await slow.deliver(new_key())
            assert await holds(sink(api), newest)

    asyncio.run(scenario())
