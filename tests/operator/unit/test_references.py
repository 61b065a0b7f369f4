"""Who may name a Tenant: what is not clearly allowed is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard_operator.references import NOT_YET, needs_labels, not_ready, permits, selects, suspended
from leaderboard_operator.resources import PAUSED
from support.resources import condition, make_tenant

LABELS = {"team": "blue", "stage": "live"}


def tenant(allowed=None):
    return make_tenant(namespace="home", more={} if allowed is None else {"allowedNamespaces": allowed})


def from_selector(**selector):
    return tenant({"from": "Selector", "selector": selector})


def line(operator, key="team", *values):
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def test_the_tenants_own_namespace_is_always_let_in():
    for allowed in (None, {"from": "Same"}, {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}):
        assert permits(tenant(allowed), namespace="home", labels=None)


@pytest.mark.parametrize("allowed", [None, {}, {"from": "Same"}, {"from": "Everybody"}, {"selector": {}}])
def test_others_are_kept_out_unless_they_are_allowed(allowed):
    assert not permits(tenant(allowed), namespace="other", labels=LABELS)


def test_all_lets_everybody_in():
    assert permits(tenant({"from": "All"}), namespace="other", labels=None)


def test_a_selector_asks_for_the_namespaces_labels():
    allowed = from_selector(matchLabels={"team": "blue"})
    assert permits(allowed, namespace="other", labels=LABELS)
    assert not permits(allowed, namespace="other", labels={"team": "red"})
    assert not permits(allowed, namespace="other", labels={})


def test_a_namespace_that_is_not_known_is_not_let_in_by_a_selector():
    assert not permits(from_selector(matchExpressions=[line("DoesNotExist")]), namespace="other", labels=None)


def test_a_selector_counts_only_where_it_is_asked_for():
    allowed = tenant({"from": "Same", "selector": {"matchLabels": LABELS}})
    assert not permits(allowed, namespace="other", labels=LABELS)


def test_an_empty_selector_lets_everybody_in_and_one_that_is_not_there_nobody():
    assert permits(from_selector(), namespace="other", labels=LABELS)
    assert not permits(tenant({"from": "Selector"}), namespace="other", labels=LABELS)
    assert not permits(tenant({"from": "Selector", "selector": None}), namespace="other", labels=LABELS)


def test_labels_are_needed_for_selectors_only():
    assert needs_labels(from_selector(matchLabels=LABELS))
    assert not any(needs_labels(tenant(allowed)) for allowed in (None, {"from": "Same"}, {"from": "All"}))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (line("In", "team", "red", "blue"), True),
        (line("In", "team", "red"), False),
        (line("In", "nothing", "red"), False),
        (line("In", "team"), False),
        (line("NotIn", "team", "red"), True),
        (line("NotIn", "team", "red", "blue"), False),
        (line("NotIn", "nothing", "red"), True),
        (line("Exists", "team"), True),
        (line("Exists", "nothing"), False),
        (line("DoesNotExist", "nothing"), True),
        (line("DoesNotExist", "team"), False),
    ],
)
def test_each_operator_means_what_it_means_in_kubernetes(expression, expected):
    assert selects({"matchExpressions": [expression]}, LABELS) is expected


@pytest.mark.parametrize(
    "odd",
    [
        "blue",
        [],
        {"matchLabels": ["team"]},
        {"matchExpressions": {"key": "team"}},
        {"matchExpressions": ["team"]},
        {"matchExpressions": [line("In", ["team"], "blue")]},
        {"matchExpressions": [{"key": "nothing", "operator": "NotIn", "values": "red"}]},
    ],
)
def test_a_selector_of_another_form_lets_nobody_in(odd):
    assert not selects(odd, LABELS)
    assert not permits(tenant({"from": "Selector", "selector": odd}), namespace="other", labels=LABELS)


@given(st.text(), st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3))
def test_an_operator_that_is_not_known_grants_nothing(operator, labels):
    if operator in {"In", "NotIn", "Exists", "DoesNotExist"}:
        return
    for values in ([], list(labels.values())):
        assert not selects({"matchExpressions": [line(operator, "a", *values)]}, labels)
    assert not selects({"matchExpressions": [{"key": "a"}]}, labels)


def test_every_line_has_to_hold():
    right, wrong = line("Exists", "stage"), line("Exists", "nothing")
    assert selects({"matchLabels": {"team": "blue"}, "matchExpressions": [right, right]}, LABELS)
    assert not selects({"matchLabels": {"team": "blue"}, "matchExpressions": [right, wrong]}, LABELS)
    assert not selects({"matchLabels": {"team": "red"}, "matchExpressions": [right]}, LABELS)
    assert not selects({"matchLabels": {"team": "blue", "more": "x"}}, LABELS)


@given(
    st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz")),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz")),
)
def test_a_label_to_match_is_one_that_is_in_a_list_of_one(wanted, labels):
    expressions = [line("In", name, value) for name, value in wanted.items()]
    expected = wanted.items() <= labels.items()
    assert selects({"matchLabels": wanted}, labels) is expected
    assert selects({"matchExpressions": expressions}, labels) is expected


@given(
    st.sampled_from("ab"),
    st.lists(st.sampled_from("xy"), min_size=1),
    st.dictionaries(st.sampled_from("ab"), st.sampled_from("xyz")),
)
def test_of_an_operator_and_its_contrary_exactly_one_holds(key, values, labels):
    for one, other in (("In", "NotIn"), ("Exists", "DoesNotExist")):
        answers = [selects({"matchExpressions": [line(name, key, *values)]}, labels) for name in (one, other)]
        assert sorted(answers) == [False, True]


ACCEPTED = {"tenantID": 3, "conditions": [condition("Accepted", "True", "Accepted")]}


def test_an_accepted_tenant_can_have_boards():
    assert not_ready(make_tenant(status=ACCEPTED)) is None


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({}, NOT_YET),
        ({"status": {}}, NOT_YET),
        ({"status": {"conditions": [condition("Accepted", "False", "SlugConflict")]}}, "SlugConflict"),
        (
            {
                "status": {
                    "conditions": [
                        condition("Accepted", "True", "Accepted"),
                        condition("Synced", "False", "SecretAccessDenied"),
                    ]
                }
            },
            "not complete (SecretAccessDenied)",
        ),
        ({"status": {**ACCEPTED, "conditions": [condition("Accepted", "False", "QuotaExceeded")]}}, "QuotaExceeded"),
        ({"status": ACCEPTED, "deleting": True}, "being deleted"),
    ],
)
def test_a_tenant_that_can_have_none_says_why(said, says):
    assert says in (not_ready(make_tenant(**said)) or "")


@pytest.mark.parametrize("wish", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_a_tenant_is_suspended_when_it_says_so_and_while_it_is_paused_as_it_was(wish, before):
    ready = condition("Ready", "False", "Suspended") if before else condition("Ready", "True", "Available")
    said = {"more": {"suspend": wish}, "status": {"conditions": [ready]}}
    assert suspended(make_tenant(**said)) is wish
    assert suspended(make_tenant(**said, annotations={PAUSED: "true"})) is before
