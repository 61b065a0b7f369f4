"""A collector that takes all the telemetry it is sent and counts it, in a thread of this process."""

import contextlib
import gzip
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Sink:
    """OTLP over HTTP on a port of its own, while the block lasts; `down` is a time without it."""

    def __init__(self) -> None:
        self.spans = 0
        self.metrics = 0
        self._port = 0
        self._open: set[socket.socket] = set()
        self._start()

    @property
    def url(self) -> str:
        """Where it takes what it is sent."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> "Sink":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Be away as a killed process is: connections are cut, and new ones refused."""
        self._stop()
        try:
            yield
        finally:
            self._start()

    def _start(self) -> None:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                sink._open.add(self.connection)

            def finish(self) -> None:
                sink._open.discard(self.connection)
                super().finish()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                sink._take(self.path, body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *args: Any) -> None:
                pass  # its connection was cut

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            self.spans += sum(len(scope.spans) for one in traces.resource_spans for scope in one.scope_spans)
        elif path == "/v1/metrics":
            metrics = ExportMetricsServiceRequest.FromString(body)
            self.metrics += sum(len(scope.metrics) for one in metrics.resource_metrics for scope in one.scope_metrics)
