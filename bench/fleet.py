"""``make bench-operator``: many Leaderboards at once through the operator, on a Kubernetes API of its own.

make bench-operator                              10,000 Leaderboards over 100 Tenants, about 6 minutes
make bench-operator BENCH_ARGS='--boards 1000'   fewer
make bench-operator BENCH_ARGS=--write           put the table into docs/performance.md

Nothing is pinned: the operator, the API server, etcd, Postgres, Redis and this process share the cores, as they do in
the tests. Beside the operator stands what the API server needs for the same writes alone.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

import report
from leaderboard.local.kubernetes import EmbeddedKubernetes, find_or_build
from leaderboard.local.postgres import EmbeddedPostgres
from leaderboard.local.process import LocalError, Log
from leaderboard.local.redis import EmbeddedRedis
from leaderboard.local.toolchain import KubernetesBinaries
from leaderboard.store.postgres import migrate
from support import fleet
from support.kubernetes import embedded, install_crds
from support.operator import OperatorPod, install_rbac
from support.platform import Platform

ROOT = Path(__file__).parent.parent
MORE = 200


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _cluster(folder: Path, binaries: KubernetesBinaries) -> Iterator[EmbeddedKubernetes]:
    with embedded(folder, binaries=binaries, audit=True) as cluster:
        install_crds(cluster)
        yield cluster


@contextlib.contextmanager
def _platform(folder: Path) -> Iterator[Platform]:
    log = Log(folder / "stores.log")
    postgres, redis = EmbeddedPostgres(folder / "postgres", log=log), EmbeddedRedis(folder / "redis", log=log)
    try:
        postgres.start()
        redis.start()
        migrate.apply(postgres.url)
        platform = Platform(folder / "platform", redis_url=redis.url, database=postgres.url)
        platform.start()
        try:
            yield platform
        finally:
            platform.stop()
    finally:
        redis.stop()
        postgres.stop()
        log.close()


def _namespace(cluster: EmbeddedKubernetes, name: str) -> None:
    cluster.kubectl("create", "namespace", name)


def measure(folder: Path, *, tenants: int, boards: int) -> tuple[fleet.Figures, float]:
    """Return the operator's figures, and the seconds of the API server's own work on as many Leaderboards."""
    binaries = find_or_build(_say)
    with _cluster(folder / "bare", binaries) as cluster:
        _namespace(cluster, "games")
        bare = asyncio.run(fleet.bare_writes(cluster, namespace="games", boards=boards))
        _say(f"the API server alone: {bare:.1f} s")
    with _platform(folder) as platform, _cluster(folder / "kubernetes", binaries) as cluster:
        for name in ("leaderboard", "games"):
            _namespace(cluster, name)
        install_rbac(cluster, binaries.helm, namespace="leaderboard", tenant_namespaces=["games"])
        token = cluster.service_account_token("leaderboard", "leaderboard-operator")
        pod = OperatorPod(
            folder / "operator",
            name="operator",
            kubeconfig=cluster.kubeconfig_for("operator", token=token),
            namespace="leaderboard",
            platform=platform,
            env={"LEADERBOARD_LOG_LEVEL": "warning"},
        )
        try:
            pod.start()
            pod.wait_ready()
            measuring = fleet.measure(
                cluster, pod, namespace="games", tenants=tenants, boards=boards, more=MORE, say=_say
            )
            return asyncio.run(measuring), bare
        finally:
            pod.close()


def table(figures: fleet.Figures, bare: float) -> str:
    """Return the figures as Markdown, beside what the issue asks for."""
    rows = [
        (f"all {figures.boards:,} Ready after, s", figures.all_ready, "<= 120"),
        ("the API server's own work on them, s", bare, ""),
        ("ratio of the two", figures.all_ready / bare, ""),
        ("requests to the API server per Leaderboard", figures.requests_per_board, "<= 3"),
        ("CPU of the operator per Leaderboard, ms", figures.operator_cpu_ms_per_board, ""),
        ("one more Leaderboard Ready after, p50, s", figures.new_p50, ""),
        ("the same, p99", figures.new_p99, "<= 3"),
        ("a sweep, s", figures.sweep, "<= 10"),
        ("resident memory of the operator at its most, MiB", figures.rss, "<= 400"),
    ]
    return report.table(
        ["", "measured", "wanted"], [[what, report.number(value), wanted] for what, value, wanted in rows]
    )


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        prog="bench/fleet.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--boards", type=int, default=10_000)
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leaderboard-bench-") as folder:
        try:
            figures, bare = measure(Path(folder), tenants=args.tenants, boards=args.boards)
        except (LocalError, AssertionError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    made = table(figures, bare)
    print(f"\n{made}")
    kept = ROOT / "bench" / "results" / f"fleet-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps({"figures": msgspec.to_builtins(figures), "bare": bare}, indent=1))
    if args.write:
        report.write(ROOT / "docs" / "performance.md", {"operator": made})
        _say("wrote docs/performance.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
