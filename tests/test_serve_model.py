"""`weft serve-model` as a process of its own, asked by the official client, on the real small model."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx2
import openai
import pydantic
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

import weft.model
from weft.cli.serve_model import serve_model
from weft.core.errors import BadInput
from weft.web.chat_question import Question, Refused, read_question
from weft.web.model_server import ModelServer, serving

NAME = "smollm2-135m"
HELLO: Any = [{"role": "user", "content": "Say hello."}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}


class Served:
    """A `weft serve-model` under way."""

    def __init__(self, *options: str, **environ: str) -> None:
        command = [sys.executable, "-c", "from weft.cli import main; main()", "serve-model", "--port", "0", "--json"]
        self.process = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1])
        self.address: str = json.loads(line)["address"]

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=self.address, api_key=key, max_retries=0, timeout=60)

    def engine(self) -> int:
        """The process id of the engine."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        others = [path.read_text() for path in Path(f"/proc/{self.process.pid}/task").glob("*/children")]
        return int((children or " ".join(others).split())[0])

    def stop(self) -> tuple[int, str]:
        """SIGTERM; the exit status and what it said."""
        self.process.terminate()
        said = self.process.communicate(timeout=60)[1]
        return self.process.returncode, said

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    server = Served("--context", "1024")
    yield server
    server.kill()


@pytest.fixture(scope="module")
def client(served: Served) -> openai.OpenAI:
    return served.client()


def ask(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(**{"model": NAME, "messages": HELLO, "max_tokens": 8, **more})


# --- chat ------------------------------------------------------------------------------------------------------------


def test_its_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [NAME, "minilm", "wordllama"]
    assert client.models.retrieve(NAME).owned_by == "weft"
    with pytest.raises(openai.NotFoundError, match=r"no model 'gpt-5' here; there are smollm2-135m"):
        client.models.retrieve("gpt-5")


def test_an_answer_says_what_it_took(client: openai.OpenAI) -> None:
    answer = ask(client)
    assert answer.choices[0].message.content and answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 8 and answer.usage.prompt_tokens > 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8
    assert answer.model == NAME and answer.id.startswith("chatcmpl-") and answer.system_fingerprint


def test_a_stream_adds_up_to_the_answer(client: openai.OpenAI) -> None:
    whole = ask(client)
    *chunks, last = ask(client, stream=True, stream_options={"include_usage": True})
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    assert [c.choices[0].delta.role for c in chunks] == ["assistant", *[None] * (len(chunks) - 1)]
    assert len(chunks) > 4 and chunks[-1].choices[0].finish_reason == "length"
    assert last.choices == [] and last.usage.total_tokens == whole.usage.total_tokens
    assert {c.id for c in chunks} == {last.id}
    assert all(c.usage is None for c in ask(client, stream=True, max_tokens=2))


def test_likelihoods_come_with_and_without_a_stream(client: openai.OpenAI) -> None:
    whole = ask(client, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert len(whole) == 8 and all(len(token.top_logprobs) == 3 and token.logprob <= 0 for token in whole)
    assert bytes(b for token in whole for b in token.bytes).decode() == "".join(token.token for token in whole)
    plain = ask(client, logprobs=True).choices[0].logprobs.content
    assert [token.logprob for token in plain] == pytest.approx([token.logprob for token in whole], abs=1e-3)
    assert all(token.top_logprobs == [] for token in plain)
    streamed = [
        token
        for chunk in ask(client, logprobs=True, stream=True)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    assert [token.token for token in streamed] == [token.token for token in plain]
    assert ask(client).choices[0].logprobs is None


def test_stop_words_and_seeds(client: openai.OpenAI) -> None:
    whole = ask(client, max_tokens=12).choices[0].message.content
    word = whole.split()[1]
    for stop in (word, [word, "never said"]):
        stopped = ask(client, stop=stop, max_tokens=12).choices[0]
        assert stopped.message.content == whole.partition(word)[0] and stopped.finish_reason == "stop"
    hot = {"temperature": 1.5, "max_tokens": 12}
    one, same, other = (ask(client, seed=seed, **hot).choices[0].message.content for seed in (1, 1, 2))
    assert one == same != other


def test_a_conversation_with_results_of_tools_is_read(client: openai.OpenAI) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    turns = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather in "}, {"type": "text", "text": "Rome?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "It rains."},
    ]
    answer = ask(client, messages=turns, tools=[WEATHER], tool_choice="required", max_tokens=40).choices[0].message
    again = [*turns, answer.model_dump(), {"role": "tool", "tool_call_id": answer.tool_calls[0].id, "content": "Sun."}]
    said = ask(client, messages=again, tools=[WEATHER], tool_choice="none", max_tokens=4).choices[0].message
    assert said.content and not said.tool_calls


# --- tools and schemas -----------------------------------------------------------------------------------------------


def test_the_choice_among_tools_is_kept(client: openai.OpenAI) -> None:
    answer = ask(client, tools=[ADD, WEATHER], tool_choice="required", max_tokens=40)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name in ("weather", "add") and answer.choices[0].finish_reason == "tool_calls"
    named: Any = {"type": "function", "function": {"name": "weather"}}
    (call,) = ask(client, tools=[WEATHER, ADD], tool_choice=named, max_tokens=40).choices[0].message.tool_calls
    assert call.function.name == "weather" and json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    assert call.id and call.type == "function"


def test_a_streamed_call_is_that_of_the_answer(client: openai.OpenAI) -> None:
    asked: Any = {"tools": [ADD], "tool_choice": "required", "max_tokens": 40}
    with client.chat.completions.stream(model=NAME, messages=HELLO, **asked) as events:
        streamed = events.get_final_completion().choices[0]
    (call,) = streamed.message.tool_calls or ()
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "add" and arguments.keys() == {"a", "b"} and streamed.finish_reason == "tool_calls"
    assert all(type(value) is int for value in arguments.values())
    (same,) = ask(client, **asked).choices[0].message.tool_calls
    assert same.function.arguments == call.function.arguments


def test_with_auto_it_calls_a_tool_or_answers(client: openai.OpenAI) -> None:
    message = ask(client, tools=[ADD], max_tokens=60).choices[0].message
    assert bool(message.content) != bool(message.tool_calls)


class Person(pydantic.BaseModel):
    name: str
    age: int
    sex: Literal["f", "m"]


def test_a_schema_is_kept(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Ann is a woman of 31 years."}]
    parsed = client.chat.completions.parse(model=NAME, messages=messages, response_format=Person, max_tokens=50)
    assert isinstance(parsed.choices[0].message.parsed, Person)
    with client.chat.completions.stream(model=NAME, messages=messages, response_format=Person, max_tokens=50) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == parsed.choices[0].message.parsed
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert json.loads(ask(client, response_format=form, max_tokens=30).choices[0].message.content) == {"a": 1}
    begun = ask(client, response_format={"type": "json_object"}, max_tokens=30).choices[0].message.content
    assert begun.lstrip().startswith("{")


# --- embeddings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["minilm", "wordllama"])
def test_embeddings_are_those_of_weft(client: openai.OpenAI, name: str) -> None:
    texts = ["one text", "another"]
    ours = asyncio.run(weft.model.embedder(name)(texts))
    packed = client.embeddings.create(model=name, input=texts)  # the client asks for base64
    plain = client.embeddings.create(model=name, input=texts, encoding_format="float")
    for vectors in (packed, plain):
        assert [one.embedding for one in vectors.data] == [pytest.approx(vector, abs=1e-7) for vector in ours]
        assert [one.index for one in vectors.data] == [0, 1] and vectors.usage.prompt_tokens == ours.tokens
    single = client.embeddings.create(model=name, input="one text")
    assert single.data[0].embedding == packed.data[0].embedding


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        ({"model": NAME}, 404, "no model 'smollm2-135m' here|there is no model"),
        ({"dimensions": 3}, 400, "vectors of 384 numbers"),
        ({"encoding_format": "hex"}, 400, "float or base64"),
        ({"input": []}, 400, "1 to 2048 texts"),
        ({"input": ["x"] * 2049}, 400, "1 to 2048 texts"),
        ({"input": [1, 2, 3]}, 400, "Expected `str`, got `int`"),
        ({"input": "word " * 20_000}, 400, "20000 tokens"),
    ],
)
def test_what_is_asked_wrongly_of_embeddings_is_refused(
    client: openai.OpenAI, more: dict[str, Any], status: int, message: str
) -> None:
    with pytest.raises(openai.APIStatusError, match=message) as refused:
        client.embeddings.create(**{"model": "minilm", "input": "x", **more})
    assert refused.value.status_code == status


# --- what is refused -------------------------------------------------------------------------------------------------

IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}]
BAD: list[tuple[dict[str, Any], str | None, str]] = [
    ({"n": 2}, "n", "n is 2, and must be 1"),
    ({"messages": []}, "messages", "messages is empty"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "no content"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "wizard"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "no tool_call_id"),
    ({"messages": IMAGE}, "messages", "reads text only, and no image"),
    ({"messages": "hello"}, "messages", "Expected `array`, got `str`"),
    ({"max_tokens": 0}, "max_tokens", "from 1 to"),
    ({"temperature": 3}, "temperature", "from 0 to 2"),
    ({"temperature": "hot"}, "temperature", "Expected `float"),
    ({"stop": ""}, "stop", "empty text"),
    ({"top_logprobs": 2}, "top_logprobs", "needs logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "from 0 to 20"),
    ({"store": True}, "store", "stores nothing"),
    ({"modalities": ["text", "audio"]}, "modalities", "text only"),
    ({"functions": []}, "functions", "no 'functions' there"),
    ({"logit_bias": {"1": 2}}, "logit_bias", "no 'logit_bias' there"),
    ({"extra_body": {"colour": 1}}, "colour", "no 'colour' there"),
    ({"tool_choice": "required"}, "tool_choice", "no tools"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, None, "custom"),
    ({"tools": [WEATHER, WEATHER]}, None, "two tools named 'weather'"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, None, "none of the tools"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "no json_schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#/no"}}}},
        None,
        "cannot be enforced",
    ),
    ({"tools": [ADD], "tool_choice": "required", "max_tokens": 1}, None, "raise max_tokens"),
]


@pytest.mark.parametrize(("more", "param", "message"), BAD, ids=[next(iter(more)) for more, _, _ in BAD])
@pytest.mark.parametrize("stream", [False, True])
def test_what_it_can_not_do_is_refused_by_name(
    client: openai.OpenAI, more: dict[str, Any], param: str | None, message: str, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        [*ask(client, **more, stream=True)] if stream else ask(client, **more)
    error: Any = refused.value.body
    assert message in error["message"] and error["type"] == "invalid_request_error"
    assert param is None or error["param"] == param


def test_a_prompt_that_is_too_long_is_told_with_its_code(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"has 3\d\d\d tokens, and its context holds 1024") as refused:
        ask(client, messages=[{"role": "user", "content": "hello " * 3000}])
    assert refused.value.code == "context_length_exceeded"


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        ask(client, model="gpt-5")
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("how", "status", "message"),
    [
        ({"content": b"{"}, 400, "not JSON"),
        ({"content": b"\xff\xfe"}, 400, "not JSON"),
        ({"content": b"[" * 100_000}, 400, "not JSON|Expected"),
        ({"content": b"{}", "headers": {"content-type": "text/plain"}}, 415, "application/json"),
        ({"content": b"{}", "headers": {"host": "evil.example"}}, 403, "no key"),
        ({"content": b" " * 16_000_001}, 413, "16,000,000 bytes"),
    ],
)
def test_what_is_no_request_at_all(served: Served, how: dict[str, Any], status: int, message: str) -> None:
    headers = {"content-type": "application/json", **how.get("headers", {})}
    answer = httpx2.post(f"{served.address}/chat/completions", content=how["content"], headers=headers)
    assert answer.status_code == status
    assert any(one in answer.json()["error"]["message"] for one in message.split("|"))


def test_other_addresses_are_not_there_and_health_is(served: Served) -> None:
    root = served.address.removesuffix("/v1")
    for method, path in (("GET", "/"), ("POST", "/v1/responses"), ("GET", "/v1/chat/completions")):
        answer = httpx2.request(method, root + path)
        assert answer.status_code in (404, 405) and answer.json()["error"]["code"] == "unknown_url"
    assert httpx2.get(f"{root}/health").json() == {"status": "ok"}


FIELDS = [
    "model", "messages", "tools", "tool_choice", "response_format", "max_tokens", "temperature", "stop", "seed",
    "logprobs", "top_logprobs", "stream", "stream_options", "n", "modalities", "colour",
]  # fmt: skip
words = st.sampled_from(["user", "tool", "assistant", "auto", "required", "text", "json_schema", "function", "x", ""])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "function", "name", "tool_calls", "id", "json_schema"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
turns = st.lists(st.fixed_dictionaries({"role": words, "content": values | words}), max_size=3)


@given(st.dictionaries(st.sampled_from(FIELDS), values, max_size=5), turns)
@settings(max_examples=200, deadline=None)
def test_any_body_is_a_question_or_refused_with_a_reason(more: dict[str, Any], messages: list[Any]) -> None:
    try:
        question = read_question(json.dumps({"model": NAME, "messages": messages, **more}).encode())
    except Refused as refused:
        assert refused.status == 400 and str(refused)
    else:
        assert isinstance(question, Question) and question.request.messages


# --- who may ask -----------------------------------------------------------------------------------------------------

KEY = "a-key-of-our-own"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    file = tmp_path_factory.mktemp("key") / "key"
    file.write_text(f"{KEY}\n")
    server = Served("--key-file", str(file), "--slots", "1", "--context", "4096", "--host", "0.0.0.0")
    server.address = server.address.replace("0.0.0.0", "127.0.0.1")
    yield server
    server.kill()


def test_without_the_key_nothing_is_told(guarded: Served) -> None:
    for key in ("wrong", KEY + "x", "ü"):
        with pytest.raises((openai.AuthenticationError, UnicodeEncodeError)):
            guarded.client(key).models.list()
    with pytest.raises(openai.AuthenticationError) as refused:
        ask(guarded.client("wrong"))
    assert refused.value.code == "invalid_api_key" and "wrong;" in str(refused.value)
    assert httpx2.get(f"{guarded.address}/models").status_code == 401
    assert ask(guarded.client(KEY), max_tokens=1).usage.completion_tokens == 1
    assert KEY not in Path(f"/proc/{guarded.process.pid}/cmdline").read_text()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_ends_its_generation(guarded: Served, stream: bool) -> None:
    client = guarded.client(KEY)
    story: Any = [{"role": "user", "content": "Write a very long story about a dragon."}]
    if stream:
        chunks = ask(client, messages=story, max_tokens=4000, stream=True)
        next(chunks)
        chunks.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            ask(client.with_options(timeout=1), messages=story, max_tokens=4000)
    # It has one slot, and 4000 tokens take a minute.
    assert ask(client.with_options(timeout=20), max_tokens=1).usage.completion_tokens == 1


def test_a_stream_goes_on_when_the_engine_is_killed(guarded: Served) -> None:
    client = guarded.client(KEY)
    before = guarded.engine()
    for number, chunk in enumerate(ask(client, max_tokens=20, stream=True)):
        if number == 2:
            os.kill(before, signal.SIGKILL)
        last = chunk
    assert last.choices[0].finish_reason in ("length", "stop")
    assert ask(client, max_tokens=2).usage.completion_tokens == 2 and guarded.engine() != before


# --- beginning and end -----------------------------------------------------------------------------------------------


def test_it_ends_what_is_under_way_and_then_itself() -> None:
    server = Served("--context", "512")
    chunks = ask(server.client(), max_tokens=40, stream=True)
    next(chunks)
    stopped: list[tuple[int, str]] = []
    stopping = threading.Thread(target=lambda: stopped.append(server.stop()))
    engine = server.engine()
    stopping.start()
    *_, last = chunks
    assert last.choices[0].finish_reason in ("length", "stop")
    stopping.join()
    ((status, said),) = stopped
    assert status == 0 and "without a key" in said and "ending" in said and "Traceback" not in said
    assert not Path(f"/proc/{engine}").exists()


@pytest.mark.parametrize(
    ("options", "environ", "message"),
    [
        ({"host": "0.0.0.0"}, {}, "0.0.0.0 can be reached from other machines, and there is no key"),
        ({"host": "::"}, {}, "there is no key"),
        ({"host": "no.such.host.invalid"}, {"WEFT_SERVE_KEY": "k"}, "can't listen on no.such.host.invalid"),
        ({"name": "openai:gpt-5"}, {}, "is no model of this machine"),
        ({"name": "nope"}, {}, "no model named 'nope'"),
        ({"key_file": Path("/nowhere/key")}, {}, "could not be read from /nowhere/key"),
        ({"key_file": Path("/dev/null")}, {}, "holds no key"),
        ({}, {"WEFT_SERVE_KEY": "two words"}, "WEFT_SERVE_KEY holds no key"),
    ],
)
def test_a_bad_setting_ends_it_with_one_sentence(
    options: dict[str, Any],
    environ: dict[str, str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(typer.Exit) as ended:
        serve_model(**{"port": 0, **options})
    said = capsys.readouterr().err
    assert ended.value.exit_code == 2 and message in said and said.count("\n") == 1


def test_a_taken_port_is_said() -> None:
    async def main(port: int) -> None:
        async with serving(ModelServer(NAME), "127.0.0.1", port, 1):
            pass

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BadInput, match="choose another host or"):
        asyncio.run(main(taken.getsockname()[1]))
