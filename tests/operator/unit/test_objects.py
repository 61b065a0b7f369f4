"""The cache of what was seen: newest wins, and every index says what a look at all of them would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard_operator.objects import Objects
from leaderboard_operator.resources import ADOPT, PAUSED, Kind, resource
from leaderboard_operator.resources import tenant_key as tenant_of
from support.resources import board_key, condition, raw_board, raw_tenant, tenant_key

ACME, GLOBAL = tenant_key("acme"), board_key("global")


def names(items):
    return [item.key.name for item in items]


def see_tenant(objects, name="acme", **said):
    return objects.see(Kind.TENANT, raw_tenant(name, **said))


def see_board(objects, name="global", **said):
    return objects.see(Kind.LEADERBOARD, raw_board(name, **said))


class TestSeeing:
    def test_what_is_new_is_known_and_asks_for_work(self):
        objects = Objects()
        item, asks = see_tenant(objects)
        assert asks
        assert objects.get(ACME) is item
        assert names(objects.of_kind(Kind.TENANT)) == ["acme"]
        assert objects.of_kind(Kind.LEADERBOARD) == []

    def test_the_same_again_asks_for_nothing(self):
        objects = Objects()
        see_tenant(objects, version=5)
        assert see_tenant(objects, version=5)[1] is False

    def test_a_new_status_label_or_foreign_finalizer_is_kept_and_asks_for_nothing(self):
        objects = Objects()
        see_tenant(objects)
        item, asks = see_tenant(
            objects, status={"tenantID": 4, "conditions": [condition("Ready", "True")]}, annotations={"other": "true"}
        )
        assert not asks
        assert objects.get(ACME) is item
        assert item.status["tenantID"] == 4

    @pytest.mark.parametrize(
        "change",
        [
            {"generation": 2},
            {"deleting": True},
            {"held": False},
            {"annotations": {PAUSED: "true"}},
            {"annotations": {ADOPT: "true"}},
            {"uid": "another"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_a_change_of_what_is_asked_for_asks_for_work(self, change):
        objects = Objects()
        see_tenant(objects)
        assert see_tenant(objects, **change)[1]

    def test_what_was_read_earlier_is_passed_over(self):
        objects = Objects()
        newest, _ = see_tenant(objects, version=10, generation=2)
        item, asks = see_tenant(objects, version=9, generation=1)
        assert item is newest
        assert not asks
        assert objects.get(ACME) is newest


class TestGone:
    def test_it_is_known_no_more(self):
        objects = Objects()
        item, _ = see_board(objects)
        assert objects.gone(item.key, uid=item.uid)
        assert objects.get(GLOBAL) is None
        assert objects.boards_of(ACME) == []
        assert objects.unwatched(Kind.LEADERBOARD) == set()

    def test_another_that_has_its_name_by_now_stays(self):
        objects = Objects()
        see_tenant(objects, uid="first")
        second, _ = see_tenant(objects, uid="second")
        assert not objects.gone(ACME, uid="first")
        assert objects.get(ACME) is second

    def test_what_was_never_known_is_not_gone(self):
        assert not Objects().gone(ACME, uid="any")


class TestAfterItWent:
    """What was read before an object went is told after it: a page of a list, an answer to a write of ours."""

    def test_a_page_of_a_list_that_began_before_does_not_bring_it_back(self):
        objects = Objects()
        item, _ = see_board(objects, version=5)
        objects.begin_list()
        objects.gone(GLOBAL, uid=item.uid)
        told, asks = see_board(objects, version=6, generation=2)
        assert told.version == 6
        assert not asks
        assert objects.get(GLOBAL) is None
        assert objects.boards_of(ACME) == []
        assert objects.rivals(see_board(objects, "other", key="global")[0]) == []

    def test_nor_does_one_of_an_object_that_was_never_known(self):
        objects = Objects()
        objects.begin_list()
        assert not objects.gone(GLOBAL, uid="never-known")
        assert see_board(objects, uid="never-known")[1] is False
        assert objects.get(GLOBAL) is None

    def test_another_of_its_name_is_new(self):
        objects = Objects()
        objects.gone(GLOBAL, uid=see_board(objects, uid="first")[0].uid)
        second, asks = see_board(objects, uid="second")
        assert asks
        assert objects.get(GLOBAL) is second
        assert see_board(objects, uid="first") == (second, False)

    def test_a_list_that_begins_later_is_believed(self):
        """What went is not remembered for ever."""
        objects = Objects()
        objects.gone(GLOBAL, uid=see_board(objects)[0].uid)
        objects.begin_list()
        assert see_board(objects)[1]


class TestAnswers:
    def test_an_answer_is_what_is_known_from_then_on(self):
        objects = Objects()
        item, _ = see_board(objects, version=5)
        told = objects.answered(item, raw_board(version=6, status={"leaderboardID": 9}))
        assert objects.get(GLOBAL) is told
        assert told.status == {"leaderboardID": 9}

    def test_an_answer_that_was_overtaken_is_not(self):
        objects = Objects()
        item, _ = see_board(objects, version=5)
        newest, _ = see_board(objects, version=7)
        assert objects.answered(item, raw_board(version=6)) is newest
        assert objects.get(GLOBAL) is newest

    def test_an_answer_never_brings_an_object_back(self):
        objects = Objects()
        item, _ = see_board(objects, version=5)
        objects.gone(GLOBAL, uid=item.uid)
        for _ in range(2):
            told = objects.answered(item, raw_board(version=6, held=False))
            assert not told.held  # whoever wrote it is told what came of it
            assert objects.get(GLOBAL) is None
            assert objects.unwatched(Kind.LEADERBOARD) == set()
            objects.begin_list()

    def test_an_answer_about_the_one_before_does_not_touch_its_successor(self):
        objects = Objects()
        first, _ = see_board(objects, uid="first", version=5)
        objects.gone(GLOBAL, uid="first")
        second, _ = see_board(objects, uid="second", version=7)
        assert objects.answered(first, raw_board(uid="first", version=6)).uid == "first"
        assert objects.get(GLOBAL) is second


class TestIndexes:
    def test_the_boards_of_a_tenant_are_those_that_name_it_from_anywhere(self):
        objects = Objects()
        see_board(objects, "near")
        see_board(objects, "far", namespace="elsewhere", tenant_namespace="games")
        see_board(objects, "other", tenant="rival")
        see_board(objects, "namesake", namespace="elsewhere")
        assert sorted(names(objects.boards_of(ACME))) == ["far", "near"]
        assert objects.boards_of(tenant_key("nobody")) == []

    def test_rivals_of_a_tenant_want_its_slug_in_any_namespace_oldest_first(self):
        objects = Objects()
        item, _ = see_tenant(objects, "one", slug="s", created="2026-01-02T00:00:00Z")
        see_tenant(objects, "late", slug="s", namespace="b", created="2026-01-03T00:00:00Z")
        see_tenant(objects, "early", slug="s", namespace="c", created="2026-01-01T00:00:00Z")
        see_tenant(objects, "apart", slug="t")
        assert names(objects.rivals(item)) == ["early", "late"]

    def test_rivals_of_a_board_want_the_same_place(self):
        objects = Objects()
        item, _ = see_board(objects, "one", key="k")
        see_board(objects, "same", key="k", more={"project": "default"})
        see_board(objects, "far", key="k", namespace="elsewhere", tenant_namespace="games")
        see_board(objects, "key", key="l")
        see_board(objects, "project", key="k", more={"project": "other"})
        see_board(objects, "tenant", key="k", tenant="rival")
        assert sorted(names(objects.rivals(item))) == ["far", "same"]

    def test_one_made_again_with_another_spec_is_found_there_only(self):
        objects = Objects()
        see_board(objects, "one", key="k", uid="first")
        see_board(objects, "one", key="k", tenant="rival", uid="second")
        other, _ = see_board(objects, "other", key="k")
        assert objects.rivals(other) == []
        assert names(objects.boards_of(ACME)) == ["other"]
        assert names(objects.boards_of(tenant_key("rival"))) == ["one"]

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["tenant", "board", "gone", "list"]),
                st.sampled_from("ab"),  # namespace
                st.sampled_from("xyz"),  # name
                st.sampled_from("pq"),  # slug, or the Tenant's name
                st.sampled_from("12"),  # uid
                st.integers(0, 5),  # version
            ),
            max_size=30,
        )
    )
    def test_each_index_says_what_a_look_at_all_objects_would(self, steps):
        objects, known, went = Objects(), {}, set()
        for what, namespace, name, wanted, number, version in steps:
            if what == "list":
                objects.begin_list()
                went.clear()
                continue
            if what == "gone":
                for key in (tenant_key(name, namespace), board_key(name, namespace)):
                    uid = f"{key}/{number}"
                    if objects.gone(key, uid=uid):
                        assert known.pop(key).uid == uid
                    went.add(uid)
                continue
            common = {"namespace": namespace, "version": version}
            if what == "tenant":
                kind, uid = Kind.TENANT, f"{tenant_key(name, namespace)}/{number}"
                raw = raw_tenant(name, slug=wanted, uid=uid, **common)
            else:
                kind, uid = Kind.LEADERBOARD, f"{board_key(name, namespace)}/{number}"
                raw = raw_board(name, tenant=wanted, tenant_namespace="a", key="k", uid=uid, **common)
            item, _ = objects.see(kind, raw)
            new = resource(kind, raw)
            if uid not in went and (new.key not in known or new.newer_than(known[new.key])):
                known[new.key] = new
            assert item == known.get(new.key, new)
        for key, item in known.items():
            assert objects.get(key) == item
            others = [other for other in known.values() if other.key.kind is key.kind and other.key != key]
            if key.kind is Kind.TENANT:
                rivals = [other for other in others if other.spec["slug"] == item.spec["slug"]]
            else:
                rivals = [other for other in others if tenant_of(other) == tenant_of(item)]
            assert sorted(objects.rivals(item), key=lambda rival: rival.key) == sorted(
                rivals, key=lambda rival: rival.key
            )
        for name in "pq":
            tenant = tenant_key(name, "a")
            boards = {key for key, item in known.items() if key.kind is Kind.LEADERBOARD and tenant_of(item) == tenant}
            assert {item.key for item in objects.boards_of(tenant)} == boards


class TestUnwatched:
    def told(self, objects, version, **said):
        objects.see(Kind.TENANT, raw_tenant(version=version, **said), by_watch=True)

    def test_what_only_a_list_told_is_unwatched_until_the_watch_tells_it(self):
        objects = Objects()
        see_tenant(objects, version=5)
        assert objects.unwatched(Kind.TENANT) == {(ACME, 5)}
        assert objects.unwatched(Kind.LEADERBOARD) == set()
        self.told(objects, 5)
        assert objects.unwatched(Kind.TENANT) == set()

    def test_a_change_of_our_own_is_unwatched_until_its_event_comes(self):
        objects = Objects()
        self.told(objects, 5)
        see_tenant(objects, version=6, status={"tenantID": 1})
        assert objects.unwatched(Kind.TENANT) == {(ACME, 6)}
        self.told(objects, 6, status={"tenantID": 1})
        assert objects.unwatched(Kind.TENANT) == set()

    def test_a_watch_that_is_ahead_of_the_list_leaves_nothing_open(self):
        objects = Objects()
        self.told(objects, 7)
        see_tenant(objects, version=5)
        assert objects.unwatched(Kind.TENANT) == set()

    def test_a_late_event_of_the_one_before_leaves_nothing_open(self):
        objects = Objects()
        self.told(objects, 9, uid="second")
        self.told(objects, 8, uid="first")
        assert objects.unwatched(Kind.TENANT) == set()
