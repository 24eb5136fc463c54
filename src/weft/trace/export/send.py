"""Sending spans and measures to a collector: OTLP over HTTP, whole requests, tried again where the collector says so.

    collector = Collector("http://127.0.0.1:4318")          # /v1/traces and /v1/metrics below it
    await collector.send(spans)

Headers come from `OTEL_EXPORTER_OTLP_HEADERS` (`name=value,name=value`), as for OpenTelemetry's own SDKs.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from time import sleep
from urllib.parse import unquote, urlsplit

import msgspec

from weft.core.errors import BadInput, WeftError
from weft.core.url import mask
from weft.trace.export import measures, otlp
from weft.trace.spans import Span

HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
AGAIN = frozenset({429, 502, 503, 504})
"""Answers after which OTLP has a request repeated."""
LACKING = frozenset({404, 405, 501})
"""Answers of a collector that takes traces and no metrics."""
TRIES = 5
LONGEST = 30.0
"""Seconds that are waited before another try, at most."""


class ExportFailed(WeftError, OSError):
    """A collector can't be reached, or does not take what it is sent."""


class Collector:
    """Where spans are sent. Raises BadInput for what is no web address."""

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput(f"{url!r} is no collector: give its address as http://host:4318")
        base = url.rstrip("/")
        self.base = base.removesuffix("/v1/traces")
        self.timeout = timeout
        self.binary = otlp.protobuf_there()
        self.headers = _headers(os.environ.get(HEADERS, ""))

    async def send(self, spans: Sequence[Span]) -> None:
        """The spans, and what they measure. Raises ExportFailed."""
        data = otlp.as_protobuf(spans) if self.binary else otlp.as_json(spans)
        await asyncio.to_thread(self._post, "/v1/traces", data, self.binary)
        measured = measures.as_json(spans)
        if measured is not None:
            await asyncio.to_thread(self._post, "/v1/metrics", measured, False, True)

    def _post(self, path: str, data: bytes, binary: bool, may_lack: bool = False) -> None:
        kind = "application/x-protobuf" if binary else "application/json"
        headers = {**self.headers, "Content-Type": kind, "Content-Encoding": "gzip", "User-Agent": "weft"}
        request = urllib.request.Request(self.base + path, gzip.compress(data, 1), headers, method="POST")
        for attempt in range(1, TRIES + 1):
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    body, form = answer.read(), answer.headers.get("Content-Type", "")
            except urllib.error.HTTPError as error:
                if may_lack and error.code in LACKING:
                    return
                if error.code not in AGAIN or attempt == TRIES:
                    raise ExportFailed(f"{mask(self.base)}{path} answers {error.code} {error.reason}") from None
                wait = error.headers.get("Retry-After", "")
            except (OSError, ValueError) as error:
                if attempt == TRIES:
                    why = getattr(error, "reason", error)
                    raise ExportFailed(f"{mask(self.base)} can't be reached: {why}; is a collector there?") from None
                wait = ""
            else:
                self._checked(body, form)
                return
            sleep(min(float(wait) if wait.isdigit() else 0.5 * 2 ** (attempt - 1), LONGEST))

    def _checked(self, body: bytes, kind: str) -> None:
        """A collector may take some spans and say how many it did not."""
        if body and "json" in kind:
            try:
                partial = msgspec.json.decode(body).get("partialSuccess") or {}
            except (msgspec.DecodeError, AttributeError):
                return
            if int(partial.get("rejectedSpans") or 0):
                said = partial.get("errorMessage") or "it does not say why"
                raise ExportFailed(f"{mask(self.base)} rejected {partial['rejectedSpans']} spans: {said}")


def _headers(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in text.split(",") if pair.strip())
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs}
