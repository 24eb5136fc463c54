"""Batching and subtasks on the real engine: each says what it says alone, also after evictions, loads and a kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from typer.testing import CliRunner

import weft.model
from weft.cli.app import app
from weft.model.engine import Feed, LocalEngine, Sampling, open_engine
from weft.model.engine.batching import Ask, Batcher
from weft.model.engine.policies import Continuum, Fixed, Reload
from weft.model.engine.subtasks import CONCLUSION, SUBTASKS, TOOL, Limits, Place, Tool, solve

# Prompts and answers are short: where a batch has at most about 33 tokens, 4-bit weights give the same bits for each.
TEXTS = ["Once upon a time", "The capital of France is", "def add(a, b):", "Water boils at"]


def on_engine(test: Callable[[LocalEngine], Awaitable[None]], **settings: Any) -> None:
    async def main() -> None:
        engine = await open_engine(weft.model.fetch("smollm2-135m"), **{"cells": 512, "sequences": 8, **settings})
        try:
            await test(engine)
        finally:
            await engine.close()

    asyncio.run(main())


async def alone(engine: LocalEngine, tokens: list[int], most: int) -> list[int]:
    sequence = await engine.sequence()
    drawn: list[int] = []
    feed = tokens
    for _ in range(most):
        (told,) = await engine.step([Feed(sequence, feed)])
        feed = told.tokens
        drawn += feed
    await sequence.close()
    return drawn


def test_batched_generations_say_what_each_says_alone() -> None:
    async def test(engine: LocalEngine) -> None:
        prompts = [await engine.tokenize(text) for text in TEXTS]
        expected = [await alone(engine, prompt, 6) for prompt in prompts]
        before = engine.steps
        async with Batcher(engine, Continuum(Reload(b=0.01))) as batcher:
            asks = [Ask(prompt=prompt, most=6, stop=frozenset()) for prompt in prompts]
            told = await asyncio.gather(*(batcher.generate(ask).whole() for ask in asks))
        assert told == expected
        assert engine.steps - before == 6
        assert engine.used == 0

    on_engine(test)


def test_a_conversation_goes_on_after_eviction_from_what_was_saved_and_after_a_kill() -> None:
    async def test(engine: LocalEngine) -> None:
        text = await engine.tokenize(TEXTS[0])
        other = await engine.tokenize(TEXTS[1])

        async def talk(disturbed: bool) -> list[int]:
            said = text
            async with Batcher(engine, Fixed(0.0), cells=40, store=200) as batcher:
                for turn in range(3):
                    ask = Ask(prompt=said, most=5, program="a", stop=frozenset())
                    generation = batcher.generate(ask)
                    if disturbed and turn == 2:
                        async for _ in generation:
                            if len(generation.tokens) == 2:
                                assert engine.pid is not None
                                os.kill(engine.pid, signal.SIGKILL)
                    said = said + await generation.whole() + other[:1]
                    if disturbed and turn < 2:
                        await batcher.generate(Ask(prompt=other * 4, most=15, stop=frozenset())).whole()
                if disturbed:
                    counts = batcher.metrics().counts
                    assert counts.loaded > 0 and counts.reencoded == 0
            return said

        assert await talk(disturbed=True) == await talk(disturbed=False)
        assert engine.crashes == 1

    on_engine(test)


def test_a_tree_of_subtasks_with_a_tool_is_written_by_the_model() -> None:
    async def twice(arguments: dict[str, Any]) -> int:
        return int(arguments["n"]) * 2

    def choose(place: Place, texts: list[str]) -> str | None:
        if place.depth == 1 and SUBTASKS in texts:
            return SUBTASKS
        return TOOL if place == Place(2, 1, 2) and TOOL in texts else None

    async def test(engine: LocalEngine) -> None:
        schema = {"type": "object", "properties": {"n": {"enum": [3, 14, 159]}}, "required": ["n"]}
        out = await solve(
            engine, await engine.tokenize("Double a number.\n"), [Tool("twice", schema, twice)],
            limits=Limits(depth=2, width=2, tasks=4, words=4), stack=0, choose=choose,
            sampling=Sampling(temperature=0.8, seed=5),
        )  # fmt: skip
        (task, *_) = out.tree["reasoning"]
        use = task["subtasks"][0]["tooluse"]
        assert use["tool_result"] == 2 * use["parameters"]["n"]
        assert out.pruned > 0 and out.most < out.emitted
        assert CONCLUSION in out.text and engine.used == 0

    on_engine(test)


def test_the_speed_of_a_model_is_told() -> None:
    done = CliRunner().invoke(app, ["bench-model", "--tokens", "2", "--at-once", "2", "--reads", "16"])
    assert done.exit_code == 0, done.output
    assert "2 at once" in done.output and "16 are saved" in done.output
    refused = CliRunner().invoke(app, ["bench-model", "openai:gpt-5"])
    assert refused.exit_code != 0
