"""The command line: ``leaderboard serve | work | migrate | up | apply | verify | rebuild | import | export | revoke |
offer | erasures | verify-erasure``, and, for signed standings, ``signing-key | export-standings |
verify-standings``. What import and export say and take is in `cli_moving`.

Exit codes: 0 done, 1 refused or failed (the message on standard error says why and what to do), 2 wrong arguments or
configuration.
"""

import argparse
import asyncio
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import msgspec
import yaml
from redis.asyncio import Redis

from leaderboard import cli_moving, standings
from leaderboard import config as configuration
from leaderboard.cli_moving import Refused
from leaderboard.config import Config, ConfigError
from leaderboard.control import rebuild
from leaderboard.control.errors import ControlError
from leaderboard.control.keys import KeyDelivery
from leaderboard.control.rebuild import BoardReport, Member, Verdict
from leaderboard.control.reconcile import Control, Outcome
from leaderboard.domain import documents, signatures
from leaderboard.domain.documents import Document, LeaderboardDocument, TenantDocument
from leaderboard.domain.erasures import ErasureState
from leaderboard.domain.errors import DomainError
from leaderboard.domain.names import user_id
from leaderboard.domain.signatures import Signed
from leaderboard.local import up as local
from leaderboard.standings import StandingsError
from leaderboard.store.postgres.pool import DatabaseUnavailable, Pool, open_pool
from leaderboard.store.redis.errors import RedisFailure

_POOL_SIZE = 2
_REQUIRED = ("LEADERBOARD_REDIS_URL", "LEADERBOARD_DATABASE_URL", "LEADERBOARD_PEPPER")

# libyaml's loader where PyYAML was built with it: ten times faster, the same answers.
_YamlLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command that `argv` (the process's own arguments) names, and exit with its code."""
    # Those that run long have handlers of their own. A container's first process without one would not get the signal
    # at all, and the others would leave a migration's lock behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(_main(sys.argv[1:] if argv is None else argv))


def _main(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = args.run
    try:
        return command(args)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (Refused, StandingsError, ControlError, DomainError, DatabaseUnavailable, RedisFailure) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="leaderboard", description="Leaderboards as a service.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    command("serve", _serve, "Serve the REST API until SIGTERM.")
    command("work", _work, "Move events from the outbox to the ledger until SIGTERM.")
    migrate = command("migrate", _migrate, "Bring the database up to date.")
    migrate.add_argument("--break-lock", action="store_true", help="first remove the lock a crashed migration left")
    up = command("up", _up, "Run everything on this machine: Postgres, Redis, API and worker, until Ctrl-C.")
    local.add_arguments(up)
    local.add_observe(up)

    apply = command("apply", _apply, "Make tenants and leaderboards as YAML documents describe them.")
    apply.add_argument(
        "-f", "--file", action="append", required=True, metavar="FILE", help="YAML, also several documents; - is stdin"
    )
    verify = command("verify", _verify, "Compare the boards in Redis with the ledger.")
    verify.add_argument("--board", metavar="SLUG/PROJECT/KEY", help="only this board")
    verify.add_argument("--wait", type=float, default=30.0, metavar="S", help="seconds to wait for the worker (30)")
    rebuilding = command("rebuild", _rebuild, "Write boards anew from the ledger.")
    which = rebuilding.add_mutually_exclusive_group(required=True)
    which.add_argument("--board", metavar="SLUG/PROJECT/KEY", help="this board")
    which.add_argument("--all-missing", action="store_true", help="every board that Redis has lost")
    rebuilding.add_argument("--wait", type=float, default=30.0, metavar="S", help="seconds to wait for the worker (30)")
    importing = command("import", _import, "Put the members of another system's leaderboard on a board.")
    cli_moving.add_import(importing)
    exporting = command("export", _export, "Write a board as CSV: rank, user, score.")
    cli_moving.add_export(exporting)
    revoke = command("revoke", _revoke, "Revoke an API key at once.")
    revoke.add_argument("key_id", metavar="KEY_ID", help="the 16 characters between the second and third _ of the key")
    offer = command("offer", _offer, "Let a Tenant resource of a Kubernetes namespace take over a tenant made here.")
    offer.add_argument("slug", metavar="SLUG", help="the tenant; no resource may own it")
    offer.add_argument("--namespace", required=True, metavar="NS", help="where that Tenant is, or will be")
    erased = command(
        "erasures", _erasures, "List erasures of members, a line of JSON each: those done, and pending ones."
    )
    erased.add_argument(
        "--since", type=_moment, default=datetime.min.replace(tzinfo=UTC), metavar="TIME", help="done since (RFC 3339)"
    )
    checking = command(
        "verify-erasure", _verify_erasure, "Check the receipt of an erasure, and look for the member again."
    )
    checking.add_argument("id", type=_erasure_id, metavar="ID", help="the erasure's id, 32 hexadecimal digits")
    checking.add_argument("--user", required=True, metavar="USER", help="the member; - reads the id from stdin")
    _add_standings(command)
    for sub in (apply, verify, rebuilding, importing, exporting, revoke, offer, erased, checking):
        cli_moving.add_data(sub)
    return parser


def _add_standings(command: Callable[..., argparse.ArgumentParser]) -> None:
    command(
        "signing-key",
        _signing_key,
        "Make a key that signs standings, or show the public half of LEADERBOARD_SIGNING_KEY.",
    )
    asked = "The API key is in LEADERBOARD_KEY."
    export = command("export-standings", _export_standings, f"Write a season's final standings to a file. {asked}")
    verify = command("verify-standings", _verify_standings, f"Check final standings against their signature. {asked}")
    verify.add_argument("file", nargs="?", type=Path, metavar="FILE", help="what export-standings wrote; or --url")
    verify.add_argument(
        "--public-key",
        action="append",
        required=True,
        type=_public_key,
        metavar="HEX",
        help="a key that you trust, of `leaderboard signing-key`; again for the keys before it",
    )
    for sub in (export, verify):
        needed = sub is export
        sub.add_argument("--url", required=needed, metavar="URL", help="the API")
        sub.add_argument("--leaderboard", required=needed, metavar="KEY", help="a leaderboard of the API key's project")
        sub.add_argument("--season", required=needed, type=int, metavar="N", help="a season that is over")
    export.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="a file that is not there yet")


def _public_key(text: str) -> str:
    if not signatures.is_key(text):
        raise argparse.ArgumentTypeError("a public key has 64 hexadecimal digits, see `leaderboard signing-key`")
    return text.lower()


# -- processes


def _serve(_: argparse.Namespace) -> int:
    from leaderboard.api import server

    server.run(configuration.load())
    return 0


def _up(args: argparse.Namespace) -> int:
    return local.run(args)


def _work(_: argparse.Namespace) -> int:
    from leaderboard.telemetry import logs
    from leaderboard.worker.run import run

    config = configuration.load()
    logs.set_up(config.log_level)

    async def work() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await run(config, stop)

    asyncio.run(work())
    return 0


def _migrate(args: argparse.Namespace) -> int:
    from leaderboard.store.postgres import migrate  # yoyo takes 0.1 s to import; nothing else needs it

    url = configuration.load().database_url
    try:
        if args.break_lock:
            print("removed the lock" if migrate.break_lock(url) else "there was no lock")
        applied = migrate.apply(url)
    except (migrate.MigrationLocked, ValueError) as error:
        raise Refused(str(error)) from error
    print("\n".join(f"applied {name}" for name in applied) or "the database is up to date")
    return 0


# -- commands on a running platform


def _load(data: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration of the environment or, where that has none, of `leaderboard up` on the folder `data`."""
    if not any(environ.get(name) for name in _REQUIRED):
        try:
            text = (data / "env").read_text()
        except OSError as error:
            raise ConfigError(
                f"{', '.join(_REQUIRED)} are not set, and {data / 'env'} cannot be read ({error.strerror}): "
                "start `leaderboard up`, or name its folder with --data"
            ) from error
        kept = dict(part.partition("=")[::2] for part in shlex.split(text, comments=True))
        environ = {**kept, **environ}
    return configuration.load(environ)


@asynccontextmanager
async def _stores(config: Config) -> AsyncIterator[tuple[Pool, Redis]]:
    pool = await open_pool(config.database_url, size=_POOL_SIZE, timeout=config.database_timeout)
    redis = Redis.from_url(
        config.redis_url, socket_timeout=config.redis_timeout, socket_connect_timeout=config.redis_timeout
    )
    try:
        yield pool, redis
    finally:
        await redis.aclose()
        await pool.close()


def _on_stores(config: Config, work: Callable[[Pool, Redis], Awaitable[int]]) -> int:
    async def run() -> int:
        async with _stores(config) as (pool, redis):
            return await work(pool, redis)

    return asyncio.run(run())


class _Terminal:
    """The sink of `apply`: prints each new key, once. What was printed before a crash is not there any more."""

    keeps = False

    async def deliver(self, delivery: KeyDelivery) -> None:
        print(f"  API key of {delivery.tenant}/{delivery.project} (keep it now, it will not be shown again):")
        print(f"    {delivery.key.text}")
        if delivery.previous_id is not None and delivery.previous_expires_at is not None:
            print(
                f"  its predecessor {delivery.previous_id} ends at {delivery.previous_expires_at:%Y-%m-%d %H:%M:%S} UTC"
            )
        sys.stdout.flush()

    async def holds(self, project: str, key_id: str, hmac: bytes) -> bool:  # noqa: ARG002 - the protocol's
        return False


def read_documents(files: Sequence[str]) -> list[Document]:
    """Return what the YAML `files` describe, Tenants before Leaderboards. Raises Refused naming file and document."""
    found: list[Document] = []
    for name in files:
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"{name}: cannot be read: {error}") from error
        number = 0
        try:
            for number, document in enumerate(yaml.load_all(text, Loader=_YamlLoader), 1):
                if document is None:
                    continue
                if not isinstance(document, dict):
                    raise Refused(f"{name}: document {number}: must be a mapping with apiVersion, kind, metadata, spec")
                found.append(documents.parse(document))
        except DomainError as error:
            raise Refused(f"{name}: document {number}: {error}") from error
        except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that no month has
            raise Refused(f"{name}: document {number + 1}: not YAML: {error}") from error
    if not found:
        raise Refused(f"no documents in {', '.join(files)}")
    return sorted(found, key=lambda document: isinstance(document, LeaderboardDocument))


def _apply(args: argparse.Namespace) -> int:
    found = read_documents(args.file)
    config = _load(args.data)
    slugs = {document.name: document.spec.slug for document in found if isinstance(document, TenantDocument)}

    async def apply(pool: Pool, redis: Redis) -> int:
        control = Control(pool, redis, pepper=config.pepper.encode(), key_env=config.key_env)
        sink = _Terminal()
        for document in found:
            kind = "Tenant" if isinstance(document, TenantDocument) else "Leaderboard"
            print(f"{kind}/{document.name}")
            slug = None
            if isinstance(document, LeaderboardDocument):
                slug = slugs.get(document.spec.tenant_ref.name)
            try:
                outcome = await control.reconcile(document, sink=sink, tenant_slug=slug)
            except (ControlError, DomainError) as error:
                raise Refused(f"{kind}/{document.name}: {error}") from error
            _print_outcome(outcome)
        return 0

    return _on_stores(config, apply)


def _print_outcome(outcome: Outcome) -> None:
    what = f"tenant {outcome.tenant_id}" if outcome.namespace is None else f"in Redis as {outcome.namespace}"
    if outcome.created:
        print(f"  created, {what}")
    elif not outcome.changes:
        print(f"  unchanged, {what}")
    for line in outcome.changes:
        print(f"  {line}")
    for note in outcome.notes:
        print(f"  note: {note}")


def _path(text: str) -> str:
    return text.replace(":", "/")  # a slash and a colon are in no name


def _verify(args: argparse.Namespace) -> int:
    async def verify(pool: Pool, redis: Redis) -> int:
        only = None if args.board is None else [await rebuild.find(pool, _path(args.board))]
        report = await rebuild.verify(pool, redis, only=only, wait_seconds=args.wait)
        for board in report.boards:
            _print_board(board)
        print(f"{len(report.boards)} boards, {report.differences} differences")
        return 0 if report.same else 1

    return _on_stores(_load(args.data), verify)


def _print_board(board: BoardReport) -> None:
    if board.verdict is Verdict.SAME:
        print(f"{board.path}: {board.entries} entries, as in the ledger")
        return
    print(f"{board.path}: {board.verdict}{': ' if board.detail else ''}{board.detail}")
    for example in board.examples:
        print(f"  {example.member}: Redis {_member(example.redis)}, ledger {_member(example.ledger)}")
    if board.differences > len(board.examples):
        print(f"  {board.differences - len(board.examples)} more")


def _member(value: Member | None) -> str:
    if value is None:
        return "has none"
    score, order = value
    return f"{score!r} {order}".strip()


def _rebuild(args: argparse.Namespace) -> int:
    async def work(pool: Pool, redis: Redis) -> int:
        if args.all_missing:
            places = await rebuild.missing(pool, redis)
        else:
            places = [await rebuild.find(pool, _path(args.board))]
        for place in places:
            entries = await rebuild.rebuild(pool, redis, place, drain_seconds=args.wait)
            print(f"{place.path}: rebuilt with {entries} entries")
        if not places:
            print("no board is missing")
        return 0

    return _on_stores(_load(args.data), work)


def _import(args: argparse.Namespace) -> int:
    config = _load(args.data)
    return _on_stores(config, lambda pool, redis: cli_moving.run_import(args, pool, redis, config))


def _export(args: argparse.Namespace) -> int:
    return _on_stores(_load(args.data), lambda pool, redis: cli_moving.run_export(args, pool, redis))


def _revoke(args: argparse.Namespace) -> int:
    config = _load(args.data)

    async def revoke(pool: Pool, redis: Redis) -> int:
        await Control(pool, redis, pepper=config.pepper.encode()).revoke(args.key_id)
        print(f"{args.key_id} is revoked")
        return 0

    return _on_stores(config, revoke)


def _offer(args: argparse.Namespace) -> int:
    config = _load(args.data)

    async def offer(pool: Pool, redis: Redis) -> int:
        await Control(pool, redis, pepper=config.pepper.encode()).offer(args.slug, namespace=args.namespace)
        print(
            f"tenant {args.slug} is offered to namespace {args.namespace}: apply a Tenant with this slug there, with "
            'the annotation leaderboard.saas/adopt: "true"'
        )
        return 0

    return _on_stores(config, offer)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("a time is written as 2026-01-31T09:00:00Z") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _erasure_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError("the id of an erasure has 32 hexadecimal digits") from None


def _erasures(args: argparse.Namespace) -> int:
    config = _load(args.data)

    async def erasures(pool: Pool, redis: Redis) -> int:
        spoilt = 0
        for project, receipt, intact in await Control(pool, redis, pepper=config.pepper.encode()).erasures_since(
            args.since
        ):
            erasure = receipt.erasure
            done = erasure.state is ErasureState.DONE
            spoilt += done and not intact
            line = {
                "id": erasure.id.hex,
                "project": project,
                "state": erasure.state,
                "requested_at": erasure.requested_at.astimezone(UTC),
                "finished_at": None if erasure.finished_at is None else erasure.finished_at.astimezone(UTC),
                "waits_for": erasure.waits_for,
                "subject": erasure.digest.hex(),
                "intact": intact if done else None,
                "touched": receipt.touched,
            }
            print(msgspec.json.encode(line).decode())
        return 1 if spoilt else 0

    return _on_stores(config, erasures)


def _verify_erasure(args: argparse.Namespace) -> int:
    config = _load(args.data)
    member = sys.stdin.readline().rstrip("\n") if args.user == "-" else args.user

    async def verify(pool: Pool, redis: Redis) -> int:
        control = Control(pool, redis, pepper=config.pepper.encode())
        check = await control.check_erasure(args.id, project_id=None, member=user_id(member))
        erasure = check.receipt.erasure
        if erasure.state is not ErasureState.DONE:
            print(f"the erasure is pending{f': {erasure.waits_for}' if erasure.waits_for else ''}")
            return 1
        print("the receipt is as it was written" if check.intact else "the receipt was changed after it was written")
        print("it is this member's" if check.subject else "it is another member's, or another project's")
        found = msgspec.structs.asdict(check.found)
        left = ", ".join(f"{name}: {number}" for name, number in found.items() if number)
        print(f"of the member there is {left or 'nothing'}")
        return 0 if check.verified else 1

    return _on_stores(config, verify)


# -- signed standings, which need no store


def _signing_key(_: argparse.Namespace) -> int:
    seed = configuration.signing_key()
    if not seed:
        seed = signatures.new_seed()
        print(f"LEADERBOARD_SIGNING_KEY={seed}")
        print("keep it secret, give it to the API, and give the public key to whoever verifies:", file=sys.stderr)
    print(f"public key: {signatures.Signer(seed).public_key}")
    return 0


def _export_standings(args: argparse.Namespace) -> int:
    with closing(standings.Api(args.url, configuration.api_key())) as api:
        signed, entries = api.season(args.leaderboard, args.season)
        standings.export(signed, entries, args.output)
    print(f"{args.output}: {_season(signed)}; {'unsigned' if signed.signature is None else 'signed'}")
    return 0


def _verify_standings(args: argparse.Namespace) -> int:
    asked = [args.url, args.leaderboard, args.season]
    if (args.file is None) == all(each is None for each in asked) or (args.file is None and None in asked):
        raise ConfigError("give either FILE, or --url, --leaderboard and --season")
    with ExitStack() as stack:
        if args.file is not None:
            try:
                lines = stack.enter_context(args.file.open("rb"))
            except OSError as error:
                raise Refused(f"{args.file} cannot be read: {error.strerror}") from error
            signed, entries = standings.read(lines)
        else:
            api = stack.enter_context(closing(standings.Api(args.url, configuration.api_key())))
            signed, entries = api.season(args.leaderboard, args.season)
        standings.check_entries(signed, standings.seal(entries))
    key = standings.check_signature(signed, args.public_key)
    print(f"{_season(signed)}; signed with {key}")
    return 0


def _season(signed: Signed) -> str:
    path = f"{signed.tenant}/{signed.project}/{signed.leaderboard}"
    return f"{path}, season {signed.season}, ended at {signed.ended_at} with {signed.entries} entries"


if __name__ == "__main__":
    main()
