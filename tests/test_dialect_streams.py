"""Streams of five dialects: whatever the pieces, they add up to the reply that is not streamed, and what breaks is an
error of its kind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.servers.providers import Call, Tokens, Turn
from tests.servers.providers.anthropic import Anthropic
from tests.servers.providers.chat import Chat
from tests.servers.providers.gemini import Gemini
from tests.servers.providers.ollama import Ollama
from tests.servers.providers.responses import Responses
from tests.servers.providers.rules import Received
from weft.core.content import Citation, Text, ToolCall, ToolSpec
from weft.core.errors import ModelBusy, ModelError, ModelUnavailable
from weft.model.channel import events_of
from weft.model.dialect import DIALECTS, Frame, dialect
from weft.model.dialect.schema import Unwrap
from weft.model.event import (
    CallDelta,
    Called,
    CallStarted,
    Counted,
    Event,
    Finished,
    PartDone,
    ReasoningDelta,
    TextDelta,
    coalesce,
)
from weft.model.message import Message, Opaque, Reasoning, Refusal
from weft.model.request import Reply, Request, Usage

every_dialect = pytest.mark.parametrize("name", DIALECTS)
SERVERS: dict[str, Any] = {each.name: each for each in (Chat(), Responses(), Anthropic(), Gemini(), Ollama())}
ASKED = Request(messages=[Message("user", "Hi.")], tools=[ToolSpec("read"), ToolSpec("run")])


def frames_of(name: str, turn: Turn, request: Request = ASKED) -> list[Frame]:
    """What the loopback provider streams."""
    return [*parsed(name, b"".join(SERVERS[name].frames(turn, received(name, request, stream=True))))]


def received(name: str, request: Request, *, stream: bool) -> Received:
    call = dialect(name).call("m-1", request, stream=stream)
    return Received("POST", call.path, {}, {}, b"", json.loads(json.dumps(call.body)))


def parsed(name: str, data: bytes) -> Iterator[Frame]:
    """A small reader of server-sent events, or of lines."""
    text = data.decode().replace("\r\n", "\n")
    if dialect(name).framing == "lines":
        yield from (Frame("", line) for line in text.split("\n") if line)
        return
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line)
        if "data" in fields:
            yield Frame(fields.get("event", ""), fields["data"])


def read(name: str, frames: Iterable[Frame | dict[str, Any]], request: Request = ASKED) -> tuple[list[Event], Reply]:
    decoder = dialect(name).decoder(request)
    events: list[Event] = []
    for frame in frames:
        events += decoder.feed(Frame("", json.dumps(frame)) if isinstance(frame, dict) else frame)
    return events, decoder.end()


def turn_of(chance: Random, *, reasoning: bool = True) -> Turn:
    """A turn by chance, cut into pieces by chance."""

    def pieces(often: float) -> list[str]:
        if chance.random() > often:
            return []
        return ["".join(chance.choices('ab é六🙂"\\{}\n', k=chance.randint(1, 9))) for _ in range(chance.randint(1, 5))]

    arguments: list[dict[str, Any]] = [{}, {"path": "é 🙂"}, {"a": [1, 2.5, None], "b": {"c": "}"}}]
    calls = [
        Call(chance.choice(["read", "run"]), chance.choice(arguments), id=f"c{n}", pieces=chance.randint(1, 6))
        for n in range(chance.choice([0, 0, 1, 2, 3]))
    ]
    return Turn(
        reasoning=pieces(0.4) if reasoning else [],
        text=pieces(0.7) if calls else pieces(1.0),
        calls=calls,
        finish="" if calls else chance.choice(["", "length"]),
        usage=Tokens(input=chance.randint(60, 99), output=chance.randint(20, 60), cache_read=chance.randint(0, 9)),
        interleaved=chance.random() < 0.5,
    )


# --- the same, streamed or not, in every dialect ---


@every_dialect
def test_a_stream_adds_up_to_the_reply_that_is_not_streamed(name: str) -> None:
    for seed in range(200):
        turn = turn_of(Random(seed))
        whole = dialect(name).reply(SERVERS[name].whole(turn, received(name, ASKED, stream=False)), ASKED)
        events, reply = read(name, frames_of(name, turn))
        assert reply == whole, seed
        assert coalesce(events) == coalesce(events_of(whole)), seed
        assert reply.text == "".join(turn.text) and len(reply.calls) == len(turn.calls)


def test_every_dialect_tells_the_same_events() -> None:
    for seed in range(200):
        turn = turn_of(Random(seed), reasoning=False)
        told = {name: coalesce(read(name, frames_of(name, turn))[0]) for name in DIALECTS}
        plain = {
            name: [event for event in events if not isinstance(event, Counted | Finished)]
            for name, events in told.items()
        }
        assert all(events == plain["openai"] for events in plain.values()), seed


@every_dialect
def test_calls_are_told_as_soon_as_they_are_whole_and_once(name: str) -> None:
    turn = Turn(calls=[Call("read", {"path": "a"}, id="a"), Call("run", {"x": 1}, id="b")], interleaved=True)
    events, reply = read(name, frames_of(name, turn))
    called = [event for event in events if isinstance(event, Called)]
    assert [(event.index, event.call.id) for event in called] == [(0, "a"), (1, "b")]
    assert tuple(event.call for event in called) == reply.calls
    assert reply.calls[0].arguments == {"path": "a"} and reply.finish == "tool_call"
    for index in (0, 1):
        mine = [event for event in events if getattr(event, "index", None) == index]
        assert isinstance(mine[0], CallStarted) and isinstance(mine[-1], Called)
        assert "".join(event.text for event in mine if isinstance(event, CallDelta)).count("{") == 1


@every_dialect
def test_tokens_are_counted(name: str) -> None:
    used = Tokens(input=100, output=20, cache_read=60, reasoning=5)
    events, reply = read(name, frames_of(name, Turn(text=["Hi"], usage=used)))
    wanted = {"ollama": Usage(100, 20), "anthropic": Usage(100, 20, 60)}.get(name, Usage(100, 20, 60, 0, 5))
    assert reply.usage == wanted
    assert coalesce(events)[-1] == Counted(wanted)


# --- what breaks ---


@every_dialect
def test_a_stream_that_ends_too_early_is_no_answer(name: str) -> None:
    frames = frames_of(name, Turn(text=["Hel", "lo"], calls=[Call("read", {"a": 1})]))
    broken = 0
    for end in range(len(frames)):
        try:
            read(name, frames[:end])
        except ModelUnavailable as error:
            assert "broke off before its end" in str(error)
            broken += 1
    assert broken >= len(frames) - 2


@every_dialect
@pytest.mark.parametrize(("kind", "error"), [("server", ModelUnavailable), ("limited", ModelBusy)])
def test_an_error_in_mid_stream_is_one_of_its_kind(name: str, kind: Any, error: type[ModelError]) -> None:
    frames = frames_of(name, Turn(text=["Hel", "lo"]))[:2]
    with pytest.raises(ModelError) as caught:
        read(name, [*frames, *parsed(name, SERVERS[name].fails(kind))])
    assert type(caught.value) is (ModelUnavailable if name == "ollama" else error)


@every_dialect
def test_whatever_comes_instead_of_a_frame_is_an_error_of_the_model(name: str) -> None:
    frames = frames_of(name, turn_of(Random(3)))
    for seed in range(400):
        chance = Random(seed)
        spoilt = [*frames]
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(spoilt))
            spoilt[at] = Frame(spoilt[at].event, _spoilt(chance, spoilt[at].data))
        try:
            read(name, spoilt)
        except ModelError as error:
            assert len(str(error)) < 1000


def _spoilt(chance: Random, data: str) -> str:
    if chance.random() < 0.3:
        return chance.choice(["", "{", "null", "[]", "3", '"x"', "{}", data[: len(data) // 2], data + "}"])
    try:
        value = json.loads(data)
    except ValueError:
        return "x"
    target = value
    while isinstance(target, dict | list) and target:
        key = chance.choice([*target]) if isinstance(target, dict) else chance.randrange(len(target))
        if chance.random() < 0.4 or not isinstance(target[key], dict | list):
            target[key] = chance.choice([None, 3, "x", [], {}, [None], {"type": "text"}])
            break
        target = target[key]
    return json.dumps(value)


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("openai", {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}}]}),
        ("openai-responses", {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{}"}),
        (
            "anthropic",
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        ),
    ],
)
def test_arguments_of_a_call_that_never_began_are_an_error(name: str, frame: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="had not begun"):
        read(name, [frame])


@every_dialect
def test_arguments_that_are_no_json_stay_as_they_are(name: str) -> None:
    if name in ("gemini", "ollama"):
        return  # they send objects
    _, reply = read(name, frames_of(name, Turn(calls=[Call("read", '{"path": ', id="c")])))
    assert reply.calls[0].arguments == '{"path": '


# --- an answer inside an object ---


@settings(max_examples=60)
@given(
    st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)),
    st.lists(st.integers(0, 60), max_size=8),
    st.sampled_from(['{{"answer":{}}}', '{{ "answer" : {} }}', ' {{"answer":\n{}\n}}\n']),
)
def test_an_answer_comes_out_of_its_object_whatever_the_pieces(value: Any, cuts: list[int], form: str) -> None:
    inner = json.dumps(value)
    text = form.format(inner)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    unwrap = Unwrap()
    pieces = [unwrap.feed(text[start:end]) for start, end in pairwise(places)]
    assert "".join(pieces) + unwrap.end() == inner


@settings(max_examples=60)
@given(st.text(max_size=30), st.integers(0, 30))
def test_what_is_in_no_object_goes_through(text: str, cut: int) -> None:
    if text.lstrip().startswith("{"):
        return
    unwrap = Unwrap()
    assert unwrap.feed(text[:cut]) + unwrap.feed(text[cut:]) + unwrap.end() == text


@pytest.mark.parametrize("name", ["openai", "openai-responses", "anthropic"])
def test_a_stream_of_an_answer_inside_an_object_tells_the_answer(name: str) -> None:
    asked = Request(messages=[Message("user", "Hi.")], schema={"type": "integer"})
    events, reply = read(name, frames_of(name, Turn(text=['{"an', 'swer": 4', "2", "} "]), asked), asked)
    assert reply.text == "42" and coalesce(events)[0] == TextDelta("42")


def test_a_stream_of_the_tool_to_answer_with_tells_the_answer() -> None:
    for schema, given_ in (({"type": "integer"}, {"answer": 42}), ({"type": "object", "properties": {}}, {"a": "x"})):
        asked = Request(messages=[Message("user", "Hi.")], schema=schema)
        text = "42" if schema["type"] == "integer" else '{"a": "x"}'
        turn = Turn(calls=[Call("give_the_answer", given_, id="c")])
        for name in ("anthropic", "gemini"):
            events, reply = read(name, frames_of(name, turn, asked), asked)
            assert json.loads(reply.text) == json.loads(text) and reply.calls == () and reply.finish == "stop"
            assert isinstance(coalesce(events)[0], TextDelta)


# --- each one's own ---


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "r", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def call_piece(index: int | None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    function = {"name": more.pop("name", None), "arguments": arguments}
    return {"index": index, "function": function, **more}


def test_servers_that_number_calls_in_their_own_way() -> None:
    first, second = {"arguments": '{"n":1}', "id": "a", "name": "f"}, {"arguments": '{"n":2}', "id": "b", "name": "f"}
    all_zero = [chunk(tool_calls=[call_piece(0, **first)]), chunk(tool_calls=[call_piece(0, **second)])]
    no_number = [chunk(tool_calls=[call_piece(None, **first), call_piece(None, **second)])]
    objects = [chunk(tool_calls=[call_piece(0, {"n": 1}, id="a", name="f"), call_piece(1, {"n": 2}, id="b", name="f")])]
    repeated = [
        chunk(tool_calls=[call_piece(0, '{"n"', id="a", name="f")]),
        chunk(tool_calls=[call_piece(0, ":1}", id="a", name="f")]),
        chunk(tool_calls=[call_piece(1, '{"n":2}', id="b", name="f")]),
    ]
    for frames in (all_zero, no_number, objects, repeated):
        _, reply = read("openai", [*frames, chunk("tool_calls")])
        assert [(call.id, call.arguments) for call in reply.calls] == [("a", {"n": 1}), ("b", {"n": 2})]


def test_a_chat_stream_may_end_with_done_alone_and_say_things_out_of_order() -> None:
    frames: Sequence[Frame | dict[str, Any]] = [
        chunk(content="a"),
        chunk(reasoning="x"),
        chunk(content="b"),
        chunk(reasoning_content="y"),
        Frame("", "[DONE]"),
    ]
    events, reply = read("openai", frames)
    assert reply.message.parts == (Reasoning(content="xy"), Text(content="ab")) and reply.finish == "stop"
    assert [type(event) for event in events] == [TextDelta, ReasoningDelta] * 2


def test_a_second_choice_is_not_mixed_into_the_first() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "other"}, "finish_reason": "stop"}]}
    assert read("openai", [chunk(content="mine"), other, chunk("stop")])[1].text == "mine"


def test_the_seal_that_googles_servers_put_beside_a_call_comes_back() -> None:
    google = {"google": {"thought_signature": "abc"}}
    _, reply = read(
        "openai", [chunk(tool_calls=[call_piece(0, "{}", id="a", name="f", extra_content=google)]), chunk("stop")]
    )
    wire, lost = dialect("openai").write([Message("user", "Hi."), reply.message])
    assert wire["messages"][1]["tool_calls"][0]["extra_content"] == google and lost == ()


def test_responses_that_come_without_pieces_are_whole_all_the_same() -> None:
    summary = [{"type": "summary_text", "text": text} for text in "ab"]
    cited = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 2}
    content = [{"type": "output_text", "text": "Hi", "annotations": [cited]}]
    output: list[dict[str, Any]] = [
        {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "gAAA"},
        {"type": "message", "role": "assistant", "phase": "commentary", "content": content},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}', "namespace": "n"},
    ]
    response = {"id": "r", "model": "m", "status": "completed", "output": output}
    frames = [{"type": "response.output_item.done", "output_index": n, "item": item} for n, item in enumerate(output)]
    events, reply = read("openai-responses", [*frames, {"type": "response.completed", "response": response}])
    assert reply == dialect("openai-responses").reply(response, ASKED)
    assert reply.message.parts == (
        Reasoning(content="a\n\nb", id="rs_1", signature="openai-responses:gAAA"),
        Opaque(dialect="openai-responses", content={"type": "phase", "phase": "commentary"}),
        Text(content="Hi", citations=(Citation(url="u", title="t", start=0, end=2),)),
        Opaque(dialect="openai-responses", content=output[2]),
        ToolCall(id="c", name="f", arguments={"a": 1}, signature='openai-responses:{"namespace":"n"}'),
    )
    assert coalesce(events) == coalesce(events_of(reply))
    wire, lost = dialect("openai-responses").write([Message("user", "Hi."), reply.message])
    assert lost == () and dialect("openai-responses").read(wire)[1] == reply.message
    assert wire["input"][2]["phase"] == "commentary" and wire["input"][4]["namespace"] == "n"


def test_pieces_of_a_thought_in_several_summaries_are_one_thought() -> None:
    def delta(number: int, text: str) -> dict[str, Any]:
        where = {"output_index": 0, "summary_index": number}
        return {"type": "response.reasoning_summary_text.delta", "delta": text, **where}

    item = {"type": "reasoning", "id": "rs_1", "summary": [{"text": "ab"}, {"text": "c"}]}
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    end = {"type": "response.completed", "response": {"output": [], "status": "completed"}}
    _, reply = read("openai-responses", [delta(0, "a"), delta(0, "b"), delta(1, "c"), done, end])
    assert reply.message.parts == (Reasoning(content="ab\n\nc", id="rs_1"),)


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def test_all_that_anthropic_streams() -> None:
    place = {"type": "char_location", "document_index": 0, "start_char_index": 1, "end_char_index": 4}
    cited = {**place, "cited_text": "abc", "document_title": "D"}
    frames = [
        {"type": "message_start", "message": {"id": "r", "model": "m", "content": [], "usage": {"input_tokens": 5}}},
        {"type": "ping"},
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "Hm."},
            {"type": "signature_delta", "signature": "s"},
        ),
        *block(1, {"type": "redacted_thinking", "data": "secret"}),
        *block(
            2,
            {"type": "server_tool_use", "id": "st", "name": "web_search", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"query"'},
            {"type": "input_json_delta", "partial_json": ': "x"}'},
        ),
        *block(3, {"type": "web_search_tool_result", "tool_use_id": "st", "content": []}),
        *block(
            4,
            {"type": "text", "text": "", "citations": []},
            {"type": "citations_delta", "citation": cited},
            {"type": "text_delta", "text": "See."},
        ),
        *block(5, {"type": "text", "text": ""}, {"type": "text_delta", "text": "More."}),
        {"type": "something_new", "of": "tomorrow"},
        *block(6, {"type": "tool_use", "id": "t", "name": "f", "input": {}}),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]
    events, reply = read("anthropic", frames)
    searched = {"type": "server_tool_use", "id": "st", "name": "web_search", "input": {"query": "x"}}
    assert reply.message.parts == (
        Reasoning(content="Hm.", signature="anthropic:s"),
        Reasoning(hidden=True, signature="anthropic:secret"),
        Opaque(dialect="anthropic", content=searched),
        Opaque(dialect="anthropic", content={"type": "web_search_tool_result", "tool_use_id": "st", "content": []}),
        Text(content="See.", citations=(Citation(title="D", quote="abc", extra=place),)),
        Text(content="More."),
        ToolCall(id="t", name="f"),
    )
    assert (reply.finish, reply.usage) == ("tool_call", Usage(5, 9))
    assert PartDone(reply.message.parts[0]) in events
    assert coalesce(events) == coalesce(events_of(reply))
    wire, lost = dialect("anthropic").write([Message("user", "Hi."), reply.message])
    assert lost == () and dialect("anthropic").read(wire)[1] == reply.message


def test_a_refusal_of_anthropics_comes_at_the_end() -> None:
    frames = [
        *block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "I "}),
        {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": {"category": "cyber"}}},
    ]
    _, reply = read("anthropic", frames)
    assert reply.message.parts == (Text(content="I "), Refusal(content="the model refused to answer (cyber)"))
    assert reply.finish == "content_filter"


def test_all_that_gemini_streams() -> None:
    def answer(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"candidates": [{"content": {"parts": [*parts]}, **more}], "modelVersion": "m", "responseId": "r"}

    code = {"executableCode": {"language": "PYTHON", "code": "1"}}
    frames = [
        answer({"text": "Hm.", "thought": True}),
        answer(code),
        answer({"text": "See"}),
        answer({"text": "."}, {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2VhbA=="}),
        answer({"text": "", "thoughtSignature": "ZW5k"}, finishReason="STOP"),
    ]
    events, reply = read("gemini", frames)
    assert reply.message.parts == (
        Reasoning(content="Hm."),
        Opaque(dialect="gemini", content=code),
        Text(content="See."),
        ToolCall(id="call_0", name="f", arguments={"a": 1}, signature="gemini:c2VhbA=="),
        Reasoning(hidden=True, signature="gemini:ZW5k"),
    )
    assert coalesce(events) == coalesce(events_of(reply))
    wire, lost = dialect("gemini").write([Message("user", "Hi."), reply.message])
    assert lost == () and dialect("gemini").read(wire)[1] == reply.message


def test_ollama_may_send_calls_before_its_last_line_and_thoughts_apart() -> None:
    lines = [
        {"message": {"content": "", "thinking": "Hm."}, "done": False, "model": "m"},
        {"message": {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}, "done": False},
        {"message": {"content": "Hi"}, "done": False},
        {"message": {"content": ""}, "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2},
    ]
    _, reply = read("ollama", lines)
    call = ToolCall(id="call_0", name="f", arguments={"a": 1})
    assert reply.message.parts == (Reasoning(content="Hm."), Text(content="Hi"), call)
    assert (reply.finish, reply.usage, reply.model) == ("tool_call", Usage(3, 2), "m")
