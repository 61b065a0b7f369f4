"""The commands ``leaderboard import`` and ``leaderboard export``: arguments, progress and reports."""

import argparse
import contextlib
import csv
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from redis.asyncio import Redis

from leaderboard.config import Config, check_redis_url
from leaderboard.control import moving, rebuild
from leaderboard.domain.boards import ScoreUpdate
from leaderboard.domain.moving import Diff, Roster, UnreadableSource, read_csv, read_nakama
from leaderboard.domain.scores import plain
from leaderboard.files import whole
from leaderboard.local.up import DEFAULT_DATA
from leaderboard.store.postgres.boards import PlacedBoard
from leaderboard.store.postgres.pool import Pool
from leaderboard.store.redis import podium
from leaderboard.store.redis.events import EventIds
from leaderboard.store.redis.imports import Progress

_SAY_SECONDS = 5.0  # between two lines of progress that goes into a file
_DRAW_SECONDS = 0.2  # and on a terminal


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add what `leaderboard import` takes; its options may stand before the source or after it."""
    _add_options(parser, defaults=True)
    sources = parser.add_subparsers(required=True, metavar="SOURCE", dest="source")
    from_csv = sources.add_parser("csv", help="a CSV file with a header")
    from_csv.add_argument("file", metavar="FILE", help="UTF-8; - is stdin")
    from_csv.add_argument("--user-column", default="user", metavar="NAME", help="(%(default)s)")
    from_csv.add_argument("--score-column", default="score", metavar="NAME", help="(%(default)s)")
    from_podium = sources.add_parser("podium", help="the Redis of a Podium")
    from_podium.add_argument("--from-redis", required=True, metavar="URL", help="redis://host:port/database")
    from_podium.add_argument("--leaderboard", required=True, metavar="NAME", help="its name in Podium")
    from_nakama = sources.add_parser(
        "nakama", help="Nakama's table leaderboard_record, COPY ... WITH (FORMAT csv, HEADER)"
    )
    from_nakama.add_argument("file", metavar="FILE", help="- is stdin")
    from_nakama.add_argument("--leaderboard", required=True, metavar="ID", help="its leaderboard_id")
    from_nakama.add_argument("--expiry", metavar="TIME", help="the expiry_time, where there are records of several")
    for sub in (from_csv, from_podium, from_nakama):
        _add_options(sub, defaults=False)
        add_data(sub, default=argparse.SUPPRESS)


def add_data(parser: argparse.ArgumentParser, *, default: Path | str = DEFAULT_DATA) -> None:
    """Add `--data`, which every command on a running platform takes."""
    parser.add_argument(
        "--data",
        type=Path,
        default=default,
        help=f"the data folder of `leaderboard up`, used where LEADERBOARD_* is not set (default: {DEFAULT_DATA})",
    )


def _add_options(parser: argparse.ArgumentParser, *, defaults: bool) -> None:
    # What is not given after the source must not undo what was given before it.
    def default(value: object) -> object:
        return value if defaults else argparse.SUPPRESS

    parser.add_argument(
        "--board", metavar="SLUG/PROJECT/KEY", default=default(None), help="the board; it must be there"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--dry-run", action="store_true", default=default(False), help="say what would be done, do nothing"
    )
    what.add_argument(
        "--diff", action="store_true", default=default(False), help="only say how board and source differ"
    )
    parser.add_argument(
        "--overwrite", action="store_true", default=default(False), help="replace the scores of who is on the board"
    )
    parser.add_argument(
        "--skip-bad",
        type=_count,
        metavar="N",
        default=default(0),
        help="go on although up to N lines cannot be taken (0)",
    )
    parser.add_argument(
        "--restart", action="store_true", default=default(False), help="forget an import that was not finished"
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("a number of lines, 0 or more")
    return int(text)


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add what `leaderboard export` takes."""
    parser.add_argument("--board", required=True, metavar="SLUG/PROJECT/KEY", help="the board")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to; it must not exist (default: stdout)")


class Refused(Exception):
    """The command cannot go on; the message is for the terminal."""


async def run_import(args: argparse.Namespace, pool: Pool, redis: Redis, config: Config) -> int:
    """Do what `leaderboard import` was asked; return the exit code: 0 where board and source are the same then."""
    if args.board is None:
        raise Refused("--board is missing: name the board as SLUG/PROJECT/KEY")
    place = await rebuild.find(pool, args.board.replace(":", "/"))
    roster = Roster(place.board.spec)
    source = await _read(args, roster, config)
    fine = _print_source(roster, source, allowed=args.skip_bad)
    if args.diff:
        return _print_diff(await moving.compare(redis, place, roster))
    if not fine:
        print(f"nothing was done. Correct them, or leave them out: --skip-bad {roster.rejected}", file=sys.stderr)
        return 1
    importer = moving.Importer(
        pool,
        redis,
        place,
        roster,
        source=source,
        overwrite=args.overwrite,
        ids=EventIds(os.urandom(8)),
        outbox_max=config.outbox_max,
    )
    before = None if args.restart else await importer.begin()
    crowds = args.overwrite and roster.spec.max_entries > 0 and not (before is not None and before.done)
    if args.dry_run or crowds:
        diff = await moving.compare(redis, place, roster)
        if crowds:
            _refuse_crowd(diff, roster)
        if args.dry_run:
            _print_plan(diff, before, roster, place, overwrite=args.overwrite)
            return 0
    if args.restart:
        await importer.begin(restart=True)  # not before it is certain that it begins
    if before is not None:
        print(f"the import of {source} {_where(before)}")
    with _progress(roster.wanted, sys.stderr) as say:
        _print_outcome(await importer.run(say), place)
    return _print_diff(await moving.compare(redis, place, roster))


async def _read(args: argparse.Namespace, roster: Roster, config: Config) -> str:
    """Fill the roster; return what the source is, for people."""
    if args.source == "podium":
        check_redis_url(args.from_redis, name="--from-redis")
        url = urlsplit(args.from_redis)
        await podium.read(
            args.from_redis,
            roster,
            leaderboard=args.leaderboard,
            now=datetime.now(UTC),
            timeout=max(config.redis_timeout, 10.0),
        )
        return f"Podium's {args.leaderboard!r} at {url.hostname}:{url.port or 6379}{url.path}"  # no password
    try:
        with _opened(args.file) as file:
            if args.source == "nakama":
                read_nakama(file, roster, leaderboard=args.leaderboard, expiry=args.expiry)
            else:
                read_csv(file, roster, user_column=args.user_column, score_column=args.score_column)
    except OSError as error:
        raise Refused(f"{args.file}: cannot be read: {error.strerror}") from error
    except UnreadableSource as error:
        raise Refused(f"{args.file}: {error}") from error
    return f"Nakama's {args.leaderboard!r} in {args.file}" if args.source == "nakama" else str(args.file)


@contextlib.contextmanager
def _opened(name: str) -> Iterator[TextIO]:
    # What is not UTF-8 becomes a lone surrogate, which no user id may have: its line is reported, not the whole file.
    # Windows's programs begin UTF-8 with a byte order mark.
    if name == "-":
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape", newline="")  # type: ignore[union-attr]
        yield sys.stdin
        return
    with Path(name).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        yield file


@contextlib.contextmanager
def _progress(total: int, out: TextIO) -> Iterator[moving.Say]:
    terminal, began = out.isatty(), time.monotonic()
    every = _DRAW_SECONDS if terminal else _SAY_SECONDS
    last, first = began, -1

    def say(at: int, waits: str) -> None:
        nonlocal last, first
        now = time.monotonic()
        if first < 0:
            first = at
        if now - last < every and at < total:
            return
        last = now
        text = f"{at:,} of {total:,} members, {(at - first) / max(now - began, 1e-3):,.0f}/s"
        text += f"; {waits}" if waits else ""
        out.write(f"\r{text}\x1b[K" if terminal else f"{text}\n")
        out.flush()

    try:
        yield say
    finally:
        if terminal:
            print(file=out)


def _print_source(roster: Roster, source: str, *, allowed: int) -> bool:
    """Say what the source has; return whether no more than `allowed` lines cannot be taken."""
    print(f"{source}: {len(roster):,} members")
    for note in roster.notes:
        print(f"  {note}")
    if past := len(roster) - roster.wanted:
        print(f"  the board keeps {roster.wanted:,}: the {past:,} worst are past its max_entries and not imported")
    if roster.rejected:
        print(f"  {roster.rejected:,} cannot be taken:")
        for example in roster.examples:
            print(f"    {example}")
        if roster.rejected > len(roster.examples):
            print(f"    {roster.rejected - len(roster.examples):,} more")
    return roster.rejected <= allowed


def _where(before: Progress) -> str:
    if before.done:
        return "is finished already, and nothing of it is done again; --restart does all of it again"
    return f"goes on where it was: {before.at:,} of {before.total:,} done"


def _refuse_crowd(diff: Diff, roster: Roster) -> None:
    """Refuse to replace scores on a board with max_entries where members fall off meanwhile."""
    bound, members = roster.spec.max_entries, len(roster) + diff.extra
    if members > bound and diff.different:
        raise Refused(
            f"nothing was done. Board and source have {members:,} members together, the board keeps {bound:,}, and "
            f"{diff.different:,} have another score there: until theirs are replaced they might push off who should "
            f"stay. Set the board's max_entries to {members:,} or more, import, and set it back, which drops the worst"
        )


def _print_plan(diff: Diff, before: Progress | None, roster: Roster, place: PlacedBoard, *, overwrite: bool) -> None:
    add = min(diff.missing, roster.wanted)
    replaced = diff.different if overwrite else diff.better if place.board.spec.score_update is ScoreUpdate.BEST else 0
    print(f"dry run: {place.path} would get {add:,} new members, {replaced:,} other scores;")
    print(
        f"  {diff.different - replaced:,} would keep the other score that they have, {diff.same:,} are as in the source"
    )
    print(f"  {diff.extra:,} are on the board only, and stay")
    if before is not None:
        print(f"  an import of this source {_where(before)}")
    print("nothing was done")


def _print_outcome(done: Progress, place: PlacedBoard) -> None:
    print(
        f"{place.path}: {done.added:,} members added, {done.replaced:,} scores replaced, {done.kept:,} kept another "
        f"score that was there, {done.same:,} were there with the same"
    )
    if done.trimmed:
        print(f"  {done.trimmed:,} fell off past max_entries")


def _print_diff(diff: Diff) -> int:
    print(
        f"difference: {diff.missing:,} missing, {diff.extra:,} extra, {diff.different:,} with another score, "
        f"{diff.disordered:,} out of order; {diff.same:,} the same"
    )
    for example in diff.examples:
        print(f"  {example}")
    return 0 if diff.empty else 1


async def run_export(args: argparse.Namespace, pool: Pool, redis: Redis) -> int:
    """Do what `leaderboard export` was asked; return the exit code."""
    place = await rebuild.find(pool, args.board.replace(":", "/"))
    try:
        if args.output is None:
            count, still = await _write(redis, place, sys.stdout)
        else:
            with whole(args.output) as part, part.open("w", encoding="utf-8", newline="") as file:
                count, still = await _write(redis, place, file)
    except OSError as error:
        raise Refused(f"{args.output or 'stdout'}: cannot be written: {error.strerror}") from error
    if args.output is not None:
        print(f"{args.output}: {count:,} members of {place.path}")
    if not still:
        print(
            "note: the board was written to meanwhile, so the file is not of one moment: who moved may be in it twice "
            "or not at all. Suspend the board first (`suspend: true`) for an exact copy",
            file=sys.stderr,
        )
    return 0


async def _write(redis: Redis, place: PlacedBoard, file: TextIO) -> tuple[int, bool]:
    """Write the board; return how many members it had, and whether nobody wrote to it meanwhile.

    Raises Refused where at the end it was not the board any more that it was; OSError of the file.
    """
    before, count = await moving.version(redis, place), 0
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("rank", "user", "score"))
    async for line in moving.lines(redis, place):
        writer.writerow((line.rank, line.member, repr(plain(line.score))))
        count += 1
    after = await moving.version(redis, place)
    if before is None or after is None or before[0] != after[0]:
        raise Refused(f"{place.path} was reset, rebuilt or lost meanwhile, after {count:,} members: run it again")
    return count, before == after
