"""A worker that sends what ends to a collector: all of it, from the journal, whatever the collector does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import weft

pytest.importorskip("opentelemetry.proto", reason="opentelemetry-proto is not installed: pip install 'weft[otel]'")
pytest.importorskip("pydantic_settings", reason="pydantic-settings is not installed: pip install 'weft[worker]'")

from tests.collector import Collector, attributes
from weft.core.traceparent import span_of, trace_of
from weft.trace.export.outlet import Outlet
from weft.trace.export.send import Collector as Sending

PROGRAM = """
import weft

@weft.step
async def one(n: int) -> int:
    return n

@weft.workflow
async def child(n: int) -> int:
    return await one(n)

@weft.workflow
async def main(n: int) -> int:
    return await child(n) + await one(n)
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


def test_a_worker_sends_what_ends_and_the_last_of_it_when_it_is_told_to_stop(
    store: str, tmp_path: Path, collector: Collector
) -> None:
    program = tmp_path / "p.py"
    program.write_text(PROGRAM)
    env = {**os.environ, "WEFT_OTLP_CONTENT": "true"}
    words = [sys.executable, "-m", "weft"]
    submit = [*words, "submit", str(program) + ":main", "--input", "n=7", "--store", store]
    first = subprocess.run(submit, env=env, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    work = [*words, "worker", str(program), "--store", store, "--otlp", collector.url]
    worker = subprocess.Popen(work, env=env, stderr=subprocess.PIPE, text=True)
    try:
        done = time.monotonic() + 60
        while len(collector.spans) < 4 and time.monotonic() < done:
            time.sleep(0.1)
        second = subprocess.run([*submit, "--wait"], env=env, check=True, capture_output=True, text=True, timeout=60)
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=60)
    finally:
        worker.kill()
    traces = {span.trace_id.hex() for span in collector.spans}
    assert traces == {trace_of(first), trace_of(second.stdout.split()[0])}, said
    assert len({span.span_id for span in collector.spans}) == len(collector.spans) == 8
    root = next(span for span in collector.spans if span.span_id.hex() == span_of(first))
    assert root.name == "invoke_workflow p.main" and attributes(root)["weft.output"] == "14"
    child = [span for span in collector.spans if span.name == "invoke_workflow p.child"]
    assert root.span_id in {span.parent_span_id for span in child}
    assert "not exported" not in said


@weft.step
async def outlet_step(n: int) -> int:
    return n


@weft.workflow(name="outlet.small")
async def small(n: int) -> int:
    return await outlet_step(n)


def test_a_collector_that_refuses_costs_spans_and_no_run(
    tmp_path: Path, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> Outlet:
        async with weft.Runtime(tmp_path / "journal.db") as runtime:
            outlet = Outlet(runtime.store, Sending(collector.url), runtime.journal.barrier)
            runtime.observe(outlet.observe)
            collector.answers = [400]
            assert await runtime.run(small, 1) == 1
            await outlet.flush()
            assert await runtime.run(small, 2) == 2
            await outlet.flush()
            return outlet

    outlet = asyncio.run(main())
    assert outlet.left_out == 1 and "1 processes were not exported" in caplog.text
    assert len(collector.spans) == 2


def test_what_waits_is_bounded(tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.trace.export.outlet.WAITING", 3)

    async def main() -> int:
        async with weft.Runtime(tmp_path / "journal.db") as runtime:
            outlet = Outlet(runtime.store, Sending(collector.url), runtime.journal.barrier)
            runtime.observe(outlet.observe)
            for n in range(5):
                await runtime.run(small, n)
            await outlet.flush()
            return outlet.left_out

    assert asyncio.run(main()) == 2
    assert sum(span.name == "invoke_workflow outlet.small" for span in collector.spans) == 3
