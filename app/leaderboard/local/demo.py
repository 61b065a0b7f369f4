"""``make demo``: `leaderboard up`, then a tenant, a board and some scores, and how to go on by hand.

A key's text is nowhere but with whoever it was given to: the platform keeps a hash. So that a second demo on the same
data folder can go on with the first one's tenant, this one writes its keys to ``demo-keys`` in that folder (mode 0600).
Whoever wants the same for real keeps their key as they keep a password.
"""

import argparse
import asyncio
import json
import secrets
import shlex
import sys
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import redis.asyncio
import yaml

from leaderboard.control.errors import ControlError
from leaderboard.control.keys import KeyDelivery
from leaderboard.control.reconcile import Control
from leaderboard.domain import documents
from leaderboard.domain.boards import ScoreUpdate
from leaderboard.domain.documents import LeaderboardDocument, TenantDocument
from leaderboard.domain.errors import DomainError, InvalidApiKey
from leaderboard.domain.keys import digest, parse_key
from leaderboard.local.process import LocalError, opener, write_private
from leaderboard.local.up import LocalPlatform, add_arguments, supervise
from leaderboard.store.postgres.pool import DatabaseUnavailable, open_pool

DEFAULT_FILE = Path("examples/tenant.yaml")

PLAYERS = (
    *(("ada", 920), ("grace", 870), ("linus", 640), ("katherine", 870), ("alan", 815)),
    *(("edsger", 790), ("barbara", 905), ("donald", 760), ("margaret", 840), ("dennis", 725)),
    *(("radia", 880), ("ken", 735), ("frances", 655), ("john", 610), ("hedy", 895)),
    *(("tim", 580), ("shafi", 800), ("niklaus", 545), ("anita", 775), ("guido", 690)),
)
"""Who plays and what they score. Two have the same score: the tie policy decides."""
_SINGLE = 5  # so many go one by one, the rest in one batch


class KeyFile:
    """A sink of new keys that keeps them in a file: ``{tenant: {project: key}}``."""

    keeps = False  # a tenant of `leaderboard apply` has keys that were shown to people; they are not lost

    def __init__(self, path: Path, *, tenant: str, pepper: bytes) -> None:
        self._path = path
        self._tenant = tenant
        self._pepper = pepper

    def get(self, project: str) -> str | None:
        """Return the text of the project's key, None where there is none."""
        key = self._read().get(self._tenant, {}).get(project)
        return key if isinstance(key, str) else None

    async def deliver(self, delivery: KeyDelivery) -> None:
        """Keep a new key."""
        known = self._read()
        known.setdefault(self._tenant, {})[delivery.project] = delivery.key.text
        write_private(self._path, json.dumps(known, indent=2) + "\n")

    async def holds(self, project: str, key_id: str, hmac: bytes) -> bool:
        """Whether the file has that very key."""
        text = self.get(project)
        try:
            key = parse_key(text or "")
        except InvalidApiKey:
            return False
        return key.id == key_id and digest(key, pepper=self._pepper) == hmac

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise LocalError(f"{self._path} is not JSON: remove it, and the demo makes new keys") from error
        return known if isinstance(known, dict) else {}


class Client:
    """The REST API with one key, by the standard library alone."""

    def __init__(self, url: str, *, key: str) -> None:
        self._url = url
        self.key = key

    def get(self, path: str) -> Any:
        """GET `path`; return the decoded answer. Raises LocalError for what is no success."""
        return self._ask(self._request(path))

    def post(self, path: str, body: Any) -> Any:
        """POST `body` as JSON; return the decoded answer. Raises LocalError for what is no success."""
        return self._ask(self._request(path, data=json.dumps(body).encode()))

    def works(self) -> bool:
        """Whether the API knows the key."""
        try:
            with opener.open(self._request("/v1/leaderboards"), timeout=10):
                return True
        except urllib.error.HTTPError as error:
            with error:
                return error.code not in (401, 403)

    def _request(self, path: str, *, data: bytes | None = None) -> urllib.request.Request:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        return urllib.request.Request(self._url + path, data, headers)  # noqa: S310 - the http:// URL is our own

    def _ask(self, request: urllib.request.Request) -> Any:
        try:
            with opener.open(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(2000).decode(errors="replace")
            raise LocalError(f"{request.get_method()} {request.full_url} answered {error.code}: {said}") from error
        except OSError as error:
            raise LocalError(f"{request.get_method()} {request.full_url} failed: {error}") from error


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """The documents of the example file: one tenant, its boards."""

    tenant: TenantDocument
    boards: tuple[LeaderboardDocument, ...]

    @property
    def board(self) -> LeaderboardDocument:
        """The board that the demo plays on."""
        return self.boards[0]


def read_example(path: Path) -> Example:
    """Return what `path` asks for, or raise LocalError. It needs one Tenant and at least one Leaderboard."""
    try:
        found = [documents.parse(document) for document in yaml.safe_load_all(path.read_text()) if document]
    except (OSError, yaml.YAMLError, DomainError) as error:
        raise LocalError(f"{path}: {error}") from error
    tenants = [document for document in found if isinstance(document, TenantDocument)]
    boards = tuple(document for document in found if isinstance(document, LeaderboardDocument))
    if len(tenants) != 1 or not boards:
        raise LocalError(f"{path}: the demo needs one Tenant and at least one Leaderboard")
    return Example(tenant=tenants[0], boards=boards)


async def apply(example: Example, *, platform: LocalPlatform, sink: KeyFile, new_key: str | None = None) -> None:
    """Make the tenant and its boards so, as ``leaderboard apply`` does; `new_key` (any new text) asks for new keys."""
    tenant = example.tenant
    if new_key is not None:
        api_key = msgspec.structs.replace(tenant.spec.api_key, rotation_trigger=new_key)
        tenant = msgspec.structs.replace(tenant, spec=msgspec.structs.replace(tenant.spec, api_key=api_key))
    pool = await open_pool(platform.postgres.url, size=2, timeout=10)
    client = redis.asyncio.Redis.from_url(platform.redis.url)
    try:
        control = Control(pool, client, pepper=platform.pepper.encode())
        await control.reconcile(tenant, sink=sink)
        for board in example.boards:
            await control.reconcile(board, tenant_slug=tenant.spec.slug)
    except (ControlError, DomainError, DatabaseUnavailable) as error:
        raise LocalError(f"the example could not be applied: {error}") from error
    finally:
        await client.aclose()
        await pool.close()


def working_clients(example: Example, *, platform: LocalPlatform) -> dict[str, Client]:
    """Apply the example; return a client per project that has a board. A key that is lost is replaced by a new one."""
    projects = {board.spec.project for board in example.boards}
    path = platform.folder / "demo-keys"
    sink = KeyFile(path, tenant=example.tenant.spec.slug, pepper=platform.pepper.encode())
    asyncio.run(apply(example, platform=platform, sink=sink))
    clients = _clients(projects, sink=sink, url=platform.url)
    if len(clients) < len(projects):
        # The tenant has keys, from `leaderboard apply` say, and only whoever got them knows them.
        asyncio.run(apply(example, platform=platform, sink=sink, new_key=f"demo-{secrets.token_hex(4)}"))
        clients = _clients(projects, sink=sink, url=platform.url)
    for project in projects - clients.keys():
        raise LocalError(f"the API refuses the new key of project {project!r}; see {platform.folder / 'log'}")
    return clients


def _clients(projects: Collection[str], *, sink: KeyFile, url: str) -> dict[str, Client]:
    known = {project: Client(url, key=key) for project in projects if (key := sink.get(project)) is not None}
    return {project: client for project, client in known.items() if client.works()}


def update_of(board: LeaderboardDocument, *, user: str, score: float) -> dict[str, Any]:
    """Return the body of one update, by the board's rule."""
    field = "increment" if board.spec.board().score_update is ScoreUpdate.SUM else "score"
    return {"leaderboard": board.spec.key, "user": user, field: score}


def send_scores(client: Client, *, board: LeaderboardDocument) -> None:
    """Send the players' scores, the first few one by one, the rest in one batch; LocalError if one is refused."""
    updates = [update_of(board, user=user, score=score) for user, score in PLAYERS]
    for update in updates[:_SINGLE]:
        client.post("/v1/scores/update", update)
    _send_batch(client, updates[_SINGLE:])


def send_laps(client: Client, *, board: LeaderboardDocument) -> None:
    """Send the players' scores as tenths, 54.5 to 92 seconds say, in one batch; LocalError if one is refused."""
    _send_batch(client, [update_of(board, user=user, score=score / 10) for user, score in PLAYERS])


def _send_batch(client: Client, updates: Sequence[dict[str, Any]]) -> None:
    results = client.post("/v1/scores/batch", {"updates": updates})["results"]
    refused = [result for result in results if result["status"] != 200]
    if refused:
        raise LocalError(f"{len(refused)} updates of the batch were refused, the first with {refused[0]}")


def table(entries: Sequence[dict[str, Any]]) -> str:
    """Return the entries of a top list as a table for people."""
    rows = [("rank", "user", "score"), *((f"{e['rank']}", str(e["user"]), f"{e['score']:,}") for e in entries)]
    ranks, users, scores = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(f"  {rank:>{ranks}}  {user:<{users}}  {score:>{scores}}" for rank, user, score in rows)


def commands(url: str, *, key: str, example: Example) -> str:
    """Return curl lines to go on with, ready to paste."""
    board = example.board.spec
    base = f"{url}/v1/leaderboards/{board.key}"
    authorization = ["-H", f"Authorization: Bearer {key}"]
    content_type = ["-H", "Content-Type: application/json"]
    body = json.dumps(update_of(example.board, user="you", score=1000))
    lines = [
        ("send a score", [f"{url}/v1/scores/update", *authorization, *content_type, "-d", body]),
        ("the top", [f"{base}/top?limit=5", *authorization]),
        ("your rank", [f"{base}/rank/you", *authorization]),
        ("who is around you", [f"{base}/around/you", *authorization]),
    ]
    for open_to_all in [other.spec for other in example.boards if other.spec.public_read][:1]:
        route = f"/v1/public/{example.tenant.spec.slug}/{open_to_all.project}/leaderboards/{open_to_all.key}/top"
        lines.append(("the top of a public board, without a key", [f"{url}{route}?limit=5"]))
    return "\n".join(f"# {name}\n{shlex.join(['curl', '-s', *words])}" for name, words in lines)


def play(clients: Mapping[str, Client], *, example: Example) -> Any:
    """Send scores to every board of the example; return the top of the first. `clients` are by project."""
    for board in example.boards[1:]:
        send_laps(clients[board.spec.project], board=board)
    client = clients[example.board.spec.project]
    send_scores(client, board=example.board)
    return client.get(f"/v1/leaderboards/{example.board.spec.key}/top?limit=10")


def story(top: Any, *, example: Example, file: Path) -> str:
    """Say what was done, with the top list."""
    spec = example.board.spec
    return f"""Applied {file}, sent {len(PLAYERS)} scores: {_SINGLE} one by one, {len(PLAYERS) - _SINGLE} in one batch.

Top {len(top["entries"])} of {top["total"]} on {spec.key!r} (tenant {example.tenant.spec.slug}, project {spec.project}):

{table(top["entries"])}"""


def show(platform: LocalPlatform, *, file: Path) -> None:
    """Apply the example, play, and print the board and how to go on."""
    example = read_example(file)
    clients = working_clients(example, platform=platform)
    top = play(clients, example=example)
    key = clients[example.board.spec.project].key
    print(f"""
{story(top, example=example, file=file)}

Go on by hand:

{commands(platform.url, key=key, example=example)}

The dashboard: {platform.url}/dashboard (sign in with the key of the curl lines)
The API's page: {platform.url}/docs""")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m leaderboard.local.demo", description="The platform, with scores.")
    add_arguments(parser)
    parser.add_argument("--file", type=Path, default=DEFAULT_FILE, help="what to apply (default: %(default)s)")
    parser.add_argument("--exit", action="store_true", help="stop after the list")
    args = parser.parse_args(argv)

    def then(platform: LocalPlatform) -> None:
        show(platform, file=args.file)
        if not args.exit:
            print("Ctrl-C stops everything; the data stays.", flush=True)
            platform.watch()

    return supervise(args.data, make=lambda: LocalPlatform(args.data, port=args.port), then=then)


if __name__ == "__main__":
    sys.exit(main())
