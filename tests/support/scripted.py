"""An HTTP server that answers what a test says, and keeps what it was asked."""

import contextlib
import dataclasses
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar


@dataclasses.dataclass(frozen=True)
class Reply:
    """One answer; `cut` is after how many bytes of its body the connection ends, -1 for none of the answer at all."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cut: int | None = None


def problem(status: int, kind: str, **headers: str) -> Reply:
    """A problem document; a header's name has _ for -."""
    body = {"type": f"/problems/{kind}", "trace_id": f"trace of {kind}"}
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


CUT = Reply(cut=-1)
"""The request is read, and the connection ends."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """One request; `body` is what its JSON says."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class Scripted:
    """Gives its `replies` in their order, whoever asks, and the last of them ever after; `url` is where."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = replies
        self._lock = threading.Lock()
        self.asked: list[Asked] = []
        self.url = ""

    def next_reply(self, asked: Asked) -> Reply:
        """Keep the request, return what is its answer."""
        with self._lock:
            self.asked.append(asked)
            return self._replies[min(len(self.asked), len(self._replies)) - 1]


_Script = TypeVar("_Script", bound=Scripted)


@contextlib.contextmanager
def scripted(*replies: Reply) -> Iterator[Scripted]:
    """Run a server of these replies while the block lasts."""
    with running(Scripted(*replies)) as script:
        yield script


@contextlib.contextmanager
def running(script: _Script) -> Iterator[_Script]:
    """Run a server of this script while the block lasts."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, json.loads(content) if content else None)
            reply = script.next_reply(asked)
            self.close_connection = reply.cut is not None
            if reply.cut == -1:
                return
            body = json.dumps(reply.body).encode()
            self.send_response_only(reply.status)  # without the Date that send_response adds
            for name, value in {**reply.headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: reply.cut])

        do_GET = do_POST = do_DELETE = do_PATCH = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()
