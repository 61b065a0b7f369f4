"""What control said, as conditions: the reasons of the design, and nothing that is not so."""

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from leaderboard.control.errors import (
    BoardNotFound,
    ManagedElsewhere,
    NotDrained,
    ProjectNotFound,
    TenantNotFound,
)
from leaderboard.control.keys import IssuedKey
from leaderboard.control.plan import Adoption, KeyInForce, takes_over_board, takes_over_tenant
from leaderboard.control.reconcile import Outcome
from leaderboard.domain.boards import Board, BoardSpec
from leaderboard.domain.errors import ImmutableField, InvalidDocument, InvalidName, QuotaExceeded
from leaderboard.domain.names import BoardKey, LeaderboardId, TenantId
from leaderboard.store.postgres.pool import Busy, DatabaseUnavailable
from leaderboard.store.redis.errors import InDoubt, RedisUnavailable, UnexpectedReply
from leaderboard_operator import verdicts
from leaderboard_operator.conditions import merge, transition
from leaderboard_operator.key_secrets import SecretAccessDenied, SecretConflict
from leaderboard_operator.seals import remembered
from support.custom_resources import schema
from support.resources import condition, make_board, make_tenant

PEPPER = b"p" * 32
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTLED = {
    "tenantID": 7,
    "observedGeneration": 1,
    "conditions": [
        condition("Accepted", "True", "Accepted"),
        condition("Synced", "True", "ReconcileSuccess"),
        condition("Ready", "True", "Available"),
    ],
}
MAKE = {"Tenant": make_tenant, "Leaderboard": make_board}
KINDS = tuple(MAKE)
IMMUTABLE = ImmutableField("sort_order", current="descending", wanted="ascending")
TRANSIENT = [
    (DatabaseUnavailable("away"), "DatabaseUnavailable"),
    (Busy("held"), "DatabaseUnavailable"),
    (RedisUnavailable("away"), "RedisUnavailable"),
    (InDoubt("sent"), "RedisUnavailable"),
    (UnexpectedReply("odd"), "RedisUnavailable"),
    (NotDrained("start the worker"), "ReconcileError"),
    (BoardNotFound("deleted meanwhile"), "ReconcileError"),
    (KeyError("ours"), "ReconcileError"),
]
REFUSALS = [
    ("Tenant", ManagedElsewhere("taken"), "SlugConflict"),
    ("Leaderboard", ManagedElsewhere("taken"), "KeyConflict"),
    ("Leaderboard", QuotaExceeded("maxLeaderboards", limit=5), "QuotaExceeded"),
    ("Leaderboard", TenantNotFound("no"), "TenantNotFound"),
    ("Leaderboard", ProjectNotFound("no"), "ProjectNotFound"),
]
INVALID = [InvalidDocument("spec.plan: no"), InvalidName("key: no"), IMMUTABLE]


def said(verdict):
    """The conditions as {type: (status, reason)}."""
    return {found.type: (found.status, found.reason) for found in verdict.conditions if found.status is not None}


def after(item, verdict, *, now=NOW):
    return merge(item.status.get("conditions") or (), verdict.conditions, generation=item.generation, now=now)


def status_of(item, verdict, type):
    return next((found["status"] for found in after(item, verdict) if found["type"] == type), None)


def tenant_outcome(**said):
    keys = (KeyInForce(project="default", id="K1"),)
    return Outcome(**{"tenant_id": TenantId(7), "boards": 3, "keys_in_force": keys, **said})


def board_outcome(*, suspended=False, **said):
    board = Board(id=LeaderboardId(9), spec=BoardSpec(key=BoardKey("global"), suspended=suspended), managed_by="uid")
    return Outcome(
        **{"tenant_id": TenantId(7), "board": board, "namespace": "l:7:default:global", "entries": 2, **said}
    )


def tenant_done(item, outcome, *, secrets=None, repaired=()):
    secrets = {"default": "acme-default-api-key"} if secrets is None else secrets
    return verdicts.tenant_done(item, outcome, secrets=secrets, repaired=repaired, pepper=PEPPER)


def board_done(item, outcome, *, tenant_suspended=False):
    return verdicts.board_done(item, outcome, tenant_suspended=tenant_suspended, pepper=PEPPER)


class TestFailures:
    @pytest.mark.parametrize(("kind", "error", "reason"), REFUSALS)
    def test_what_cannot_be_had_is_not_accepted(self, kind, error, reason):
        verdict = verdicts.failed(MAKE[kind](), error)
        assert said(verdict) == {
            "Accepted": (False, reason),
            "Synced": (False, reason),  # so that what is done when it is let in again is no repair
            "Ready": (False, reason),
        }
        assert not verdict.retry

    @pytest.mark.parametrize("error", INVALID, ids=repr)
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_spec_that_no_repetition_helps_is_stalled(self, kind, error):
        verdict = verdicts.failed(MAKE[kind](), error)
        assert said(verdict) == {"Stalled": (True, "InvalidSpec"), "Ready": (False, "InvalidSpec")}
        assert not verdict.retry

    @pytest.mark.parametrize(("error", "reason"), TRANSIENT)
    @pytest.mark.parametrize("kind", KINDS)
    def test_what_is_away_is_not_synced_and_tried_again(self, kind, error, reason):
        verdict = verdicts.failed(MAKE[kind](), error)
        assert said(verdict) == {"Synced": (False, reason), "Ready": (False, reason)}
        assert verdict.retry

    @pytest.mark.parametrize(
        ("error", "reason"),
        [(SecretAccessDenied("no right"), "SecretAccessDenied"), (SecretConflict("in the way"), "SecretConflict")],
    )
    def test_a_key_that_cannot_be_handed_over_is_told_by_the_credentials(self, error, reason):
        verdict = verdicts.failed(make_tenant(), error)
        assert said(verdict) == {
            "Accepted": (True, "Accepted"),
            "Synced": (False, reason),
            "CredentialsReady": (False, reason),
            "Ready": (False, reason),
        }

    @pytest.mark.parametrize("error", [error for error, _ in TRANSIENT] + [SecretConflict("x"), *INVALID], ids=repr)
    @pytest.mark.parametrize("kind", KINDS)
    def test_what_was_ready_stays_ready(self, kind, error):
        item = MAKE[kind](status=SETTLED)
        assert status_of(item, verdicts.failed(item, error), "Ready") == "True"

    @pytest.mark.parametrize(("kind", "error", "reason"), REFUSALS)
    def test_what_is_refused_is_not_ready_any_more(self, kind, error, reason):
        item = MAKE[kind](status=SETTLED)
        assert status_of(item, verdicts.failed(item, error), "Ready") == "False"

    @pytest.mark.parametrize("error", [*INVALID, QuotaExceeded("x", limit=1)])
    def test_what_the_user_can_do_something_about_is_said_as_it_is(self, error):
        assert all(
            str(error) in found.message
            for found in verdicts.failed(make_board(), error).conditions
            if found.status is not None
        )

    def test_an_error_of_our_own_says_its_kind(self):
        messages = [found.message for found in verdicts.failed(make_board(), KeyError("ours")).conditions]
        assert messages[0] == "KeyError; the operator's log has the details"

    @pytest.mark.parametrize("then", [QuotaExceeded("x", limit=1), SecretConflict("x")], ids=repr)
    def test_a_spec_that_was_mended_is_not_stalled_any_more(self, then):
        item = make_tenant(status={"conditions": [condition("Stalled", "True", "InvalidSpec")]})
        assert status_of(item, verdicts.failed(item, then), "Stalled") is None


class TestSaidWithoutControl:
    def test_paused_changes_one_thing(self):
        item = make_tenant(status=SETTLED)
        assert said(verdicts.paused()) == {"Synced": (False, "ReconcilePaused")}
        assert status_of(item, verdicts.paused(), "Ready") == "True"

    def test_deleting_is_not_ready_and_says_what_it_waits_for(self):
        verdict = verdicts.deleting("waits for 3 Leaderboards", retry=True)
        assert said(verdict) == {"Ready": (False, "Deleting")}
        assert verdict.conditions[0].message == "waits for 3 Leaderboards"
        assert verdict.retry
        assert not verdicts.deleting("waits").retry

    def test_a_board_whose_tenant_is_not_ready_waits(self):
        assert said(verdicts.tenant_not_ready("why")) == {"Ready": (False, "TenantNotReady")}


class TestDone:
    def test_a_tenant_that_is_as_asked_says_so(self):
        verdict = tenant_done(make_tenant(), tenant_outcome())
        assert said(verdict) == {
            "Accepted": (True, "Accepted"),
            "Synced": (True, "ReconcileSuccess"),
            "CredentialsReady": (True, "KeyIssued"),
            "Ready": (True, "Available"),
        }
        assert {name: value for name, value in verdict.fields.items() if name != "seal"} == {
            "tenantID": 7,
            "leaderboards": 3,
            "apiKeys": [{"project": "default", "id": "K1", "secretName": "acme-default-api-key"}],
        }
        assert not verdict.retry

    def test_a_board_that_is_as_asked_says_so(self):
        verdict = board_done(make_board(), board_outcome())
        assert said(verdict) == {
            "Accepted": (True, "Accepted"),
            "Synced": (True, "ReconcileSuccess"),
            "Ready": (True, "Available"),
        }
        fields = {name: value for name, value in verdict.fields.items() if name != "seal"}
        assert fields == {
            "leaderboardID": 9,
            "redisNamespace": "l:7:default:global",
            "entries": 2,
            "season": 1,
            "nextReset": None,
        }

    def test_what_they_say_is_remembered(self):
        tenant = make_tenant(status=tenant_done(make_tenant(), tenant_outcome()).fields)
        board = make_board(status=board_done(make_board(), board_outcome()).fields)
        assert remembered(tenant, "tenantID", pepper=PEPPER) == 7
        assert remembered(board, "leaderboardID", pepper=PEPPER) == 9
        another = make_board("other", status=board.status)
        assert remembered(another, "leaderboardID", pepper=PEPPER) is None

    def test_while_the_old_key_still_works_it_is_rotating(self):
        ends = NOW + timedelta(hours=1)
        keys = (KeyInForce(project="default", id="K2", previous_id="K1", previous_expires_at=ends),)
        verdict = tenant_done(make_tenant(), tenant_outcome(keys_in_force=keys))
        assert said(verdict)["CredentialsReady"] == (True, "Rotating")
        assert verdict.fields["apiKeys"] == [
            {
                "project": "default",
                "id": "K2",
                "secretName": "acme-default-api-key",
                "previousID": "K1",
                "previousExpiresAt": "2026-03-01T13:00:00Z",
            }
        ]
        (message,) = [found.message for found in verdict.conditions if found.type == "CredentialsReady"]
        assert "K1" in message
        assert "2026-03-01T13:00:00Z" in message

    def test_a_suspended_tenant_is_in_order_but_not_ready(self):
        verdict = tenant_done(make_tenant(more={"suspend": True}), tenant_outcome())
        assert said(verdict)["Ready"] == (False, "Suspended")
        assert said(verdict)["Synced"] == (True, "ReconcileSuccess")

    def test_a_suspended_board_is_in_order_but_not_ready(self):
        assert said(board_done(make_board(), board_outcome(suspended=True)))["Ready"] == (False, "Suspended")

    @pytest.mark.parametrize("suspended", [True, False])
    def test_a_board_of_a_suspended_tenant_is_not_ready(self, suspended):
        verdict = board_done(make_board(), board_outcome(suspended=suspended), tenant_suspended=True)
        assert said(verdict)["Ready"] == (False, "TenantNotReady")

    def test_success_ends_being_stalled(self):
        item = make_tenant(status={"conditions": [condition("Stalled", "True", "InvalidSpec")]})
        assert status_of(item, tenant_done(item, tenant_outcome()), "Stalled") is None


class TestRepairs:
    CHANGES = ("suspended: True -> False",)

    def test_what_was_changed_after_it_had_been_in_order_was_repaired(self):
        item = make_tenant(status=SETTLED)
        assert tenant_done(item, tenant_outcome(changes=self.CHANGES)).repairs == self.CHANGES
        assert board_done(make_board(status=SETTLED), board_outcome(changes=self.CHANGES)).repairs == self.CHANGES

    def test_what_had_to_be_made_again_was_repaired(self):
        assert "made again" in board_done(make_board(status=SETTLED), board_outcome(created=True)).repairs

    @pytest.mark.parametrize(
        "status",
        [
            {},
            {"conditions": [condition("Synced", "True", "ReconcileSuccess", generation=0)]},
            {"conditions": [condition("Synced", "False", "RedisUnavailable")]},
        ],
        ids=["new", "another spec", "not carried out before"],
    )
    def test_what_a_spec_asked_for_is_no_repair(self, status):
        changed = {"changes": self.CHANGES, "created": True}
        assert tenant_done(make_tenant(status=status), tenant_outcome(**changed)).repairs == ()
        assert board_done(make_board(status=status), board_outcome(**changed)).repairs == ()

    def test_nothing_done_is_no_repair(self):
        assert tenant_done(make_tenant(status=SETTLED), tenant_outcome()).repairs == ()

    @pytest.mark.parametrize("project", ["default", "rotator"])
    @pytest.mark.parametrize("why", ["rotationTrigger is now 'march'", "the key is older than rotateEvery (90d)"])
    def test_a_rotation_that_was_due_is_no_repair(self, why, project):
        assert replaced("K1", why=why, project=project).repairs == ()

    @pytest.mark.parametrize("project", ["default", "rotator"])
    def test_a_lost_key_is_one_whatever_its_project_is_called(self, project):
        (repair,) = replaced("K1", lost=True, why="its Secret was deleted or edited", project=project).repairs
        assert repair == f"key K2 of project {project} issued: its Secret was deleted or edited"

    def test_a_key_where_there_was_none_any_more_is_one(self):
        (repair,) = replaced(None, why="the project has no key").repairs
        assert "the project has no key" in repair

    def test_what_was_changed_beside_a_rotation_was_repaired(self):
        verdict = replaced("K1", more=("plan: pro -> free", "key K21 now has scope write"))
        assert verdict.repairs == ("plan: pro -> free", "key K21 now has scope write")

    def test_what_is_done_when_a_board_is_let_in_again_is_no_repair(self):
        closed = make_board(status=SETTLED)
        conditions = after(closed, verdicts.refused("RefNotPermitted", "not any more"))
        back = make_board(status={**SETTLED, "conditions": conditions})
        verdict = board_done(back, board_outcome(changes=self.CHANGES))
        assert verdict.repairs == ()
        assert {found["type"]: found["status"] for found in after(back, verdict)} == dict.fromkeys(
            ("Accepted", "Synced", "Ready"), "True"
        )

    def test_a_secret_that_was_put_right_is_one(self):
        (repair,) = tenant_done(
            make_tenant(status=SETTLED), tenant_outcome(), repaired=("acme-default-api-key",)
        ).repairs
        assert "acme-default-api-key" in repair


def replaced(previous, *, lost=False, why="rotationTrigger is now 'march'", project="default", more=()):
    """What a Tenant that was in order says after its key was replaced by K2."""
    ends = NOW if previous else None
    issued = IssuedKey(project=project, id="K2", previous_id=previous, previous_expires_at=ends, lost=lost)
    changes = (*more, f"key K2 of project {project} issued: {why}")
    return tenant_done(make_tenant(status=SETTLED), tenant_outcome(changes=changes, keys=(issued,)))


class TestClosedWords:
    """A status is read by everybody in its namespace; where the stores are, and whose the rest is, is not theirs."""

    UID = "0b9f3a52-6f0e-4d0c-9d62-3a5a3f1d0c11"
    OPEN = (
        UID,
        "10.1.2.3",
        "5432",
        "redis.internal",
        "6379",
        "leaderboard_app",
        "hunter2",
        "another-team",
        "SELECT",
    )
    """What no message may have in it."""

    @staticmethod
    def refusal(take_over, name, **said):
        with pytest.raises(ManagedElsewhere) as refused:
            take_over(name, **{"managed_by": None, "adoptable_from": "another-team", "adopt": None, **said}, owner="me")
        return refused.value

    def errors(self):
        postgres = 'connection to server at "10.1.2.3", port 5432 failed: no password for user "leaderboard_app"'
        here = Adoption(namespace="games", home=True)
        for take_over, name in ((takes_over_tenant, "acme"), (takes_over_board, "global")):
            yield self.refusal(take_over, name, managed_by=self.UID)
            yield self.refusal(take_over, name)
            yield self.refusal(take_over, name, adopt=here)
        yield DatabaseUnavailable(f"Postgres is not available: {postgres}")
        yield Busy("canceling statement due to lock timeout: SELECT * FROM tenants")
        yield RedisUnavailable("Error 111 connecting to redis.internal:6379. Connection refused.")
        yield InDoubt("redis.internal:6379 did not answer")
        yield UnexpectedReply("NOPERM redis.internal")
        yield RuntimeError("postgresql://leaderboard_app:hunter2@10.1.2.3:5432/leaderboard")
        yield UnicodeDecodeError("ascii", b"hunter2", 0, 1, "leaderboard_app")

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("status", [{}, SETTLED], ids=["new", "settled"])
    def test_no_message_says_where_the_stores_are_or_whose_it_is(self, kind, status):
        for error in self.errors():
            item = MAKE[kind](status=status)
            verdict = verdicts.failed(item, error)
            event = transition(item.status.get("conditions") or (), verdict.conditions)
            assert event is not None
            for message in (event.message, *(found.message for found in verdict.conditions)):
                assert not [word for word in self.OPEN if word in message], message

    def test_a_conflict_says_what_to_do_about_it(self):
        for item, name in ((make_tenant(), "'acme'"), (make_board(), "'global'")):
            accepted = verdicts.conflict(item).conditions[0]
            assert name in accepted.message
            assert "choose another" in accepted.message
            assert 'leaderboard.saas/adopt: "true"' in accepted.message


def every_verdict():
    keys = (KeyInForce(project="p", id="K2", previous_id="K1", previous_expires_at=NOW),)
    for kind, make in MAKE.items():
        for status in ({}, SETTLED):
            item = make(status=status)
            errors = [*INVALID, *(error for error, _ in TRANSIENT), *(error for of, error, _ in REFUSALS if of == kind)]
            if kind == "Tenant":
                errors += [SecretAccessDenied("x"), SecretConflict("x")]
            else:
                yield kind, item, verdicts.tenant_not_ready("x")
                yield kind, item, verdicts.refused("RefNotPermitted", "x")
            yield from ((kind, item, verdicts.failed(item, error)) for error in errors)
            for verdict in (verdicts.paused(), verdicts.deleting("x"), verdicts.conflict(item)):
                yield kind, item, verdict
    for tenant in (make_tenant(), make_tenant(more={"suspend": True})):
        yield "Tenant", tenant, tenant_done(tenant, tenant_outcome(keys_in_force=keys))
    for tenant_suspended in (False, True):
        for suspended in (False, True):
            verdict = board_done(make_board(), board_outcome(suspended=suspended), tenant_suspended=tenant_suspended)
            yield "Leaderboard", make_board(), verdict


EVERY = list(every_verdict())


@pytest.mark.parametrize(("kind", "item", "verdict"), EVERY)
def test_the_schema_of_the_status_has_room_for_every_verdict(kind, item, verdict):
    """What it does not know the API server drops: such a status would be written again and again."""
    status = schema(kind)["properties"]["status"]["properties"]
    reason = re.compile(status["conditions"]["items"]["properties"]["reason"]["pattern"]).search
    for found in after(item, verdict):
        assert set(found) <= set(status["conditions"]["items"]["properties"])
        assert reason(found["reason"])
    assert set(verdict.fields) <= set(status)
    for key in verdict.fields.get("apiKeys", ()):
        assert set(key) <= set(status["apiKeys"]["items"]["properties"])


@pytest.mark.parametrize(("kind", "item", "verdict"), EVERY)
def test_saying_the_same_again_changes_nothing(kind, item, verdict):
    once = after(item, verdict)
    again = msgspec.structs.replace(item, status={**item.status, "conditions": once})
    assert after(again, verdict, now=NOW + timedelta(minutes=1)) == once


@pytest.mark.parametrize(("kind", "item", "verdict"), EVERY)
def test_whoever_is_not_ready_is_told_why(kind, item, verdict):
    for found in after(item, verdict):
        if found["type"] == "Ready" and found["status"] != "True":
            assert found["message"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_reason_is_in_the_description_of_the_conditions(kind):
    text = schema(kind)["properties"]["status"]["properties"]["conditions"]["description"]
    bad = {
        found.reason
        for of, _, verdict in EVERY
        for found in verdict.conditions
        if of == kind and found.status is not None and found.status is (found.type == "Stalled")
    }
    assert bad
    assert not [reason for reason in bad if not re.search(rf"\b{reason}\b", text)]
