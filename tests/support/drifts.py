"""What people change behind the operator's back, and what must be so once it has noticed."""

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from leaderboard_operator.resources import FINALIZER
from support.operator import leaderboard, tenant
from support.stores import Stores
from support.team import Rest, Team

SCORES = [("ada", 5), ("bob", 3)]
TENANT = {"plan": "pro", "display_name": None, "max_leaderboards": None, "suspended": False}
BOARD = {
    "max_entries": 100,
    "public_read": False,
    "suspended": False,
    "state": "active",
    "sort_order": "descending",
    "score_update": "sum",
    "bounds": {"min_score": None, "max_score": 1000.0, "max_gain": None, "per_seconds": None},
}
META = {"rule": "s", "ord": "d", "max": "100", "pub": "0", "state": "a", "bounds": "- 1000.0 - -"}

Reasons = dict[str, list[str]]
"""Of Events, the oldest first, by the kind they are about."""


class Seen:
    """Everything in a team's namespace at one moment."""

    def __init__(self, team: Team) -> None:
        self._objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        for found in team.kube.items("tenants,leaderboards,secrets,events"):
            if found["kind"] == "Event":
                self.events.append(found)
            else:
                self._objects[found["kind"], found["metadata"]["name"]] = found
        self.events.sort(key=lambda event: int(event["metadata"]["resourceVersion"]))

    def find(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object."""
        return self._objects[kind, name]

    def status(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object's status."""
        return dict(self.find(kind, name).get("status") or {})

    def secret(self, name: str) -> dict[str, str]:
        """Return what is in a Secret."""
        data = self.find("Secret", name)["data"]
        return {name: base64.b64decode(value).decode() for name, value in data.items()}

    def told(self, name: str, *, besides: Iterable[str] = ()) -> Reasons:
        """Return the reasons of the Events about the objects of that name, but for those with the UIDs `besides`."""
        reasons: Reasons = {"Tenant": [], "Leaderboard": []}
        for event in self.events:
            if event["involvedObject"]["name"] == name and event["metadata"]["uid"] not in besides:
                reasons[event["involvedObject"]["kind"]].append(event["reason"])
        return reasons


class Case:
    """One Tenant with one Leaderboard, both of one name, before and after something was done to them."""

    def __init__(self, team: Team, stores: Stores, drift: "Drift") -> None:
        self.team, self.stores, self.drift = team, stores, drift
        self.name = drift.name
        self.tenant = tenant(self.name, plan=TENANT["plan"])
        self.board = leaderboard(
            self.name,
            of=self.name,
            maxEntries=BOARD["max_entries"],
            bounds={"maxScore": 1000},
            tiePolicy=drift.ties,
        )
        self.took: float | None = None
        """Seconds until the operator had dealt with it."""

    def begin(self, seen: Seen) -> None:
        """Write scores, and remember how things are."""
        self._known = {event["metadata"]["uid"] for event in seen.events}
        self.uids = {kind: seen.find(kind, self.name)["metadata"]["uid"] for kind in ("Tenant", "Leaderboard")}
        status = seen.status("Tenant", self.name)
        self.tenant_id = status["tenantID"]
        self.key_id, self.secret_name = (status["apiKeys"][0][name] for name in ("id", "secretName"))
        status = seen.status("Leaderboard", self.name)
        self.board_id, self.namespace = status["leaderboardID"], status["redisNamespace"]
        self.rest = Rest(self.team.url, seen.secret(self.secret_name)["api-key"])
        for user, score in SCORES:
            assert self.rest.add(self.name, user, score).status == 200

    @property
    def meta(self) -> str:
        return f"meta:{{{self.namespace}}}"

    @property
    def order(self) -> str:
        return f"order:{{{self.namespace}}}"

    def told(self, seen: Seen) -> Reasons:
        """Return the reasons of the Events since `begin`."""
        return seen.told(self.name, besides=self._known)

    def done(self, seen: Seen) -> bool:
        """Whether the operator has dealt with it."""
        told = self.told(seen)
        return all(set(reasons) <= set(told[kind]) for kind, reasons in self.drift.told.items()) and (
            self.drift.until is None or self.drift.until(self, seen)
        )

    def check(self, seen: Seen) -> None:
        """Assert that the rows, Redis, the statuses, the Secret and the API are as the specs ask."""
        row = self.stores.tenant(self.tenant_id)
        assert row is not None
        assert {name: row[name] for name in TENANT} == TENANT
        assert row["managed_by"] == self.uids["Tenant"]
        row = self.stores.board(self.board_id)
        assert row is not None
        assert {name: row[name] for name in BOARD} == BOARD
        assert row["managed_by"] == self.uids["Leaderboard"]
        meta = self.stores.meta(self.namespace)
        assert {name: meta[name] for name in META} == META
        assert (meta["id"], meta["inc"]) == (str(self.board_id), str(row["incarnation"]))
        for kind in ("Tenant", "Leaderboard"):
            assert FINALIZER in seen.find(kind, self.name)["metadata"]["finalizers"]
            said = {told["type"]: told["status"] for told in seen.status(kind, self.name)["conditions"]}
            assert {said[type] for type in ("Accepted", "Synced", "Ready")} == {"True"}
        status = seen.status("Leaderboard", self.name)
        assert (status["leaderboardID"], status["redisNamespace"]) == (self.board_id, self.namespace)
        assert status["entries"] == len(SCORES)
        status = seen.status("Tenant", self.name)
        assert status["tenantID"] == self.tenant_id
        (told,) = status["apiKeys"]
        # One key without an end, which is the one in the Secret; the API knows it, with its scope and its scores.
        keys = self.stores.keys(self.tenant_id)
        (current,) = [key for key in keys if key["state"] == "active" and key["expires_at"] is None]
        assert (told["id"], current["scope"]) == (current["id"], "admin")
        secret = seen.secret(told["secretName"])
        assert secret.pop("api-key").startswith(f"lb_live_{current['id']}_")
        assert secret == {
            "api-key-id": current["id"],
            "tenant-id": str(self.tenant_id),
            "project": "default",
            "endpoint": self.team.url,
        }
        rest = self.rest_now(seen)
        assert rest.top(self.name) == SCORES
        # Takes admin: others would get 403.
        assert rest("PATCH", f"/v1/leaderboards/{self.name}", {"max_entries": 1}).status == 409
        assert (rest.key == self.rest.key) == self.drift.keeps_key
        if self.drift.and_then is not None:
            self.drift.and_then(self, seen)

    def rest_now(self, seen: Seen) -> Rest:
        """Return the API with the key that is in the Secret now."""
        (told,) = seen.status("Tenant", self.name)["apiKeys"]
        return Rest(self.team.url, seen.secret(told["secretName"])["api-key"])


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Something that somebody does to the things of a case."""

    name: str
    do: Callable[[Case], None]
    told: Mapping[str, list[str]] = field(default_factory=dict)
    """The reasons of the Events that have to come of it, by kind, and no others."""
    may_tell: Mapping[str, list[str]] = field(default_factory=dict)
    """Those of the other object, where the sweep happens to come to it first."""
    until: Callable[[Case, Seen], bool] | None = None
    """What else says that it was dealt with."""
    keeps_key: bool = True
    """Whether the API key stays the one it was."""
    and_then: Callable[[Case, Seen], None] | None = None
    """Asserts what else has to hold in the end."""
    ties: str = "FirstToReach"


DRIFTS: dict[str, Drift] = {}
REPAIRED = ["Repaired"]


def drift(told: Mapping[str, list[str]], **more: Any) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    """Register what the function does, under its name."""

    def register(do: Callable[[Case], None]) -> Callable[[Case], None]:
        name = do.__name__.strip("_").replace("_", "-")
        DRIFTS[name] = Drift(name=name, do=do, told=told, **more)
        return do

    return register


tenant_drift = {"told": {"Tenant": REPAIRED}}
board_drift = {"told": {"Leaderboard": REPAIRED}}
key_drift = {**tenant_drift, "keeps_key": False}


def _the_old_key_ended(case: Case, seen: Seen) -> None:
    assert case.rest.status == 401


secret_drift = {**key_drift, "and_then": _the_old_key_ended}


# -- rows


@drift(**tenant_drift)
def tenant_row_edited(case: Case) -> None:
    case.stores.run(
        "UPDATE tenants SET plan = 'free', display_name = 'x', max_leaderboards = 0, suspended = true WHERE id = %s",
        case.tenant_id,
    )


@drift(told={"Tenant": REPAIRED, "Leaderboard": REPAIRED}, keeps_key=False)
def tenant_rows_deleted(case: Case) -> None:
    """As in a database that was restored from before the Tenant was made."""
    for table in ("api_keys", "leaderboards"):
        case.stores.run(
            f"DELETE FROM {table} WHERE project_id IN (SELECT id FROM projects WHERE tenant_id = %s)", case.tenant_id
        )
    case.stores.run("DELETE FROM projects WHERE tenant_id = %s", case.tenant_id)
    case.stores.run("DELETE FROM tenants WHERE id = %s", case.tenant_id)


@drift(**board_drift)
def board_row_deleted(case: Case) -> None:
    case.stores.run("DELETE FROM leaderboards WHERE id = %s", case.board_id)


@drift(**board_drift)
def board_row_edited(case: Case) -> None:
    case.stores.run(
        "UPDATE leaderboards SET max_entries = 1, public_read = true, suspended = true, bounds = NULL WHERE id = %s",
        case.board_id,
    )


@drift(**board_drift)
def board_rules_edited(case: Case) -> None:
    """Columns that no resource and no request can change."""
    case.stores.run(
        "UPDATE leaderboards SET sort_order = 'ascending', score_update = 'best' WHERE id = %s", case.board_id
    )


@drift(**board_drift)
def board_incarnation_edited(case: Case) -> None:
    case.stores.run("UPDATE leaderboards SET incarnation = incarnation + 3 WHERE id = %s", case.board_id)


@drift(**key_drift)
def key_row_deleted(case: Case) -> None:
    case.stores.run("DELETE FROM api_keys WHERE id = %s", case.key_id)


@drift(**key_drift)
def key_hash_edited(case: Case) -> None:
    case.stores.run("UPDATE api_keys SET hmac = sha256(hmac) WHERE id = %s", case.key_id)


@drift(**key_drift)
def key_revoked(case: Case) -> None:
    case.stores.run("UPDATE api_keys SET state = 'revoked', revoked_at = now() WHERE id = %s", case.key_id)


@drift(**tenant_drift)
def key_scope_edited(case: Case) -> None:
    case.stores.run("UPDATE api_keys SET scope = 'read' WHERE id = %s", case.key_id)


# -- Redis


@drift(**board_drift)
def meta_deleted(case: Case) -> None:
    case.stores.redis.delete(case.meta)


@drift(**board_drift)
def meta_edited(case: Case) -> None:
    case.stores.redis.hset(case.meta, mapping={"rule": "b", "max": "1", "state": "s", "pub": "1", "bounds": ""})


@drift(**board_drift)
def meta_fields_deleted(case: Case) -> None:
    case.stores.redis.hdel(case.meta, "rule", "state")


@drift(**board_drift)
def entries_deleted(case: Case) -> None:
    case.stores.redis.delete(case.namespace, case.order)


@drift(**board_drift, ties="UserId")
def entries_by_user_deleted(case: Case) -> None:
    case.stores.redis.delete(case.namespace)


@drift(**board_drift)
def one_entry_deleted(case: Case) -> None:
    case.stores.redis.zpopmax(case.namespace)


@drift(**board_drift)
def orders_deleted(case: Case) -> None:
    case.stores.redis.delete(case.order)


@drift(**board_drift)
def entries_of_another_type(case: Case) -> None:
    case.stores.redis.set(case.namespace, "not a sorted set")


# -- Secrets


@drift(**secret_drift)
def secret_deleted(case: Case) -> None:
    case.team.kube("delete", "secret", case.secret_name)


@drift(**secret_drift)
def secret_key_edited(case: Case) -> None:
    _write_secret(case, **{"api-key": case.rest.key[:-1] + "x"})


@drift(**secret_drift)
def secret_key_of_another(case: Case) -> None:
    """A key that works, but elsewhere."""
    other = tenant("another")
    case.team.apply(other)
    _write_secret(case, **case.team.secret(other))


@drift(**tenant_drift)
def secret_fields_edited(case: Case) -> None:
    _write_secret(case, endpoint="https://example.com", **{"tenant-id": "1", "project": "x"})


def _the_secret_is_left_alone(case: Case, seen: Seen) -> None:
    _the_old_key_ended(case, seen)
    (told,) = seen.status("Tenant", case.name)["apiKeys"]
    assert told["secretName"] != case.secret_name
    assert seen.secret(case.secret_name)["api-key"] == case.rest.key


@drift(**key_drift, and_then=_the_secret_is_left_alone)
def secret_disowned(case: Case) -> None:
    """It is not the operator's any more: the key has to move to another Secret."""
    case.team.kube.patch("secret", case.secret_name, {"metadata": {"ownerReferences": None}})


def _write_secret(case: Case, **fields: str) -> None:
    data = {name: base64.b64encode(value.encode()).decode() for name, value in fields.items()}
    case.team.kube.patch("secret", case.secret_name, {"data": data})


# -- Tenants and Leaderboards themselves


@drift({"Tenant": ["Available"]})
def tenant_status_edited(case: Case) -> None:
    _write_status(case, case.tenant, tenantID=1, leaderboards=7, apiKeys=[{"project": "x", "id": "x"}])


@drift({"Leaderboard": ["Available"]})
def leaderboard_status_edited(case: Case) -> None:
    _write_status(case, case.board, leaderboardID=1, redisNamespace="l:1:x:y", entries=9)


def _write_status(case: Case, found: Mapping[str, Any], **status: Any) -> None:
    """Write fields of a status, and a Ready condition that is not so."""
    conditions = case.team.status(found)["conditions"]
    for said in conditions:
        if said["type"] == "Ready":
            said |= {"status": "False", "reason": "ByHand"}
    change = {"status": {**status, "conditions": conditions}}
    case.team.kube.patch(found["kind"], case.name, change, "--subresource=status")


@drift({"Tenant": ["Available"]}, may_tell={"Leaderboard": ["TenantNotReady", "Available"]})
def tenant_status_deleted(case: Case) -> None:
    case.team.kube.patch("tenant", case.name, {"status": None}, "--subresource=status")


def _has_a_status(case: Case, seen: Seen) -> bool:
    return "entries" in seen.status("Leaderboard", case.name)


@drift({}, until=_has_a_status)
def leaderboard_status_deleted(case: Case) -> None:
    case.team.kube.patch("leaderboard", case.name, {"status": None}, "--subresource=status")


def _are_held(case: Case, seen: Seen) -> bool:
    kinds = ("Tenant", "Leaderboard")
    return all(FINALIZER in seen.find(kind, case.name)["metadata"].get("finalizers", ()) for kind in kinds)


@drift({}, until=_are_held)
def finalizers_removed(case: Case) -> None:
    for kind in ("tenant", "leaderboard"):
        case.team.kube.patch(kind, case.name, {"metadata": {"finalizers": None}})
