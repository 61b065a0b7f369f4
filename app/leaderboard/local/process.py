"""Child processes of the local platform: start, log, stop, and tell our own from strangers.

Every child is its own process group, so that Ctrl-C in the terminal reaches only the supervisor, which then stops the
children in the right order. On Linux a child also asks the kernel for a signal should its parent die (through
``setpriv --pdeathsig``: no code runs between fork and exec, so starting one is safe in a process with threads).
"""

import contextlib
import functools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

LOOPBACK = "127.0.0.1"
_TAIL_LINES = 40
# A proxy from the environment has no business with a server on this machine.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class LocalError(RuntimeError):
    """The local platform cannot run as asked; the message says why and what to do."""


def wait_until(ready: Callable[[], bool], *, seconds: float, pause: float = 0.02) -> bool:
    """Call `ready` until it is true, with a `pause` in seconds; return whether that happened within `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def port_is_free(port: int, *, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port that is free now, below the range the kernel takes for outgoing connections.

    ``bind(0)`` would give one from inside that range. While a server is down, a client that keeps trying such a port
    may be given it as its own source port: it then connects to itself, and the server cannot come back.
    """
    highest = 32767
    with contextlib.suppress(OSError, ValueError):
        highest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]) - 1
    for _ in range(200):
        port = random.randint(10240, max(highest, 12288))
        if port_is_free(port):
            return port
    raise LocalError(f"found no free port between 10240 and {highest}")


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path`, readable by its owner only; a crash leaves the old text or the new, whole."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def keep(path: Path, make: Callable[[], str]) -> str:
    """Return the text kept in `path`; where there is none, make it, keep it (0600) and return it."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    text = make()
    write_private(path, text + "\n")
    return text


class Log:
    """One log file for several processes, each line marked with the name of the process that wrote it.

    Lines never mix, because a thread per process reads whole lines from its pipe.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()
        self._tails: dict[str, deque[str]] = {}
        self._threads: list[threading.Thread] = []

    @contextlib.contextmanager
    def writer(self, name: str) -> Iterator[int]:
        """Give the descriptor for a new process's output; it is closed here when the block ends."""
        tail = self._tails.setdefault(name, deque(maxlen=_TAIL_LINES))
        reading, writing = os.pipe()
        thread = threading.Thread(target=self._pump, args=(name, reading, tail), name=f"log-{name}", daemon=True)
        thread.start()
        self._threads.append(thread)
        try:
            yield writing
        finally:
            os.close(writing)

    def note(self, name: str, text: str) -> None:
        """Write one line of our own."""
        self._write(f"{name:<8} | {text}\n".encode())

    def tail(self, name: str) -> str:
        """Return the last lines of `name`, at most 40."""
        return "\n".join(self._tails.get(name, ()))

    def settle(self, name: str) -> None:
        """Wait a moment for what processes `name` that ended still had in their pipes."""
        self._join([thread for thread in self._threads if thread.name == f"log-{name}"])

    def close(self) -> None:
        """Wait a moment for what ended processes still had in their pipes, then close the file."""
        self._join(self._threads)
        with self._lock:
            self._file.close()

    def _join(self, threads: Sequence[threading.Thread]) -> None:
        # Not for ever: what a process left behind may hold its pipe open.
        deadline = time.monotonic() + 2
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _pump(self, name: str, reading: int, tail: deque[str]) -> None:
        with os.fdopen(reading, "rb") as pipe:
            for line in pipe:
                tail.append(line.decode(errors="replace").rstrip("\n"))
                self._write(f"{name:<8} | ".encode() + line.rstrip(b"\n") + b"\n")

    def _write(self, line: bytes) -> None:
        with self._lock:
            if not self._file.closed:
                self._file.write(line)


@functools.cache
def _setpriv() -> str | None:
    """The path of a setpriv that knows --pdeathsig (util-linux 2.33; busybox's does not), else None."""
    path = shutil.which("setpriv") if sys.platform == "linux" else None
    if path is None:
        return None
    tried = subprocess.run([path, "--pdeathsig", "TERM", "true"], capture_output=True, check=False)
    return path if tried.returncode == 0 else None


SERVER_UID = 65534  # nobody, on every Linux we know
_CAPABILITIES = "+dac_override,+dac_read_search"


def runs_as_root() -> bool:
    """Whether this process is root, whom Postgres refuses to serve."""
    return os.geteuid() == 0


def unprivileged(command: Sequence[str], *, death_signal: str | None = None) -> list[str]:
    """Return `command` such that it does not run as root: as it is for a normal user, through setpriv for root.

    The process keeps the two capabilities that let it reach its binaries and its folder inside a checkout only root
    may enter, so nobody's permissions have to be changed. Raises LocalError for root without setpriv.
    """
    if not runs_as_root():
        return with_death_signal(command, death_signal) if death_signal else list(command)
    setpriv = _setpriv()
    if setpriv is None:
        raise LocalError(
            "Postgres does not run as root, and there is no setpriv (util-linux 2.33 or later) to run it as another "
            "user: start this as a normal user, or install util-linux"
        )
    user = [f"--reuid={SERVER_UID}", f"--regid={SERVER_UID}", "--clear-groups"]
    capabilities = ["--inh-caps", _CAPABILITIES, "--ambient-caps", _CAPABILITIES]
    # initdb asks access(2) whether its binaries can be run, and access drops the capabilities of a user who is not root
    # unless this bit is set.
    capabilities += ["--securebits", "+no_setuid_fixup"]
    death = ["--pdeathsig", death_signal] if death_signal else []
    return [setpriv, *user, *capabilities, *death, *command]


def with_death_signal(command: Sequence[str], death_signal: str) -> list[str]:
    """Return `command` such that it gets `death_signal` (``TERM``, ``INT``) when its parent dies, where we can."""
    setpriv = _setpriv()
    return [setpriv, "--pdeathsig", death_signal, *command] if setpriv else list(command)


class Child:
    """A process started by us, with its group. `name` marks its lines in the log."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str,
        log: Log,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self._log = log
        with log.writer(name) as output:
            self.popen = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if env is None else dict(env),
                cwd=cwd,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        """The process's id, also its group's."""
        return self.popen.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.popen.poll() is None

    def how_it_ended(self) -> str:
        """Say how it ended, for people, with its last lines."""
        code = self.popen.poll()
        if code is None:
            how = "still runs"
        elif code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"ended with exit code {code}"
        if code is not None:
            self._log.settle(self.name)
        lines = self._log.tail(self.name)
        return f"{self.name} {how}" + (f"; its last lines:\n{lines}" if lines else "")

    def stop(self, *, sig: int = signal.SIGTERM, seconds: float) -> bool:
        """Ask it to end, wait up to `seconds`, then kill its group. Return whether it ended by itself."""
        if self.alive:
            self.popen.send_signal(sig)
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
                return False
        self._kill_group()  # what it may have left behind
        return True

    def kill(self) -> None:
        """Kill it and its group with SIGKILL, and wait until it is gone."""
        self._kill_group()
        self.popen.wait()

    def _kill_group(self) -> None:
        if self.popen.returncode is not None and pid_exists(self.pid):
            return  # it was waited for, and its id has been given to a process of somebody else
        # PermissionError: on macOS, a group that has only zombies left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def pid_exists(pid: int) -> bool:
    """Whether a process `pid` runs. One that has ended and waits for its parent to notice does not count."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def command_line(pid: int) -> str:
    """Return the command line of a process, empty if it is gone."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return ""
    shown = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip()


def children(pid: int) -> list[int]:
    """Return the ids of a process's direct children."""
    if Path("/proc/self/stat").exists():
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry.name))
        return found
    shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = (line.split() for line in shown.stdout.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]


def processes() -> list[int]:
    """Return the ids of all processes."""
    if Path("/proc/self/stat").exists():
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    shown = subprocess.run(["ps", "-A", "-o", "pid="], capture_output=True, text=True, check=True)
    return [int(pid) for pid in shown.stdout.split()]


def is_ours(pid: int, *, mark: str) -> bool:
    """Whether the process has `mark` among the arguments on its command line."""
    return f" {mark} " in f" {command_line(pid)} "


def end_leftover(pid: int, *, mark: str, sig: int = signal.SIGTERM, seconds: float) -> bool:
    """Stop the process `pid` of a supervisor that died, if its command line has `mark`; return whether it was ours.

    A process id is reused after a while: without the mark, a stranger would be shot.
    """
    if not is_ours(pid, mark=mark):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)
    if not wait_until(lambda: not pid_exists(pid), seconds=seconds):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not pid_exists(pid), seconds=5)
    return True
