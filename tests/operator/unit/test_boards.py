"""Leaderboards: what is asked of control, what is not, and what they say. The API is in memory, control recorded."""

import msgspec
import pytest

from leaderboard.control.errors import NotDrained, TenantNotFound
from leaderboard.control.plan import Adoption
from leaderboard.domain.errors import ImmutableField, QuotaExceeded
from leaderboard.store.postgres.pool import Busy, DatabaseUnavailable, Deposed
from leaderboard.store.redis.errors import RedisUnavailable
from leaderboard_operator.client import ApiUnavailable, Conflict, path_of
from leaderboard_operator.resources import ADOPT, PAUSED, Kind
from support.desk import Desk, ready_tenant_status, sealed
from support.resources import board_key, condition, raw, tenant_key

OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
ACCEPTED = {"conditions": [condition("Accepted", "True", "Accepted")]}
DONE = {
    "observedGeneration": 1,
    "conditions": [
        condition("Accepted", "True", "Accepted"),
        condition("Synced", "True", "ReconcileSuccess"),
        condition("Ready", "True", "Available"),
    ],
}


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
def home(desk):
    """A desk with a Tenant that can have boards."""
    desk.ready_tenant()
    return desk


def fails(desk, item, error):
    desk.control.fault = lambda owner: error if owner == item.uid else None


class TestCarryingOut:
    async def test_a_new_board_is_held_first_and_says_where_it_is(self, home):
        item = home.board()
        assert await home.look(item) == []
        (request,) = home.control.requests
        assert (request.owner, request.tenant_slug, request.tenant_owner) == (item.uid, "acme", "uid-acme")
        assert (request.may_create, request.adopt, request.known_id) == (True, None, None)
        assert home.now(item).held
        status = home.api.status(item)
        assert (status["leaderboardID"], status["redisNamespace"]) == (100, "l:7:default:global")
        assert home.api.said(item)["Ready"] == ("True", "Available")

    async def test_that_is_two_writes_and_no_event(self, home):
        item = home.board()
        await home.look(item)
        assert home.api.asked == [("PATCH", path_of(item.key)), ("PATCH", f"{path_of(item.key)}/status")]

    async def test_one_that_is_as_it_should_be_is_not_written(self, home):
        item = home.board()
        await home.look(item)
        home.api.asked.clear()
        assert await home.look(item) == []
        assert home.api.asked == []

    async def test_its_tenant_is_counted_again_once(self, home):
        item = home.board()
        for _ in range(2):
            await home.look(item)
        assert home.counted == [tenant_key("acme")]

    async def test_what_was_changed_behind_our_back_is_told(self, home):
        item = home.board()
        await home.look(item)
        row = home.control.boards["acme", "global"]
        home.control.boards["acme", "global"] = msgspec.structs.replace(
            row, spec=msgspec.structs.replace(row.spec, public_read=True)
        )
        await home.look(item)
        assert home.api.events() == [("Normal", "Repaired")]

    async def test_the_oldest_are_asked_for_first(self, home):
        late, early = home.board("late", created=NEW), home.board("early", created=OLD)
        await home.look(late, early)
        assert [request.owner for request in home.control.requests] == [early.uid, late.uid]

    async def test_adopting_says_from_where(self, home):
        home.api.namespace("away")
        home.ready_tenant("open", more={"allowedNamespaces": {"from": "All"}})
        near = home.board("near", annotations={ADOPT: "true"})
        far = home.board("far", namespace="away", tenant="open", tenant_namespace="games", annotations={ADOPT: "true"})
        await home.look(near, far)
        assert {request.owner: request.adopt for request in home.control.requests} == {
            near.uid: Adoption(namespace="games", home=True),
            far.uid: Adoption(namespace="away", home=False),
        }

    async def test_a_number_is_known_only_where_we_wrote_it(self, home):
        ours = home.board("ours", uid="uid-1", status=sealed("leaderboardID", 55, uid="uid-1"))
        forged = home.board("forged", uid="uid-2", status={"leaderboardID": 55, "seal": "0" * 32})
        copied = home.board("copied", uid="uid-3", status=sealed("leaderboardID", 55, uid="uid-1"))
        await home.look(ours, forged, copied)
        assert {request.owner: request.known_id for request in home.control.requests} == {
            "uid-1": 55,
            "uid-2": None,
            "uid-3": None,
        }
        assert home.api.status(forged)["leaderboardID"] != 55
        assert home.api.status(copied)["leaderboardID"] != 55

    async def test_a_board_of_a_suspended_tenant_says_so(self, desk):
        desk.ready_tenant(more={"suspend": True})
        item = desk.board()
        await desk.look(item)
        assert desk.api.said(item)["Ready"] == ("False", "TenantNotReady")
        assert desk.api.said(item)["Synced"] == ("True", "ReconcileSuccess")

    async def test_a_paused_one_is_left_alone(self, home):
        item = home.board(annotations={PAUSED: "true"}, held=True, deleting=True)
        assert await home.look(item) == []
        assert home.control.requests == home.control.deletions == []
        assert home.api.said(item) == {"Synced": ("False", "ReconcilePaused")}

    async def test_one_that_is_not_there_any_more_is_passed_over(self, home):
        item = home.board()
        home.forget(item)
        assert await home.look(item) == []
        assert home.control.requests == []


class TestWaitingForItsTenant:
    """Both may have been applied at once, and then the board comes first as often as not."""

    @pytest.mark.parametrize("known", [False, True], ids=["not there", "not looked at"])
    async def test_it_waits_in_silence_once(self, desk, known):
        if known:
            desk.tenant()
        item = desk.board()
        assert await desk.look(item) == []
        assert (desk.api.asked, desk.later) == ([], [(item.key, 2.0)])
        assert await desk.look(item) == []
        assert desk.api.said(item)["Ready"] == ("False", "TenantNotReady" if known else "TenantNotFound")
        assert desk.later == [(item.key, 2.0)]
        assert desk.control.requests == []

    async def test_a_tenant_that_comes_in_time_is_all_it_takes(self, desk):
        item = desk.board()
        await desk.look(item)
        desk.ready_tenant()
        assert await desk.look(item) == []
        assert desk.api.said(item)["Ready"] == ("True", "Available")
        assert desk.api.events() == []

    @pytest.mark.parametrize(
        ("said", "says"),
        [
            ({"status": {"conditions": [condition("Accepted", "False", "SlugConflict")]}}, "SlugConflict"),
            ({"status": ready_tenant_status("uid"), "deleting": True, "held": True}, "being deleted"),
        ],
    )
    async def test_a_tenant_that_can_have_none_is_told_at_once(self, desk, said, says):
        desk.tenant(**said)
        item = desk.board()
        assert await desk.look(item) == []
        assert desk.api.said(item) == {"Ready": ("False", "TenantNotReady")}
        assert says in desk.message(item)
        assert desk.later == []

    async def test_one_that_said_something_before_does_not_wait(self, desk):
        item = desk.board(status=DONE, held=True)
        await desk.look(item)
        assert desk.api.said(item)["Ready"] == ("False", "TenantNotFound")
        assert desk.later == []

    async def test_each_waits_for_itself(self, desk):
        items = [desk.board(name) for name in "ab"]
        await desk.look(*items)
        assert sorted(desk.later) == [(board_key(name), 2.0) for name in "ab"]

    async def test_what_it_says_is_what_to_do(self, desk):
        item = desk.board(tenant="elsewhere")
        for _ in range(2):
            await desk.look(item)
        assert desk.message(item) == "there is no Tenant 'elsewhere' in namespace 'games'; apply it"


class TestClosedReferences:
    """A Leaderboard of namespace `theirs` names a Tenant of `games` that does not let it in."""

    def theirs(self, desk, **said):
        desk.api.namespace("theirs", team="red")
        return desk.board(**{"namespace": "theirs", "tenant_namespace": "games", **said})

    async def test_control_is_not_asked(self, home):
        item = self.theirs(home)
        assert await home.look(item) == []
        assert home.control.requests == []
        assert home.api.said(item) == dict.fromkeys(("Accepted", "Synced", "Ready"), ("False", "RefNotPermitted"))
        assert not home.now(item).held

    async def test_a_tenant_that_is_there_is_told_in_the_words_of_one_that_is_not(self, home):
        there, missing = self.theirs(home), self.theirs(home, name="other", tenant="missing")
        await home.look(there, missing)
        assert home.message(missing) == home.message(there).replace("acme", "missing")

    async def test_what_its_people_write_into_it_opens_nothing(self, home):
        forged = {**sealed("leaderboardID", 9, uid="uid-other"), **ACCEPTED, "redisNamespace": "l:7:default:global"}
        item = self.theirs(home, held=True, status=forged, annotations={ADOPT: "true"})
        assert await home.look(item) == []
        (request,) = home.control.requests
        assert (request.may_create, request.adopt, request.known_id) == (False, None, None)
        assert home.control.boards == {}
        assert home.api.said(item)["Ready"] == ("False", "RefNotPermitted")
        assert home.counted == []

    async def test_its_own_number_is_not_known_either(self, home):
        item = self.theirs(home, held=True, uid="uid-1", status=sealed("leaderboardID", 9, uid="uid-1"))
        await home.look(item)
        assert home.control.requests[0].known_id is None
        assert home.control.boards == {}

    async def test_what_it_has_is_closed_and_kept(self, desk):
        desk.ready_tenant(more={"allowedNamespaces": {"from": "All"}})
        item = self.theirs(desk)
        await desk.look(item)
        assert desk.api.said(item)["Ready"] == ("True", "Available")
        desk.ready_tenant()
        assert await desk.look(item) == []
        closing = desk.control.requests[-1]
        assert (closing.may_create, closing.document.spec.board().suspended) == (False, True)
        assert desk.control.boards["acme", "global"].spec.suspended
        assert desk.api.said(item) == dict.fromkeys(("Accepted", "Synced", "Ready"), ("False", "RefNotPermitted"))
        assert desk.api.status(item)["leaderboardID"] == 100

    async def test_let_in_again_it_is_opened_and_that_is_no_repair(self, desk):
        opened = {"more": {"allowedNamespaces": {"from": "All"}}}
        item = self.theirs(desk)
        for said in (opened, {}, opened):
            desk.ready_tenant(**said)
            await desk.look(item)
        assert not desk.control.boards["acme", "global"].spec.suspended
        assert desk.api.said(item)["Ready"] == ("True", "Available")
        assert desk.api.events("theirs") == [("Warning", "RefNotPermitted"), ("Normal", "Available")]

    async def test_another_has_what_it_is_refused(self, home):
        await home.look(home.board())
        item = self.theirs(home, held=True)
        assert await home.look(item) == []
        assert not home.control.boards["acme", "global"].spec.suspended
        assert home.api.said(item)["Accepted"] == ("False", "RefNotPermitted")

    async def test_where_the_tenants_row_is_gone_there_is_nothing_to_close(self, home):
        item = self.theirs(home, held=True, status=DONE)
        fails(home, item, TenantNotFound("gone"))
        assert await home.look(item) == []
        assert home.api.said(item)["Ready"] == ("False", "RefNotPermitted")

    @pytest.mark.parametrize("error", [NotDrained("start the worker"), Busy("held"), RuntimeError("ours")])
    async def test_what_could_not_be_closed_is_tried_again(self, home, error):
        item = self.theirs(home, held=True, status=DONE)
        fails(home, item, error)
        assert await home.look(item) == [item.key.name]

    async def test_the_namespaces_labels_decide_where_the_tenant_says_so(self, desk):
        selector = {"matchLabels": {"team": "blue"}}
        desk.ready_tenant(more={"allowedNamespaces": {"from": "Selector", "selector": selector}})
        item = self.theirs(desk)
        await desk.look(item)
        assert desk.api.said(item)["Ready"] == ("False", "RefNotPermitted")
        desk.api.namespace("theirs", team="blue")
        desk.namespaces.forget()
        await desk.look(item)
        assert desk.api.said(item)["Ready"] == ("True", "Available")

    async def test_a_namespace_that_cannot_be_read_keeps_its_boards_waiting_and_no_others(self, desk):
        selector = {"matchLabels": {"team": "blue"}}
        desk.ready_tenant(more={"allowedNamespaces": {"from": "Selector", "selector": selector}})
        item, other = self.theirs(desk), desk.board("other")

        def away(method, path):
            if path == "/api/v1/namespaces/theirs":
                raise ApiUnavailable("away")

        desk.api.before = away
        assert await desk.look(item, other) == [item.key.name]
        assert desk.api.said(item) == {}
        assert desk.api.said(other)["Ready"] == ("True", "Available")


class TestRivals:
    async def test_of_two_the_older_has_the_place(self, home):
        young, old = home.board("young", key="k", created=NEW), home.board("old", key="k", created=OLD)
        await home.look(young, old)
        assert [request.owner for request in home.control.requests] == [old.uid]
        assert home.api.said(young) == dict.fromkeys(("Accepted", "Synced", "Ready"), ("False", "KeyConflict"))
        assert not home.now(young).held

    async def test_one_that_has_it_keeps_it(self, home):
        young = home.board("young", key="k", created=NEW, held=True, status=DONE)
        home.board("old", key="k", created=OLD)
        await home.look(young)
        assert [request.owner for request in home.control.requests] == [young.uid]

    @pytest.mark.parametrize("status", [{}, ACCEPTED, {**DONE, "leaderboardID": 5}], ids=["new", "accepted", "forged"])
    async def test_one_that_is_not_let_in_is_no_rival_whatever_its_status_says(self, home, status):
        home.api.namespace("theirs")
        home.board("old", key="k", namespace="theirs", tenant_namespace="games", created=OLD, held=True, status=status)
        young = home.board("young", key="k", created=NEW)
        assert await home.look(young) == []
        assert home.api.said(young)["Ready"] == ("True", "Available")

    async def test_one_that_is_let_in_is_one_whatever_its_status_says(self, desk):
        desk.ready_tenant(more={"allowedNamespaces": {"from": "All"}})
        refused = {"conditions": [condition("Accepted", "False", "RefNotPermitted")]}
        desk.board("old", key="k", namespace="theirs", tenant_namespace="games", created=OLD, status=refused)
        young = desk.board("young", key="k", created=NEW)
        await desk.look(young)
        assert desk.api.said(young)["Accepted"] == ("False", "KeyConflict")

    async def test_its_namespace_does_not_say_who_has_it(self, desk):
        desk.ready_tenant(more={"allowedNamespaces": {"from": "All"}})
        desk.board("secret", key="k", namespace="theirs", tenant_namespace="games", created=OLD)
        young = desk.board("young", key="k", created=NEW)
        await desk.look(young)
        assert not any(word in desk.message(young) for word in ("theirs", "secret", "uid"))

    @pytest.mark.parametrize(
        ("status", "counts"),
        [
            ({}, False),
            ({"leaderboardID": 5, "seal": "0" * 32, **ACCEPTED}, False),
            (sealed("leaderboardID", 5, uid="uid-young"), False),
            (sealed("leaderboardID", 5, uid="uid-old"), True),
        ],
        ids=["never looked at", "forged", "copied", "has a board"],
    )
    async def test_a_paused_one_is_a_rival_only_where_it_has_a_board(self, home, status, counts):
        home.board("old", key="k", created=OLD, uid="uid-old", annotations={PAUSED: "true"}, status=status)
        young = home.board("young", key="k", created=NEW, uid="uid-young")
        await home.look(young)
        assert home.api.said(young)["Accepted"][1] == ("KeyConflict" if counts else "Accepted")


class TestDeleting:
    @pytest.mark.parametrize(("policy", "retain"), [(None, True), ("Retain", True), ("Delete", False)])
    async def test_its_data_is_dealt_with_and_then_it_goes(self, home, policy, retain):
        more = {"deletionPolicy": policy} if policy else {}
        item = home.board(held=True, deleting=True, status=DONE, more=more)
        assert await home.look(item) == []
        assert home.control.deletions == [{"owner": item.uid, "retain": retain, "namespace": "games"}]
        assert path_of(item.key) not in home.api.objects

    async def test_that_needs_no_tenant(self, desk):
        item = desk.board(held=True, deleting=True)
        assert await desk.look(item) == []
        assert len(desk.control.deletions) == 1

    async def test_what_we_do_not_hold_goes_by_itself(self, home):
        item = home.board(deleting=True)
        assert await home.look(item) == []
        assert home.control.deletions == home.api.asked == []

    @pytest.mark.parametrize(
        "error", [DatabaseUnavailable("10.1.2.3:5432"), RedisUnavailable("10.1.2.3"), KeyError("10.1.2.3")]
    )
    async def test_it_stays_until_its_data_is_dealt_with(self, home, error):
        item = home.board(held=True, deleting=True, status=DONE)
        fails(home, item, error)
        assert await home.look(item) == [item.key.name]
        assert home.now(item).held
        assert home.api.said(item)["Ready"] == ("False", "Deleting")
        assert "10.1.2.3" not in home.message(item)

    async def test_the_finalizers_of_others_stay(self, home):
        item = home.board(held=True, deleting=True)
        home.api.objects[path_of(item.key)]["metadata"]["finalizers"].append("example.com/theirs")
        home.objects.see(item.key.kind, {**home.api.put(path_of(item.key), home.api.objects[path_of(item.key)])})
        await home.look(item)
        assert home.api.objects[path_of(item.key)]["metadata"]["finalizers"] == ["example.com/theirs"]
        assert home.went == []

    async def test_one_that_changed_meanwhile_is_let_go_the_next_time(self, home):
        item = home.board(held=True, deleting=True)
        changed = home.api.put(path_of(item.key), home.api.objects[path_of(item.key)])
        assert await home.look(item) == [item.key.name]
        home.objects.see(item.key.kind, changed)
        assert await home.look(item) == []
        assert path_of(item.key) not in home.api.objects
        assert [went.uid for went in home.went] == [item.uid]


class TestFailing:
    async def test_what_is_wrong_with_one_is_its_own_matter(self, home):
        items = {name: home.board(name) for name in ("good", "invalid", "full", "fixed", "busy", "odd")}
        invalid = home.board("invalid", more={"sortOrder": "sideways"}, generation=2)
        faults = {
            items["full"].uid: QuotaExceeded("maxLeaderboards", limit=5),
            items["fixed"].uid: ImmutableField("sort_order", current="descending", wanted="ascending"),
            items["busy"].uid: Busy("10.1.2.3"),
            items["odd"].uid: RuntimeError("10.1.2.3"),
        }
        home.control.fault = faults.get
        assert await home.look(*items.values()) == ["busy", "odd"]
        assert {name: home.api.said(item)["Ready"] for name, item in items.items()} == {
            "good": ("True", "Available"),
            "invalid": ("False", "InvalidSpec"),
            "full": ("False", "QuotaExceeded"),
            "fixed": ("False", "InvalidSpec"),
            "busy": ("False", "DatabaseUnavailable"),
            "odd": ("False", "ReconcileError"),
        }
        assert invalid.uid not in {request.owner for request in home.control.requests}

    @pytest.mark.parametrize("error", [DatabaseUnavailable("10.1.2.3"), RedisUnavailable("10.1.2.3")])
    async def test_what_concerns_all_is_said_by_those_that_wait_for_it(self, home, error):
        waiting, ready = home.board("waiting"), home.board("ready", status=DONE, held=True)
        paused, going = home.board("paused", annotations={PAUSED: "true"}), home.board("going", deleting=True)
        everybody = [item.key for item in (waiting, ready, paused, going)]
        await home.boards.say_why_not(everybody, error)
        assert home.api.said(waiting)["Ready"][0] == "False"
        assert "10.1.2.3" not in home.message(waiting)
        assert home.api.said(ready)["Synced"] == ("True", "ReconcileSuccess")
        assert home.api.said(paused) == home.api.said(going) == {}

    @pytest.mark.parametrize("where", ["/status", "/global"], ids=["status", "finalizer"])
    @pytest.mark.parametrize("error", [ApiUnavailable("away"), Conflict("it changed")], ids=repr)
    async def test_what_could_not_be_written_is_tried_again(self, home, where, error):
        item, other = home.board(), home.board("other")

        def refuse(method, path):
            if method == "PATCH" and path.startswith(path_of(item.key)) and path.endswith(where):
                raise error

        home.api.before = refuse
        assert await home.look(item, other) == ["global"]
        home.api.before = lambda method, path: None
        assert await home.look(item) == []
        assert home.api.said(item)["Ready"] == ("True", "Available")

    async def test_an_error_of_our_own_while_one_is_told_is_its_own_matter(self, home):
        item, other = home.board(), home.board("other")

        def stumble(method, path):
            if path.startswith(path_of(item.key)) and path.endswith("/status"):
                raise KeyError("ours")

        home.api.before = stumble
        assert await home.look(item, other) == ["global"]
        assert home.api.said(other)["Ready"] == ("True", "Available")

    @pytest.mark.parametrize(
        "spec", [{}, {"tenantRef": "acme", "key": 5}, {"tenantRef": {"name": ["acme"]}, "key": "k"}], ids=repr
    )
    async def test_a_spec_that_an_older_schema_let_through_is_its_own_matter(self, home, spec):
        odd, good = home.add(Kind.LEADERBOARD, raw(Kind.LEADERBOARD, "odd", spec=spec)), home.board("good")
        assert await home.look(odd, good) == []
        assert home.api.said(odd)["Stalled"] == ("True", "InvalidSpec")
        assert home.api.said(good)["Ready"] == ("True", "Available")

    async def test_nothing_is_asked_for_an_object_that_could_not_be_held(self, home):
        item = home.board()
        del home.api.objects[path_of(item.key)]
        assert await home.look(item) == ["global"]
        assert home.control.requests == []

    async def test_a_leader_that_was_deposed_stops(self, home):
        item = home.board(held=True, deleting=True)
        fails(home, item, Deposed("another leads"))
        with pytest.raises(Deposed):
            await home.look(item)
        assert home.now(item).held


class TestATenantWhoseRowIsGone:
    """It was deleted by hand, or the database is one of before: the next look at the Tenant makes it again."""

    async def test_a_board_that_was_carried_out_waits_for_it_in_silence(self, home):
        item = home.board(held=True, status=DONE)
        fails(home, item, TenantNotFound("gone"))
        assert await home.look(item) == ["global"]
        assert home.api.asked == []
        assert home.counted == [tenant_key("acme")]

    async def test_a_new_one_says_so(self, home):
        item = home.board()
        fails(home, item, TenantNotFound("gone"))
        assert await home.look(item) == []
        assert home.api.said(item)["Ready"] == ("False", "TenantNotFound")

    async def test_a_paused_tenant_does_not_make_it_again(self, desk):
        desk.ready_tenant(annotations={PAUSED: "true"})
        item = desk.board(held=True, status=DONE)
        fails(desk, item, TenantNotFound("gone"))
        assert await desk.look(item) == []
        assert desk.api.said(item)["Ready"] == ("False", "TenantNotFound")


class TestSuspects:
    """After Redis may have gone back in time, each board is compared with the ledger once."""

    async def test_each_is_compared_once(self, home):
        items = [home.board(name) for name in "ab"]
        home.boards.suspect([item.key for item in items])
        for item in (*items, *items):
            await home.look(item)
        assert home.control.positions == [True, True, False, False]

    async def test_what_could_not_be_asked_stays_suspect(self, home):
        item = home.board()
        home.boards.suspect([item.key])

        async def away(requests, *, positions):
            raise DatabaseUnavailable("away")

        ask, home.control.reconcile_boards = home.control.reconcile_boards, away
        with pytest.raises(DatabaseUnavailable):
            await home.look(item)
        home.control.reconcile_boards = ask
        await home.look(item)
        assert home.control.positions == [True]

    async def test_one_that_could_not_be_compared_stays_suspect(self, home):
        item, other = home.board(), home.board("other")
        home.boards.suspect([item.key, other.key])
        fails(home, item, Busy("held"))
        assert await home.look(item, other) == ["global"]
        home.control.fault = lambda owner: None
        await home.look(item)
        assert home.control.positions == [True, True]
        await home.look(item, other)
        assert home.control.positions == [True, True, False]

    async def test_a_paused_one_is_compared_when_it_goes_on(self, home):
        item = home.board(held=True, annotations={PAUSED: "true"})
        home.boards.suspect([item.key])
        await home.look(item)
        home.board(held=True)
        await home.look(item)
        assert home.control.positions == [True]


class TestCounts:
    async def test_only_so_many_are_written_for_a_new_count_alone(self, home):
        items = [home.board(name) for name in "abc"]
        await home.look(*items)
        home.control.entries = 5
        assert await home.look(*items, entries=2) == []
        assert sorted(home.api.status(item)["entries"] for item in items) == [0, 5, 5]

    async def test_what_else_has_to_be_said_is_not_held_back(self, home):
        items = [home.board(name) for name in "ab"]
        await home.look(*items)
        home.control.entries = 5
        fails(home, items[0], QuotaExceeded("maxLeaderboards", limit=5))
        assert await home.look(*items, entries=0) == []
        assert home.api.said(items[0])["Ready"] == ("False", "QuotaExceeded")
        assert home.api.status(items[1])["entries"] == 0
