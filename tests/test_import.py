"""Traces of other frameworks in a store: read, shown, judged and asked like runs of Weft, and said to be imported."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests import told
from tests.test_export_otlp import exported
from weft.cli.app import app
from weft.core.codec import decode_plain
from weft.core.record import Outcome, decode_records
from weft.store import open_store
from weft.store.links import flaw
from weft.trace.imported import IMPORTED, import_spans
from weft.trace.reading import Node, read_run
from weft.trace.said import unflattened
from weft.trace.spans import Span, read_spans

SECOND = 1_000_000_000
BEGAN = 1_790_000_000 * SECOND


def weft_(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def otlp(id: int, parent: int | None, name: str, start: float, end: float, **attributes: Any) -> dict[str, Any]:
    def value(of: Any) -> dict[str, Any]:
        return {"intValue": str(of)} if isinstance(of, int) else {"stringValue": of}

    return {
        "traceId": "a" * 32, "spanId": f"{id:016x}", "name": name,
        "startTimeUnixNano": str(BEGAN + int(start * SECOND)), "endTimeUnixNano": str(BEGAN + int(end * SECOND)),
        "attributes": [{"key": key.replace("__", "."), "value": value(of)} for key, of in attributes.items()],
        **({"parentSpanId": f"{parent:016x}"} if parent else {}),
    }  # fmt: skip


def openinference() -> list[dict[str, Any]]:
    """An agent that has a tool called, as Phoenix's instrumentations write it."""
    said = {
        "openinference__span__kind": "LLM", "llm__model_name": "gpt-x", "llm__token_count__prompt": 12,
        "llm__token_count__completion": 7, "llm__input_messages__0__message__role": "user",
        "llm__input_messages__0__message__content": "What is it?",
        "llm__output_messages__0__message__role": "assistant",
        "llm__output_messages__0__message__tool_calls__0__tool_call__function__name": "look",
        "llm__output_messages__0__message__tool_calls__0__tool_call__function__arguments": '{"at": 1}',
        "llm__output_messages__0__message__tool_calls__0__tool_call__id": "c1",
    }  # fmt: skip
    return [
        otlp(1, None, "run", 0, 9, openinference__span__kind="AGENT", agent__name="finder", input__value="What is it?"),
        otlp(2, 1, "ChatCompletion", 1, 3, **said),
        otlp(3, 2, "POST", 1.1, 2.9),
        otlp(4, 1, "look", 4, 5, openinference__span__kind="TOOL", tool__name="look", input__value='{"at": 1}',
             output__value="a cat"),
    ]  # fmt: skip


def imported(place: str, path: Path, data: Any) -> list[str]:
    path.write_text("\n".join(json.dumps(one) for one in data))
    done = weft_("trace", "import", str(path), "--store", place, "--json")
    assert done.exit_code == 0, done.output
    runs: list[str] = json.loads(done.stdout)["runs"]
    return runs


def nodes(place: str, run: str) -> list[Node]:
    async def go() -> list[Node]:
        store = open_store(place)
        try:
            return [node async for node in read_run(store, run)]
        finally:
            await store.close()

    return asyncio.run(go())


def test_spans_of_openinference_are_a_run(store: str, tmp_path: Path) -> None:
    (run,) = imported(store, tmp_path / "a.jsonl", openinference())
    process, *effects = nodes(store, run)
    assert (process.name, process.status, process.seconds) == ("finder", "ok", 9.0)
    assert sorted((one.kind, one.name, round(one.seconds, 3)) for one in effects) == [
        ("generation", "generate", 2.0), ("step", "POST", 1.8), ("tool", "look", 1.0),
    ]  # fmt: skip
    (generation,) = (one for one in effects if one.kind == "generation")
    assert (generation.model, generation.input_tokens, generation.output_tokens) == ("gpt-x", 12, 7)
    shown = weft_("show", run, "--store", store)
    assert shown.exit_code == 0 and "imported from" in shown.output and "look" in shown.output


def test_messages_and_calls_are_asked_like_those_of_any_run(tmp_path: Path) -> None:
    pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'weft[query]'")
    place = str(tmp_path / "journal.db")
    imported(place, tmp_path / "a.jsonl", openinference())
    asked = "select role, kind, content, tool from messages order by place"
    assert json.loads(weft_("query", asked, "--json", "--store", place).stdout) == [
        {"role": "user", "kind": "text", "content": "What is it?", "tool": None},
        {"role": "assistant", "kind": "tool_call", "content": '{"at": 1}', "tool": "look"},
    ]
    asked = "select tool, arguments->>'at' as at_, result from tool_calls"
    assert json.loads(weft_("query", asked, "--json", "--store", place).stdout) == [
        {"tool": "look", "at_": "1", "result": "a cat"}
    ]


def test_what_was_imported_can_not_be_run_and_is_not_imported_twice(tmp_path: Path) -> None:
    place = str(tmp_path / "journal.db")
    (run,) = imported(place, tmp_path / "a.jsonl", openinference())
    again = weft_("trace", "import", str(tmp_path / "a.jsonl"), "--store", place)
    assert "0 runs" in again.stdout and "1 were there already" in again.stdout
    assert weft_("resume", run, "--store", place).exit_code != 0
    assert weft_("fork", run, "--at", "1", "--store", place).exit_code != 0
    assert weft_("audit", "verify", "--store", place).exit_code == 0
    assert json.loads(weft_("show", run, "--json", "--store", place).stdout)["version"] == IMPORTED


def test_a_run_that_was_exported_comes_back_with_the_same_shape(store: str, tmp_path: Path) -> None:
    id = told.run(store)
    path = tmp_path / "a.jsonl"
    exported(store, id, "--otlp", str(path), "--content")
    place = str(tmp_path / "other.db")
    (run,) = json.loads(weft_("trace", "import", str(path), "--store", place, "--json").stdout)["runs"]

    def shape(found: list[Node]) -> list[tuple[str, str, str, int, str]]:
        kept = [one for one in found if one.kind not in ("spawn", "child")]
        return sorted((one.kind, one.name, one.status, one.input_tokens, one.error.rpartition(": ")[2]) for one in kept)

    assert shape(nodes(place, run)) == shape(nodes(store, id))


AGENTS_SDK = [
    {"object": "trace", "id": "trace_1", "workflow_name": "w"},
    {"object": "trace.span", "id": "s1", "trace_id": "trace_1", "parent_id": None, "error": None,
     "started_at": "2026-01-01T00:00:00+00:00", "ended_at": "2026-01-01T00:00:05+00:00",
     "span_data": {"type": "agent", "name": "finder"}},
    {"object": "trace.span", "id": "s2", "trace_id": "trace_1", "parent_id": "s1", "error": None,
     "started_at": "2026-01-01T00:00:01+00:00", "ended_at": "2026-01-01T00:00:02+00:00",
     "span_data": {"type": "generation", "model": "gpt-x", "input": [{"role": "user", "content": "What is it?"}],
                   "output": [{"role": "assistant", "content": "A cat."}],
                   "usage": {"input_tokens": 12, "output_tokens": 7}}},
    {"object": "trace.span", "id": "s3", "trace_id": "trace_1", "parent_id": "s1",
     "error": {"message": "gone", "data": None},
     "started_at": "2026-01-01T00:00:03+00:00", "ended_at": "2026-01-01T00:00:04+00:00",
     "span_data": {"type": "function", "name": "look", "input": '{"at": 1}', "output": None}},
]  # fmt: skip
LANGSMITH = [
    {"id": "r1", "trace_id": "r1", "parent_run_id": None, "name": "finder", "run_type": "chain",
     "start_time": "2026-01-01T00:00:00", "end_time": "2026-01-01T00:00:05", "inputs": {"q": "What?"}, "outputs": {}},
    {"id": "r2", "trace_id": "r1", "parent_run_id": "r1", "name": "ChatOpenAI", "run_type": "llm",
     "start_time": "2026-01-01T00:00:01", "end_time": "2026-01-01T00:00:02",
     "inputs": {"messages": [{"role": "user", "content": "What is it?"}]}, "outputs": {"text": "A cat."},
     "prompt_tokens": 12, "completion_tokens": 7, "extra": {"metadata": {"ls_model_name": "gpt-x"}}},
    {"id": "r3", "trace_id": "r1", "parent_run_id": "r1", "name": "look", "run_type": "tool", "error": "gone",
     "start_time": "2026-01-01T00:00:03", "end_time": "2026-01-01T00:00:04", "inputs": {"at": 1}, "outputs": None},
]  # fmt: skip
LANGFUSE = [
    {"id": "o1", "traceId": "t1", "parentObservationId": None, "type": "SPAN", "name": "finder",
     "startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-01T00:00:05Z"},
    {"id": "o2", "traceId": "t1", "parentObservationId": "o1", "type": "GENERATION", "name": "chat", "model": "gpt-x",
     "startTime": "2026-01-01T00:00:01Z", "endTime": "2026-01-01T00:00:02Z", "input": "What is it?",
     "output": "A cat.", "usageDetails": {"input": 12, "output": 7}},
    {"id": "o3", "traceId": "t1", "parentObservationId": "o1", "type": "TOOL", "name": "look", "level": "ERROR",
     "statusMessage": "gone", "startTime": "2026-01-01T00:00:03Z", "endTime": "2026-01-01T00:00:04Z",
     "input": {"at": 1}},
]  # fmt: skip
OPENLLMETRY = [
    otlp(1, None, "finder.workflow", 0, 5, traceloop__span__kind="workflow", traceloop__entity__name="finder"),
    otlp(2, 1, "openai.chat", 1, 2, gen_ai__operation__name="chat", gen_ai__system="openai",
         gen_ai__request__model="gpt-x", gen_ai__usage__prompt_tokens=12, gen_ai__usage__completion_tokens=7,
         gen_ai__prompt__0__role="user", gen_ai__prompt__0__content="What is it?",
         gen_ai__completion__0__role="assistant", gen_ai__completion__0__content="A cat."),
    otlp(3, 1, "look.tool", 3, 4, traceloop__span__kind="tool", traceloop__entity__name="look",
         traceloop__entity__input='{"at": 1}', error__type="gone"),
]  # fmt: skip


@pytest.mark.parametrize(
    "trace", [AGENTS_SDK, LANGSMITH, LANGFUSE, OPENLLMETRY], ids=["agents sdk", "langsmith", "langfuse", "openllmetry"]
)
def test_traces_of_other_frameworks_are_runs(trace: list[Any], tmp_path: Path) -> None:
    place = str(tmp_path / "journal.db")
    (run,) = imported(place, tmp_path / "a.jsonl", trace)
    process, generation, call = nodes(place, run)
    assert process.name.startswith("finder") and process.seconds == 5
    assert (generation.kind, generation.model, generation.input_tokens, generation.output_tokens) == (
        "generation", "gpt-x", 12, 7,
    )  # fmt: skip
    assert (call.kind, call.name, call.status) == ("tool", "look", "failed") and "gone" in call.error


async def _written(spans: list[Span], place: str) -> tuple[int, list[str | None]]:
    store = open_store(place)
    try:
        report = await import_spans(store, spans, "test")
        rows = await store.rows(limit=1000)
        flaws = []
        for row in rows:
            segments = await store.segments([row.id])
            records = [record for one in segments for record in decode_records(one.records)]
            ats = [record.at for record in records]
            assert ats == sorted(ats)
            assert len({r.effect for r in records if isinstance(r, Outcome)}) == len(records) - 1
            for record in records:
                if isinstance(record, Outcome) and isinstance(record.value, bytes):
                    decode_plain(record.value)
            flaws.append(flaw(row, segments, b""))
        assert report.processes == len(rows)
        return report.effects, flaws
    finally:
        await store.close()


KINDS = ["", "chat", "execute_tool", "invoke_agent", "invoke_workflow", "retrieval"]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_tree_of_spans_is_a_whole_run(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    count = data.draw(st.integers(1, 15))
    spans = []
    for id in range(1, count + 1):
        parent = data.draw(st.integers(0, id - 1))
        start, took = data.draw(st.integers(0, 50)), data.draw(st.integers(-1, 50))
        kind = data.draw(st.sampled_from(KINDS))
        spans.append(
            Span("t", str(id), str(parent) if parent else None, f"s{id}", BEGAN + start * SECOND,
                 BEGAN + (start + took) * SECOND, {"gen_ai.operation.name": kind} if kind else {},
                 failed=data.draw(st.booleans()))
        )  # fmt: skip
    _, flaws = asyncio.run(_written(spans, str(tmp_path_factory.mktemp("any") / "journal.db")))
    assert flaws and not any(flaws)


def test_lists_in_attributes_are_found() -> None:
    found = {"a.1.x": 2, "a.0.x": 1, "a.0.y.z": 3, "ab.0": 4, "a.10.x": 5}
    assert unflattened(found, "a") == [{"x": 1, "y": {"z": 3}}, {"x": 2}, {"x": 5}]
    assert unflattened({"a.b": 1}, "a") == [] and unflattened({}, "a") == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no span"),
        ("{", "not JSON"),
        ('{"spanId": "1"}', "it lacks"),
        ('{"run_type": "llm", "id": "1", "start_time": "yesterday"}', "not a span"),
        (json.dumps({**otlp(1, 2, "a", 0, 1)}) + json.dumps({**otlp(2, 1, "b", 0, 1)}), "in a circle"),
    ],
    ids=["empty", "no json", "lacks", "time", "circle"],
)
def test_what_is_no_trace_is_refused(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    done = weft_("trace", "import", str(path), "--store", str(tmp_path / "journal.db"))
    assert done.exit_code != 0 and why in done.output


def test_what_is_no_protobuf_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.proto", reason="opentelemetry-proto is not installed: pip install 'weft[otel]'")
    (tmp_path / "a.pb").write_bytes(b"\xff\xff")
    done = weft_("trace", "import", str(tmp_path / "a.pb"), "--store", str(tmp_path / "journal.db"))
    assert done.exit_code != 0 and "protobuf" in done.output


def test_protobuf_is_read_like_json(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.proto", reason="opentelemetry-proto is not installed: pip install 'weft[otel]'")
    place = str(tmp_path / "journal.db")
    id = told.run(place)
    for name in ("a.jsonl", "a.pb"):
        exported(place, id, "--otlp", str(tmp_path / name), "--content")
    assert read_spans(tmp_path / "a.pb") == read_spans(tmp_path / "a.jsonl")
