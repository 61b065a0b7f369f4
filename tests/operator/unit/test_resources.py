"""What the API sends, as values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.domain.documents import LeaderboardDocument, TenantDocument, parse
from leaderboard_operator.resources import ADOPT, PAUSED, Key, Kind, resource, tenant_key
from support.custom_resources import PLURALS
from support.resources import condition, make_board, make_tenant, raw_board, raw_tenant


def test_an_object_without_status_annotations_and_finalizers_is_read():
    bare = raw_tenant()
    del bare["metadata"]["finalizers"]
    item = resource(Kind.TENANT, bare)
    assert item.key == Key(Kind.TENANT, "games", "acme")
    assert (item.status, item.finalizers, item.held, item.deleting) == ({}, (), False, False)
    assert (item.paused, item.adopt) == (False, False)


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("false", False), ("", False), ("True", False)])
def test_an_annotation_counts_only_when_it_says_true(value, expected):
    item = make_tenant(annotations={PAUSED: value, ADOPT: value})
    assert (item.paused, item.adopt) == (expected, expected)


def test_a_finalizer_of_somebody_else_does_not_hold_for_us():
    theirs = raw_tenant()
    theirs["metadata"]["finalizers"] = ["example.com/theirs"]
    assert not resource(Kind.TENANT, theirs).held
    theirs["metadata"]["finalizers"].append("leaderboard.saas/cleanup")
    assert resource(Kind.TENANT, theirs).held


def test_versions_compare_as_numbers():
    assert make_tenant(version=10).newer_than(make_tenant(version=9))
    assert not make_tenant(version=9).newer_than(make_tenant(version=10))
    assert not make_tenant(version=9).newer_than(make_tenant(version=9))


def test_the_oldest_sorts_first_and_the_uid_decides_within_a_second():
    old = make_tenant("old", created="2026-01-01T00:00:00Z", uid="z")
    one, two = (make_tenant(uid, created="2026-01-02T00:00:00Z", uid=uid) for uid in ("a", "b"))
    assert sorted([two, one, old], key=lambda item: item.age) == [old, one, two]


def test_a_board_refers_to_its_own_namespace_unless_it_says_another():
    assert tenant_key(make_board(namespace="here")) == Key(Kind.TENANT, "here", "acme")
    assert tenant_key(make_board(namespace="here", tenant_namespace="there")) == Key(Kind.TENANT, "there", "acme")


def test_a_board_of_an_older_schema_refers_to_nothing_that_is_there():
    bare = raw_board(namespace="here")
    del bare["spec"]["tenantRef"]
    assert tenant_key(resource(Kind.LEADERBOARD, bare)) == Key(Kind.TENANT, "here", "")


@pytest.mark.parametrize("odd", [None, [], "text", 5])
def test_fields_of_another_form_are_as_if_they_were_not_there(odd):
    bare = raw_board() | {"spec": odd, "status": odd}
    item = resource(Kind.LEADERBOARD, bare)
    assert (item.spec, item.status) == ({}, {})
    ref = {"tenantRef": {"name": odd, "namespace": odd}}
    expected = odd if isinstance(odd, str) else ""
    assert tenant_key(resource(Kind.LEADERBOARD, bare | {"spec": ref})).name == expected
    assert tenant_key(resource(Kind.LEADERBOARD, bare | {"spec": {"tenantRef": odd}})).name == ""


def test_the_manifest_is_what_the_parser_takes():
    tenant, board = parse(make_tenant().manifest()), parse(make_board(tenant_namespace="there").manifest())
    assert isinstance(tenant, TenantDocument)
    assert isinstance(board, LeaderboardDocument)
    assert (tenant.spec.slug, tenant.namespace) == ("acme", "games")
    assert board.spec.tenant_ref.namespace == "there"


def test_a_condition_that_is_not_there_is_empty():
    item = make_tenant(status={"conditions": [condition("Ready", "True", "Available")]})
    assert item.condition("Ready")["reason"] == "Available"
    assert item.condition("Synced") == {}
    assert make_tenant().condition("Ready") == {}


def test_the_plurals_are_those_of_the_chart():
    assert {str(kind): kind.plural for kind in Kind} == PLURALS


@given(st.sampled_from(Kind), st.text(min_size=1), st.text(min_size=1))
def test_a_key_reads_as_kind_namespace_name(kind, namespace, name):
    assert str(Key(kind, namespace, name)) == f"{kind.value}/{namespace}/{name}"
