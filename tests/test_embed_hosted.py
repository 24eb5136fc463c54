"""Embeddings of hosted providers, against servers on loopback that answer as each of them does."""

from __future__ import annotations

import asyncio
import base64
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import weft
from tests.programs import drive
from tests.servers.chat import Answer, chat_server
from weft.core.errors import BadInput, KeyRefused, ModelBusy, ModelError, ModelUnavailable, PromptTooLong
from weft.model import Vectors, embedder
from weft.model.embed_wire import batches, call, read


def vector(text: str) -> list[float]:
    """What these servers make of a text."""
    return [float(len(text)), 3.0, 4.0]


def unit(text: str) -> Any:
    numbers = vector(text)
    return pytest.approx([number / math.hypot(*numbers) for number in numbers], abs=1e-6)


def openai(body: dict[str, Any], number: int) -> Answer:
    data: list[Any] = []
    for index, text in enumerate(body["input"]):
        packed = base64.b64encode(struct.pack("<3f", *vector(text))).decode()
        given = packed if body["encoding_format"] == "base64" and index % 2 else vector(text)  # some servers mix
        data.insert(0, {"object": "embedding", "index": index, "embedding": given})
    return 200, {}, {"data": data, "usage": {"prompt_tokens": 7, "total_tokens": 7}, "model": "e"}


def gemini(body: dict[str, Any], number: int) -> Answer:
    texts = [request["content"]["parts"][0]["text"] for request in body["requests"]]
    return 200, {}, {"embeddings": [{"values": vector(text)} for text in texts]}


def ollama(body: dict[str, Any], number: int) -> Answer:
    return 200, {}, {"embeddings": [vector(text) for text in body["input"]], "prompt_eval_count": 7}


SERVERS: dict[str, Any] = {"openai": openai, "gemini": gemini, "ollama": ollama}


def vectors(spec: str, texts: list[str], **more: Any) -> Vectors:
    return asyncio.run(embedder(spec, **more)(texts))


@pytest.mark.parametrize("speaks", SERVERS)
def test_vectors_come_in_order_with_length_1(speaks: str) -> None:
    with chat_server(SERVERS[speaks]) as server:
        found = vectors(f"{speaks}+{server.url}#e", ["a", "four", ""])
        assert [*found] == [unit("a"), unit("four"), unit("")]
        assert (found.dimensions, found.model) == (3, "e")
        assert found.tokens == (7 if speaks != "gemini" else 2 + 3 + 2)
        assert len(vectors(f"{speaks}+{server.url}#e", [])) == 0 and len(server.requests) == 1


@pytest.mark.parametrize("speaks", SERVERS)
def test_many_texts_go_in_several_requests(speaks: str) -> None:
    texts = ["x" * (number % 9) for number in range(600)]
    with chat_server(SERVERS[speaks]) as server:
        found = vectors(f"{speaks}+{server.url}#e", texts)
        assert len(server.requests) == (6 if speaks == "gemini" else 3)
    assert len(found) == 600 and found[599] == unit(texts[599]) and found[300] == unit(texts[300])


def test_the_request_is_the_one_that_each_provider_documents() -> None:
    assert call("openai", "m", ["a"], 5) == (
        "/embeddings", {"model": "m", "input": ["a"], "encoding_format": "base64", "dimensions": 5}, ()
    )  # fmt: skip
    assert call("gemini", "m", ["a"], 5) == (
        "/v1beta/models/m:batchEmbedContents",
        {"requests": [{"model": "models/m", "content": {"parts": [{"text": "a"}]}, "outputDimensionality": 5}]}, (),
    )  # fmt: skip
    assert call("ollama", "m", ["a"], None) == ("/api/embed", {"model": "m", "input": ["a"], "truncate": False}, ())


@given(st.lists(st.integers(0, 300_000) | st.integers(0, 9), max_size=300))
def test_batches_hold_every_text_once_and_are_small(lengths: list[int]) -> None:
    texts = ["é" * (length // 2) for length in lengths]
    made = [*batches("openai", texts)]
    assert [text for batch in made for text in batch] == texts
    assert all(len(batch) == 1 or sum(len(text.encode()) for text in batch) <= 400_000 for batch in made)
    assert all(1 <= len(batch) <= 256 for batch in made)


# --- the effect ------------------------------------------------------------------------------------------------------


@weft.workflow(name="embed.hosted")
async def asks(spec: str, texts: list[str]) -> Any:
    found = await embedder(spec)(texts)
    return found[0]


def test_it_is_journaled_paid_for_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prices.toml").write_text('[openai]\n"e" = { input = 1000.0 }\n')
    monkeypatch.setenv("WEFT_PRICES", str(tmp_path / "prices.toml"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")

    def busy_first(body: dict[str, Any], number: int) -> Answer:
        if number == 1:
            return 429, {"retry-after-ms": "1"}, {"error": {"message": "slow down", "type": "rate_limit"}}
        return openai(body, number)

    async def use(runtime: weft.Runtime) -> Any:
        budget = weft.Budget(tokens=100, money=1.0)
        run = await runtime.start(asks.options(budget=budget), "openai:e", ["some text"])
        return await run, await runtime.ledger.left(run.id)

    with chat_server(busy_first) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        result, left = drive(str(tmp_path / "journal.db"), use)
        assert len(server.requests) == 2
    assert result == unit("some text")
    assert left["tokens"] == 93 and left["money"] == pytest.approx(1 - 0.007)


# --- bad input and bad answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        ((200, {}, {"choices": []}), ModelError, "holds no vectors"),
        ((200, {}, {"data": [{"embedding": [1.0], "index": 0}]}), ModelError, "answered 2 texts with 1 vectors"),
        ((200, {}, {"data": [{"embedding": [1.0]}, {"embedding": [1.0, 2.0]}]}), ModelError, "unequal length"),
        ((200, {}, {"data": [{"embedding": []}, {"embedding": []}]}), ModelError, "a vector is empty"),
        ((200, {}, {"data": [{"embedding": "a"}, {"embedding": "!!"}]}), ModelError, "holds no vectors"),
        ((200, {}, {"data": [{"embedding": "AAA="}, {"embedding": "AAAA"}]}), ModelError, "holds no vectors"),
        ((200, {}, b"<html>"), ModelError, "not JSON"),
        ((401, {}, {"error": {"message": "bad key", "code": "invalid_api_key"}}), KeyRefused, "OPENAI_API_KEY"),
        ((429, {"retry-after": "9"}, {"error": {"message": "slow"}}), ModelBusy, "asked too much"),
        ((503, {}, {"error": {"message": "down"}}), ModelUnavailable, "cannot answer now"),
        (
            (400, {}, {"error": {"message": "This model's maximum context length is 8192 tokens, 9000 tokens given"}}),
            PromptTooLong, "has 9000 tokens, and its context holds 8192",
        ),
    ],
)  # fmt: skip
def test_a_bad_answer_is_an_error_with_its_class(answer: Answer, kind: type[Exception], message: str) -> None:
    with chat_server(lambda body, number: answer) as server, pytest.raises(kind, match=message):
        vectors(f"{server.url}#e", ["a", "b"])


def test_the_other_dialects_refuse_bad_answers_too() -> None:
    for speaks in ("gemini", "ollama"):
        for answer in ({}, [], None, {"embeddings": 3}, {"embeddings": [["x"]]}, {"embeddings": [{"values": "x"}]}):
            with pytest.raises(ModelError, match="holds no vectors"):
                read(speaks, "m", answer, 1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("anthropic:claude-opus-5", "anthropic has no embeddings"),
        ("nobody:x", "no model named|is not understood|makes no embeddings"),
        ("script:x", "makes no embeddings"),
        ("smollm2-135m", "no embedding model named 'smollm2-135m'; use one of minilm"),
        ("http://127.0.0.1:9/v1", "names no model"),
        ("openai:", "has no name"),
    ],
)
def test_a_spec_without_embeddings_is_refused_at_once(spec: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        embedder(spec)


def test_dimensions_that_can_not_be_are_refused_at_once() -> None:
    with pytest.raises(BadInput, match="384 numbers, and no others"):
        embedder("minilm", dimensions=100)
    with pytest.raises(BadInput, match="at least 1 number"):
        embedder("openai:e", dimensions=0)
    assert embedder("minilm", dimensions=384).dimensions == 384


def test_dimensions_are_asked_for() -> None:
    with chat_server(openai) as server:
        vectors(f"{server.url}#e", ["a"], dimensions=3)
        assert server.requests[0]["dimensions"] == 3


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(ModelUnavailable, match=r"127\.0\.0\.1:9"):
        vectors("http://127.0.0.1:9/v1#e", ["a"])
