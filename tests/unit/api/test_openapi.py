"""The committed document against the routes and the table of problems; no server runs."""

import json
import re
from typing import Any

import falcon.testing
import msgspec
import pytest

from leaderboard.api import problems, queries, sessions
from leaderboard.api.app import Clock, create_app
from leaderboard.api.bodies import MAX_BATCH, BoardChange, NewBoard, TierBody, Update
from leaderboard.api.http1 import HEAD_BYTES, REQUEST_SECONDS
from leaderboard.api.resources import events, reads, stream, users
from leaderboard.api.resources import quarantine as held_updates
from leaderboard.api.resources.docs import document
from leaderboard.api.resources.history import PATIENCE
from leaderboard.api.resources.keys import DEFAULT_GRACE_SECONDS, MAX_GRACE_SECONDS, NewKeyRequest, Rotation
from leaderboard.config import Config
from leaderboard.control import own_keys
from leaderboard.domain import names, tiers
from leaderboard.domain.bills import Bill
from leaderboard.domain.boards import MAX_ENTRIES_LIMIT, ScoreUpdate, SortOrder, TiePolicy
from leaderboard.domain.bounds import MAX_INTERVAL_SECONDS, Broken
from leaderboard.domain.erasures import ErasureState, Touched
from leaderboard.domain.scores import MAX_EXACT
from leaderboard.domain.signatures import Signed
from leaderboard.store.postgres.history import STATEMENT_SECONDS
from leaderboard.store.postgres.quarantine import HoldState
from leaderboard.store.postgres.usage import Point

METHODS = {"get", "head", "post", "put", "patch", "delete", "trace", "connect"}
OF_SESSIONS = {"getSession", "closeSession"}
"""What is for sessions alone."""


class Anything:
    """Stands for the stores, none of which is asked for anything while the routes are laid."""

    telemetry = None

    def __getattr__(self, name: str) -> Any:
        return Anything()


@pytest.fixture(scope="module")
def routes() -> dict[tuple[str, str], Any]:
    config = Config(redis_url="", database_url="", pepper="p" * 32)
    app = create_app(config, Anything(), clock=Clock())  # type: ignore[arg-type]
    found = {}

    def walk(nodes: Any) -> None:
        for node in nodes:
            for method, responder in (node.method_map or {}).items():
                # Falcon answers OPTIONS, and 405 for what a resource has no responder for.
                if getattr(responder, "__self__", None) is node.resource:
                    found[re.sub(r":\w+}", "}", node.uri_template), method.lower()] = node.resource
            walk(node.children)

    walk(app._router._roots)
    return found


def operations() -> dict[tuple[str, str], Any]:
    return {
        (path, method): operation
        for path, item in document()["paths"].items()
        for method, operation in item.items()
        if method in METHODS | {"options"}
    }


def walk(node: Any, path: str = "#") -> Any:
    yield path, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from walk(value, f"{path}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from walk(value, f"{path}/{index}")


def resolve(ref: str) -> Any:
    node: Any = document()
    for name in ref.removeprefix("#/").split("/"):
        node = node[name]
    return node


def schema(name: str) -> Any:
    return document()["components"]["schemas"][name]


def test_document_and_routes_are_the_same(routes):
    assert set(operations()) == set(routes)


def session(method: str) -> dict[str, list[str]]:
    """What a request of a session needs."""
    return {"session": []} if method == "get" else {"session": [], "csrfToken": []}


def test_scopes_and_security_are_the_handlers(routes):
    for (path, method), resource in routes.items():
        operation = operations()[path, method]
        scopes = getattr(resource, "scopes", None)
        if scopes is None:
            assert operation["security"] == ([session(method)] if operation["operationId"] in OF_SESSIONS else [])
            assert "x-scope" not in operation
        else:
            assert operation["x-scope"] == scopes[method.upper()].value, (method, path)
            if getattr(resource, "sessions", False):
                assert operation["security"] == [*document()["security"], session(method)], (method, path)
            else:
                assert "security" not in operation, "a key is the rule of the whole document"
            assert set(scopes) == {name.upper() for at, name in routes if at == path}


def test_security_schemes_are_what_the_code_looks_for():
    schemes = document()["components"]["securitySchemes"]
    used = {name for operation in operations().values() for rule in operation.get("security", []) for name in rule}
    assert set(schemes) == used

    def name_of(host: str) -> str:
        return sessions.cookie_name(falcon.testing.create_asgi_req(host=host))

    assert (schemes["session"]["in"], schemes["session"]["name"]) == ("cookie", name_of("boards.example.com"))
    assert f"`{name_of('localhost')}`" in schemes["session"]["description"]
    assert (schemes["csrfToken"]["in"], schemes["csrfToken"]["name"]) == ("header", "X-CSRF-Token")


def test_every_path_parameter_is_described():
    for (path, _), operation in operations().items():
        given = [*document()["paths"][path].get("parameters", []), *operation.get("parameters", [])]
        resolved = [resolve(item["$ref"]) if "$ref" in item else item for item in given]
        assert {item["name"] for item in resolved if item["in"] == "path"} == set(re.findall(r"{(\w+)}", path))
        assert all(item["required"] for item in resolved if item["in"] == "path")


def test_references_hold_and_no_component_lies_idle():
    refs = {node for path, node in walk(document()) if path.endswith("/$ref")}
    for ref in refs:
        resolve(ref)
    components = {
        f"#/components/{kind}/{name}"
        for kind in ("parameters", "headers", "links", "schemas", "responses")
        for name in document()["components"][kind]
    }
    assert components - refs == {"#/components/responses/MethodNotAllowed"}  # the answer to what is no operation


def test_problem_types_of_document_and_code_are_the_same():
    named = {
        node for _, node in walk(document()) if isinstance(node, str) and re.fullmatch(r"/problems/[a-z0-9-]+", node)
    }
    assert named == {problems.PREFIX + name for name in problems.TYPES}


def test_problems_stand_under_their_status():
    for name, response in document()["components"]["responses"].items():
        if problems.MEDIA_TYPE not in response.get("content", {}):
            continue
        base, own = response["content"][problems.MEDIA_TYPE]["schema"]["allOf"]
        assert base == {"$ref": "#/components/schemas/Problem"}
        status = own["properties"]["status"]["const"]
        for kind in own["properties"]["type"]["enum"]:
            assert problems.TYPES[kind.removeprefix(problems.PREFIX)].status == status, (name, kind)
        for (path, _), operation in operations().items():
            for given, answer in operation["responses"].items():
                if answer.get("$ref", "").endswith(f"/{name}"):
                    assert int(given) == status, (path, name)


def test_operation_ids_are_unique_and_tags_are_described():
    ids = [operation["operationId"] for operation in operations().values()]
    assert len(set(ids)) == len(ids)
    assert {tag for operation in operations().values() for tag in operation["tags"]} == {
        tag["name"] for tag in document()["tags"]
    }


def test_request_objects_are_closed_and_have_the_fields_of_the_code():
    update = set(Update.__struct_fields__)
    for name, fields in (
        ("IncrementUpdate", update),
        ("SubmittedUpdate", update),
        ("Batch", {"updates"}),
        ("NewLeaderboard", set(NewBoard.__struct_fields__)),
        ("LeaderboardChange", set(BoardChange.__struct_fields__)),
        ("NewKeyRequest", set(NewKeyRequest.__struct_fields__)),
        ("Rotation", set(Rotation.__struct_fields__)),
        ("ErasureSubject", set(users.Subject.__struct_fields__)),
        ("Tier", set(TierBody.__struct_fields__)),
    ):
        assert schema(name)["additionalProperties"] is False
        assert set(schema(name)["properties"]) == fields


def test_records_of_an_export_are_those_of_the_code():
    named = [resolve(one["$ref"]) for one in schema("UserData")["properties"]["records"]["items"]["oneOf"]]
    structs = [users.StandingRecord, users.CheckpointRecord, users.SeasonRecord, users.EventRecord, users.HeldRecord]
    for one, struct in zip(named, structs, strict=True):
        assert set(one["required"]) == set(one["properties"]) == {"kind", *struct.__struct_encode_fields__}
        assert one["properties"]["kind"]["const"] == struct.__struct_config__.tag
    assert schema("EventRecord")["properties"]["event"]["enum"] == list(events.KINDS.values())
    limit = operations()["/v1/users/{user}/data", "get"]["parameters"][0]["schema"]
    assert (limit["maximum"], limit["default"]) == (users.MAX_LIMIT, users.DEFAULT_LIMIT)
    assert f"the first {users.MAX_LINES:,}" in schema("Erasure")["properties"]["leaderboards"]["description"]
    assert schema("Erasure")["properties"]["state"]["enum"] == [state.value for state in ErasureState]


def test_defaults_are_those_of_the_code():
    defaults = {field.name: field.default for field in msgspec.structs.fields(NewBoard)}
    for name, field in schema("NewLeaderboard")["properties"].items():
        if name != "key":
            assert field["default"] == defaults[name]


def test_response_objects_require_all_that_the_code_answers():
    from leaderboard.api.resources import (
        dashboard,
        history,
        keys,
        leaderboards,
        plan,
        scores,
        seasons,
        standings,
        usage,
    )

    for name, struct in (
        ("UpdateResult", scores.UpdateResult),
        ("Entry", reads.EntryBody),
        ("Top", reads.TopBody),
        ("Rank", reads.RankBody),
        ("HistoryTop", history.PastTopBody),
        ("HistoryRank", history.PastRankBody),
        ("Around", reads.AroundBody),
        ("Members", reads.MembersBody),
        ("Leaderboard", leaderboards.BoardBody),
        ("Session", dashboard.SessionBody),
        ("Key", keys.KeyBody),
        ("Event", events.EventBody),
        ("Plan", plan.PlanBody),
        ("Standings", standings.StandingsBody),
        ("Usage", usage.UsageBody),
        ("UsageSeries", usage.SeriesBody),
        ("UsagePoint", Point),
        ("Bill", Bill),
        ("Events", events.EventsBody),
        ("NewKey", keys.NewKeyBody),
        ("Seasons", seasons.SeasonsBody),
        ("Season", seasons.SeasonBody),
        ("SignedSeason", Signed),
        ("SeasonTop", seasons.FinalTopBody),
        ("SeasonRank", seasons.FinalRankBody),
        ("HeldUpdate", held_updates.HoldBody),
        ("HeldUpdates", held_updates.HeldBody),
        ("UserData", users.DataBody),
        ("Erasure", users.ErasureBody),
        ("ErasureLine", users.LineBody),
        ("ErasureCheck", users.CheckBody),
        ("Touched", Touched),
    ):
        assert set(schema(name)["properties"]) == set(struct.__struct_encode_fields__), name
        always = {field.encode_name for field in msgspec.structs.fields(struct) if field.default is not msgspec.UNSET}
        assert set(schema(name)["required"]) == always, name


def test_bounds_and_patterns_are_those_of_the_code():
    parameters = document()["components"]["parameters"]
    assert schema("BoardKey")["pattern"] == names.BOARD_KEY_PATTERN
    assert schema("UserId")["maxLength"] == names.USER_MAX_BYTES
    assert re.fullmatch(parameters["IdempotencyKey"]["schema"]["pattern"], "".join(map(chr, range(0x21, 0x7F))))
    assert schema("MaxEntries")["maximum"] == MAX_ENTRIES_LIMIT
    tier = schema("Tier")["properties"]
    assert (tier["name"]["pattern"], tier["name"]["maxLength"]) == (names.TIER_PATTERN, names.TIER_LENGTH)
    assert (tier["top"]["maximum"], tier["percent"]["minimum"]) == (tiers.MAX_TOP, tiers.MIN_PERCENT)
    assert schema("TierList")["maxItems"] == schema("Leaderboard")["properties"]["tiers"]["maxItems"] == tiers.MAX_TIERS
    assert schema("IncrementUpdate")["properties"]["increment"]["maximum"] == MAX_EXACT
    assert schema("IncrementUpdate")["properties"]["increment"]["minimum"] == -MAX_EXACT
    assert schema("Batch")["properties"]["updates"]["maxItems"] == MAX_BATCH
    assert schema("ScoreUpdate")["enum"] == [member.value for member in ScoreUpdate]
    assert schema("SortOrder")["enum"] == [member.value for member in SortOrder]
    assert schema("TiePolicy")["enum"] == [member.value for member in TiePolicy]
    limit = parameters["Limit"]["schema"]
    assert (limit["maximum"], limit["default"]) == (queries.MAX_LIMIT, reads.DEFAULT_LIMIT)
    assert parameters["Offset"]["schema"]["maximum"] == queries.MAX_OFFSET
    history = {
        item["name"]: item for item in operations()["/v1/leaderboards/{leaderboard}/events", "get"]["parameters"]
    }
    assert (history["limit"]["schema"]["maximum"], history["limit"]["schema"]["default"]) == (
        events.MAX_LIMIT,
        events.DEFAULT_LIMIT,
    )
    assert schema("Event")["properties"]["kind"]["enum"] == list(events.KINDS.values())
    assert schema("Bound")["enum"] == [bound.value for bound in Broken]
    assert schema("HoldState")["enum"] == [state.value for state in HoldState]
    assert schema("Bounds")["properties"]["per_seconds"]["maximum"] == MAX_INTERVAL_SECONDS
    held = {item["name"]: item for item in operations()["/v1/leaderboards/{leaderboard}/held", "get"]["parameters"]}
    assert (held["limit"]["schema"]["maximum"], held["limit"]["schema"]["default"]) == (
        held_updates.MAX_LIMIT,
        held_updates.DEFAULT_LIMIT,
    )
    assert held["state"]["schema"]["enum"] == list(held_updates.STATES)
    assert schema("Decision")["properties"]["note"]["maxLength"] == held_updates.NOTE_LENGTH
    grace = schema("Rotation")["properties"]["grace_seconds"]
    assert (grace["maximum"], grace["default"]) == (MAX_GRACE_SECONDS, DEFAULT_GRACE_SECONDS)
    assert schema("NewKeyRequest")["properties"]["name"]["maxLength"] == own_keys.MAX_NAME
    assert f"{own_keys.MAX_KEYS} such keys" in operations()["/v1/keys", "post"]["description"]
    for live in ("stream", "standings/stream"):
        limit = operations()[f"/v1/leaderboards/{{leaderboard}}/{live}", "get"]["parameters"][0]["schema"]
        assert (limit["maximum"], limit["default"]) == (stream.MAX_LIMIT, stream.DEFAULT_LIMIT)
    around = operations()["/v1/leaderboards/{leaderboard}/around/{user}", "get"]["parameters"][0]["schema"]
    assert (around["maximum"], around["default"]) == (reads.MAX_AROUND, reads.DEFAULT_AROUND)
    ids = operations()["/v1/leaderboards/{leaderboard}/members", "get"]["parameters"][0]["schema"]
    assert ids["maxItems"] == reads.MAX_MEMBERS


def test_limits_in_the_prose_are_those_of_the_code():
    responses = document()["components"]["responses"]
    assert f"within {REQUEST_SECONDS:g} seconds" in responses["RequestTimeout"]["description"]
    assert f"{HEAD_BYTES // 1024} KiB" in responses["HeadersTooLarge"]["description"]
    past = operations()["/v1/leaderboards/{leaderboard}/history/top", "get"]["description"]
    assert (STATEMENT_SECONDS, PATIENCE) == (3, 2)
    assert "more than three seconds is refused" in past
    assert "after two seconds are told 503" in past
    config = Config(redis_url="", database_url="", pepper="")
    assert f"{config.body_limit // 1024} KiB" in responses["BodyTooLarge"]["description"]
    assert config.idempotency_ttl == 3600
    assert "within an hour" in document()["info"]["description"]


def test_what_must_be_said_is_said():
    text = json.dumps(document())
    assert "All-or-nothing is not promised" in text
    assert "a descending board lists" in text
    assert "never skips an entry that did not move" in text
    assert "Ranks** start at 1" in text
    assert "with the same `Idempotency-Key`: it counts once" in text
    assert "they start at 0 again" in text


def test_document_is_json():
    assert json.loads(msgspec.json.encode(document())) == document()
