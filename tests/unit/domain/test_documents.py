"""Documents: what they mean, and that every refusal names the field."""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.domain import documents
from leaderboard.domain.boards import BoardSpec, ScoreUpdate, SortOrder, TiePolicy
from leaderboard.domain.bounds import Bounds
from leaderboard.domain.documents import DeletionPolicy, LeaderboardDocument, TenantDocument, parse, seconds
from leaderboard.domain.errors import DomainError, InvalidDocument
from leaderboard.domain.keys import Scope
from leaderboard.domain.tiers import Tier


def tenant(**spec):
    return document("Tenant", {"slug": "acme"} | spec)


def board(**spec):
    return document("Leaderboard", {"tenantRef": {"name": "acme"}, "key": "global"} | spec)


def document(kind, spec, **changes):
    return {"apiVersion": documents.API_VERSION, "kind": kind, "metadata": {"name": "one"}, "spec": spec} | changes


def without(given, field):
    return {name: value for name, value in given.items() if name != field}


def test_a_tenant_has_its_defaults():
    parsed = parse(tenant())
    assert isinstance(parsed, TenantDocument)
    assert [project.name for project in parsed.spec.projects] == ["default"]
    assert parsed.spec.plan == "free"
    assert parsed.spec.deletion_policy is DeletionPolicy.RETAIN
    assert parsed.spec.api_key.scope is Scope.ADMIN
    assert parsed.spec.quotas is None


def test_a_leaderboard_has_its_defaults():
    parsed = parse(board())
    assert isinstance(parsed, LeaderboardDocument)
    assert parsed.spec.project == "default"
    assert parsed.spec.board() == BoardSpec(key="global")


def test_a_leaderboard_says_its_rules_in_the_platforms_terms():
    parsed = parse(
        board(
            sortOrder="Ascending",
            scoreUpdate="Best",
            tiePolicy="Shared",
            maxEntries=5,
            publicRead=True,
            tiers=[{"name": "Podium", "top": 3}, {"name": "Half", "percent": 50}],
            suspend=True,
        )
    )
    assert parsed.spec.board() == BoardSpec(
        key="global",
        sort_order=SortOrder.ASCENDING,
        score_update=ScoreUpdate.BEST,
        tie_policy=TiePolicy.SHARED,
        max_entries=5,
        public_read=True,
        tiers=(Tier(name="Podium", top=3), Tier(name="Half", percent=50.0)),
        suspended=True,
    )


def test_a_leaderboard_says_what_it_believes():
    asked = board(bounds={"minScore": 0, "maxScore": 1e6, "maxGain": 2.5, "perSeconds": 3600})
    bounds = Bounds(min_score=0, max_score=1_000_000, max_gain=2.5, per_seconds=3600)
    assert parse(asked).spec.board().bounds == bounds
    assert parse(board(bounds={"minScore": -5})).spec.board().bounds == Bounds(min_score=-5)


REFUSED = [
    (tenant() | {"apiVersion": "v1"}, "apiVersion"),
    (without(tenant(), "apiVersion"), "apiVersion"),
    (tenant() | {"kind": "Pod"}, "kind"),
    (without(tenant(), "kind"), "kind"),
    (tenant() | {"metadata": {}}, "metadata.name"),
    (tenant() | {"metadata": None}, "metadata.name"),
    (tenant() | {"metadata": {"name": 5}}, "metadata.name"),
    (tenant() | {"metadata": {"name": "a", "namespace": 5}}, "metadata.namespace"),
    (without(tenant(), "spec"), "spec"),
    (tenant() | {"spec": []}, "spec"),
    (document("Tenant", {}), "slug"),
    (tenant(slug="A"), "slug"),
    (tenant(slug="a\n"), "slug"),
    (tenant(slug=5), "spec.slug"),
    (tenant(colour="red"), "colour"),
    (tenant(suspend="yes"), "spec.suspend"),
    (tenant(plan=5), "spec.plan"),
    (tenant(projects=[]), "projects"),
    (tenant(projects=[{"name": "a"}, {"name": "a"}]), "projects"),
    (tenant(projects=[{"name": "a:b"}]), "project name"),
    (tenant(projects=[{"nam": "a"}]), "spec.projects[0]"),
    (tenant(projects="a"), "spec.projects"),
    (tenant(quotas={"maxLeaderboards": "many"}), "spec.quotas.maxLeaderboards"),
    (tenant(quotas={"maxLeaderboards": True}), "spec.quotas.maxLeaderboards"),
    (tenant(quotas={"requests": 5}), "spec.quotas"),
    (tenant(deletionPolicy="Orphan"), "spec.deletionPolicy"),
    (tenant(apiKey={"scope": "root"}), "spec.apiKey.scope"),
    (tenant(apiKey={"gracePeriod": "1 day"}), "apiKey.gracePeriod"),
    (tenant(apiKey={"gracePeriod": ""}), "apiKey.gracePeriod"),
    (tenant(apiKey={"gracePeriod": 5}), "spec.apiKey.gracePeriod"),
    (tenant(apiKey={"gracePeriod": "٣h"}), "apiKey.gracePeriod"),
    (tenant(apiKey={"gracePeriod": "9" * 5000 + "d"}), "apiKey.gracePeriod"),
    (tenant(apiKey={"rotateEvery": "1h\n"}), "apiKey.rotateEvery"),
    (tenant(apiKey={"rotateEvery": "1h", "gracePeriod": "1h"}), "apiKey.rotateEvery"),
    (tenant(allowedNamespaces={"from": "Everywhere"}), "spec.allowedNamespaces.from"),
    (document("Leaderboard", {"key": "global"}), "tenantRef"),
    (board(tenantRef="acme"), "spec.tenantRef"),
    (board(tenantRef={}), "spec.tenantRef"),
    (board(key="Global"), "key"),
    (board(key="a" * 129), "key"),
    (board(project="a.b"), "project"),
    (board(sortOrder="descending"), "spec.sortOrder"),
    (board(scoreUpdate="Max"), "spec.scoreUpdate"),
    (board(tiePolicy="Random"), "spec.tiePolicy"),
    (board(maxEntries=-1), "max_entries"),
    (board(maxEntries=10_000_001), "max_entries"),
    (board(maxEntries=1.5), "spec.maxEntries"),
    (board(publicRead=1), "spec.publicRead"),
    (board(reset={"schedule": "@daily"}), "reset"),
    (board(tiers={"name": "a", "top": 1}), "spec.tiers"),
    (board(tiers=[{"name": "a", "top": 1, "rank": 1}]), "spec.tiers[0]"),
    (board(tiers=[{"top": 1}]), "spec.tiers[0]"),
    (board(tiers=[{"name": "a", "top": 1.5}]), "spec.tiers[0].top"),
    (board(tiers=[{"name": "a", "percent": "1"}]), "spec.tiers[0].percent"),
    (board(tiers=[{"name": "a", "percent": 0}]), "tiers: 'a': percent"),
    (board(tiers=[{"name": "a", "percent": float("nan")}]), "tiers: 'a': percent"),
    (board(tiers=[{"name": "a", "percent": 10**400}]), "tiers"),
    (board(tiers=[{"name": "a", "top": 10**400}]), "tiers"),
    (board(tiers=[{"name": "a\n", "top": 1}]), "tiers: the name"),
    (board(tiers=[{"name": "a", "top": 2}, {"name": "b", "top": 1}]), "tiers: 'b'"),
    (board(bounds={}), "bounds: name a smallest score"),
    (board(bounds={"minScore": 2, "maxScore": 1}), "bounds: the smallest score (2)"),
    (board(bounds={"maxGain": 5}), "come together"),
    (board(bounds={"perSeconds": 5}), "come together"),
    (board(bounds={"maxGain": 0, "perSeconds": 5}), "above 0"),
    (board(bounds={"maxGain": 5, "perSeconds": 604_801}), "1 to 604800 seconds"),
    (board(bounds={"maxGain": 5, "perSeconds": 0.5}), "spec.bounds.perSeconds"),
    (board(bounds={"maxScore": "many"}), "spec.bounds.maxScore"),
    (board(bounds={"maxScore": float("inf")}), "bounds: the largest score must be a finite number"),
    (board(bounds={"max_score": 1}), "spec.bounds"),
]


@pytest.mark.parametrize(("given", "field"), REFUSED, ids=[f"{n}-{field}" for n, (_, field) in enumerate(REFUSED)])
def test_what_is_refused_is_named(given, field):
    with pytest.raises(InvalidDocument) as refused:
        parse(given)
    assert field in str(refused.value)
    assert len(str(refused.value)) < 1000


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text("aZ5-._ü", max_size=8)
fields = st.sampled_from(["name", "scope", "maxLeaderboards", "x"])
json = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(["Tenant", "Leaderboard"]),
    st.dictionaries(
        st.sampled_from(["slug", "key", "projects", "quotas", "apiKey", "tenantRef", "maxEntries", "suspend", "plan"]),
        json,
    ),
)
def test_no_document_raises_anything_but_a_refusal(kind, spec):
    with contextlib.suppress(DomainError):
        parse(document(kind, spec))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30s", 30), ("15m", 900), ("24h", 86_400), ("7d", 604_800), ("1h30m", 5_400), ("1d1h1m1s", 90_061), ("0s", 0)],
)
def test_durations(text, expected):
    assert seconds(text, field="f") == expected


@pytest.mark.parametrize("text", ["", "5", "h", "1w", "-1h", "1.5h", "1m1h", "1h 5m", "1H", "1h\n", "1_0s", "1e3s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InvalidDocument, match="apiKey"):
        seconds(text, field="apiKey")


def test_the_longest_duration_still_fits_a_date():
    longest = seconds("999999d999999h999999m999999s", field="f")
    assert datetime.now(UTC) + timedelta(seconds=longest)
