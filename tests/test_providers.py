"""The loopback providers refuse what the real ones refuse, in the same form, and serve many at once."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.error
import urllib.request
from typing import Any

import httpx2
import pytest

from tests.servers.providers import KEY, NAMES, Call, Chopped, InProcess, Providers, Refuse, Turn

PATHS = {
    "openai": "/chat/completions",
    "openai-responses": "/responses",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/m:generateContent",
    "ollama": "/api/chat",
}
HEADERS = {"authorization": f"Bearer {KEY}", "x-api-key": KEY, "x-goog-api-key": KEY, "anthropic-version": "2023-06-01"}
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False, "required": []}


def post(server: Providers | InProcess, provider: str, body: Any, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = server.base(provider) + PATHS[provider]
    sent = {"content-type": "application/json", **HEADERS, **{name.replace("_", "-"): v for name, v in headers.items()}}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, sent), timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}, *messages], **more}


def items(*given: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "input": [{"role": "user", "content": "Hi"}, *given], **more}


def blocks(*messages: Any, **more: Any) -> dict[str, Any]:
    tool = {"name": "f", "input_schema": SCHEMA}
    return {**chat(*({"role": role, "content": content} for role, content in messages)), "max_tokens": 99,
            "tools": [tool], **more}  # fmt: skip


def contents(*turns: Any, **more: Any) -> dict[str, Any]:
    given = [("user", [{"text": "Hi"}]), *turns]
    return {"contents": [{"role": role, "parts": parts} for role, parts in given], **more}


F = {"name": "f", "arguments": "{}"}
SAID = {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": F}]}
USE = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "a", "content": "x"}
CALL = {"functionCall": {"name": "f", "args": {}}}
ANSWER = {"functionResponse": {"name": "f", "response": {}}}

GOOD: list[tuple[str, Any]] = [
    ("openai", chat(SAID, {"role": "tool", "tool_call_id": "a", "content": "x"})),
    ("openai-responses", {"model": "m", "input": "Hi"}),
    (
        "openai-responses",
        items(
            {"type": "function_call", "call_id": "a", **F},
            {"type": "function_call_output", "call_id": "a", "output": "x"},
        ),
    ),
    ("anthropic", blocks(("assistant", [USE]), ("user", [RESULT, {"type": "text", "text": "So?"}]))),
    ("anthropic", blocks(("assistant", [USE]), ("user", [RESULT]), ("user", "So?"))),
    ("gemini", contents(("model", [CALL, CALL]), ("user", [ANSWER, ANSWER]))),
    ("gemini", {"contents": [{"parts": [{"inline_data": {"mime_type": "image/png", "data": "AA=="}}]}]}),
    ("ollama", chat({"role": "tool", "content": "x"}, stream=False, unknown=1)),
]
BAD: list[tuple[str, Any, str]] = [
    ("openai", chat(SAID), "must be followed by tool messages"),
    ("openai", chat({"role": "tool", "tool_call_id": "a", "content": "x"}), "must be a response to a preceeding"),
    ("openai", chat(SAID, {"role": "user", "content": "x"}), "did not have response messages: a"),
    ("openai", chat({"role": "bot", "content": "x"}), "Invalid value: 'bot'"),
    ("openai", chat({"role": "user", "content": None}), "Missing content"),
    ("openai", chat({"role": "user", "content": [{"type": "image", "url": "x"}]}), "Invalid value: 'image'"),
    ("openai", chat(top_k=3), "Unrecognized request argument supplied: top_k"),
    ("openai", chat(tool_choice="required"), "only allowed when 'tools' are specified"),
    ("openai", chat(stream_options={}), "only allowed when 'stream' is enabled"),
    ("openai", chat(temperature=3), "must be between 0 and 2"),
    ("openai", {"model": "m", "messages": []}, "too short"),
    ("openai", {"messages": []}, "you must provide a model parameter"),
    ("openai", b'{"model": ', "could not parse the JSON"),
    ("openai-responses", items({"type": "function_call", "call_id": "a", **F}), "No tool output found"),
    ("openai-responses", items({"type": "function_call_output", "call_id": "a", "output": ""}), "No tool call found"),
    ("openai-responses", items({"type": "reasoning", "id": "rs_1", "summary": []}), "without its required following"),
    ("openai-responses", items({"role": "user", "content": [{"type": "output_text", "text": "x"}]}), "'output_text'"),
    ("openai-responses", items(stop=["x"]), "Unknown parameter: 'stop'"),
    ("openai-responses", items(tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}}]), "false"),
    ("anthropic", blocks(("assistant", [USE])), "`tool_use` ids were found without `tool_result`"),
    ("anthropic", blocks(("assistant", [USE]), ("user", [{"type": "text", "text": "x"}, RESULT])), "after: a"),
    ("anthropic", blocks(("user", [RESULT])), "unexpected `tool_use_id`"),
    ("anthropic", blocks(("system", "x")), 'Unexpected role "system"'),
    ("anthropic", blocks(("assistant", [{"type": "text", "text": "x "}])), "trailing whitespace"),
    ("anthropic", {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}, "max_tokens: Field required"),
    ("anthropic", blocks(temperature=1.5), "must be between 0 and 1"),
    ("anthropic", blocks(("assistant", [{"type": "thinking", "thinking": "x"}])), "signature: Field required"),
    ("anthropic", blocks(("user", [{"type": "text", "text": ""}])), "must be non-empty"),
    ("anthropic", blocks(thinking={"type": "enabled", "budget_tokens": 2000}), "must be greater"),
    ("anthropic", blocks(frequency_penalty=1), "Extra inputs are not permitted"),
    ("gemini", contents(("model", [CALL, CALL]), ("user", [ANSWER])), "number of function response parts"),
    ("gemini", contents(("model", [CALL])), "followed by a function response"),
    ("gemini", contents(("assistant", [{"text": "x"}])), "valid role: user, model"),
    ("gemini", contents(("user", [])), "must not be empty"),
    ("gemini", contents(("user", [{"text": "x", "inlineData": {}}])), "already set"),
    ("gemini", contents(temperature=1), 'Unknown name "temperature"'),
    ("gemini", contents(generationConfig={"responseSchema": {"type": "STRING"}}), "application/json"),
    (
        "gemini",
        contents(tools=[{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "$ref": "x"}}]}]),
        'Unknown name "$ref"',
    ),
    ("ollama", chat({**SAID, "content": ""}), "cannot unmarshal string"),
    ("ollama", chat({"role": "user", "content": [{"type": "text"}]}), "cannot unmarshal list"),
    ("ollama", chat({"role": "user", "content": "x", "images": ["!"]}), "illegal base64"),
    ("ollama", chat(options={"seed": "x"}), 'option "seed" must be of type int'),
    ("ollama", {"messages": []}, "model is required"),
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Any:
    with Providers() as server:
        yield server


@pytest.mark.parametrize(("provider", "body"), GOOD)
def test_what_is_right_is_answered(server: Providers, provider: str, body: Any) -> None:
    status, answer = post(server, provider, body)
    assert status == 200, answer
    assert "Hello" in json.dumps(answer)


@pytest.mark.parametrize(("provider", "body", "words"), BAD)
def test_what_is_wrong_is_refused_in_the_providers_words(
    server: Providers, provider: str, body: Any, words: str
) -> None:
    status, answer = post(server, provider, body)
    assert status == 400
    error = answer["error"]
    assert words in (error if provider == "ollama" else error["message"])
    if provider == "anthropic":
        assert (answer["type"], error["type"]) == ("error", "invalid_request_error")
    elif provider == "gemini":
        assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    elif provider != "ollama":
        assert error.keys() == {"message", "type", "param", "code"}
    assert words in server.requests[-1].refused


@pytest.mark.parametrize(
    ("provider", "body", "none", "wrong"),
    [
        ("openai", chat(), 401, 401),
        ("openai-responses", items(), 401, 401),
        ("anthropic", blocks(), 401, 401),
        ("gemini", contents(), 403, 400),
        ("ollama", chat(stream=False), 200, 401),
    ],
)
def test_keys_are_needed_where_they_are(server: Providers, provider: str, body: Any, none: int, wrong: int) -> None:
    for given, status in (("", none), ("x", wrong)):
        headers = {"x_api_key": given, "x_goog_api_key": given, "authorization": f"Bearer {given}" if given else ""}
        assert post(server, provider, body, **headers)[0] == status


@pytest.mark.parametrize("provider", NAMES)
def test_faults_are_taken_in_turn_and_turns_by_what_was_said(provider: str) -> None:
    with Providers(Turn(text=["uno"]), Turn(text=["dos"]), faults=[Refuse(429, "3"), None]) as server:
        bodies = {"anthropic": blocks(), "gemini": contents(), "openai-responses": items()}
        more = {
            "anthropic": blocks(("assistant", "one"), ("user", "x")),
            "gemini": contents(("model", [{"text": "one"}]), ("user", [{"text": "x"}])),
            "openai-responses": items({"role": "assistant", "content": "one"}, {"role": "user", "content": "x"}),
        }
        said = [{"role": "assistant", "content": "one"}, {"role": "user", "content": "x"}]
        first, second = bodies.get(provider, chat()), more.get(provider, chat(*said))
        off = {"stream": False} if provider == "ollama" else {}
        answers = [post(server, provider, {**body, **off}) for body in (first, first, second, second, first)]
    assert [status for status, _ in answers] == [429, 200, 200, 200, 200]
    assert ["uno" in str(answer) for _, answer in answers[1:]] == [True, False, False, True]


def test_a_process_serves_many_streams_at_once() -> None:
    turn = Turn(text=["a", "b", "c"], calls=[Call("f", {"x": 1})], pause=0.05)

    async def main(url: str) -> list[int]:
        async def stream() -> int:
            async with http.stream(
                "POST", f"{url}/chat/completions", json=chat(stream=True), headers=HEADERS
            ) as answer:
                return sum([line == "data: [DONE]" async for line in answer.aiter_lines()])

        async with httpx2.AsyncClient(limits=httpx2.Limits(max_connections=None), timeout=60) as http:
            return await asyncio.gather(*(stream() for _ in range(200)))

    with InProcess(turn, faults=[Chopped(5), None]) as server:
        assert asyncio.run(main(server.base("openai"))) == [1] * 200
        assert len(server.requests) == 200
        pid = server.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
