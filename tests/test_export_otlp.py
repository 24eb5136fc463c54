"""Spans for OpenTelemetry, as a collector parses them: names, ids, attributes, content, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import weft
import weft.model
from tests import told
from tests.programs import drive
from tests.test_export_context import CALLER
from weft.cli.app import app
from weft.core.traceparent import read, span_of, trace_of
from weft.trace.conventions import SCHEMA
from weft.trace.export.content import Content, kind_of_part
from weft.trace.export.send import Collector as Sending
from weft.trace.export.send import ExportFailed
from weft.trace.otel import load_history
from weft.trace.spans import Span, read_spans

pytest.importorskip("opentelemetry.proto", reason="opentelemetry-proto is not installed: pip install 'weft[otel]'")

from tests.collector import Collector, attributes, parsed, spans_of


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


def weft_(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def exported(place: str, *words: str) -> Any:
    done = weft_("export", *words, "--store", place)
    assert done.exit_code == 0, done.output
    return done


def test_a_collector_gets_the_spans_of_the_conventions(store: str, collector: Collector) -> None:
    id = told.run(store)
    exported(store, id, "--otlp", collector.url)
    named = {span.name: span for span in collector.spans}
    assert [*sorted(named)] == [
        "chat told", "execute_tool told_search", "invoke_agent told.agent", "invoke_workflow told.main", "sleep",
        "step tests.told.told_add", "step tests.told.told_broken",
    ]  # fmt: skip
    path, request = collector.requests[0]
    assert path == "/v1/traces" and request.resource_spans[0].scope_spans[0].schema_url == SCHEMA
    main, agent = named["invoke_workflow told.main"], named["invoke_agent told.agent"]
    assert main.trace_id.hex() == trace_of(id) and main.span_id.hex() == span_of(id) and not main.parent_span_id
    assert agent.parent_span_id == main.span_id and {span.trace_id for span in collector.spans} == {main.trace_id}
    for name in ("chat told", "execute_tool told_search"):
        assert named[name].parent_span_id == agent.span_id
    first = min((s for s in collector.spans if s.name == "chat told"), key=lambda s: s.start_time_unix_nano)
    said = attributes(first)
    assert said["gen_ai.operation.name"] == "chat" and said["gen_ai.provider.name"] == "script"
    assert said["gen_ai.response.model"] == "demo-1" and said["gen_ai.response.finish_reasons"] == ["tool_call"]
    assert said["gen_ai.usage.input_tokens"] == 10 and said["gen_ai.usage.cache_read.input_tokens"] == 3
    assert attributes(agent)["gen_ai.usage.output_tokens"] == 7
    called = attributes(named["execute_tool told_search"])
    assert called["gen_ai.tool.name"] == "told_search" and called["gen_ai.tool.call.id"] == "c1"
    broken = named["step tests.told.told_broken"]
    assert broken.status.code == 2 and broken.status.message == "ValueError: it <broke> & fell"
    assert attributes(broken)["error.type"] == "ValueError"
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in collector.spans)


def test_metrics_are_counted_from_what_is_sent(tmp_path: Path, collector: Collector) -> None:
    place = str(tmp_path / "journal.db")
    exported(place, told.run(place), "--otlp", collector.url)
    metrics = collector.metrics
    (point,) = metrics["gen_ai.client.inference.duration"].histogram.data_points
    assert (
        point.count == 2 and sum(point.bucket_counts) == 2 and metrics["gen_ai.client.inference.duration"].unit == "s"
    )
    (tokens,) = metrics["gen_ai.client.inference.usage.input_tokens"].sum.data_points
    assert tokens.as_int == 30
    assert {"gen_ai.execute_tool.duration", "gen_ai.invoke_agent.duration", "gen_ai.invoke_workflow.duration"} < {
        *metrics
    }


@weft.workflow(name="otlp.streamed")
async def streamed() -> float | None:
    model = weft.model.script(["One.", "Two."], name="otlp-streamed")
    assert (await model.chat("Say one.")).first is None
    return (await model.stream("Say two.").whole()).first


def test_of_a_stream_the_seconds_to_its_first_chunk_are_told(tmp_path: Path, collector: Collector) -> None:
    place = str(tmp_path / "journal.db")

    async def run(runtime: weft.Runtime) -> float | None:
        return await runtime.run(streamed.options(id="streamed"))

    first = drive(place, run)
    exported(place, "streamed", "--otlp", collector.url)
    asked, streaming = (attributes(span) for span in collector.spans if span.name == "chat otlp-streamed")
    assert "gen_ai.request.stream" not in asked and "gen_ai.response.time_to_first_chunk" not in asked
    assert streaming["gen_ai.request.stream"] is True and streaming["gen_ai.response.time_to_first_chunk"] == first
    (point,) = collector.metrics["gen_ai.client.inference.time_to_first_chunk"].histogram.data_points
    assert first is not None and first >= 0 and point.count == 1 and point.sum == first


def test_content_is_exported_only_if_asked_for(tmp_path: Path) -> None:
    place = str(tmp_path / "journal.db")
    id = told.run(place)
    exported(place, id, "--otlp", str(tmp_path / "plain.jsonl"))
    text = (tmp_path / "plain.jsonl").read_text()
    assert "Hamlet" not in text and "Shakespeare" not in text and "555-0100" not in text
    exported(place, id, "--otlp", str(tmp_path / "whole.jsonl"), "--content", "--redact", r"\d{3}-\d{4}")
    spans = read_spans(tmp_path / "whole.jsonl")
    chat = next(s for s in spans if s.name == "chat told")
    assert json.loads(chat.attributes["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be brief."}]
    assert json.loads(chat.attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "Who wrote Hamlet?"}]}
    ]
    assert json.loads(chat.attributes["gen_ai.output.messages"])[0]["parts"][1] == {
        "type": "tool_call", "id": "c1", "name": "told_search", "arguments": {"query": "Hamlet"},
    }  # fmt: skip
    assert json.loads(chat.attributes["gen_ai.tool.definitions"])[0]["name"] == "told_search"
    tool = next(s for s in spans if s.name == "execute_tool told_search")
    assert json.loads(tool.attributes["gen_ai.tool.call.arguments"]) == {"query": "Hamlet"}
    assert "[redacted]" in tool.attributes["gen_ai.tool.call.result"]
    assert "555-0100" not in (tmp_path / "whole.jsonl").read_text()


def test_secrets_are_redacted_from_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLD_API_KEY", "sk-abcdefghijklmnop")
    assert Content().text({"a": "key sk-abcdefghijklmnop."}) == '{"a":"key [secret:TOLD_API_KEY]."}'
    assert Content(longest=10).text("x" * 20) == "x" * 10 + "… (20 characters)"


def test_parts_of_messages_keep_their_kinds() -> None:
    import msgspec

    from weft.core.codec import decode_plain, encode
    from weft.core.content import Blob, File, Text, ToolCall, ToolResult, Uri
    from weft.model.message import Opaque, Reasoning, Refusal

    parts = [
        Text(content="a"), Reasoning(content="b"), Refusal(content="c"), Blob.of(b"d", "image/png"),
        Uri(modality="image", uri="https://e.example"), File(modality="image", file_id="f"), ToolCall(id="1", name="g"),
        ToolResult.of("1", "h"), Opaque(dialect="i", content={}),
    ]  # fmt: skip
    for part in parts:
        assert kind_of_part(decode_plain(encode(part))) == msgspec.to_builtins(part)["type"]


def test_a_file_in_protobuf_says_the_same_as_one_in_json(tmp_path: Path) -> None:
    place = str(tmp_path / "journal.db")
    id = told.run(place)
    for name in ("a.jsonl", "a.pb"):
        exported(place, id, "--otlp", str(tmp_path / name), "--content")
    binary = spans_of(parsed("/v1/traces", (tmp_path / "a.pb").read_bytes(), "protobuf"))
    plain = {span.id: span for span in read_spans(tmp_path / "a.jsonl")}
    assert {span.span_id.hex() for span in binary} == {*plain}
    for span in binary:
        same = plain[span.span_id.hex()]
        assert (span.name, span.start_time_unix_nano, span.end_time_unix_nano) == (same.name, same.start, same.end)
        assert attributes(span) == same.attributes


def test_without_protobuf_json_is_sent(tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.trace.export.otlp.protobuf_there", lambda: False)
    place = str(tmp_path / "journal.db")
    id = told.run(place)
    exported(place, id, "--otlp", collector.url)
    assert collector.headers["content-type"] == "application/json"
    assert "chat told" in {span.name for span in collector.spans}


def test_what_was_exported_can_be_judged_again(tmp_path: Path) -> None:
    place = str(tmp_path / "journal.db")
    exported(place, told.run(place), "--otlp", str(tmp_path / "a.jsonl"), "--content")
    history = load_history(tmp_path / "a.jsonl")
    assert [call.tool for one in history for call in one.calls] == ["told_search"]


def test_a_called_run_is_below_its_caller(tmp_path: Path, collector: Collector) -> None:
    place = str(tmp_path / "journal.db")
    id = told.run(place, caller=CALLER)
    exported(place, id, "--otlp", collector.url)
    root = next(span for span in collector.spans if span.name == "invoke_workflow told.main")
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == read(CALLER)
    assert {span.trace_id for span in collector.spans} == {root.trace_id}


def test_a_child_alone_has_the_ids_that_it_has_in_its_family(tmp_path: Path, collector: Collector) -> None:
    place = str(tmp_path / "journal.db")
    told.run(place)
    exported(place, "--all", "--otlp", collector.url)
    whole = {span.span_id: span for span in collector.spans}
    collector.requests.clear()
    exported(place, "--workflow", "told.agent", "--otlp", collector.url)
    assert len(collector.spans) == 4
    for span in collector.spans:
        assert whole[span.span_id] == span


# --- what goes wrong ----------------------------------------------------------------------------------------------

SPAN = Span("0" * 31 + "1", "0" * 15 + "1", None, "x", 1, 2, {})


def test_a_collector_that_is_busy_is_asked_again(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.trace.export.send.sleep", lambda seconds: None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc,x-team = weft")
    collector.answers = [503, 429]
    asyncio.run(Sending(collector.url + "/v1/traces").send([SPAN]))
    assert [span.name for span in collector.spans] == ["x"]
    assert collector.headers["authorization"] == "Bearer abc" and collector.headers["x-team"] == "weft"


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_collector_of_traces_alone_is_fine(status: int, tmp_path: Path, collector: Collector) -> None:
    collector.answers = [200, status]
    place = str(tmp_path / "journal.db")
    exported(place, told.run(place), "--otlp", collector.url)
    assert "chat told" in {span.name for span in collector.spans} and not collector.metrics


def test_a_collector_that_refuses_or_rejects_is_an_error(collector: Collector) -> None:
    collector.answers = [401]
    with pytest.raises(ExportFailed, match="/v1/traces answers 401"):
        asyncio.run(Sending(collector.url).send([SPAN]))
    collector.reply = b'{"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too old"}}'
    with pytest.raises(ExportFailed, match=r"^http://\S+ rejected 1 spans: too old$"):
        asyncio.run(Sending(collector.url).send([SPAN]))
    assert len(collector.requests) == 1, "what was taken is not sent again"


def test_nobody_there_is_an_error_without_the_password(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weft.trace.export.send.sleep", lambda seconds: None)
    collector.close()
    place = str(tmp_path / "journal.db")
    url = collector.url.replace("http://", "http://me:s3cret@")
    done = weft_("export", told.run(place), "--otlp", url, "--store", place)
    assert done.exit_code != 0 and "can't be reached" in done.output and "s3cret" not in done.output


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "say what to export"),
        (["--all", "--workflow", "x"], "say what to export"),
        (["--workflow", "nobody"], "no run of 'nobody'"),
        (["nobody"], "no run 'nobody'"),
        (["--all", "--redact", "x", "--as", "otlp"], "--redact goes with --content"),
        (["--all", "--content", "--as", "xes"], "--content is of spans"),
        (["--all", "--otlp", "a.jsonl", "--content", "--redact", "("], "no regular expression"),
        (["--all", "--otlp", "ftp://x"], "is no collector"),
        (["--all", "--as", "xes", "-o", "/dev/null/x"], "could not be written"),
    ],
    ids=["nothing", "two", "no such workflow", "no such run", "redact", "content", "regex", "scheme", "folder"],
)
def test_bad_input_is_told(words: list[str], why: str, tmp_path: Path) -> None:
    place = str(tmp_path / "journal.db")
    told.run(place)
    done = weft_("export", *words, "--store", place)
    assert done.exit_code != 0 and why in done.output
