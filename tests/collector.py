"""A collector of OTLP over HTTP on this machine: what it takes is parsed by OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

MESSAGES: dict[str, Any] = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}


class Collector:
    """`answers`: statuses that it gives first, before it takes anything; `headers` are those of the last request."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.answers: list[int] = []
        self.reply = b"{}"
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Says nothing."""

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                status = collector.answers.pop(0) if collector.answers else 200
                if status == 200:
                    collector.take(self.path, dict(self.headers.items()), data)
                body = collector.reply if status == 200 else b""
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def take(self, path: str, headers: dict[str, str], data: bytes) -> None:
        """Raises for a request that is none."""
        self.headers = {name.lower(): value for name, value in headers.items()}
        if self.headers.get("content-encoding") == "gzip":
            data = gzip.decompress(data)
        self.requests.append((path, parsed(path, data, self.headers["content-type"])))

    @property
    def spans(self) -> list[Any]:
        return [span for path, request in self.requests if path == "/v1/traces" for span in spans_of(request)]

    @property
    def metrics(self) -> dict[str, Any]:
        found = [request for path, request in self.requests if path == "/v1/metrics"]
        scopes = [scope for one in found for of in one.resource_metrics for scope in of.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def parsed(path: str, data: bytes, kind: str) -> Any:
    if "json" in kind:
        # OTLP's JSON has ids in hexadecimal, where protobuf's own has base64
        return json_format.Parse(data, MESSAGES[path]())
    message = MESSAGES[path]()
    message.ParseFromString(data)
    return message


def spans_of(request: Any) -> list[Any]:
    return [span for of in request.resource_spans for scope in of.scope_spans for span in scope.spans]


def attributes(span: Any) -> dict[str, Any]:
    return {pair.key: value(pair.value) for pair in span.attributes}


def value(of: Any) -> Any:
    kind = of.WhichOneof("value")
    if kind == "array_value":
        return [value(one) for one in of.array_value.values]
    return getattr(of, kind) if kind else None
