"""A collector for tests: OTLP over HTTP on loopback, which keeps what it gets, and misbehaves when told to."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_KINDS = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


class Collector:
    """`refusing` answers 400 to everything, `hanging` never answers; `stop()` and `start()` keep the port."""

    def __init__(self) -> None:
        self.refusing = False
        self.hanging = False
        self.asked = 0
        self._bodies: list[tuple[str, Any]] = []
        self._release = threading.Event()
        self._arrived = threading.Condition()
        self._port = 0
        self._open: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                collector._open.add(self.connection)

            def finish(self) -> None:
                collector._open.discard(self.connection)
                super().finish()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                taken = collector._take(self.path, body)
                if collector.hanging:
                    collector._release.wait()
                self.send_response(200 if taken else 400)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *args: Any) -> None:
                pass  # a client that gave up waiting

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop as a killed process does: its connections are cut and new ones refused."""
        self._release.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _take(self, path: str, body: bytes) -> bool:
        with self._arrived:
            self.asked += 1
            taken = not self.refusing and not self.hanging
            if taken:
                self._bodies.append((path, _KINDS[path].FromString(body)))
            self._arrived.notify_all()
        return taken

    def wait(self, there: Callable[[], Any], *, seconds: float = 90) -> Any:
        """Return what `there` gives once that is true; looks again whenever something has arrived."""
        with self._arrived:
            found = self._arrived.wait_for(there, timeout=seconds)
        assert found, "the collector did not get it in time"
        return found

    # -- what it got

    def raw(self) -> str:
        """Everything, as text."""
        return "\n".join(str(message) for _, message in list(self._bodies))

    def _scopes(self, path: str, resources: str, scopes: str) -> Iterator[tuple[dict[str, Any], Any]]:
        for kept, message in list(self._bodies):
            if kept == path:
                for resource in getattr(message, resources):
                    for scope in getattr(resource, scopes):
                        yield attributes(resource.resource), scope

    def spans(self, name: str = "") -> list[Any]:
        """The spans, those called `name` where that is given."""
        found = [s for _, scope in self._scopes("/v1/traces", "resource_spans", "scope_spans") for s in scope.spans]
        return [span for span in found if not name or span.name == name]

    def logs(self) -> list[Any]:
        """The log records."""
        return [r for _, scope in self._scopes("/v1/logs", "resource_logs", "scope_logs") for r in scope.log_records]

    def points(self, name: str) -> dict[tuple[str, frozenset[tuple[str, Any]]], Any]:
        """The newest points of a metric, by instance and attributes."""
        found = {}
        for resource, scope in self._scopes("/v1/metrics", "resource_metrics", "scope_metrics"):
            for metric in scope.metrics:
                if metric.name == name:
                    for point in getattr(metric, metric.WhichOneof("data")).data_points:
                        key = (resource["service.instance.id"], frozenset(attributes(point).items()))
                        found[key] = point
        return found

    def resources(self) -> list[dict[str, Any]]:
        """The attributes of every resource that sent metrics."""
        return [resource for resource, _ in self._scopes("/v1/metrics", "resource_metrics", "scope_metrics")]


def attributes(thing: Any) -> dict[str, Any]:
    """The attributes of a resource, span, point or record."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in thing.attributes}
