"""Tenants: what is asked of control, what they say, and whom they wake. The API is in memory, control recorded."""

import pytest

from leaderboard.control.errors import BoardsLeft, ManagedElsewhere, TenantNotFound
from leaderboard.control.plan import Adoption
from leaderboard.domain.documents import DeletionPolicy
from leaderboard.store.postgres.pool import DatabaseUnavailable, Deposed
from leaderboard.store.redis.errors import RedisUnavailable
from leaderboard_operator.client import ApiUnavailable, Conflict, Forbidden, path_of
from leaderboard_operator.resources import ADOPT, PAUSED
from support.desk import Desk, sealed
from support.resources import condition

OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
ACCEPTED = {"conditions": [condition("Accepted", "True", "Accepted")]}
SECRETS = "/api/v1/namespaces/games/secrets"
POSTGRES = 'connection to server at "10.1.2.3", port 5432 failed'


@pytest.fixture
def desk():
    return Desk()


def fails(desk, item, error):
    desk.control.fault = lambda owner: error if owner == item.uid else None


def refuses(desk, error, *, method=None, ending=""):
    """Let the API refuse requests of that method whose path ends so."""

    def refuse(asked, path):
        if method in (None, asked) and path.endswith(ending):
            raise error

    desk.api.before = refuse


async def look(desk, item):
    return await desk.tenants.reconcile(item.key)


class TestCarryingOut:
    async def test_a_new_tenant_is_held_first_and_says_what_it_has(self, desk):
        item = desk.tenant(more={"projects": [{"name": "default"}]})
        assert await look(desk, item)
        (asked,) = desk.control.tenant_requests
        assert (asked["owner"], asked["adopt"], asked["known_id"]) == (item.uid, None, None)
        assert desk.now(item).held
        assert desk.api.said(item)["Ready"] == ("True", "Available")
        assert desk.api.status(item)["tenantID"] == 7

    async def test_its_secrets_are_read_before_control_does_anything(self, desk):
        """What is written later is written over what was read then: see `SecretSink`."""
        item = desk.tenant(more={"projects": [{"name": "default"}, {"name": "race_app"}]})
        read = []
        desk.api.before = lambda method, path: read.append(path) if path.startswith(SECRETS) else None
        carry_out = desk.control.reconcile

        async def reconcile(document, **options):
            read.append("control")
            return await carry_out(document, **options)

        desk.control.reconcile = reconcile
        await look(desk, item)
        assert read[-1] == "control"
        assert any("default" in path for path in read)
        assert any("race-app" in path for path in read)

    async def test_what_it_adopts_is_offered_to_its_namespace(self, desk):
        await look(desk, desk.tenant(annotations={ADOPT: "true"}))
        assert desk.control.tenant_requests[0]["adopt"] == Adoption(namespace="games", home=True)

    @pytest.mark.parametrize(
        ("status", "known"),
        [
            (sealed("tenantID", 5, uid="uid-1"), 5),
            (sealed("tenantID", 5, uid="uid-2"), None),
            ({"tenantID": 5, "seal": "0" * 32}, None),
        ],
        ids=["ours", "copied", "forged"],
    )
    async def test_a_number_is_known_only_where_we_wrote_it(self, desk, status, known):
        await look(desk, desk.tenant(uid="uid-1", status=status))
        assert desk.control.tenant_requests[0]["known_id"] == known

    async def test_a_paused_one_is_left_alone(self, desk):
        item = desk.tenant(held=True, deleting=True, annotations={PAUSED: "true"})
        assert await look(desk, item)
        assert desk.control.tenant_requests == desk.control.deletions == []
        assert desk.api.said(item) == {"Synced": ("False", "ReconcilePaused")}

    async def test_one_that_is_not_there_any_more_is_passed_over(self, desk):
        item = desk.tenant()
        desk.forget(item)
        assert await look(desk, item)
        assert desk.api.asked == []

    async def test_one_that_was_carried_out_is_only_looked_at(self, desk):
        item = desk.tenant()
        await look(desk, item)
        desk.api.asked.clear()
        assert await look(desk, item)
        assert desk.control.surveyed == [item.uid]
        assert len(desk.control.tenant_requests) == 1
        assert desk.api.asked == []

    async def test_one_that_is_not_as_it_should_be_any_more_is_carried_out_again(self, desk):
        item = desk.tenant()
        await look(desk, item)
        desk.control.as_asked = False
        assert await look(desk, item)
        assert len(desk.control.tenant_requests) == 2

    async def test_a_spec_that_no_repetition_helps_is_said(self, desk):
        item = desk.tenant(more={"plan": 5})
        assert await look(desk, item)
        assert desk.api.said(item)["Stalled"] == ("True", "InvalidSpec")
        assert desk.control.tenant_requests == []

    async def test_a_spec_that_a_newer_parser_refuses_is_said_too(self, desk):
        """It was carried out by an older operator: the sweep must not fall over it."""
        item = desk.ready_tenant(more={"plan": 5})
        assert await desk.tenants.survey([item]) == [item.key]
        assert await look(desk, item)
        assert desk.api.said(item)["Stalled"] == ("True", "InvalidSpec")


class TestRivals:
    async def test_of_two_the_older_has_the_slug(self, desk):
        old = desk.tenant("old", slug="s", namespace="theirs", created=OLD)
        young = desk.tenant("young", slug="s", created=NEW)
        for item in (young, old):
            assert await look(desk, item)
        assert [asked["owner"] for asked in desk.control.tenant_requests] == [old.uid]
        assert desk.api.said(young)["Accepted"] == ("False", "SlugConflict")
        assert not any(word in desk.message(young) for word in ("old", "theirs", "uid"))
        assert not desk.now(young).held

    async def test_one_that_has_it_keeps_it(self, desk):
        desk.tenant("old", slug="s", created=OLD)
        young = desk.tenant("young", slug="s", created=NEW, held=True, status=ACCEPTED)
        await look(desk, young)
        assert [asked["owner"] for asked in desk.control.tenant_requests] == [young.uid]

    async def test_one_that_can_never_have_the_slug_does_not_keep_it_from_who_can(self, desk):
        squatter = desk.tenant("old", slug="s", namespace="theirs", created=OLD)
        heir = desk.tenant("young", slug="s", created=NEW, uid="uid-heir", annotations={ADOPT: "true"})
        desk.control.tenants["s"] = heir.uid  # control would let it take the tenant over
        for item in (squatter, heir):
            await look(desk, item)
        assert desk.api.said(squatter)["Accepted"] == ("False", "SlugConflict")
        assert desk.api.said(heir)["Accepted"] == ("True", "Accepted")

    async def test_one_that_belongs_to_somebody_else_is_told_so(self, desk):
        desk.control.tenants["acme"] = "uid-else"
        item = desk.tenant()
        assert await look(desk, item)
        assert desk.api.said(item)["Accepted"] == ("False", "SlugConflict")
        assert "uid-else" not in desk.message(item)


class TestFailing:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (DatabaseUnavailable(POSTGRES), "DatabaseUnavailable"),
            (RedisUnavailable(POSTGRES), "RedisUnavailable"),
            (KeyError(POSTGRES), "ReconcileError"),
        ],
        ids=repr,
    )
    async def test_what_is_away_is_said_in_closed_words_and_tried_again(self, desk, error, reason):
        item = desk.tenant()
        fails(desk, item, error)
        assert not await look(desk, item)
        assert desk.api.said(item)["Ready"] == ("False", reason)
        assert "10.1.2.3" not in desk.message(item)

    @pytest.mark.parametrize("error", [ApiUnavailable("away"), Conflict("it changed")], ids=repr)
    async def test_what_the_api_does_not_take_now_is_not_said(self, desk, error):
        item = desk.tenant(held=True)
        refuses(desk, error, ending="api-key")
        with pytest.raises(type(error)):
            await look(desk, item)
        assert desk.api.said(item) == {}

    async def test_a_deposed_leader_stops(self, desk):
        item = desk.tenant()
        fails(desk, item, Deposed("another leads"))
        with pytest.raises(Deposed):
            await look(desk, item)

    async def test_secrets_that_may_not_be_used_are_told_by_the_credentials(self, desk):
        item = desk.tenant(more={"projects": [{"name": "default"}]})
        refuses(desk, Forbidden("no", status=403), ending="api-key")
        assert await look(desk, item)
        assert desk.api.said(item)["CredentialsReady"] == ("False", "SecretAccessDenied")
        assert desk.api.said(item)["Accepted"] == ("True", "Accepted")

    async def test_what_else_the_spec_says_is_done_all_the_same(self, desk):
        """Suspending a tenant must not wait for a right on its Secrets."""
        item = desk.tenant(more={"projects": [{"name": "default"}], "suspend": True})
        refuses(desk, Forbidden("no", status=403), ending="api-key")
        await look(desk, item)
        assert len(desk.control.tenant_requests) == 1


class TestWaking:
    """Its boards look at it again when what they depend on may be another."""

    async def test_the_first_success_wakes_its_boards_also_after_a_failure(self, desk):
        item, board = desk.tenant(), desk.board()
        desk.board("other", tenant="another")
        fails(desk, item, DatabaseUnavailable("away"))
        await look(desk, item)
        desk.woken.clear()
        desk.control.fault = lambda owner: None
        await look(desk, item)
        assert desk.woken == [board.key]

    async def test_nothing_new_wakes_nobody(self, desk):
        item = desk.tenant()
        desk.board()
        await look(desk, item)
        desk.woken.clear()
        await look(desk, item)
        assert desk.woken == []

    async def test_a_new_spec_wakes_them_when_it_was_carried_out(self, desk):
        desk.ready_tenant()
        board = desk.board()
        item = desk.ready_tenant(generation=2, more={"allowedNamespaces": {"from": "All"}})
        await look(desk, item)
        assert desk.woken == [board.key]

    async def test_going_on_after_a_pause_wakes_them(self, desk):
        desk.ready_tenant()
        board = desk.board()
        paused = desk.ready_tenant(annotations={PAUSED: "true"})
        await look(desk, paused)
        assert desk.woken == []
        went_on = desk.ready_tenant(status=desk.api.status(paused))
        await look(desk, went_on)
        assert desk.woken == [board.key]

    async def test_being_refused_wakes_them(self, desk):
        """They wait for it in silence, and now there is something to say."""
        desk.control.tenants["acme"] = "uid-else"
        item, board = desk.tenant(), desk.board()
        await look(desk, item)
        assert desk.woken == [board.key]


class TestDeleting:
    def going(self, desk, **said):
        return desk.ready_tenant(**{"deleting": True, **said})

    @pytest.mark.parametrize(
        ("more", "policy"), [({}, DeletionPolicy.RETAIN), ({"deletionPolicy": "Delete"}, DeletionPolicy.DELETE)]
    )
    async def test_control_deletes_it_by_the_policy_and_it_goes(self, desk, more, policy):
        item = self.going(desk, more=more)
        assert await look(desk, item)
        (asked,) = desk.control.deletions
        assert asked == {
            "slug": "acme",
            "owner": item.uid,
            "policy": policy,
            "namespace": "games",
            "protected": False,
        }
        assert path_of(item.key) not in desk.api.objects

    async def test_its_secrets_go_with_it_and_others_stay(self, desk):
        for name, owner in (("acme-default-api-key", "uid-acme"), ("acme-race-api-key", "uid-else")):
            metadata = {"name": name, "ownerReferences": [{"uid": owner}]}
            desk.api.put(f"{SECRETS}/{name}", {"metadata": metadata, "type": "Opaque"})
        item = self.going(desk, more={"projects": [{"name": "race"}, {"name": "default"}]})
        assert await look(desk, item)
        assert f"{SECRETS}/acme-default-api-key" not in desk.api.objects
        assert f"{SECRETS}/acme-race-api-key" in desk.api.objects

    async def test_what_is_no_project_leads_to_no_other_secret(self, desk):
        """The namespace's people may write its status, and a name with slashes would be a path."""
        there = "/api/v1/namespaces/theirs/secrets/x"
        desk.api.put(there, {"metadata": {"name": "x", "ownerReferences": [{"uid": "uid-acme"}]}, "type": "Opaque"})
        asked = []
        desk.api.before = lambda method, path: asked.append(path) if "secrets" in path else None
        forged = [{"project": "/../../../theirs/secrets/x"}, {"project": 5}, {"id": "K1"}, "x"]
        item = self.going(desk, status={"apiKeys": forged}, more={"projects": [{"name": "../x"}, {}, 5]})
        assert await look(desk, item)
        assert asked == []
        assert there in desk.api.objects

    @pytest.mark.parametrize("policy", [None, "delete", 5])
    async def test_what_is_no_policy_drops_nothing(self, desk, policy):
        assert await look(desk, self.going(desk, more={"deletionPolicy": policy}))
        assert desk.control.deletions[0]["policy"] is DeletionPolicy.RETAIN

    async def test_secrets_that_may_not_be_used_do_not_hold_it_up(self, desk):
        item = self.going(desk, more={"projects": [{"name": "default"}]})
        refuses(desk, Forbidden("no", status=403), ending="api-key")
        assert await look(desk, item)
        assert path_of(item.key) not in desk.api.objects

    @pytest.mark.parametrize("error", [TenantNotFound("gone"), ManagedElsewhere("never had")], ids=repr)
    async def test_one_that_has_no_tenant_goes_too(self, desk, error):
        item = self.going(desk)
        fails(desk, item, error)
        assert await look(desk, item)
        assert path_of(item.key) not in desk.api.objects

    @pytest.mark.parametrize(
        "error", [DatabaseUnavailable(POSTGRES), RedisUnavailable(POSTGRES), RuntimeError(POSTGRES)], ids=repr
    )
    async def test_it_stays_until_its_data_is_dealt_with(self, desk, error):
        item = self.going(desk)
        fails(desk, item, error)
        assert not await look(desk, item)
        assert desk.now(item).held
        assert desk.api.said(item)["Ready"] == ("False", "Deleting")
        assert "10.1.2.3" not in desk.message(item)

    async def test_boards_of_resources_that_are_gone_keep_it(self, desk):
        """Postgres knows them, whatever the operator sees; letting the Tenant go would leave them for ever."""
        item = self.going(desk)
        fails(desk, item, BoardsLeft("2 leaderboards belong to custom resources; delete those first"))
        assert not await look(desk, item)
        assert desk.now(item).held
        assert "2 leaderboards" in desk.message(item)

    async def test_it_waits_for_the_boards_it_has(self, desk):
        item = self.going(desk)
        for name in ("one", "two"):
            desk.board(name, held=True)
        desk.board("never-held")
        assert await look(desk, item)
        assert desk.control.deletions == []
        assert desk.message(item).startswith("waits until its Leaderboards are deleted: 2 are left, such as ")
        assert desk.api.said(item)["Ready"] == ("False", "Deleting")

    async def test_boards_of_other_namespaces_are_counted_and_not_named(self, desk):
        item = self.going(desk, more={"allowedNamespaces": {"from": "All"}})
        desk.board("secret", namespace="theirs", tenant_namespace="games", held=True)
        await look(desk, item)
        assert desk.message(item) == "waits until its Leaderboards are deleted: 1 are left, all in other namespaces"

    @pytest.mark.parametrize(
        "status", [{}, {**sealed("leaderboardID", 9, uid="uid-else"), **ACCEPTED}], ids=["none", "forged"]
    )
    async def test_a_board_that_it_does_not_let_in_cannot_hold_it_up(self, desk, status):
        item = self.going(desk)
        desk.board("squatter", namespace="theirs", tenant_namespace="games", held=True, status=status)
        assert await look(desk, item)
        assert path_of(item.key) not in desk.api.objects

    async def test_one_that_must_not_be_deleted_says_so(self, desk):
        item = self.going(desk, more={"preventDeletion": True})
        assert await look(desk, item)
        assert desk.control.deletions == []
        assert "preventDeletion" in desk.message(item)

    async def test_that_it_is_gone_is_told_at_once(self, desk):
        item = self.going(desk)
        await look(desk, item)
        assert [went.uid for went in desk.went] == [item.uid]

    async def test_one_that_changed_meanwhile_is_let_go_the_next_time(self, desk):
        item = self.going(desk)
        changed = desk.api.put(path_of(item.key), desk.api.objects[path_of(item.key)])
        with pytest.raises(Conflict):
            await look(desk, item)
        desk.objects.see(item.key.kind, changed)
        assert await look(desk, item)
        assert path_of(item.key) not in desk.api.objects


class TestSurvey:
    async def test_only_those_that_differ_are_named(self, desk):
        right, new, fixed = desk.ready_tenant("right"), desk.tenant("new"), desk.ready_tenant("fixed", generation=2)
        assert await desk.tenants.survey([right, new, fixed]) == [new.key, fixed.key]
        assert desk.control.surveyed == [right.uid]

    async def test_an_outage_is_not_said_by_those_that_were_carried_out(self, desk):
        item = desk.ready_tenant()
        fails(desk, item, DatabaseUnavailable(POSTGRES))
        for asked in (desk.tenants.survey([item]), look(desk, item)):
            with pytest.raises(DatabaseUnavailable):
                await asked
        assert desk.api.asked == []

    async def test_where_they_cannot_be_compared_each_is_looked_at(self, desk):
        items = [desk.ready_tenant(name) for name in ("one", "two")]
        fails(desk, items[0], ApiUnavailable("away"))
        assert await desk.tenants.survey(items) == [item.key for item in items]
