"""``make bench``: measure the API beside its baseline and its limits, on servers of its own, and print the tables.

python bench/run.py                      everything, about 15 minutes
python bench/run.py --quick              the same with short runs: whether it works, not how fast
python bench/run.py --only paths,worker  some sections
python bench/run.py --write              put the tables into docs/performance.md
python bench/run.py --peer-url http://127.0.0.1:8890 --peer-pid 4711   beside another leaderboard server
"""

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

import growth
import moving
import report
import seasons
import sections
import streams
from leaderboard.local.process import LocalError
from load import BenchError, Load, median
from sections import Bench, Plan
from stack import Cores, Server, running

SECTIONS = {
    "paths": sections.paths,
    "latency": sections.latency,
    "members": growth.members,
    "boards": growth.boards,
    "records": growth.records,
    "worker": growth.worker,
    "telemetry": growth.telemetry,
    "durability": growth.durability,
    "streams": streams.streams,
    "seasons": seasons.seasons,
    "import": moving.imports,
}
QUIET = 0.05  # the share of the cores that strangers may take before latencies are theirs
ROOT = Path(__file__).parent.parent
QUICK = Plan(
    seconds=1,
    repeats=1,
    latency_repeats=1,
    members=10_000,
    growth=(1_000, 100_000),
    boards=(1, 100),
    growth_seconds=1,
    backlog_seconds=1,
)


def parser() -> argparse.ArgumentParser:
    """Return what understands the command line."""
    made = argparse.ArgumentParser(
        prog="bench/run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="short runs, under a minute")
    made.add_argument("--only", metavar="SECTIONS", help=f"some of {','.join(SECTIONS)}")
    made.add_argument("--seconds", type=int, help="of one run of a case")
    made.add_argument("--repeats", type=int, help="runs of each case")
    made.add_argument("--members", type=int, help="of the board")
    made.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    made.add_argument("--data", type=Path, help="where the stores' temporary folder is made (a real disk)")
    made.add_argument("--peer-url", help="drive this server with Podium's routes as well, and nothing else")
    made.add_argument("--peer-pid", type=int, help="its process, for its CPU time")
    made.add_argument("--peer-board", default="bench", help="its board (default: %(default)s)")
    return made


def _plan(args: argparse.Namespace) -> Plan:
    plan = QUICK if args.quick else Plan()
    given = {name: value for name in ("seconds", "repeats", "members") if (value := getattr(args, name))}
    return msgspec.structs.replace(plan, **given)


def _measure(args: argparse.Namespace, wanted: list[str]) -> tuple[report.Results, dict[str, str]]:
    plan, results, began = _plan(args), report.Results(), time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s {text}", file=sys.stderr, flush=True)

    say("starting Postgres, Redis and the API")
    with running(cores=Cores.choose(), data=args.data) as stack:
        bench = Bench(stack, Load(stack, members=plan.members), plan, say=say)
        if args.peer_url:
            url = urlsplit(args.peer_url)
            server = Server(url.port or 80, args.peer_pid, url.hostname or "127.0.0.1")
            results |= sections.peer(bench, server=server, board=args.peer_board)
        for name in wanted:
            say(name)
            results |= SECTIONS[name](bench)
        others = median(report.all_samples(results), "others") or 0.0
        if others > QUIET:
            say(f"other processes took {others:.0%} of the two cores: these numbers are not to be kept")
        return results, report.conditions(stack, plan, others=others)


def main() -> int:
    """Measure, print, keep."""
    args = parser().parse_args()
    wanted = args.only.split(",") if args.only else [] if args.peer_url else list(SECTIONS)
    if unknown := set(wanted) - SECTIONS.keys():
        print(f"error: no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    if not Path("/proc/self/stat").exists():
        print("error: the benchmark reads CPU times from /proc: it runs on Linux", file=sys.stderr)
        return 1
    try:
        results, about = _measure(args, wanted)
    except (BenchError, LocalError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    made = report.tables(results, about)
    for name, text in made.items():
        print(f"\n### {name}\n\n{text}")
    folder = ROOT / "bench" / "results"
    folder.mkdir(exist_ok=True)
    kept = folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    kept.write_bytes(msgspec.json.format(msgspec.json.encode({"conditions": about, "results": results}), indent=1))
    print(f"\nkept in {kept.relative_to(ROOT)}", file=sys.stderr)
    if args.write:
        if args.only:
            del made["conditions"]  # they are those of all the tables
        missing = report.write(ROOT / "docs" / "performance.md", made)
        print(f"wrote docs/performance.md{'; no marker for ' + ', '.join(missing) if missing else ''}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
