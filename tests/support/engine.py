"""A Docker engine for the tests of the image, and a base for it that comes from no registry.

The engine is the one that answers, else one of our own: a `dockerd` on PATH, started as root with its data in the
cache folder, so that the base and the installed packages are there the next time, and without a network of its own.
The base is Debian with its Python, made by debootstrap; where there is no debootstrap, the Dockerfile's own, pulled.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from leaderboard.local.process import Child, Log, runs_as_root, wait_until, with_death_signal
from leaderboard.local.toolchain import cache

REPOSITORY = Path(__file__).parents[2]
IMAGE = "leaderboard-test:latest"
_BUILD_STAGE = "leaderboard-test-build:latest"
_BASE = "leaderboard-test-base"
_SUITE = "bookworm"  # its Python is 3.11
_PACKAGES = "ca-certificates,python3,python3-pip"
_START_SECONDS = 60.0
# As the chart runs it: nothing can be written but /tmp, nothing can be gained.
_CONFINED = [
    "--read-only",
    "--tmpfs=/tmp:rw,noexec,nosuid,nodev,mode=1777",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=host",
]

Say = Callable[[str], None]


class NoEngine(Exception):
    """This machine cannot build or run images; the message says why."""


class Engine:
    """What tests ask of an engine, with the docker command. `host` None: the one of the environment."""

    def __init__(self, host: str | None = None) -> None:
        self._env = os.environ | ({} if host is None else {"DOCKER_HOST": host})

    def __call__(self, *args: str, input: str | None = None) -> str:
        """Run docker and return what it printed; its error output is the message of the failure."""
        done = self.run(*args, input=input)
        assert done.returncode == 0, f"docker {' '.join(args)}: {done.stderr[-4000:]}{done.stdout[-4000:]}"
        return done.stdout

    def run(self, *args: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run docker, and leave to the caller what a failure means."""
        return subprocess.run(["docker", *args], env=self._env, input=input, capture_output=True, text=True)

    def popen(self, *args: str) -> subprocess.Popen[bytes]:
        """Start docker, for output that is read while it comes."""
        return subprocess.Popen(["docker", *args], env=self._env, stdout=subprocess.PIPE)

    def import_folder(self, folder: Path, *, name: str) -> None:
        """Make an image of one layer of what is in `folder`."""
        packed = subprocess.Popen(["tar", "-C", str(folder), "-c", "."], stdout=subprocess.PIPE)
        assert packed.stdout is not None
        with packed.stdout:
            done = subprocess.run(
                ["docker", "import", "-", name], env=self._env, stdin=packed.stdout, capture_output=True
            )
        assert (packed.wait(), done.returncode) == (0, 0), done.stderr.decode()

    def id_of(self, image: str) -> str | None:
        """Return an image's id, None where there is none of that name."""
        found = self.run("image", "inspect", "--format={{.Id}}", image)
        return found.stdout.strip() if found.returncode == 0 else None


class Container:
    """One container of `image`, confined as the chart confines it, on the host's network; remove it with `close`."""

    def __init__(
        self, engine: Engine, image: str, *command: str, env: Mapping[str, str], mounts: tuple[str, ...] = ()
    ) -> None:
        self._engine = engine
        given = [f"--env={name}={value}" for name, value in env.items()]
        given += [f"--volume={mount}" for mount in mounts]
        self.id = engine("run", "--detach", *_CONFINED, *given, image, *command).strip()

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._engine("inspect", "--format={{.State.Running}}", self.id).strip() == "true"

    def lines(self) -> list[str]:
        """Return what it has written to standard output and error so far."""
        shown = self._engine.run("logs", self.id)
        return (shown.stdout + shown.stderr).splitlines()

    def stop(self, *, seconds: int = 45) -> int:
        """End it as Kubernetes does, SIGTERM and `seconds` until SIGKILL; return its exit code (137: it was killed)."""
        self._engine("stop", f"--time={seconds}", self.id)
        return self.wait()

    def wait(self) -> int:
        """Return its exit code when it has ended."""
        return int(self._engine("wait", self.id))

    def close(self) -> None:
        """Remove it, running or not."""
        self._engine("rm", "--force", "--volumes", self.id)


@contextlib.contextmanager
def find(*, say: Say) -> Iterator[Engine]:
    """Give an engine of this machine while the block lasts. Raises NoEngine."""
    if shutil.which("docker") is None:
        raise NoEngine("there is no docker command on PATH")
    theirs = Engine()
    name = theirs.run("info", "--format={{.Name}}").stdout.strip()
    if name == socket.gethostname():
        yield theirs
        return
    if name:
        raise NoEngine(f"the Docker engine is on {name}, where containers do not reach this machine's loopback")
    if shutil.which("dockerd") is None:
        raise NoEngine("no Docker engine answers, and there is no dockerd on PATH (apt install docker.io)")
    if not runs_as_root():
        raise NoEngine("no Docker engine answers, and only root can start one")
    with _own(cache() / "docker", say=say) as own:
        yield own


@contextlib.contextmanager
def _own(data: Path, *, say: Say) -> Iterator[Engine]:
    data.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context((data.parent / "docker.lock").open("w"))
        while not wait_until(lambda: _taken(lock.fileno()), seconds=10, pause=0.2):
            say("  another run of the tests has its Docker engine there; waiting")
        # Not pytest's folder: the path of a socket may have 107 characters.
        run = Path(tempfile.mkdtemp(prefix="leaderboard-docker-"))
        stack.callback(shutil.rmtree, run, ignore_errors=True)
        # dockerd leaves the mount behind that containers on the host's network have.
        stack.callback(subprocess.run, ["umount", str(run / "exec/netns/default")], capture_output=True)
        log = Log(run / "log")
        stack.callback(log.close)
        host = f"unix://{run}/docker.sock"
        command = ["dockerd", f"--host={host}", f"--data-root={data}", f"--exec-root={run}/exec"]
        command += [f"--pidfile={run}/pid", "--bridge=none", "--iptables=false", "--ip-forward=false"]
        child = Child(with_death_signal(command, "TERM"), name="dockerd", log=log)
        stack.callback(child.stop, seconds=60)
        own = Engine(host)
        wait_until(lambda: not child.alive or own.run("version").returncode == 0, seconds=_START_SECONDS, pause=0.1)
        if not child.alive or own.run("version").returncode != 0:
            raise NoEngine(f"dockerd does not start here: {child.how_it_ended()}")
        # Nobody else has containers here: these are left over from a run that was killed.
        for left in own("ps", "--all", "--quiet").split():
            own("rm", "--force", "--volumes", left)
        yield own


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def build(engine: Engine, *, say: Say) -> str:
    """Build the image from the checkout and return its name. Raises NoEngine where there is nothing to build it on."""
    base = _base(engine, say=say)
    given = [] if base is None else [f"--build-arg=BASE={base}"]
    given += [f"--build-arg={name}={value}" for name, value in build_arguments().items()]
    began = time.monotonic()
    # The first stage gets a name too: the classic builder has no cache but the images there are.
    for name, target in ((_BUILD_STAGE, ["--target=build"]), (IMAGE, [])):
        before = engine.id_of(name)
        engine("build", "--network=host", *given, *target, f"--tag={name}", str(REPOSITORY))
        if before not in (None, engine.id_of(name)):
            engine.run("rmi", str(before))  # the one that this one replaces; it may still have containers
    size = int(engine("image", "inspect", "--format={{.Size}}", IMAGE))
    say(f"Built the image in {time.monotonic() - began:.0f} s: {size / 1e6:.0f} MB with its base")
    return IMAGE


def build_arguments() -> dict[str, str]:
    """Return the build arguments for this machine, without the base.

    The name in the index's URL stands for the password that may be in a company's: none of it may get into the image.
    """
    index = os.environ.get("PIP_INDEX_URL", f"https://{INDEX_LOGIN}@pypi.org/simple")
    return {"INDEX_URL": index, "VERSION": "0.0.0-test", "REVISION": "0" * 40}


INDEX_LOGIN = "index-login-of-the-build"


def _base(engine: Engine, *, say: Say) -> str | None:
    """Return a base image, made where it is not there yet; None: the Dockerfile's own can be had."""
    recipe = hashlib.sha256(f"{_SUITE} {_PACKAGES}".encode()).hexdigest()[:8]
    name = f"{_BASE}:{_SUITE}-{recipe}"
    if engine.id_of(name) is not None:
        return name
    if shutil.which("debootstrap") is None or not runs_as_root() or sys.platform != "linux":
        say("No debootstrap to make a base image with: pulling the Dockerfile's")
        pulled = engine.run("pull", default_base())
        if pulled.returncode != 0:
            raise NoEngine(f"there is no debootstrap, and the base image cannot be pulled: {pulled.stderr.strip()}")
        return None
    say(f"Making a base image of Debian {_SUITE}, once; about 60 s")
    # Beside the engine's data and not in /tmp, which may be in memory or forbid device files.
    root = Path(tempfile.mkdtemp(prefix="base-", dir=cache()))
    try:
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(root)],
            capture_output=True,
            text=True,
        )
        if made.returncode != 0:
            raise NoEngine(f"debootstrap failed: {made.stdout[-1000:]}{made.stderr[-1000:]}")
        for folder in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(root / folder)
            (root / folder).mkdir()
        # Whom this machine trusts, the build on it must trust: the index may be behind a company's own authority.
        trusted = ssl.get_default_verify_paths().cafile
        if trusted is not None:
            shutil.copyfile(trusted, root / "etc/ssl/certs/ca-certificates.crt")
        engine.import_folder(root, name=name)
    finally:
        shutil.rmtree(root)
    return name


def default_base() -> str:
    """Return the base that the Dockerfile names."""
    lines = (REPOSITORY / "Dockerfile").read_text().splitlines()
    return next(line.removeprefix("ARG BASE=") for line in lines if line.startswith("ARG BASE="))
