"""Completions by the engine itself, and what the API has no word for: programs, threads, the same tokens every time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from weft.model.engine import close_engines
from weft.web.model_server import ModelServer, serving

NAME = "smollm2-135m"
PROMPT = "The old man went down to the sea, and there he saw"
Ask = Callable[..., Awaitable[Any]]


def served(test: Callable[[Ask, httpx2.AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        server = ModelServer(f"{NAME}?slots=2&context=256")
        async with (
            serving(server, "127.0.0.1", 0, 1.0) as (address, _),
            httpx2.AsyncClient(base_url=address, timeout=120) as client,
        ):

            async def ask(**more: Any) -> Any:
                body = {"model": NAME, "prompt": PROMPT, "max_tokens": 8, **more}
                return (await client.post(f"{address}/completions", json=body)).json()

            await test(ask, client)

    try:
        asyncio.run(main())
    finally:
        close_engines()


def text(answer: Any) -> str:
    assert "choices" in answer, answer
    said: str = answer["choices"][0]["text"]
    return said


def test_a_text_goes_on_whole_in_pieces_and_up_to_a_stop() -> None:
    async def test(ask: Ask, client: httpx2.AsyncClient) -> None:
        whole = await ask()
        assert text(whole) and whole["choices"][0]["finish_reason"] == "length"
        assert whole["usage"]["completion_tokens"] == 8
        body = {"model": NAME, "prompt": PROMPT, "max_tokens": 8, "stream": True,
                "stream_options": {"include_usage": True}}  # fmt: skip
        lines = (await client.post(f"{client.base_url}completions", json=body)).text.split("\n\n")
        assert lines[-2] == "data: [DONE]"
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
        assert "".join(text(chunk) for chunk in chunks[:-1]) == text(whole)
        assert len(chunks) > 4 and chunks[-1]["usage"] == whole["usage"]
        word = text(whole).split()[2]
        stopped = await ask(stop=[f" {word}"])
        assert text(stopped) == text(whole).partition(f" {word}")[0]
        assert stopped["choices"][0]["finish_reason"] == "stop"

    served(test)


def test_a_program_finds_what_it_said_before_and_is_kept_while_its_tool_runs() -> None:
    async def test(ask: Ask, client: httpx2.AsyncClient) -> None:
        hints = {"program": "agent/7"}
        first = await ask(weft=hints)
        assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        kept = (await client.post("/programs/agent/7", json={"tool": "run_tests"})).json()
        assert kept["program"] == "agent/7" and kept["kept_seconds"] >= 0
        longer = PROMPT + text(first) + " The sea was calm."
        second = await ask(prompt=longer, weft=hints)
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] >= first["usage"]["prompt_tokens"]
        assert text(second) == text(await ask(prompt=longer, weft={"last": True}))
        assert (await client.delete("/programs/agent/7")).json()["deleted"]
        third = await ask(prompt=longer, weft=hints)
        assert third["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        unknown = await client.post("/programs/nobody", json={"tool": "x"})
        assert unknown.status_code == 400 and "no turn that ended" in unknown.json()["error"]["message"]

    served(test)


def test_threads_say_what_each_says_alone() -> None:
    async def test(ask: Ask, client: httpx2.AsyncClient) -> None:
        heads = ["\n1. First,", "\n2. Then,"]
        woven = await ask(weft={"threads": heads})
        alone = [text(await ask(prompt=PROMPT + head)) for head in heads]
        assert [thread["text"] for thread in woven["weft"]["threads"]] == alone
        assert text(woven) == "".join(head + each for head, each in zip(heads, alone, strict=True))
        assert woven["weft"]["longest"] == 8

    served(test)


def test_streams_are_read_and_written_side_by_side() -> None:
    async def test(ask: Ask, client: httpx2.AsyncClient) -> None:
        streams = [
            {"name": "user", "open": "User:", "say": "What is the sea?"},
            {"name": "answer", "open": "Answer: The", "writes": True},
            {"name": "notes", "open": "Notes: The", "writes": True},
        ]
        grid = await ask(weft={"streams": streams}, max_tokens=12)
        assert grid["weft"]["streams"].keys() == {"answer", "notes"} and grid["weft"]["rows"] == 12
        assert text(grid) == grid["weft"]["streams"]["answer"] != ""
        wrong = await ask(weft={"streams": [{"name": "a", "open": ""}]})
        assert "has no opening" in wrong["error"]["message"]

    served(test)


def test_a_chat_takes_hints_too() -> None:
    async def test(ask: Ask, client: httpx2.AsyncClient) -> None:
        async def chat(words: str, **hints: Any) -> Any:
            turns = [{"role": "user", "content": words}]
            body = {"model": NAME, "messages": turns, "max_tokens": 4, "weft": hints}
            return (await client.post(f"{client.base_url}chat/completions", json=body)).json()

        found = [
            (await chat("Say hello.", program="agent-8", **more))["usage"]["prompt_tokens_details"]["cached_tokens"]
            for more in ({}, {"last": True}, {"deterministic": False})
        ]
        assert found[0] == 0 and found[1] > 20 and found[2] == 0
        assert (await chat("Hi", sorcery=1))["error"]["param"] == "weft.sorcery"
        refused = await chat("Hi", program="a", deterministic=True)
        assert "no penalties, programs" in refused["error"]["message"]
        one, same = [await chat("Say hello.", deterministic=True) for _ in range(2)]
        assert one["choices"][0]["message"] == same["choices"][0]["message"]

    served(test)


def test_a_deterministic_text_is_the_same_beside_others() -> None:
    async def test(ask: Ask, client: httpx2.AsyncClient) -> None:
        hints = {"weft": {"deterministic": True}, "temperature": 0.8, "seed": 3}
        alone = await ask(**hints)
        beside = await asyncio.gather(ask(**hints), ask(prompt="Once upon a time", **hints))
        assert text(beside[0]) == text(alone)

    served(test)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"model": "gpt-9"}, "model"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 2}, "n"),
        ({"stop": [""]}, "stop"),
        ({"weft": {"threads": [""]}}, "weft.threads"),
        ({"weft": {"threads": ["a"], "deterministic": True}}, "weft"),
        ({"weft": {"threads": ["a"]}, "stream": True}, "stream"),
        ({"weft": {"streams": [{"name": "a", "open": "x", "writes": True, "say": "y"}]}}, "weft.streams"),
        ({"weft": {"streams": [{"name": "a", "open": "x"}]}, "stop": "x"}, "stop"),
        ({"weft": {"sorcery": 1}}, "weft.sorcery"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_by_name(more: dict[str, Any], param: str) -> None:
    async def test(ask: Ask, client: httpx2.AsyncClient) -> None:
        assert (await ask(**more))["error"]["param"] == param

    served(test)


def test_a_prompt_that_can_never_fit_is_refused() -> None:
    async def test(ask: Ask, client: httpx2.AsyncClient) -> None:
        error = (await ask(max_tokens=1000))["error"]
        assert "do not fit in 512 cells" in error["message"]

    served(test)
