"""Whether the resources, the Secrets, Postgres, Redis and the API say the same, and that which was asked for."""

import base64
import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg
import redis
from psycopg.rows import namedtuple_row

from leaderboard.domain.errors import InvalidApiKey
from leaderboard.domain.keys import digest, parse_key
from leaderboard.local.process import wait_until
from leaderboard.local.up import opener
from leaderboard.store.redis import keys
from support.arena import Arena
from support.campaign import Campaign, Name, Place

_TENANTS = "SELECT id, slug, managed_by, plan, display_name FROM tenants WHERE deleted_at IS NULL"
_DELETED = "SELECT slug, managed_by FROM tenants WHERE deleted_at IS NOT NULL"
_PROJECTS = "SELECT p.id, t.id AS tenant, p.name FROM projects p JOIN tenants t ON t.id = p.tenant_id"
_KEYS = "SELECT id, project_id, hmac, state, expires_at, rotation_trigger FROM api_keys WHERE state <> 'revoked'"
_BOARDS = """
SELECT l.id, t.id AS tenant, t.slug, p.id AS project_id, p.name AS project, l.key, l.state, l.managed_by,
       l.max_entries, l.public_read, l.incarnation
FROM leaderboards l JOIN projects p ON p.id = l.project_id JOIN tenants t ON t.id = p.tenant_id
WHERE l.state <> 'deleted'
"""


class _World(NamedTuple):
    """Everything there is, as read at about one moment."""

    objects: Mapping[tuple[str, str, str], dict[str, Any]]
    tenants: list[Any]
    deleted: list[Any]
    projects: list[Any]
    keys: list[Any]
    boards: list[Any]
    metas: Mapping[str, Mapping[str, str]]
    entries: Mapping[str, int]
    now: datetime


class Agreement:
    """Compares; it remembers the ids of what it found in order and the scores it wrote, which have to stay."""

    def __init__(self, arena: Arena, campaign: Campaign) -> None:
        self._arena = arena
        self._campaign = campaign
        self._tenant_ids: dict[str, int] = {}
        self._board_ids: dict[Place, int] = {}
        self._scored: set[int] = set()
        self.revoked: list[str] = []

    def wait(self, *, seconds: float, counts: bool = False) -> None:
        """Wait until nothing is wrong, or fail with what still is. Then give each new board a score.

        `counts` also waits for the Tenants' numbers of boards, which follow some seconds later.
        """
        found: list[str] = []

        def fine() -> bool:
            found[:] = self.problems(counts=counts)
            return not found

        agreed = wait_until(fine, seconds=seconds, pause=0.2)
        assert agreed, f"after {seconds:g} s:\n" + "\n".join(found)
        self._remember()

    def problems(self, *, counts: bool = False) -> list[str]:
        """Return what does not agree, for people to read."""
        world = self._look()
        found = [
            *(self._counts(world) if counts else ()),
            *self._resources(world),
            *self._rows(world),
            *self._boards(world),
            *self._redis(world),
            *self._keys(world),
        ]
        return found or list(self._answers(world))

    def _look(self) -> _World:
        with psycopg.connect(self._arena.platform.database, row_factory=namedtuple_row) as conn:
            rows = [conn.execute(sql).fetchall() for sql in (_TENANTS, _DELETED, _PROJECTS, _KEYS, _BOARDS)]
        with redis.Redis.from_url(self._arena.platform.redis_url, decode_responses=True) as client:
            metas = {name: client.hgetall(name) for name in client.scan_iter("meta:*", count=1000)}
            entries = {name: client.zcard(name) for name in client.scan_iter("l:*", count=1000)}
        objects = self._arena.objects()
        tenants, deleted, projects, found, boards = rows
        return _World(objects, tenants, deleted, projects, found, boards, metas, entries, datetime.now(UTC))

    # -- each a part of it

    def _resources(self, world: _World) -> Iterator[str]:
        wanted = self._campaign.wanted
        there = {Name(*key) for key in world.objects if key[0] != "Secret"}
        for name in there - wanted.keys():
            yield f"{name} should be gone: {world.objects[name]['metadata']} {_conditions(world.objects[name])}"
        for name in wanted.keys() - there:
            yield f"{name} is not there"
        for name in wanted.keys() & there:
            item = world.objects[name]
            generation = item["metadata"]["generation"]
            said = {each["type"]: each for each in (item.get("status") or {}).get("conditions", ())}
            types = {"Accepted", "Synced", "Ready"} | ({"CredentialsReady"} if name.kind == "Tenant" else set())
            if said.keys() != types or any(
                each["status"] != "True" or each["observedGeneration"] != generation for each in said.values()
            ):
                yield f"{name}, generation {generation}, is not ready: {_conditions(item)}"

    def _rows(self, world: _World) -> Iterator[str]:
        resources = [world.objects[name] for name in self._campaign.tenants() if name in world.objects]
        wanted = {
            (item["spec"]["slug"], item["metadata"]["uid"], (item.get("status") or {}).get("tenantID"))
            for item in resources
        }
        there = {(row.slug, row.managed_by, row.id) for row in world.tenants}
        for extra in there - wanted:
            yield f"tenant row {extra} has no Tenant"
        for lost in wanted - there:
            yield f"Tenant {lost} has no row"
        owners = Counter(row.managed_by for row in [*world.tenants, *world.deleted] if row.managed_by)
        yield from (f"{uid} has {count} tenants" for uid, count in owners.items() if count > 1)
        by_slug = {row.slug: row for row in world.tenants}
        for item in resources:
            spec, row = item["spec"], by_slug.get(item["spec"]["slug"])
            if row is None:
                continue
            projects = {project.name for project in world.projects if project.tenant == row.id}
            if {project["name"] for project in spec["projects"]} != projects:
                yield f"tenant {row.slug} has the projects {projects}"
            if (row.plan, row.display_name) != (spec["plan"], spec.get("displayName")):
                yield f"tenant {row.slug} is as of before: {row}"
            if self._tenant_ids.get(row.slug, row.id) != row.id:
                yield f"tenant {row.slug} was {self._tenant_ids[row.slug]} and is {row.id}: doubled"

    def _counts(self, world: _World) -> Iterator[str]:
        for name in world.objects.keys() & self._campaign.tenants():
            status = world.objects[name].get("status") or {}
            boards = sum(board.tenant == status.get("tenantID") for board in world.boards)
            if status.get("leaderboards") != boards:
                yield f"{name} says it has {status.get('leaderboards')} boards, and has {boards}"

    def _boards(self, world: _World) -> Iterator[str]:
        places = {Place(row.slug, row.project, row.key): row for row in world.boards}
        if len(places) != len(world.boards):
            yield "a board is there twice"
        wanted = set()
        for name in self._campaign.boards():
            item = world.objects.get(name)
            if item is None:
                continue
            place = self._campaign.place(self._campaign.wanted[name])
            row, status, spec = places.get(place), item.get("status") or {}, item["spec"]
            wanted.add(place)
            if row is None or (row.managed_by, row.id) != (item["metadata"]["uid"], status.get("leaderboardID")):
                yield f"Leaderboard {name} is not the board of {row}"
            elif (row.max_entries, row.public_read) != (spec["maxEntries"], spec["publicRead"]):
                yield f"board {place} is as of before: {row}"
            elif status["redisNamespace"] != keys.board(row.tenant, row.project, row.key):
                yield f"{name} names {status['redisNamespace']}"
        for place, row in places.items():
            if row.state != "active":
                yield f"board {row} is half deleted"
            if self._board_ids.get(place, row.id) != row.id:
                yield f"board {place} was {self._board_ids[place]} and is {row.id}: doubled"
            if place not in wanted and row.managed_by is not None:
                yield f"board {row} has no Leaderboard"
        for place in self._campaign.kept.keys() - places.keys():
            yield f"board {place} was to be kept"

    def _redis(self, world: _World) -> Iterator[str]:
        wanted = {keys.board(row.tenant, row.project, row.key): row for row in world.boards}
        metas = {keys.meta(name) for name in wanted}
        yield from (f"Redis has {name}, which no row has" for name in world.metas.keys() - metas)
        yield from (f"Redis has entries of {name}, which no row has" for name in world.entries.keys() - wanted.keys())
        for name, row in wanted.items():
            meta = world.metas.get(keys.meta(name), {})
            rules = {"id": row.id, "inc": row.incarnation, "max": row.max_entries, "pub": int(row.public_read)}
            if meta.get("state") != "a" or any(meta.get(field) != str(value) for field, value in rules.items()):
                yield f"{name} is {row} in Postgres and {dict(meta)} in Redis"
            if world.entries.get(name, 0) != (row.id in self._scored):
                yield f"{name} has {world.entries.get(name, 0)} entries"

    def _keys(self, world: _World) -> Iterator[str]:
        pepper = self._arena.platform.pepper.encode()
        rows = {row.id: row for row in world.keys}
        yield from (f"key {row.id} is still pending" for row in world.keys if row.state == "pending")
        in_force = {row.id for row in world.keys if row.state == "active" and row.expires_at is None}
        secrets = {key[1:] for key in world.objects if key[0] == "Secret"}
        for name in self._campaign.tenants():
            if name not in world.objects:
                continue
            item = world.objects[name]
            told = {key["project"]: key for key in (item.get("status") or {}).get("apiKeys", ())}
            yield from _same(f"{name}: keys", told.keys(), {each["name"] for each in item["spec"]["projects"]})
            for project, key in told.items():
                secrets.discard((name.namespace, key["secretName"]))
                data = _data(world.objects.get(("Secret", name.namespace, key["secretName"])))
                row = rows.get(key["id"])
                try:
                    text = parse_key(data.get("api-key", ""))
                except InvalidApiKey as error:
                    yield f"{name}: the Secret of {project} has no key: {error}"
                    continue
                if not text.id == key["id"] == data["api-key-id"] or data["project"] != project:
                    yield f"{name}: the Secret of {project} has {data['api-key-id']}, the status {key}"
                elif row is None or text.id not in in_force or row.hmac != digest(text, pepper=pepper):
                    yield f"{name}: the Secret of {project} has key {text.id}, which is not in force in Postgres: {row}"
                elif row.rotation_trigger != (item["spec"].get("apiKey") or {}).get("rotationTrigger"):
                    yield f"{name}: key {text.id} of {project} is due to be rotated"
                in_force.discard(text.id)
        yield from (f"Secret {name} belongs to no Tenant" for name in secrets)
        yield from (f"key {key_id} is in force, and no Secret has it" for key_id in in_force)

    def _answers(self, world: _World) -> Iterator[str]:
        """Ask the API for the boards of each project, with the key of its Secret."""
        projects = {(row.tenant, row.name): row.id for row in world.projects}
        for tenant_id, project, text in self._texts(world):
            boards = sorted(row.key for row in world.boards if row.project_id == projects[tenant_id, project])
            status, answer = self.ask("GET", "/v1/leaderboards?limit=100", key=text)
            listed = [board["key"] for board in answer.get("leaderboards", ())]
            if (status, listed) != (200, boards):
                yield f"project {project} of tenant {tenant_id} has {boards}; its key is answered {status} {answer}"

    def _texts(self, world: _World) -> Iterator[tuple[int, str, str]]:
        for name in self._campaign.tenants():
            status = world.objects[name]["status"]
            for key in status["apiKeys"]:
                data = _data(world.objects["Secret", name.namespace, key["secretName"]])
                yield status["tenantID"], key["project"], data["api-key"]

    def _remember(self) -> None:
        world = self._look()
        self._campaign.settle()
        self._tenant_ids |= {row.slug: row.id for row in world.tenants}
        places = {Place(row.slug, row.project, row.key): row.id for row in world.boards}
        self._board_ids |= places
        texts = {(tenant_id, project): text for tenant_id, project, text in self._texts(world)}
        for row in world.boards:
            text = texts.get((row.tenant, row.project))
            if row.id not in self._scored and text is not None:
                body = {"leaderboard": row.key, "user": "ada", "increment": 1}
                status, answer = self.ask("POST", "/v1/scores/update", key=text, body=body)
                assert (status, answer.get("score")) == (200, 1), (row, status, answer)
                self._scored.add(row.id)

    def ask(self, method: str, path: str, *, key: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """Send the API one request and return its answer."""
        request = urllib.request.Request(
            self._arena.platform.url + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        try:
            with opener.open(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())
        except OSError as error:
            return 0, {"error": str(error)}


def _same(what: str, there: Any, wanted: Any) -> Iterator[str]:
    if set(there) != set(wanted):
        yield f"{what} are {sorted(there)} and should be {sorted(wanted)}"


def _data(secret: Mapping[str, Any] | None) -> dict[str, str]:
    data = (secret or {}).get("data") or {}
    return {name: base64.b64decode(value).decode() for name, value in data.items()}


def _conditions(item: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{each['type']}={each['status']} {each['reason']} ({each['observedGeneration']}): {each['message']}"
        for each in (item.get("status") or {}).get("conditions", ())
    )
