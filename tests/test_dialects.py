"""Five dialects: messages both ways, requests, answers and refusals, against what the providers document."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from email.utils import formatdate
from random import Random
from time import time
from typing import Any

import pytest

from tests.conversations import CAN, EVERYTHING, PNG, conversation
from weft.core.content import Blob, Citation, File, Text, ToolCall, ToolResult, ToolSpec, Uri
from weft.core.errors import (
    BadInput,
    KeyRefused,
    ModelBusy,
    ModelError,
    ModelUnavailable,
    PromptTooLong,
    UnknownModel,
)
from weft.model.dialect import DIALECTS, dialect
from weft.model.dialect.chat import Embedded
from weft.model.dialect.schema import closed, strict
from weft.model.message import Message, Opaque, Reasoning, Refusal
from weft.model.request import Reply, Request, Usage

every_dialect = pytest.mark.parametrize("name", DIALECTS)
SECRET = "sk-proj-abcdefghijklmnop1234567890"


def written(name: str, messages: list[Message]) -> tuple[dict[str, Any], tuple[str, ...]]:
    wire, lost = dialect(name).write(messages)
    return json.loads(json.dumps(wire)), lost


def body(name: str, model: str = "any", stream: bool = False, **more: Any) -> dict[str, Any]:
    return dialect(name).call(model, Request(messages=[Message("user", "Hi.")], **more), stream=stream).body


def lost(name: str, model: str = "any", **more: Any) -> tuple[str, ...]:
    return dialect(name).call(model, Request(messages=[Message("user", "Hi.")], **more), stream=False).lost


# --- both ways ---


@every_dialect
def test_five_hundred_conversations_come_back_from_the_wire_as_they_were(name: str) -> None:
    spoken = dialect(name)
    for seed in range(500):
        messages = conversation(Random(seed), CAN[name], name)
        wire, lost_ = written(name, messages)
        assert lost_ == (), seed
        assert spoken.read(wire) == messages, seed


@every_dialect
def test_what_does_not_come_back_is_listed_and_what_was_written_is_stable(name: str) -> None:
    spoken = dialect(name)
    losses = 0
    for seed in range(500):
        chance = Random(seed)
        messages = conversation(chance, EVERYTHING, chance.choice([*DIALECTS]))
        wire, lost_ = written(name, messages)
        back = spoken.read(wire)
        assert lost_ or back == messages, seed
        assert all(words.startswith(f"{name} ") for words in lost_)
        assert written(name, back) == (wire, ()), seed
        losses += bool(lost_)
    assert losses > 100


@every_dialect
@pytest.mark.parametrize(
    "part",
    [
        Blob.of(b"x", "application/x-strange"),
        Uri(modality="video", uri="https://example.org/v.mp4"),
        File(modality="audio", file_id="f1"),
        Opaque(dialect="another", content={"a": 1}),
        Reasoning(content="thought", signature="another:seal"),
        Text(content="cited", citations=(Citation(quote="of another", extra={"type": "strange"}),)),
        Text(content=""),
    ],
    ids=lambda part: type(part).__name__,
)
def test_each_part_that_a_provider_has_no_form_for_is_listed(name: str, part: Any) -> None:
    for role in ("user", "assistant"):
        wire, lost_ = written(name, [Message("user", "Hi."), Message(role, [part])])  # type: ignore[arg-type]
        assert lost_ or dialect(name).read(wire)[1].parts == (part,)


@every_dialect
def test_seals_go_back_to_their_maker_only(name: str) -> None:
    for other in DIALECTS:
        call = ToolCall(id="1", name="f", signature=f'{other}:{{"seal":1}}')
        wire, lost_ = written(name, [Message("user", "Hi."), Message("assistant", [call])])
        assert ("seal" in json.dumps(wire)) is (other == name and name != "ollama")
        assert bool(lost_) is ("seal" not in json.dumps(wire))


@every_dialect
def test_arguments_that_are_no_json_come_back(name: str) -> None:
    call = ToolCall(id="1", name="f", arguments='{"a": ')
    messages = [
        Message("user", "Hi."),
        Message("assistant", [call]),
        Message("tool", [ToolResult.of("1", "?", name="f")]),
    ]
    wire, lost_ = written(name, messages)
    assert lost_ == () and dialect(name).read(wire) == messages


# --- golden wire ---

TALK = [
    Message("system", "Be brief."),
    Message("user", ["What is this?", Blob.of(PNG, "image/png")]),
    Message("assistant", ["Let me look.", ToolCall(id="c1", name="look", arguments={"zoom": 2})]),
    Message("tool", [ToolResult.of("c1", "A cat.", name="look")]),
    Message("assistant", "A cat."),
]
DATA = "iVBORw0KGgoAAQIDBAUGBwgJCgsMDQ4PEBESEw=="


def test_the_wire_of_chat_completions() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"zoom":2}'}}
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}}
    assert written("openai", TALK)[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "A cat."},
        {"role": "assistant", "content": "A cat."},
    ]


def test_the_wire_of_responses() -> None:
    image = {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{DATA}"}

    def said(text: str) -> dict[str, Any]:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        return {"type": "message", "role": "assistant", "content": content}

    assert written("openai-responses", TALK)[0]["input"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "What is this?"}, image]},
        said("Let me look."),
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"zoom":2}'},
        {"type": "function_call_output", "call_id": "c1", "output": "A cat."},
        said("A cat."),
    ]


def test_the_wire_of_anthropic() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}
    call = {"type": "tool_use", "id": "c1", "name": "look", "input": {"zoom": 2}}
    assert written("anthropic", TALK)[0] == {
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]},
            {"role": "assistant", "content": [{"type": "text", "text": "Let me look."}, call]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "A cat."}]},
            {"role": "assistant", "content": "A cat."},
        ],
    }


def test_the_wire_of_gemini() -> None:
    call = {"functionCall": {"id": "c1", "name": "look", "args": {"zoom": 2}}}
    response = {"functionResponse": {"id": "c1", "name": "look", "response": {"output": "A cat."}}}
    image = {"inlineData": {"mimeType": "image/png", "data": DATA}}
    assert written("gemini", TALK)[0] == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "What is this?"}, image]},
            {"role": "model", "parts": [{"text": "Let me look."}, call]},
            {"role": "user", "parts": [response]},
            {"role": "model", "parts": [{"text": "A cat."}]},
        ],
    }


def test_the_wire_of_ollama() -> None:
    call = {"id": "c1", "function": {"name": "look", "arguments": {"zoom": 2}}}
    assert written("ollama", TALK)[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is this?", "images": [DATA]},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "tool_name": "look", "content": "A cat."},
        {"role": "assistant", "content": "A cat."},
    ]


def test_conversations_are_read_from_what_others_wrote() -> None:
    """Forms that we don't write ourselves."""
    chat = dialect("openai").read({"messages": [{"role": "developer", "content": [{"type": "text", "text": "Be."}]}]})
    assert chat == [Message("system", "Be.")]
    items = dialect("openai-responses").read({"instructions": "Be.", "input": "Hi."})
    assert items == [Message("system", "Be."), Message("user", "Hi.")]
    blocks = [{"type": "tool_result", "tool_use_id": "1"}, {"type": "text", "text": "And?"}]
    turns = dialect("anthropic").read({"messages": [{"role": "user", "content": blocks}]})
    assert turns == [Message("tool", [ToolResult(id="1")]), Message("user", "And?")]


def test_calls_without_ids_are_numbered_and_their_results_found_by_name() -> None:
    wire = {
        "contents": [
            {"role": "model", "parts": [{"functionCall": {"name": name}} for name in ("a", "b", "a")]},
            {
                "role": "user",
                "parts": [{"functionResponse": {"name": n, "response": {"x": n}}} for n in ("b", "a", "a")],
            },
        ]
    }
    calls, results = dialect("gemini").read(wire)
    assert [call.id for call in calls.calls] == ["call_0", "call_1", "call_2"]
    assert [(r.id, r.text) for r in results.results] == [
        ("call_1", '{"x":"b"}'),
        ("call_0", '{"x":"a"}'),
        ("call_2", '{"x":"a"}'),
    ]


def test_cache_marks_in_each_providers_form() -> None:
    messages = [
        Message("system", [Text(content="Long.", cache="long")]),
        Message("user", [Text(content="Hi.", cache="short")]),
    ]
    wire = written("anthropic", messages)[0]
    assert wire["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert wire["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}
    for name, key in (("openai", "messages"), ("openai-responses", "input")):
        request = Request(messages=messages)
        marked = dialect(name).call("gpt-5.6", request, stream=False)
        assert marked.body[key][0]["content"][0]["prompt_cache_breakpoint"] == {"mode": "explicit", "ttl": "12h"}
        assert marked.lost == ()
        unmarked = dialect(name).call("gpt-4o", request, stream=False)
        assert "breakpoint" not in json.dumps(unmarked.body) and len(unmarked.lost) == 1


def test_anthropic_takes_four_cache_marks_and_the_rest_is_listed() -> None:
    parts = [Text(content=str(n), cache="short") for n in range(7)]
    wire, lost_ = written("anthropic", [Message("user", parts)])
    marked = [block["text"] for block in wire["messages"][0]["content"] if "cache_control" in block]
    assert marked == ["0", "4", "5", "6"] and lost_ == ("anthropic takes no more than four cache marks",)


def test_ids_that_anthropic_refuses_are_written_anew_the_same_for_call_and_result() -> None:
    messages = [
        Message("assistant", [ToolCall(id="a|b c", name="f"), ToolCall(id="a/b c", name="f")]),
        Message("tool", [ToolResult.of("a|b c", "1"), ToolResult.of("a/b c", "2")]),
    ]
    wire, lost_ = written("anthropic", messages)
    calls = [block["id"] for block in wire["messages"][0]["content"]]
    assert calls == [block["tool_use_id"] for block in wire["messages"][1]["content"]]
    assert len({*calls}) == 2 and all(id.replace("_", "a").isalnum() for id in calls) and lost_


@every_dialect
@pytest.mark.parametrize(
    "wire",
    [{}, {"messages": None, "input": None, "contents": None}, {"messages": [3], "input": [3], "contents": [3]},
     {"messages": [{"role": "klingon", "content": "x"}], "input": [{"role": "klingon", "content": "x"}],
      "contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "!"}}]}]}],
    ids=str,
)  # fmt: skip
def test_what_is_not_of_a_dialect_cannot_be_read(name: str, wire: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=f"{name}"):
        dialect(name).read(wire)


def test_an_address_with_plain_data_stays_an_address() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/svg+xml,<svg/>"}}
    read = dialect("openai").read({"messages": [{"role": "user", "content": [image]}]})
    assert read == [Message("user", [Uri(modality="image", uri="data:image/svg+xml,<svg/>")])]


# --- requests ---

TOOLS = [ToolSpec("add", "Add two.", {"type": "object", "properties": {"a": {"type": "integer"}}}), ToolSpec("sub")]
PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
          "required": ["name"]}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "field", "auto", "none", "required", "named"),
    [
        ("openai", "tool_choice", None, "none", "required", {"type": "function", "function": {"name": "add"}}),
        ("openai-responses", "tool_choice", None, "none", "required", {"type": "function", "name": "add"}),
        ("anthropic", "tool_choice", None, {"type": "none"}, {"type": "any"}, {"type": "tool", "name": "add"}),
        (
            "gemini", "toolConfig", None,
            {"functionCallingConfig": {"mode": "NONE"}},
            {"functionCallingConfig": {"mode": "ANY"}},
            {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["add"]}},
        ),
    ],
)  # fmt: skip
def test_tool_choice_in_each_providers_form(
    name: str, field: str, auto: Any, none: Any, required: Any, named: Any
) -> None:
    forms = {"auto": auto, "none": none, "required": required, "add": named}
    for choice, form in forms.items():
        assert body(name, tools=TOOLS, tool_choice=choice).get(field) == form


def test_ollama_can_leave_tools_out_but_not_force_one() -> None:
    assert "tools" not in body("ollama", tools=TOOLS, tool_choice="none")
    assert lost("ollama", tools=TOOLS, tool_choice="required") == ("ollama takes no demand that a tool be called",)
    assert lost("ollama", tools=TOOLS, tool_choice="add") == ("ollama takes no demand that the tool add be called",)


@every_dialect
def test_a_tool_that_is_not_there_cannot_be_chosen(name: str) -> None:
    with pytest.raises(BadInput, match=r"mul.*none of the tools given.*add, sub"):
        body(name, tools=TOOLS, tool_choice="mul")


@every_dialect
def test_one_call_at_a_time_is_asked_for_or_listed(name: str) -> None:
    asked = json.dumps(body(name, tools=TOOLS, parallel=False))
    assert "parallel" in asked or lost(name, tools=TOOLS, parallel=False)


def test_schemas_in_each_providers_form() -> None:
    given = body("openai", schema=PERSON)["response_format"]["json_schema"]
    assert given["strict"] and given["schema"]["required"] == ["name", "age"]
    assert body("openai-responses", schema=PERSON)["text"]["format"] == {"type": "json_schema", **given}
    native = body("anthropic", "claude-opus-4-6", schema=PERSON)["output_config"]["format"]["schema"]
    assert native["required"] == ["name"] and native["additionalProperties"] is False
    assert native["properties"]["age"] == {"type": "integer", "description": "(minimum: 0)"}
    assert body("gemini", schema=PERSON)["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": PERSON,
    }
    assert body("ollama", schema=PERSON)["format"] == PERSON
    embedded = Embedded().call(
        "any", Request(messages=[Message("user", "Hi.")], schema={"type": "string"}), stream=False
    )
    assert embedded.body["response_format"]["json_schema"]["schema"] == {"type": "string"}


@pytest.mark.parametrize("name", ["openai", "openai-responses", "anthropic"])
def test_a_schema_that_is_no_object_is_put_into_one(name: str) -> None:
    asked = json.dumps(body(name, "claude-opus-4-6", schema={"$defs": {"A": {"type": "string"}}, "$ref": "#/$defs/A"}))
    assert '"required": ["answer"]' in asked and '"properties": {"answer": {"$ref": "#/$defs/A"}}' in asked


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"any": {}}},
        {"type": "object", "properties": {"a": {"not": {"type": "string"}}}},
        {"type": "object", "properties": {"a": {"enum": [[1]]}}},
        {"type": "object", "properties": {"a": 3}},
    ],
    ids=str,
)
def test_what_the_strict_subset_cannot_say_is_asked_for_without_it(schema: dict[str, Any]) -> None:
    for asked in (
        body("openai", schema=schema)["response_format"]["json_schema"],
        body("openai-responses", schema=schema)["text"]["format"],
    ):
        assert asked["strict"] is False and asked["schema"] == schema
    assert strict(schema) is None


def test_values_to_choose_from_have_their_types_said() -> None:
    choices = {
        "a": {"enum": ["x", "y"]},
        "b": {"const": 3},
        "c": {"enum": ["x", None]},
        "d": {"anyOf": [{"const": "t"}]},
    }
    narrow = strict({"type": "object", "properties": choices})
    assert narrow is not None
    assert [narrow["properties"][key].get("type") for key in "abcd"] == ["string", "integer", ["null", "string"], None]
    assert narrow["properties"]["d"]["anyOf"] == [{"const": "t", "type": "string"}]


def test_a_schema_that_refers_to_itself_is_a_tool_to_answer_with_for_anthropic() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#/$defs/T"}}, "required": ["left"]}
    schema = {**tree, "$defs": {"T": tree}}
    assert closed(schema) is None and strict(schema) is not None
    asked = body("anthropic", schema=schema)
    assert asked["tool_choice"] == {"type": "tool", "name": "give_the_answer"} and "output_config" not in asked
    assert asked["tools"][0]["input_schema"] == schema


def test_old_models_answer_by_a_tool_and_may_still_call_others() -> None:
    asked = body("anthropic", "claude-3-5-haiku-20241022", schema=PERSON, tools=TOOLS)
    assert asked["tool_choice"] == {"type": "any"} and [t["name"] for t in asked["tools"]] == [
        "add",
        "sub",
        "give_the_answer",
    ]
    asked = body("gemini", "gemini-2.5-flash", schema=PERSON, tools=TOOLS)
    assert asked["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    assert "responseJsonSchema" in body("gemini", "gemini-3-pro", schema=PERSON, tools=TOOLS)["generationConfig"]


def test_how_long_to_think_in_each_providers_form() -> None:
    assert body("openai", effort="low")["reasoning_effort"] == "low"
    assert body("openai-responses", effort="high")["reasoning"] == {"effort": "high"}
    new = body("anthropic", "claude-opus-4-6", effort="high")
    assert new["thinking"] == {"type": "adaptive"} and new["output_config"] == {"effort": "high"}
    old = body("anthropic", "claude-sonnet-4-5", effort="low", max_tokens=100)
    assert old["thinking"] == {"type": "enabled", "budget_tokens": 2048} and old["max_tokens"] == 2148
    assert "thinking" not in body("anthropic", "claude-sonnet-4-5", effort="none")
    thinking = {"thinkingLevel": "low", "includeThoughts": True}
    assert body("gemini", "gemini-3-pro", effort="low")["generationConfig"]["thinkingConfig"] == thinking
    assert body("gemini", "gemini-2.5-pro", effort="none")["generationConfig"]["thinkingConfig"]["thinkingBudget"] == 0
    assert body("ollama", effort="none")["think"] is False and body("ollama", effort="low")["think"] is True
    assert body("ollama", "gpt-oss:20b", effort="low")["think"] == "low"


def test_settings_reach_the_provider_under_its_names() -> None:
    settings: dict[str, Any] = {"max_tokens": 50, "temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["END"]}
    assert body("openai", **settings).items() >= {"max_tokens": 50, "temperature": 0.5, "seed": 7}.items()
    assert body("openai", "gpt-5", max_tokens=50)["max_completion_tokens"] == 50
    assert body("openai-responses", **settings)["max_output_tokens"] == 50
    assert body("anthropic", **settings)["stop_sequences"] == ["END"]
    assert body("anthropic")["max_tokens"] == 8192
    assert body("gemini", **settings)["generationConfig"] == {
        "maxOutputTokens": 50, "temperature": 0.5, "topP": 0.9, "seed": 7, "stopSequences": ["END"],
    }  # fmt: skip
    assert body("ollama", **settings)["options"] == {
        "num_predict": 50, "temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["END"],
    }  # fmt: skip


def test_settings_that_a_provider_does_not_have_are_listed() -> None:
    assert lost("openai", top_k=5) == ("openai takes no top_k",)
    assert lost("openai-responses", seed=1, stop=["x"], max_tokens=5) == (
        "openai-responses takes no limit below 16 tokens",
        "openai-responses takes no seed",
        "openai-responses takes no stop texts",
    )
    assert len(lost("anthropic", seed=1, logprobs=3)) == 2
    assert lost("anthropic", "claude-opus-4-8", temperature=0.5) == ("anthropic takes no temperature for this model",)
    assert lost("anthropic", "claude-sonnet-4-5-20250929", temperature=0.5) == ()


@every_dialect
def test_what_is_given_by_hand_is_put_over_the_request_object_by_object(name: str) -> None:
    extra = {"generationConfig": {"a": 1}, "options": {"a": 1}, "model": "mine"}
    asked = body(name, temperature=0.5, extra=extra)
    assert asked["model"] == "mine" and asked["options"]["a"] == 1
    if name == "gemini":
        assert asked["generationConfig"] == {"temperature": 0.5, "a": 1}


def test_paths_and_headers() -> None:
    request = Request(messages=[Message("user", "Hi.")])
    paths = {name: [dialect(name).call("m", request, stream=s).path for s in (False, True)] for name in DIALECTS}
    assert paths == {
        "openai": ["/chat/completions"] * 2,
        "openai-responses": ["/responses"] * 2,
        "anthropic": ["/v1/messages"] * 2,
        "gemini": ["/v1beta/models/m:generateContent", "/v1beta/models/m:streamGenerateContent?alt=sse"],
        "ollama": ["/api/chat"] * 2,
    }
    for name in DIALECTS:
        assert SECRET in str(dialect(name).headers(SECRET)) and SECRET not in str(dialect(name).headers(""))
    assert body("openai", stream=True)["stream_options"] == {"include_usage": True}
    assert body("ollama")["stream"] is False


def test_calls_of_another_model_get_the_seal_that_gemini_wants_for_such() -> None:
    messages = [Message("user", "Hi."), Message("assistant", [ToolCall(id="1", name="a"), ToolCall(id="2", name="b")])]
    for model, seals in (("gemini-3-pro", 1), ("gemini-2.5-pro", 0)):
        asked = dialect("gemini").call(model, Request(messages=messages), stream=False).body
        assert json.dumps(asked).count("skip_thought_signature_validator") == seals
    back = dialect("gemini").read(dialect("gemini").call("gemini-3-pro", Request(messages=messages), stream=False).body)
    assert back == messages


def test_thoughts_do_not_go_to_openais_own_models() -> None:
    request = Request(messages=[Message("user", "Hi."), Message("assistant", [Reasoning(content="hm"), "Yes."])])
    own = dialect("openai").call("gpt-5-mini", request, stream=False)
    assert "reasoning_content" not in own.body["messages"][1] and own.lost == ("openai takes no thought given back",)
    other = dialect("openai").call("deepseek-reasoner", request, stream=False)
    assert other.body["messages"][1]["reasoning_content"] == "hm" and other.lost == ()


def test_responses_keeps_nothing_at_the_provider() -> None:
    assert body("openai-responses", "gpt-5")["store"] is False
    assert body("openai-responses", "gpt-5")["include"] == ["reasoning.encrypted_content"]
    assert "include" not in body("openai-responses", "gpt-4o")


# --- answers ---

ANSWERS: dict[str, dict[str, Any]] = {
    "openai": {
        "id": "r1",
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {
                    "role": "assistant",
                    "content": "Let me see.",
                    "reasoning_content": "Sum?",
                    "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
                    ],
                },
            }
        ],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    },
    "openai-responses": {
        "id": "r1",
        "model": "m-1",
        "status": "completed",
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Sum?"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'},
        ],
        "usage": {
            "input_tokens": 100,
            "output_tokens": 20,
            "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
            "output_tokens_details": {"reasoning_tokens": 5},
        },
    },
    "anthropic": {
        "id": "r1",
        "model": "m-1",
        "type": "message",
        "role": "assistant",
        "stop_reason": "tool_use",
        "content": [
            {"type": "thinking", "thinking": "Sum?", "signature": "s"},
            {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
        ],
        "usage": {
            "input_tokens": 30,
            "output_tokens": 20,
            "cache_read_input_tokens": 60,
            "cache_creation_input_tokens": 10,
            "output_tokens_details": {"thinking_tokens": 5},
        },
    },
    "gemini": {
        "responseId": "r1",
        "modelVersion": "m-1",
        "candidates": [
            {
                "finishReason": "STOP",
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": "Sum?", "thought": True},
                        {"text": "Let me see."},
                        {"functionCall": {"id": "c1", "name": "add", "args": {"a": 1}}, "thoughtSignature": "s"},
                    ],
                },
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 90, "toolUsePromptTokenCount": 10, "cachedContentTokenCount": 60,
            "candidatesTokenCount": 15, "thoughtsTokenCount": 5,
        },
    },
    "ollama": {
        "model": "m-1",
        "done": True,
        "done_reason": "stop",
        "message": {
            "role": "assistant",
            "content": "Let me see.",
            "thinking": "Sum?",
            "tool_calls": [{"id": "c1", "function": {"name": "add", "arguments": {"a": 1}}}],
        },
        "prompt_eval_count": 100,
        "eval_count": 20,
    },
}  # fmt: skip
ASKED = Request(messages=[Message("user", "Hi.")], tools=TOOLS)


@every_dialect
def test_an_answer_says_the_same_in_every_dialect(name: str) -> None:
    reply = dialect(name).reply(ANSWERS[name], ASKED)
    assert (reply.text, reply.reasoning, reply.finish, reply.model) == ("Let me see.", "Sum?", "tool_call", "m-1")
    assert [(call.id, call.name, call.arguments) for call in reply.calls] == [("c1", "add", {"a": 1})]
    assert reply.id == ("" if name == "ollama" else "r1")
    full = Usage(input=100, output=20, cache_read=60, cache_write=0 if name == "gemini" else 10, reasoning=5)
    assert reply.usage == (Usage(input=100, output=20) if name == "ollama" else full)


@every_dialect
def test_a_reply_can_be_given_back_to_the_one_who_said_it(name: str) -> None:
    answer = json.loads(json.dumps(ANSWERS[name]))
    if name == "openai-responses":
        answer["output"][0]["encrypted_content"] = "gAAAA"
    reply = dialect(name).reply(answer, ASKED)
    messages = [*ASKED.messages, reply.message, Message("tool", [ToolResult.of("c1", "3", name="add")])]
    wire, lost_ = written(name, messages)
    assert lost_ == () and dialect(name).read(wire) == messages


@every_dialect
@pytest.mark.parametrize(
    "answer",
    [None, [], "text", 3, {}, {"choices": []}, {"choices": [{"message": None}]}, {"output": [3]}, {"output": None},
     {"content": "text"}, {"content": [3]}, {"candidates": [{"content": 3}]}, {"message": 3, "done": True}],
    ids=str,
)  # fmt: skip
def test_what_is_no_answer_is_an_error_that_says_so(name: str, answer: Any) -> None:
    with pytest.raises(ModelError, match=r"check that the address|in its middle|broke off"):
        dialect(name).reply(answer, ASKED)


@every_dialect
def test_an_error_with_status_200_is_an_error(name: str) -> None:
    with pytest.raises(ModelError, match="no room"):
        dialect(name).reply({"error": {"message": "no room", "code": 500}}, ASKED)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("openai", {"choices": [{"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}]}),
        (
            "openai-responses",
            {"output": [{"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}]},
        ),
        ("anthropic", {"content": [], "stop_reason": "refusal", "stop_details": {"explanation": "No."}}),
        ("gemini", {"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "No."}}),
        ("gemini", {"candidates": [{"finishReason": "SAFETY", "finishMessage": "No."}]}),
    ],
)
def test_refusals_are_told_apart_from_answers(name: str, answer: dict[str, Any]) -> None:
    reply = dialect(name).reply(answer, ASKED)
    assert reply.refusal == "No." and reply.text == ""
    assert reply.message.parts == (Refusal(content="No."),)


@pytest.mark.parametrize(
    ("name", "said", "finish"),
    [
        ("openai", "length", "length"), ("openai", "content_filter", "content_filter"), ("openai", None, "stop"),
        ("openai", "something_new", "stop"), ("openai", "error", "error"),
        ("anthropic", "max_tokens", "length"), ("anthropic", "stop_sequence", "stop"),
        ("anthropic", "pause_turn", "interrupted"), ("anthropic", "model_context_window_exceeded", "length"),
        ("gemini", "MAX_TOKENS", "length"), ("gemini", "MALFORMED_FUNCTION_CALL", "error"),
        ("gemini", "SPII", "content_filter"),
        ("ollama", "length", "length"), ("ollama", "stop", "stop"),
    ],
)  # fmt: skip
def test_why_an_answer_ended(name: str, said: str | None, finish: str) -> None:
    answer = {
        "openai": {"choices": [{"message": {"content": "x"}, "finish_reason": said}]},
        "anthropic": {"content": [{"type": "text", "text": "x"}], "stop_reason": said},
        "gemini": {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": said}]},
        "ollama": {"message": {"content": "x"}, "done": True, "done_reason": said},
    }[name]
    assert dialect(name).reply(answer, ASKED).finish == finish


def test_an_incomplete_response_says_why() -> None:
    answer = {"output": [], "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assert dialect("openai-responses").reply(answer, ASKED).finish == "length"


def text_answer(name: str, text: str) -> dict[str, Any]:
    return {
        "openai": {"choices": [{"message": {"content": text}}]},
        "openai-responses": {
            "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}]
        },
        "anthropic": {"content": [{"type": "text", "text": text}]},
        "gemini": {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]},
        "ollama": {"message": {"content": text}, "done": True},
    }[name]


@every_dialect
def test_an_answer_that_was_put_into_an_object_comes_out_of_it(name: str) -> None:
    request = Request(messages=[Message("user", "Hi.")], schema={"type": "array"})
    wrapped = ' {"answer" :  [1, {"a": "}"}] } \n' if name not in ("gemini", "ollama") else '[1, {"a": "}"}]'
    assert dialect(name).reply(text_answer(name, wrapped), request).text == '[1, {"a": "}"}]'
    assert dialect(name).reply(text_answer(name, "[1]"), request).text == "[1]"


def test_the_tool_to_answer_with_is_the_answer() -> None:
    for schema, given, text in ((PERSON, {"name": "A"}, '{"name":"A"}'), ({"type": "integer"}, {"answer": 3}, "3")):
        request = Request(messages=[Message("user", "Hi.")], schema=schema, tools=TOOLS)
        block = {"type": "tool_use", "id": "c", "name": "give_the_answer", "input": given}
        part = {"functionCall": {"name": "give_the_answer", "args": given}}
        for name, answer in (
            ("anthropic", {"content": [block], "stop_reason": "tool_use"}),
            ("gemini", {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}),
        ):
            reply = dialect(name).reply(answer, request)
            assert (reply.text, reply.calls, reply.finish) == (text, (), "stop")


def test_likelihoods_and_scores_of_labels() -> None:
    tops = [{"token": "yes", "logprob": -0.1}, {"token": "no", "logprob": -2.5}]
    token = {"token": "yes", "logprob": -0.1, "top_logprobs": tops}
    answers: dict[str, dict[str, Any]] = {
        "openai": {"choices": [{"message": {"content": "yes"}, "logprobs": {"content": [token]}}]},
        "openai-responses": {
            "output": [
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "yes", "logprobs": [token]}],
                }
            ]
        },
        "gemini": {
            "candidates": [
                {
                    "finishReason": "STOP",
                    "content": {"parts": [{"text": "yes"}]},
                    "logprobsResult": {
                        "chosenCandidates": [{"token": "yes", "logProbability": -0.1}],
                        "topCandidates": [
                            {"candidates": [{"token": t["token"], "logProbability": t["logprob"]} for t in tops]}
                        ],
                    },
                }
            ]
        },
        "ollama": {"message": {"content": "yes"}, "done": True, "logprobs": [token]},
    }
    for name, answer in answers.items():
        asked = Request(messages=[Message("user", "?")], score=["yes", "no", "maybe"])
        assert "logprobs" in json.dumps(dialect(name).call("m", asked, stream=False).body)
        reply = dialect(name).reply(answer, asked)
        assert reply.scores == {"yes": -0.1, "no": -2.5, "maybe": -30.0} and reply.logprobs == ()
        reply = dialect(name).reply(answer, Request(messages=asked.messages, logprobs=2))
        assert reply.logprobs[0].token == "yes" and reply.logprobs[0].top == (("yes", -0.1), ("no", -2.5))


def test_calls_without_ids_are_numbered_through_the_conversation() -> None:
    before = Message("assistant", [ToolCall(id="x", name="add"), ToolCall(id="y", name="add")])
    request = Request(messages=[Message("user", "Hi."), before])
    call = {"function": {"name": "add", "arguments": {}}}
    ollama = dialect("ollama").reply({"message": {"tool_calls": [call, call]}, "done": True}, request)
    openai = dialect("openai").reply({"choices": [{"message": {"tool_calls": [call, call]}}]}, request)
    part = {"functionCall": {"name": "add"}}
    gemini = dialect("gemini").reply(
        {"candidates": [{"content": {"parts": [part, part]}, "finishReason": "STOP"}]}, request
    )
    assert [[call.id for call in reply.calls] for reply in (ollama, openai, gemini)] == [["call_2", "call_3"]] * 3


def test_citations_count_characters() -> None:
    chat = dialect("openai").reply(
        {
            "choices": [
                {
                    "message": {
                        "content": "Über.",
                        "annotations": [
                            {
                                "type": "url_citation",
                                "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 4},
                            }
                        ],
                    }
                }
            ]
        },
        ASKED,
    )
    grounding = {
        "groundingChunks": [{"web": {"uri": "u", "title": "t"}}],
        "groundingSupports": [{"segment": {"endIndex": 5, "text": "Über"}, "groundingChunkIndices": [0]}],
    }
    gemini = dialect("gemini").reply(
        {
            "candidates": [
                {"content": {"parts": [{"text": "Über."}]}, "finishReason": "STOP", "groundingMetadata": grounding}
            ]
        },
        ASKED,
    )
    assert chat.message.parts == (Text(content="Über.", citations=(Citation(url="u", title="t", start=0, end=4),)),)
    assert gemini.message.parts[0] == Text(
        content="Über.", citations=(Citation(url="u", title="t", quote="Über", start=0, end=4),)
    )
    assert gemini.message.parts[1] == Opaque(dialect="gemini", content={"groundingMetadata": grounding})


# --- refusals ---


def refusal(name: str, status: int, said: Any, **headers: str) -> ModelError:
    text = said if isinstance(said, str) else json.dumps(said)
    return dialect(name).refusal("m-1", status, text, {key.replace("_", "-"): value for key, value in headers.items()})


@every_dialect
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ModelError), (401, KeyRefused), (402, ModelError), (403, KeyRefused), (404, UnknownModel),
        (408, ModelUnavailable), (413, PromptTooLong), (422, ModelError), (429, ModelBusy), (500, ModelUnavailable),
        (502, ModelUnavailable), (503, ModelUnavailable), (504, ModelUnavailable), (529, ModelBusy),
    ],
)  # fmt: skip
@pytest.mark.parametrize("said", ['{"error": {"message": "Sorry."}}', '{"error": "Sorry."}', "<html>Sorry.</html>", ""])
def test_each_status_means_one_kind_of_error(name: str, status: int, kind: type[ModelError], said: str) -> None:
    error = refusal(name, status, said)
    assert type(error) is kind and "m-1" in str(error)
    assert not said or "Sorry." in str(error) or kind is PromptTooLong


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("openai", {"error": {"message": f"Incorrect API key provided: {SECRET}.", "code": "invalid_api_key"}}),
        ("openai-responses", {"error": {"message": f"Incorrect API key provided: {SECRET}."}}),
        ("anthropic", {"error": {"type": "authentication_error", "message": f"invalid x-api-key {SECRET}"}}),
        ("gemini", {"error": {"code": 400, "message": f"API key not valid. ({SECRET})", "status": "INVALID_ARGUMENT"}}),
        ("ollama", {"error": f"unauthorized: {SECRET}"}),
    ],
)  # fmt: skip
def test_a_wrong_key_names_its_variable_and_never_shows_the_key(name: str, said: dict[str, Any]) -> None:
    error = refusal(name, 400 if name == "gemini" else 401, said)
    assert type(error) is KeyRefused and dialect(name).key in str(error)
    assert SECRET not in str(error) and "1234567890" not in str(error)


@pytest.mark.parametrize(
    ("name", "said", "counts"),
    [
        (
            "openai",
            {
                "error": {
                    "code": "context_length_exceeded",
                    "message": "This model's maximum context length is 8192 tokens. However, your messages resulted in "
                    "10000 tokens. Please reduce the length of the messages.",
                }
            },
            (10000, 8192),
        ),
        (
            "openai",
            {"error": {"code": 400, "type": "exceed_context_size_error", "message": "the request exceeds the available "
                       "context size", "n_prompt_tokens": 1500, "n_ctx": 1024}},
            (1500, 1024),
        ),
        (
            "anthropic",
            {"error": {"message": "prompt is too long: 213462 tokens > 200000 maximum"}},
            (213462, 200000),
        ),
        (
            "gemini",
            {"error": {"message": "The input token count (1200000) exceeds the maximum number of tokens allowed "
                       "(1048576)."}},
            (1200000, 1048576),
        ),
        ("ollama", {"error": "the input length exceeds the context length"}, None),
    ],
)  # fmt: skip
def test_a_prompt_that_is_too_long_says_by_how_much(name: str, said: Any, counts: tuple[int, int] | None) -> None:
    error = refusal(name, 400, said)
    assert type(error) is PromptTooLong
    assert counts is None or f"has {counts[0]} tokens, and its context holds {counts[1]}" in str(error)


def test_how_long_to_wait() -> None:
    def wait(**headers: str) -> float | None:
        error = refusal("openai", 429, "", **headers)
        assert isinstance(error, ModelBusy)
        return error.retry_after

    assert wait() is None and wait(Retry_After="soon") is None
    assert wait(Retry_After="7") == 7 and wait(retry_after="0.5") == 0.5
    assert wait(retry_after="7", retry_after_ms="1500") == 1.5
    assert 50 < (wait(retry_after=formatdate(time() + 60, usegmt=True)) or 0) <= 60
    assert wait(retry_after=formatdate(time() - 60, usegmt=True)) == 0
    said = {"error": {"code": 429, "details": [{"retryDelay": "34.5s"}]}}
    error = refusal("gemini", 429, said)
    assert isinstance(error, ModelBusy) and error.retry_after == 34.5
    assert type(refusal("anthropic", 503, "", retry_after="3")) is ModelBusy


def test_long_names_of_models_are_no_secrets() -> None:
    name = "meta-llama-3.1-405b-instruct-turbo"
    assert name in str(refusal("openai", 404, {"error": {"message": f"The model {name} does not exist"}}))


def test_an_account_without_credit_is_not_asked_again() -> None:
    said = {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}
    assert type(refusal("openai", 429, said)) is ModelError


# --- the providers' own types, where their packages are installed ---

FULL: dict[str, Any] = {
    "tools": [ToolSpec(name, "Does it.") for name in ("read", "run", "find")],
    "schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
    "max_tokens": 100,
    "effort": "low",
    "stop": ["END"],
    "extra": {"metadata": {"user_id": "u"}},
}


def bodies(name: str, model: str, **more: Any) -> Iterator[dict[str, Any]]:
    for seed in range(60):
        messages = conversation(Random(seed), CAN[name], name)
        choice = ("auto", "required", "read")[seed % 3]
        request = Request(messages=messages, **(FULL | {"tool_choice": choice} | more))
        yield json.loads(json.dumps(dialect(name).call(model, request, stream=False).body))


def test_requests_fit_the_types_of_the_openai_package() -> None:
    pytest.importorskip("openai", reason="the package openai is not installed")
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
    from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
    from pydantic import TypeAdapter

    chat: Any = TypeAdapter(CompletionCreateParamsNonStreaming)
    for asked in bodies("openai", "gpt-5.6"):
        json.dumps(chat.validate_python(asked, extra="forbid"), default=list)
    responses: Any = TypeAdapter(ResponseCreateParamsNonStreaming)
    for asked in bodies("openai-responses", "gpt-5.6"):
        for item in asked["input"]:
            if item.get("role") == "assistant":  # the types have the model's messages with an id; the API does without
                item |= {"id": "msg_1", "status": "completed"}
        json.dumps(responses.validate_python(asked, extra="forbid"), default=list)


def test_requests_fit_the_types_of_the_anthropic_package() -> None:
    pytest.importorskip("anthropic", reason="the package anthropic is not installed")
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
    from pydantic import TypeAdapter

    types: Any = TypeAdapter(MessageCreateParamsNonStreaming)
    for asked in bodies("anthropic", "claude-opus-4-8"):
        json.dumps(types.validate_python(asked, extra="forbid"), default=list)


def test_requests_fit_the_types_of_the_google_genai_package() -> None:
    pytest.importorskip("google.genai", reason="the package google-genai is not installed")
    from google.genai import types

    for asked in bodies("gemini", "gemini-3-pro", extra={}):
        assert asked.keys() == {"contents", "tools", "generationConfig"} | asked.keys() & {
            "systemInstruction",
            "toolConfig",
        }
        for content in (*asked["contents"], asked.get("systemInstruction", {})):
            types.Content.model_validate(content)
        for tool in asked["tools"]:
            types.Tool.model_validate(tool)
        types.ToolConfig.model_validate(asked.get("toolConfig", {}))
        types.GenerateContentConfig.model_validate(asked["generationConfig"])


def test_requests_fit_the_types_of_the_ollama_package() -> None:
    pytest.importorskip("ollama", reason="the package ollama is not installed")
    from ollama._types import ChatRequest

    for asked in bodies("ollama", "qwen3"):
        ChatRequest.model_validate(asked)


# --- the house ---


def test_dialects_are_light() -> None:
    homes = ("chat", "responses", "anthropic", "gemini", "ollama")
    wanted = ", ".join(f"weft.model.dialect.{home}" for home in homes)
    code = f"import sys, weft.model.repair, {wanted}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"httpx2", "pydantic", "openai"} & {*found.stdout.split()}


def test_an_unknown_dialect_names_those_there_are() -> None:
    with pytest.raises(BadInput, match=r"klingon.*openai-responses"):
        dialect("klingon")


def test_a_reply_is_the_same_value_each_time() -> None:
    for name in DIALECTS:
        first, second = (dialect(name).reply(ANSWERS[name], ASKED) for _ in range(2))
        assert isinstance(first, Reply) and first == second
