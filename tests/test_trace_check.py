"""`weft trace check` on histories and spans of OpenTelemetry: what it reads from them, says, and exits with."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import weft as library
from weft.core.errors import BadInput
from weft.trace.anomalies import check
from weft.trace.history import Call, Operation, Read, Write, write_history
from weft.trace.otel import load_history

ROOT = Path(__file__).parents[1]
Spans = list[dict[str, Any]]


def span(id: str, parent: str | None, start: int, end: int, events: Any = (), **attributes: Any) -> dict[str, Any]:
    """A span in OTLP's JSON, times in milliseconds. `__` in a name of an attribute is a dot; `op`, `agent`: short."""
    short = {"op": "gen_ai.operation.name", "agent": "gen_ai.agent.name", "tool": "gen_ai.tool.name"}
    named = {short.get(key, key.replace("__", ".")): value for key, value in attributes.items()}
    return {
        "traceId": "t",
        "spanId": id,
        **({"parentSpanId": parent} if parent else {}),
        "name": id,
        "startTimeUnixNano": str(1_764_169_000_000_000_000 + start * 1_000_000),
        "endTimeUnixNano": str(1_764_169_000_000_000_000 + end * 1_000_000),
        "attributes": pairs(named),
        "events": [
            {"timeUnixNano": str(1_764_169_000_000_000_000 + at * 1_000_000), "name": name, "attributes": pairs(found)}
            for at, name, found in events
        ],
    }


def pairs(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": any_value(value)} for key, value in values.items()]


def any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"arrayValue": {"values": [any_value(one) for one in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": pairs(value)}}
    kinds = {str: "stringValue", bool: "boolValue", float: "doubleValue"}
    return {"intValue": str(value)} if type(value) is int else {kinds[type(value)]: value}


def loaded(tmp_path: Path, spans: Spans) -> list[Operation]:
    file = tmp_path / "spans.json"
    file.write_text(json.dumps({"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": spans}]}]}))
    return load_history(file)


def message(*calls: tuple[str, str]) -> str:
    parts = [{"type": "tool_call", "id": id, "name": name, "arguments": {}} for id, name in calls]
    return json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "…"}, *parts]}])


def call(id: str, parent: str, start: int, end: int, tool: str, **more: Any) -> dict[str, Any]:
    return span(id, parent, start, end, op="execute_tool", tool=tool, gen_ai__tool__call__id=f"call-{id}", **more)


def turn() -> Spans:
    """The message asks for a, b, c. b is started first and a takes longest."""
    asked = message(("call-1", "a"), ("call-2", "b"), ("call-3", "c"))
    return [
        span("root", None, 0, 50, op="invoke_agent", agent="clerk"),
        span("chat", "root", 0, 10, op="chat", gen_ai__output__messages=asked),
        call("2", "root", 11, 20, "b"),
        call("1", "root", 12, 40, "a"),
        call("3", "root", 13, 30, "c"),
    ]


# --- order of tools -----------------------------------------------------------------------------------------------


def test_calls_are_issued_in_the_order_of_the_message(tmp_path: Path) -> None:
    [operation] = loaded(tmp_path, turn())
    assert operation.agent == "clerk"
    assert operation.calls == (Call("a", 0, 40.0), Call("b", 1, 20.0), Call("c", 2, 30.0))
    assert operation.planned == ("a", "b", "c")
    [found] = check([operation], "L3")
    assert "issued a #1, b #2, c #3; they took effect in the order b #2, c #3, a #1" in found.words


def test_without_the_message_they_are_issued_as_they_started(tmp_path: Path) -> None:
    spans = [one for one in turn() if one["spanId"] != "chat"]
    [operation] = loaded(tmp_path, spans)
    assert [one.tool for one in operation.calls] == ["b", "a", "c"]
    assert [one.kind for one in check([operation], "L3")] == ["A6"]


def test_calls_without_ids_are_found_by_a_name_that_is_there_once(tmp_path: Path) -> None:
    spans = turn()
    for one in spans:
        one["attributes"] = [pair for pair in one["attributes"] if pair["key"] != "gen_ai.tool.call.id"]
    [operation] = loaded(tmp_path, spans)
    assert [one.tool for one in operation.calls] == ["a", "b", "c"]


def test_turns_are_judged_apart_and_one_after_the_other_is_in_order(tmp_path: Path) -> None:
    spans = [
        span("root", None, 0, 90, op="invoke_agent", agent="clerk"),
        span("chat1", "root", 0, 10, op="chat", gen_ai__output__messages=message(("call-1", "a"))),
        call("1", "root", 11, 20, "a"),
        span("chat2", "root", 21, 30, op="chat", gen_ai__output__messages=message(("call-3", "c"), ("call-2", "b"))),
        call("2", "root", 31, 50, "b"),
        call("3", "root", 32, 40, "c"),
    ]
    history = loaded(tmp_path, spans)
    assert [[one.tool for one in operation.calls] for operation in history] == [["a"], ["c", "b"]]
    assert check(history, "L3") == []


def test_a_call_that_failed_took_no_effect_and_what_commutes_has_no_order(tmp_path: Path) -> None:
    for more in ({"error__type": "timeout"}, {"weft__tool__effect": "commutes"}):
        spans = [*turn()[:3], call("1", "root", 12, 40, "a", **more), call("3", "root", 13, 30, "c")]
        assert check(loaded(tmp_path, spans), "L3") == []


def test_spans_of_openinference(tmp_path: Path) -> None:
    calls = {f"llm.output_messages.0.message.tool_calls.{n}.tool_call.id": f"id{n}" for n in range(2)}
    kind = "openinference.span.kind"
    spans = [
        span("root", None, 0, 50, **{kind: "AGENT", "agent.name": "clerk"}),
        span("chat", "root", 0, 10, **{kind: "LLM", **calls}),
        span("two", "root", 11, 20, **{kind: "TOOL", "tool.name": "b", "tool_call.id": "id1"}),
        span("one", "root", 12, 30, **{kind: "TOOL", "tool.name": "a", "tool_call.id": "id0"}),
    ]
    [operation] = loaded(tmp_path, spans)
    assert (operation.agent, [one.tool for one in operation.calls]) == ("clerk", ["a", "b"])
    assert [one.kind for one in check([operation], "L3")] == ["A6"]


# --- reads and writes ---------------------------------------------------------------------------------------------


def nodes(*, second: str = "editor") -> Spans:
    """Two agents' nodes, each in one span: read the plan, generate, write it."""
    return [
        span("slow", None, 0, 100, agent="writer", weft__read__plan="v0", weft__write__plan="from writer"),
        span("quick", None, 10, 20, agent=second, weft__read__plan="v0", weft__write__plan="from editor"),
    ]


def test_a_span_that_reads_and_writes_is_an_operation(tmp_path: Path) -> None:
    history = loaded(tmp_path, nodes())
    assert history[0] == Operation(
        "slow", "writer", 0.0, 100.0, (Read("plan", "v0", 0.0),), (Write("plan", "from writer"),)
    )
    [found] = check(history)
    assert (found.kind, found.operation, found.others) == ("A1", "slow", ("quick",))


def test_agents_of_one_name_at_the_same_time_are_different_agents(tmp_path: Path) -> None:
    history = loaded(tmp_path, nodes(second="writer"))
    assert {one.agent for one in history} == {"writer", "writer (2)"}
    assert [one.kind for one in check(history)] == ["A1"]


def test_spans_that_name_their_agent_belong_together_without_an_invocation(tmp_path: Path) -> None:
    spans = [
        span("root", None, 0, 100),
        span("look", "root", 5, 6, agent="writer", weft__read__plan="v0"),
        span("think", "root", 10, 80, op="chat", agent="writer"),
        span("review", "root", 20, 30, agent="editor", weft__write__plan="v1"),
        span("save", "root", 90, 95, agent="writer", weft__write__plan="v2"),
    ]
    [found] = check(loaded(tmp_path, spans))
    assert (found.agent, found.times) == ("writer", {"read": 5.0, "written": 30.0, "committed": 95.0})


def test_a_node_that_names_its_agent_within_an_invocation_of_another(tmp_path: Path) -> None:
    graph = span("graph", None, 0, 200, op="invoke_agent", agent="graph")
    history = loaded(tmp_path, [graph, *({**one, "parentSpanId": "graph"} for one in nodes())])
    assert [(one.kind, one.agent) for one in check(history)] == [("A1", "writer")]
    named = [{**one, "attributes": one["attributes"] + pairs({"gen_ai.agent.name": "clerk"})} for one in turn()]
    assert [len(one.calls) for one in loaded(tmp_path, named)] == [3]


def memory(id: str, parent: str, start: int, end: int, op: str, content: str | None) -> dict[str, Any]:
    records = {} if content is None else {"gen_ai__memory__records": json.dumps([{"id": "m1", "content": content}])}
    return span(
        id, parent, start, end, op=op, gen_ai__memory__store__id="notes", gen_ai__memory__record__id="m1", **records
    )


def conversation(*, content: bool = True) -> Spans:
    """A researcher reads a note, generates, and updates it; meanwhile a reviewer does."""
    told = (lambda value: value) if content else (lambda value: None)
    return [
        span("research", None, 0, 100, op="invoke_agent", agent="researcher"),
        memory("look", "research", 5, 6, "search_memory", told("old")),
        span("think", "research", 10, 80, op="chat"),
        memory("save", "research", 90, 95, "upsert_memory", told("mine")),
        span("review", None, 20, 60, op="invoke_agent", agent="reviewer"),
        memory("look2", "review", 21, 22, "search_memory", told("old")),
        span("think2", "review", 25, 50, op="chat"),
        memory("save2", "review", 52, 55, "update_memory", told("theirs")),
    ]


def test_what_was_read_belongs_to_the_turn_that_writes_next(tmp_path: Path) -> None:
    history = loaded(tmp_path, conversation())
    assert [(one.agent, one.reads, one.writes, one.end) for one in history] == [
        ("researcher", (Read("notes/m1", "old", 5.0),), (Write("notes/m1", "mine"),), 95.0),
        ("reviewer", (Read("notes/m1", "old", 21.0),), (Write("notes/m1", "theirs"),), 55.0),
    ]
    [found] = check(history)
    assert (found.kind, found.agent, found.values) == ("A1", "researcher", {"read": "old", "written": "theirs"})


def test_where_contents_are_not_recorded_every_write_is_a_change(tmp_path: Path) -> None:
    history = loaded(tmp_path, conversation(content=False))
    assert [(one.kind, one.agent) for one in check(history, "L2")] == [("A1", "researcher")]


def test_a_write_that_failed_is_none(tmp_path: Path) -> None:
    spans = conversation()
    spans[-1]["status"] = {"code": 2}
    assert check(loaded(tmp_path, spans)) == []


def test_an_answer_made_of_an_old_value_is_stale_too(tmp_path: Path) -> None:
    spans = [one for one in conversation() if one["spanId"] != "save"]
    [found] = check(loaded(tmp_path, spans))
    assert (found.operation, found.times["committed"]) == ("research/answer", 80.0)


def test_of_each_cell_the_last_read_counts_and_own_writes_are_not_read(tmp_path: Path) -> None:
    events = [
        (1, "weft.read", {"weft.cell": "c", "weft.value": "old"}),
        (4, "weft.read", {"weft.cell": "c", "weft.value": "new"}),
        (6, "weft.write", {"weft.cell": "d", "weft.value": {"a": 1}}),
        (7, "weft.read", {"weft.cell": "d", "weft.value": {"a": 1}}),
        (8, "weft.write", {"weft.cell": "c", "weft.value": "x" * 1000}),
    ]
    [operation] = loaded(tmp_path, [span("node", None, 0, 9, events, agent="a")])
    assert operation.reads == (Read("c", "new", 4.0),)
    assert operation.writes[0] == Write("d", '{"a": 1}')
    assert (operation.writes[1].value or "").startswith("sha256:")
    assert operation.end == 8.0


def test_a_tool_that_reads_and_writes_is_an_operation_and_a_call(tmp_path: Path) -> None:
    spans = turn()
    spans[3] = call("1", "root", 12, 40, "a", weft__read__n=1, weft__write__n=2)
    inner, outer = sorted(loaded(tmp_path, spans), key=lambda one: len(one.calls))
    assert (inner.id, inner.reads, inner.writes) == ("1", (Read("n", "1", 12.0),), (Write("n", "2"),))
    assert (outer.agent, [one.tool for one in outer.calls], outer.writes) == ("clerk", ["a", "b", "c"], ())


def test_an_operation_that_says_all_about_itself(tmp_path: Path) -> None:
    spans = [
        span("s1", None, 0, 10, agent="a", weft__operation="first", weft__write__c="v", weft__retracted=True),
        span(
            "s2", None, 20, 30, agent="b", weft__operation="second", weft__level="L4", weft__predecessors=["first"],
            weft__planned=["mail"], weft__tools='{"mail": "s1"}', weft__tools_at_end={"mail": "s2"},
        ),
    ]  # fmt: skip
    history = loaded(tmp_path, spans)
    assert [one.id for one in history] == ["first", "second"]
    assert history[0].retracted and history[1].level == "L4"
    assert [(one.kind, one.operation) for one in check(history)] == [("A2", "second"), ("A3", "second")]


def test_definitions_given_to_the_model_are_the_registry(tmp_path: Path) -> None:
    definitions = json.dumps([{"type": "function", "name": "a", "parameters": {}}])
    spans = turn()
    spans[1]["attributes"] += pairs({"gen_ai.tool.definitions": definitions})
    [operation] = loaded(tmp_path, spans)
    assert list(operation.tools) == ["a"]
    spans[1]["attributes"] += pairs({"weft.tools_at_end": {}})
    [operation] = loaded(tmp_path, spans)
    assert [one.tools for one in check([operation], "L4") if one.kind == "A2"] == [("a",)]


# --- forms of files -----------------------------------------------------------------------------------------------


def printed(one: dict[str, Any]) -> dict[str, Any]:
    """A span as the Python SDK prints it."""

    def iso(nanoseconds: str) -> str:
        from datetime import UTC, datetime

        return (
            datetime.fromtimestamp(int(nanoseconds) / 1e9, UTC)
            .isoformat(timespec="microseconds")
            .replace("+00:00", "Z")
        )

    return {
        "name": one["name"],
        "context": {"trace_id": "0xt", "span_id": one["spanId"], "trace_state": "[]"},
        "parent_id": one.get("parentSpanId"),
        "start_time": iso(one["startTimeUnixNano"]),
        "end_time": iso(one["endTimeUnixNano"]),
        "status": {"status_code": "UNSET"},
        "attributes": {pair["key"]: next(iter(pair["value"].values())) for pair in one["attributes"]},
        "events": [],
    }


def test_all_forms_of_a_file_tell_the_same(tmp_path: Path) -> None:
    spans = turn()
    expected = loaded(tmp_path, spans)
    whole = [{"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]} for one in spans]
    forms = {
        "a request a line": "\n".join(map(json.dumps, whole)),
        "a span a line": "\n".join(map(json.dumps, spans)),
        "a list of spans": json.dumps(spans),
        "the SDK's lines": "\n".join(json.dumps(printed(one)) for one in spans),
        "the console's": "\n".join(json.dumps(printed(one), indent=4) for one in reversed(spans)),
    }
    for name, text in forms.items():
        (tmp_path / "other").write_text(text)
        assert load_history(tmp_path / "other") == expected, name


def record(**fields: Any) -> str:
    """A record as the paper's artefacts write it."""
    base = {"read_set": [], "read_values": {}, "read_time": 0, "write_set": [], "write_values": {}, "write_time": 1}
    return json.dumps({"agent": "planner", **base, **fields})


def session(*, aborted: bool, cascade: bool) -> str:
    plan, result = {"plan": "fix it"}, {"result": "fixed"}
    first = record(txn=0, write_set=["plan"], write_values=plan, preds=[], aborted=aborted)
    read = {"read_set": ["plan"], "read_values": plan, "read_time": 1, "preds": [0]}
    told = {"write_set": ["result"], "write_values": result, "write_time": 2}
    return f"{first}\n{record(txn=1, agent='executor', **read, **told, aborted=aborted and cascade)}\n"


def test_the_papers_records_with_provenance(tmp_path: Path) -> None:
    for aborted, cascade, expected in [(True, False, [("A3", "1")]), (True, True, []), (False, False, [])]:
        (tmp_path / "session.jsonl").write_text(session(aborted=aborted, cascade=cascade))
        found = check(load_history(tmp_path / "session.jsonl"), "L2")
        assert [(one.kind, one.operation) for one in found] == expected


def test_the_papers_records_of_effects(tmp_path: Path) -> None:
    io = [["a", "1"], ["b", "1"], ["a", "1"]]
    for co, expected in [(io[::-1], []), ([io[1], io[0], io[2]], ["A6"]), (io[1:], []), ([*io[::-1], ["c", "1"]], [])]:
        (tmp_path / "effects.jsonl").write_text(record(io=io, co=co))
        assert [one.kind for one in check(load_history(tmp_path / "effects.jsonl"), "L3")] == expected
    (tmp_path / "effects.jsonl").write_text(record(txn=1) + "\n" + record(txn=1))
    with pytest.raises(BadInput, match=r"effects.jsonl:2: .*another one of that txn"):
        load_history(tmp_path / "effects.jsonl")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"resourceSpans": []}\n{"resourceSpans"', ":2: not JSON"),
        (
            json.dumps(turn()[0]) + '\n{"spanId": "x", "traceId": "t"}',
            ":2: not a span of OpenTelemetry: it lacks 'startTime",
        ),
        ('{"resourceSpans": []}', "none of its 0 spans"),
        ('{"hello": 1}', "neither a history"),
        ('{"id": "a", "agent": "x"}', ":1: not an operation"),
        ("", "holds no operation"),
        (
            json.dumps([span("a", None, 0, 1, weft__operation="o"), span("b", None, 0, 1, weft__operation="o")]),
            "more than one",
        ),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad").write_text(text)
    with pytest.raises(BadInput, match=f"bad.*{said}"):
        load_history(tmp_path / "bad")


# --- the command --------------------------------------------------------------------------------------------------


def weft(*words: str) -> tuple[int, str, str]:
    argv = [sys.executable, "-m", "weft", "trace", "check", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def stale(tmp_path: Path) -> str:
    file = tmp_path / "stale.jsonl"
    slow = Operation("slow", "a", 1, 9, reads=(Read("plan", "v0", 2),), writes=(Write("plan", "v2"),))
    write_history(file, [slow, Operation("quick", "b", 3, 4, writes=(Write("plan", "v1"),))])
    return str(file)


def test_it_exits_with_1_where_a_level_is_broken(stale: str) -> None:
    code, said, _ = weft(stale)
    assert code == 1
    assert "A1 stale generation" in said and "quick of b wrote 'v1' at 4" in said
    assert "2 operations checked, 1 anomaly: A1 1" in said
    assert weft(stale, "--level", "L0")[:2] == (0, "2 operations checked, 0 anomalies\n")


def test_json_has_the_witness_and_nothing_else(stale: str) -> None:
    code, said, _ = weft(stale, "--level", "L4", "--json")
    found = json.loads(said)
    assert (code, found["operations"], found["level"]) == (1, 2, "L4")
    [finding] = found["findings"]
    assert finding["others"] == ["quick"] and finding["times"] == {"read": 2, "written": 4, "committed": 9}


def test_initial_values_make_residue_strict(stale: str) -> None:
    assert "residue" not in weft(stale, "--level", "L2")[1]
    assert "residue of a causal cascade" in weft(stale, "--level", "L2", "--initial", "{}")[1]
    assert "residue" not in weft(stale, "--level", "L2", "--initial", '{"plan": "v0"}')[1]
    assert "residue" not in weft(stale, "--level", "L2", "--initial", "{}", "--no-residue")[1]


def test_bad_input_is_one_sentence_and_2(tmp_path: Path, stale: str) -> None:
    for words in ([str(tmp_path / "nowhere")], [stale, "--initial", "[]"], [stale, "--level", "L7"]):
        code, said, error = weft(*words)
        assert (code, said) == (2, ""), error
        assert "Traceback" not in error


def test_langgraph_reorders_what_its_transcript_shows_in_order(tmp_path: Path) -> None:
    for name in ("langgraph", "opentelemetry.sdk"):
        if importlib.util.find_spec(name.split(".")[0]) is None or importlib.util.find_spec(name) is None:
            pytest.skip(f"{name}, of the extra 'bench', is not installed")
    out = tmp_path / "turns.jsonl"
    argv = [sys.executable, str(ROOT / "examples" / "langgraph_reordering.py"), "--turns", "20", "--out", str(out)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=100).stdout
    reordered = int(said.split()[-1])
    assert "transcript in the order of the calls in 20," in said
    assert reordered >= 15
    code, found, _ = weft(str(out), "--level", "L3", "--json")
    assert (code, len(json.loads(found)["findings"])) == (1, reordered)
    assert weft(str(out), "--level", "L2")[0] == 0


def test_a_run_is_judged_from_the_journals_with_what_others_did(tmp_path: Path) -> None:
    journal = str(tmp_path / "journal.db")

    async def main() -> tuple[str, str]:
        async with library.Runtime(journal) as runtime:
            victim = await runtime.start(reads_and_writes_late, "L0")
            while victim.id in runtime.active:
                await asyncio.sleep(0.02)  # until it waits for a letter, out of memory
            await runtime.run(writes_between)
            await runtime.send(victim.id, "check go", "on")
            await victim
            clean = await runtime.start(writes_between)
            await clean
            return victim.id, clean.id

    victim, clean = asyncio.run(main())
    status, out, _ = weft(victim, "--store", journal)
    assert status == 0  # it ran at L0, which promises nothing
    status, out, _ = weft(victim, "--store", journal, "--level", "L1")
    assert status == 1
    assert "A1 stale generation" in out
    assert "1 operation checked, 1 anomaly" in out
    status, out, _ = weft(clean, "--store", journal, "--level", "L4", "--json")
    assert (status, json.loads(out)["operations"]) == (0, 1)
    status, _, err = weft("nobody", "--store", journal)
    assert status != 0
    assert "nobody" in err


@dataclass
class Plan:
    """A class that the command can't import."""

    text: str


checked = library.Memory("checked", Plan)
go = library.Mailbox("check go", str)


@library.workflow
async def reads_and_writes_late(level: str) -> None:
    async with checked.operation(level=level, agent="slow") as op:  # type: ignore[arg-type]
        before = await op.read("plan", Plan("nothing"))
        await go.receive()
        op.write("plan", Plan(f"{before.text}, and more"))


@library.workflow
async def writes_between() -> None:
    async with checked.operation(agent="quick") as op:
        op.write("plan", Plan("something else"))
