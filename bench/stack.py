"""The servers under measurement: started here, each pinned to a core, all stopped at the end.

The API, what it is compared with and the ledger worker run on one core; Redis, Postgres and the load generators (and
this process) on the other. redis-benchmark takes the API's place as Redis's client, so it gets the API's core.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import redis
import redis.asyncio

from leaderboard.control.keys import KeyDelivery
from leaderboard.control.reconcile import Control
from leaderboard.domain import documents
from leaderboard.local.postgres import EmbeddedPostgres
from leaderboard.local.process import LOOPBACK, Child, Log, children, free_port, wait_until, with_death_signal
from leaderboard.local.redis import EmbeddedRedis
from leaderboard.local.up import opener
from leaderboard.store.postgres import migrate
from leaderboard.store.postgres.pool import open_pool
from leaderboard.store.redis import keys

SLUG = "bench"
PEPPER = "p" * 64
OUTBOX_MAX = 1_000_000_000  # never full: most cases run without a worker
RATE = 1_000_000
_TICKS = os.sysconf("SC_CLK_TCK")

# Members as redis-benchmark names them, in chunks of a script call; scores are spread but the same in every run.
_FILL = """
local from, count, ordered = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
for i = from, from + count - 1 do
  local user, prefix = string.format('u%012d', i), ''
  if ordered then
    prefix = string.format('%012x', 281474976710655 - i)
    redis.call('HSET', KEYS[2], user, prefix)
  end
  redis.call('ZADD', KEYS[1], (i * 7919) % 1000003, prefix .. user)
end
"""
_CHUNK = 2_000


class Cores(msgspec.Struct, frozen=True):
    """Which core gets what; None where nothing can be pinned."""

    api: int | None
    load: int | None

    @classmethod
    def choose(cls) -> "Cores":
        """Take the first two cores this process may use."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(allowed[0], allowed[1]) if len(allowed) > 1 else cls(None, None)

    @contextlib.contextmanager
    def on(self, core: int | None) -> Iterator[None]:
        """Run the block on `core`; a process started in it stays there."""
        if core is None:
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


class Server(msgspec.Struct, frozen=True):
    """Something that answers HTTP: where, and the process whose CPU time counts (None: not known)."""

    port: int
    pid: int | None
    host: str = LOOPBACK

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{self.host}:{self.port}"


def cpu_seconds(pid: int, *, ended_children: bool = False) -> float:
    """Return the CPU time a process has used, user and system; with that of children it has waited for where wanted.

    Raises OSError for a process that is gone.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if ended_children else 13])) / _TICKS


def descendants(pid: int) -> list[int]:
    """Return the ids of all living processes below a process."""
    found = children(pid)
    for child in found:  # which grows meanwhile
        found.extend(children(child))
    return found


class Stack:
    """Postgres, Redis and a tenant in a temporary folder, and whatever servers a case asks for."""

    keeps = False

    def __init__(self, folder: Path, *, cores: Cores) -> None:
        self.cores = cores
        self._folder = folder
        self._log = Log(folder / "log")
        self._started: list[Child] = []
        self.postgres = EmbeddedPostgres(folder / "postgres", log=self._log)
        # No rewrite of the append-only file in the middle of a measurement.
        self.redis = EmbeddedRedis(
            folder / "redis", log=self._log, appendfsync="everysec", auto_aof_rewrite_percentage=0
        )
        self.key = ""
        self.tenant_id = 0

    @property
    def folder(self) -> Path:
        """The temporary folder, which goes with the stack."""
        return self._folder

    def start(self) -> None:
        """Start the stores and make the tenant."""
        self.postgres.start()
        self.redis.start()
        migrate.apply(self.postgres.url)
        self.client = redis.Redis.from_url(self.redis.url, socket_timeout=60)
        asyncio.run(self._make_tenant())

    def stop(self) -> None:
        """Stop everything that was started."""
        for child in reversed(self._started):
            child.stop(seconds=10)
        self.redis.stop()
        self.postgres.stop()
        self._log.close()

    @property
    def redis_pid(self) -> int:
        """The Redis server's process."""
        assert self.redis.child is not None
        return self.redis.child.pid

    @contextlib.contextmanager
    def redis_alone(self) -> Iterator[None]:
        """Leave Redis alone on its core while the block lasts: Postgres and this process join the API's."""
        if self.cores.api is None or self.cores.load is None:
            yield
            return
        before = {pid: os.sched_getaffinity(pid) for pid in (os.getpid(), *descendants(os.getpid()))}
        for pid in before.keys() - {self.redis_pid}:
            os.sched_setaffinity(pid, {self.cores.api})
        try:
            yield
        finally:
            for pid in (os.getpid(), *descendants(os.getpid())):
                with contextlib.suppress(ProcessLookupError):  # a session of Postgres that ended meanwhile
                    os.sched_setaffinity(pid, before.get(pid, {self.cores.load}))

    def board(self, key: str) -> str:
        """Return the Redis key of one of the tenant's boards."""
        return keys.board(self.tenant_id, "default", key)

    # -- servers

    def api(self, name: str, *, program: str | None = None, env: Mapping[str, str] | None = None) -> Server:
        """Start an API with one gunicorn worker, or the `program` of this folder that varies it, and return when it
        is ready."""
        port = free_port()
        what = [str(Path(__file__).with_name(program))] if program else ["-m", "leaderboard.cli", "serve"]
        child = self._run(name, [sys.executable, *what], env={"LEADERBOARD_BIND": f"{LOOPBACK}:{port}", **(env or {})})
        if not wait_until(lambda: _answers(f"http://{LOOPBACK}:{port}/readyz"), seconds=30, pause=0.1):
            raise RuntimeError(child.how_it_ended())
        (worker,) = children(child.pid)
        return Server(port, worker)

    def worker(self) -> Child:
        """Start the ledger worker."""
        return self._run("worker", [sys.executable, "-m", "leaderboard.cli", "work"], env={})

    def nginx(self, *, small: int, large: int) -> Server | None:
        """Start an nginx that answers JSON of `small` bytes to /small and of `large` to /large; None without one."""
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            return None
        port, folder = free_port(), self._folder / "nginx"
        folder.mkdir(exist_ok=True)
        (folder / "nginx.conf").write_text(_nginx(folder, port=port, small=small, large=large))
        command = [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
        child = self._run("nginx", command, env={})
        if not wait_until(lambda: _answers(f"http://{LOOPBACK}:{port}/small"), seconds=10):
            raise RuntimeError(child.how_it_ended())
        return Server(port, child.pid)

    def stop_server(self, child_or_server: Child | Server) -> None:
        """Stop one server before the end."""
        for child in list(self._started):
            if child is child_or_server or (
                isinstance(child_or_server, Server) and child_or_server.pid in (child.pid, *children(child.pid))
            ):
                child.stop(sig=signal.SIGTERM, seconds=30)
                self._started.remove(child)

    def _run(self, name: str, command: list[str], *, env: Mapping[str, str]) -> Child:
        with self.cores.on(self.cores.api):
            child = Child(with_death_signal(command, "TERM"), name=name, log=self._log, env=self.environment() | env)
        self._started.append(child)
        return child

    def environment(self) -> dict[str, str]:
        """Return the environment of the platform's processes and commands."""
        return os.environ | {
            "LEADERBOARD_REDIS_URL": self.redis.url,
            "LEADERBOARD_DATABASE_URL": self.postgres.url,
            "LEADERBOARD_PEPPER": PEPPER,
            "LEADERBOARD_OUTBOX_MAX": str(OUTBOX_MAX),
            "LEADERBOARD_LOG_LEVEL": "warning",
            "LEADERBOARD_WORKERS": "1",
        }

    # -- data

    def make_board(self, key: str, *, ties: str) -> None:
        """Make one more board of the tenant."""
        asyncio.run(self._reconcile([_leaderboard(key, ties)]))

    async def _make_tenant(self) -> None:
        quotas = {"requestsPerSecond": RATE}
        tenant = _document("Tenant", SLUG, {"slug": SLUG, "plan": "enterprise", "quotas": quotas})
        boards = [_leaderboard("global", "FirstToReach"), _leaderboard("lean", "UserId")]
        self.tenant_id = await self._reconcile([tenant, *boards])

    async def _reconcile(self, wanted: Sequence[documents.Document]) -> int:
        """Make what the documents describe; return the tenant's id."""
        pool = await open_pool(self.postgres.url, size=2, timeout=10)
        client = redis.asyncio.Redis.from_url(self.redis.url)
        try:
            control = Control(pool, client, pepper=PEPPER.encode())
            outcomes = [await control.reconcile(document, sink=self) for document in wanted]
        finally:
            await client.aclose()
            await pool.close()
        return int(outcomes[0].tenant_id)

    async def deliver(self, delivery: KeyDelivery) -> None:
        """Take the tenant's API key from control."""
        self.key = delivery.key.text

    async def holds(self, project: str, key_id: str, hmac: bytes) -> bool:  # noqa: ARG002
        """Whether the key was kept: always delivered anew here."""
        return False

    def fill(self, key: str, *, members: int, ordered: bool = True) -> None:
        """Give a board exactly `members` members. The meta of boards that control did not make is `global`'s."""
        board = self.board(key)
        self.client.unlink(board, keys.order(board))
        script = self.client.register_script(_FILL)
        for start in range(0, members, _CHUNK):
            count = min(_CHUNK, members - start)
            script(keys=[board, keys.order(board)], args=[start, count, int(ordered)])
        meta: dict[Any, Any] = self.client.hgetall(keys.meta(self.board("lean" if not ordered else "global")))
        self.client.hset(keys.meta(board), mapping={**meta, b"seq": max(members, int(meta[b"seq"]))})

    def drop(self, key: str) -> None:
        """Remove a board's entries."""
        board = self.board(key)
        self.client.unlink(board, keys.order(board))

    def tidy(self) -> None:
        """Drop what measurements leave behind: the outbox and the idempotency records."""
        self.client.unlink(keys.OUTBOX)
        names: list[Any] = []
        for name in self.client.scan_iter(match="idem:*", count=5_000):
            names.append(name)
            if len(names) == 5_000:
                self.client.unlink(*names)
                names.clear()
        if names:
            self.client.unlink(*names)


@contextlib.contextmanager
def running(*, cores: Cores, data: Path | None) -> Iterator[Stack]:
    """Run a Stack in a temporary folder (under `data` where given) while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="leaderboard-bench-", dir=data) as folder, cores.on(cores.load):
        stack = Stack(Path(folder), cores=cores)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()


def _document(kind: str, name: str, spec: Mapping[str, Any]) -> documents.Document:
    return documents.parse(
        {"apiVersion": documents.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": dict(spec)}
    )


def _leaderboard(key: str, ties: str) -> documents.Document:
    spec = {"tenantRef": {"name": SLUG}, "key": key, "tiePolicy": ties, "publicRead": True}
    return _document("Leaderboard", key, spec)


def _answers(url: str) -> bool:
    try:
        with opener.open(urllib.request.Request(url), timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _nginx(folder: Path, *, port: int, small: int, large: int) -> str:
    def location(name: str, size: int) -> str:
        # One token of the configuration may have 4,096 bytes.
        text = '{"pad":"' + "x" * max(0, size - 10) + '"}'
        chunks = [text[at : at + 3000] for at in range(0, len(text), 3000)]
        sets = "".join(f"set $c{index} '{chunk}'; " for index, chunk in enumerate(chunks))
        return (
            f"location /{name} {{ {sets} return 200 '{''.join(f'${{c{index}}}' for index in range(len(chunks)))}'; }}"
        )

    paths = "".join(
        f"{name}_temp_path {folder}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off; master_process off; pid {folder}/pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
  {paths}
  access_log off; default_type application/json; keepalive_requests 1000000000;
  server {{ listen {LOOPBACK}:{port}; {location("small", small)} {location("large", large)} }}
}}
"""
