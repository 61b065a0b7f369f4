"""What is written: a status where it differs, an Event where there is news, and nothing into another's object."""

import pytest

from leaderboard_operator.client import ApiUnavailable, Conflict, NotFound, path_of
from leaderboard_operator.conditions import Condition
from leaderboard_operator.report import Verdict
from leaderboard_operator.resources import FINALIZER, Kind
from support.desk import NOW, Desk
from support.resources import raw_board

GOOD = Verdict(conditions=(Condition(type="Ready", status=True, reason="Available", message="in service"),))
BAD = Verdict(conditions=(Condition(type="Ready", status=False, reason="QuotaExceeded", message="full"),))
REPAIRED = Verdict(conditions=GOOD.conditions, repairs=("suspended: True -> False", "wrote the rules to Redis"))


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
def reporter(desk):
    return desk.reporter


def event_of(desk):
    (path,) = [path for path in desk.api.objects if "/events/" in path]
    return desk.api.objects[path]


class TestStatus:
    async def test_what_differs_is_written_once(self, desk, reporter):
        item = desk.board()
        for _ in range(2):
            await reporter.report(item, GOOD)
        assert desk.api.asked.count(("PATCH", f"{path_of(item.key)}/status")) == 1
        assert desk.api.status(item)["observedGeneration"] == 1
        assert desk.now(item).status == desk.api.status(item)

    async def test_a_new_generation_is_written_though_nothing_else_is_new(self, desk, reporter):
        await reporter.report(desk.board(), GOOD)
        item = desk.board(generation=2, status=desk.api.status(desk.board()))
        await reporter.report(item, GOOD)
        assert desk.api.status(item)["observedGeneration"] == 2

    async def test_what_was_said_meanwhile_is_not_said_again(self, desk, reporter):
        """The sweep and a worker may look at one object at once."""
        before = desk.board()
        await reporter.report(before, BAD)
        desk.api.asked.clear()
        await reporter.report(before, BAD)
        assert desk.api.asked == []

    async def test_an_object_that_went_is_no_fault(self, desk, reporter):
        item = desk.board()
        del desk.api.objects[path_of(item.key)]
        await reporter.report(item, BAD)
        assert desk.api.events() == []

    async def test_nothing_is_written_into_the_next_one_of_its_name(self, desk, reporter):
        item = desk.board(uid="first")
        desk.api.add(Kind.LEADERBOARD, raw_board(uid="second"))
        with pytest.raises(Conflict):
            await reporter.report(item, BAD)
        assert desk.api.said(item) == {}
        assert desk.api.events() == []


class TestEvents:
    async def test_news_is_told_with_what_it_is_about(self, desk, reporter):
        item = desk.board()
        await reporter.report(item, BAD)
        told = event_of(desk)
        assert (told["type"], told["reason"], told["message"]) == ("Warning", "QuotaExceeded", "full")
        about = told["involvedObject"]
        assert (about["kind"], about["namespace"], about["name"], about["uid"]) == (
            "Leaderboard",
            "games",
            "global",
            item.uid,
        )
        assert told["firstTimestamp"] == f"{NOW:%Y-%m-%dT%H:%M:%SZ}"

    @pytest.mark.parametrize(("verdict", "told"), [(GOOD, []), (BAD, [("Warning", "QuotaExceeded")])])
    async def test_quietly_only_bad_news_is_told(self, desk, reporter, verdict, told):
        await reporter.report(desk.board(), verdict, quiet=True)
        assert desk.api.events() == told

    async def test_a_repair_is_told_before_the_status_is_written(self, desk, reporter):
        """Afterwards nothing is left to repair, and so nobody would ever hear of it."""
        item = desk.board()

        def away(method, path):
            if path.endswith("/status"):
                raise ApiUnavailable("away")

        desk.api.before = away
        with pytest.raises(ApiUnavailable):
            await reporter.report(item, REPAIRED)
        assert event_of(desk)["message"] == "suspended: True -> False; wrote the rules to Redis"

    async def test_an_event_that_is_not_taken_does_not_keep_the_status_back(self, desk, reporter):
        item = desk.board()

        def refuse(method, path):
            if method == "POST":
                raise ApiUnavailable("away")

        desk.api.before = refuse
        await reporter.report(item, REPAIRED)
        assert desk.api.said(item)["Ready"] == ("True", "Available")

    @pytest.mark.parametrize("name", ["a" * 253, f"{'a' * 199}.{'b' * 53}", f"{'a' * 199}-{'b' * 53}"])
    async def test_its_name_is_one_that_kubernetes_takes(self, desk, reporter, name):
        await reporter.report(desk.board(name), BAD)
        told = event_of(desk)["metadata"]["name"]
        assert len(told) <= 253
        assert all(part and part[0].isalnum() and part[-1].isalnum() for part in told.split("."))

    async def test_a_long_message_is_cut(self, desk, reporter):
        await reporter.report(desk.board(), Verdict(conditions=(), repairs=("x" * 5000,)))
        assert len(event_of(desk)["message"]) == 1024


class TestFinalizers:
    async def test_ours_is_put_beside_those_of_others(self, desk, reporter):
        raw = raw_board(held=False)
        raw["metadata"]["finalizers"] = ["example.com/theirs"]
        held = await reporter.hold(desk.add(Kind.LEADERBOARD, raw))
        assert held.finalizers == ("example.com/theirs", FINALIZER)
        assert desk.now(held) is held

    @pytest.mark.parametrize("change", ["hold", "let_go"])
    async def test_an_object_that_changed_meanwhile_is_looked_at_again(self, desk, reporter, change):
        item = desk.board(held=change == "let_go")
        desk.api.put(path_of(item.key), desk.api.objects[path_of(item.key)])
        with pytest.raises(Conflict):
            await getattr(reporter, change)(item)

    async def test_one_that_went_is_let_go_already_and_cannot_be_held(self, desk, reporter):
        item = desk.board(held=True)
        del desk.api.objects[path_of(item.key)]
        assert await reporter.let_go(item)
        with pytest.raises(NotFound):
            await reporter.hold(item)

    async def test_the_answer_does_not_bring_back_what_the_watch_told_to_be_gone(self, desk, reporter):
        item = desk.board(held=True, deleting=True)
        desk.objects.gone(item.key, uid=item.uid)
        await reporter.let_go(item)
        assert desk.objects.get(item.key) is None
