"""Decisions without servers."""

from datetime import UTC, datetime, timedelta

import pytest

from leaderboard.control.errors import ManagedElsewhere
from leaderboard.control.plan import board_changes, check_owner, in_force, plan_keys, plan_tenant, spec_hash, to_ask
from leaderboard.domain.boards import BoardSpec, SortOrder, TiePolicy
from leaderboard.domain.documents import ApiKeySpec, ProjectSpec, TenantSpec
from leaderboard.domain.errors import ImmutableField, InvalidDocument
from leaderboard.domain.keys import Scope
from leaderboard.domain.names import BoardKey, ProjectId, TenantId
from leaderboard.domain.plans import PLANS, QuotaOverrides
from leaderboard.store.postgres.keys import KeyRow, KeyState
from leaderboard.store.postgres.tenants import TenantRow

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SPEC = TenantSpec(slug="acme")


def key(name, state=KeyState.ACTIVE, *, scope=Scope.ADMIN, trigger=None, age=0, expires=None, at_once=False):
    born = NOW - timedelta(hours=age)
    return KeyRow(
        id=name,
        project_id=ProjectId(1),
        hmac=b"h" * 32,
        scope=scope,
        state=state,
        rotation_trigger=trigger,
        created_at=born,
        activated_at=born if state is KeyState.ACTIVE else None,
        expires_at=expires,
        at_once=at_once,
    )


def row(spec=SPEC, *, owner=None, projects=("default",)):
    plan = plan_tenant(None, projects={}, spec=spec, owner=owner, plans=PLANS)
    return TenantRow(
        id=TenantId(1),
        slug=spec.slug,
        display_name=plan.values.display_name,
        plan=plan.values.plan,
        overrides=spec.quotas or QuotaOverrides(),
        quotas=PLANS[spec.plan],
        suspended=spec.suspend,
        prevent_deletion=spec.prevent_deletion,
        deletion_policy=spec.deletion_policy,
        home_region=spec.home_region,
        managed_by=owner,
        spec_hash=plan.values.spec_hash,
    )


def plan(observed, spec, projects=("default",), owner=None):
    return plan_tenant(observed, projects=dict.fromkeys(projects, ()), spec=spec, owner=owner, plans=PLANS)


def test_a_new_tenant_is_made_with_its_projects():
    made = plan(None, SPEC, projects=())
    assert (made.create, made.add_projects, made.changes) == (True, ("default",), ())


def test_a_tenant_as_it_should_be_needs_nothing():
    same = plan(row(), SPEC)
    assert (same.create, same.changes, same.add_projects, same.unlisted, same.forget) == (False, (), (), (), False)


@pytest.mark.parametrize(
    ("spec", "forget"),
    [
        (TenantSpec(slug="acme", suspend=True), True),
        (TenantSpec(slug="acme", plan="pro"), True),
        (TenantSpec(slug="acme", quotas=QuotaOverrides(max_leaderboards=3)), True),
        (TenantSpec(slug="acme", home_region="eu"), True),
        (TenantSpec(slug="acme", display_name="Acme"), False),
        (TenantSpec(slug="acme", prevent_deletion=True), False),
    ],
)
def test_workers_forget_only_what_they_cache(spec, forget):
    changed = plan(row(), spec)
    assert len(changed.changes) == 1
    assert changed.forget is forget


def test_projects_are_added_and_never_removed():
    wanted = TenantSpec(slug="acme", projects=(ProjectSpec(name="new"), ProjectSpec(name="kept")))
    decided = plan(row(), wanted, projects=("kept", "old"))
    assert (decided.add_projects, decided.unlisted) == (("new",), ("old",))


def test_an_unknown_plan_is_refused():
    with pytest.raises(InvalidDocument, match="enterprise"):
        plan(None, TenantSpec(slug="acme", plan="gold"))


@pytest.mark.parametrize(("managed_by", "owner"), [("u1", None), (None, "u1"), ("u1", "u2")])
def test_only_the_owner_may_change_a_thing(managed_by, owner):
    with pytest.raises(ManagedElsewhere):
        check_owner("it", managed_by=managed_by, owner=owner)
    check_owner("it", managed_by=managed_by, owner=managed_by)


def test_a_project_without_a_key_gets_one():
    decided = plan_keys([], held=(), spec=ApiKeySpec(), now=NOW)
    assert decided.issue
    assert decided.retire == ()


def test_a_key_that_is_as_it_should_be_needs_nothing():
    assert plan_keys([key("a")], held=(), spec=ApiKeySpec(), now=NOW).empty


def test_a_pending_key_nobody_holds_is_dropped_and_replaced():
    decided = plan_keys([key("a", KeyState.PENDING)], held=(), spec=ApiKeySpec(), now=NOW)
    assert decided.drop == ("a",)
    assert decided.issue


def test_a_delivered_pending_key_takes_over_from_the_active_one():
    decided = plan_keys([key("a"), key("b", KeyState.PENDING)], held={"b"}, spec=ApiKeySpec(), now=NOW)
    assert (decided.drop, decided.activate, decided.issue, decided.retire) == ((), "b", None, ("a",))


def test_of_two_delivered_keys_the_newer_stays():
    pending = [key("a", KeyState.PENDING), key("b", KeyState.PENDING)]
    decided = plan_keys(pending, held={"a", "b"}, spec=ApiKeySpec(), now=NOW)
    assert (decided.drop, decided.activate) == (("a",), "b")


@pytest.mark.parametrize(
    ("known", "wanted", "rotates"), [(None, None, False), (None, "1", True), ("1", "1", False), ("1", None, False)]
)
def test_a_new_trigger_rotates_once(known, wanted, rotates):
    decided = plan_keys([key("a", trigger=known)], held=(), spec=ApiKeySpec(rotation_trigger=wanted), now=NOW)
    assert bool(decided.issue) is rotates
    assert decided.retire == (("a",) if rotates else ())


def test_a_key_that_is_ending_is_neither_rotated_nor_counted():
    ending = key("a", trigger="old", expires=NOW + timedelta(hours=1))
    assert plan_keys([ending, key("b")], held=(), spec=ApiKeySpec(), now=NOW).empty
    assert plan_keys([ending], held=(), spec=ApiKeySpec(), now=NOW).issue


@pytest.mark.parametrize(("age", "rotates"), [(47, False), (48, True)])
def test_a_key_is_rotated_by_its_age(age, rotates):
    spec = ApiKeySpec(rotate_every="48h", grace_period="90m")
    decided = plan_keys([key("a", age=age)], held=(), spec=spec, now=NOW)
    assert bool(decided.issue) is rotates
    assert decided.grace == timedelta(minutes=90)


def test_another_scope_reaches_the_active_key():
    assert plan_keys([key("a")], held=(), spec=ApiKeySpec(scope=Scope.READ), now=NOW).rescope == ("a",)


def test_a_key_its_secret_has_lost_is_replaced_without_grace():
    keys = [key("a"), key("b", expires=NOW + timedelta(hours=1))]
    decided = plan_keys(keys, held=(), spec=ApiKeySpec(), now=NOW, keeps=True)
    assert decided.issue == "its Secret was deleted or edited"
    assert (decided.retire, decided.grace, decided.at_once) == (("a",), timedelta(0), True)
    assert plan_keys(keys, held={"a"}, spec=ApiKeySpec(), now=NOW, keeps=True).empty
    assert plan_keys(keys, held=(), spec=ApiKeySpec(), now=NOW).empty


@pytest.mark.parametrize(("at_once", "grace"), [(True, timedelta(0)), (False, timedelta(days=1))])
def test_a_delivered_key_knows_what_becomes_of_the_one_before(at_once, grace):
    keys = [key("a"), key("b", KeyState.PENDING, at_once=at_once)]
    decided = plan_keys(keys, held={"b"}, spec=ApiKeySpec(), now=NOW, keeps=True)
    assert (decided.activate, decided.retire, decided.grace) == ("b", ("a",), grace)


def test_a_sink_is_asked_for_what_it_may_be_expected_to_have():
    keys = [key("a"), key("b"), key("c", expires=NOW), key("d", KeyState.PENDING)]
    assert [asked.id for asked in to_ask(keys, keeps=False)] == ["d"]
    assert [asked.id for asked in to_ask(keys, keeps=True)] == ["d", "b"]


def test_the_keys_in_force_are_the_newest_and_the_one_that_ends_last():
    soon, later = NOW + timedelta(hours=1), NOW + timedelta(hours=2)
    ending = [key("a", expires=NOW), key("b", expires=later), key("c", expires=soon)]
    held = in_force([*ending, key("d", KeyState.PENDING), key("e")], project="p", now=NOW)
    assert (held.project, held.id, held.previous_id, held.previous_expires_at) == ("p", "e", "b", later)
    alone = in_force([key("a", expires=NOW), key("e")], project="p", now=NOW)
    assert (alone.previous_id, alone.previous_expires_at) == (None, None)
    assert in_force(ending, project="p", now=NOW) is None


def test_board_changes_are_named_and_fixed_fields_refused():
    current = BoardSpec(key=BoardKey("b"))
    assert board_changes(current, current) == ()
    assert board_changes(current, BoardSpec(key=BoardKey("b"), max_entries=5)) == ("max_entries: 0 -> 5",)
    with pytest.raises(ImmutableField):
        board_changes(current, BoardSpec(key=BoardKey("b"), tie_policy=TiePolicy.SHARED))


def test_a_row_that_was_edited_since_its_document_is_put_right_in_every_column():
    edited = BoardSpec(key=BoardKey("b"), sort_order=SortOrder.ASCENDING, public_read=True)
    assert board_changes(edited, BoardSpec(key=BoardKey("b")), same_document=True) == (
        "sort_order: ascending -> descending",
        "public_read: True -> False",
    )


def test_the_hash_follows_the_spec():
    assert spec_hash(SPEC) == spec_hash(TenantSpec(slug="acme"))
    assert spec_hash(SPEC) != spec_hash(TenantSpec(slug="acme", suspend=True))
