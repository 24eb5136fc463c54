"""Completions of OpenAI's API by the engine itself, with what it can do and the API has no word for in a field `weft`:

    {"prompt": "...", "weft": {"program": "agent-7", "priority": 1}}           what it said before stays in cells
    {"prompt": "...", "weft": {"threads": ["\\n1. First,", "\\n2. Then,"]}}    several places at once
    {"prompt": "...", "weft": {"deterministic": true}}                         the same whatever else goes on

POST /v1/programs/NAME {"tool": "run_tests"} tells what a program waits for, so that its cells are kept for as long as
pays; DELETE /v1/programs/NAME that it is over. The engine is started when first asked.
"""

from __future__ import annotations

import asyncio
import codecs
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec

from weft.model.engine.batching import Ask, Batcher, Generation
from weft.model.engine.exact import Exact
from weft.model.engine.local import LocalEngine
from weft.model.engine.opening import open_engine
from weft.model.engine.policies import Continuum, Reload
from weft.model.engine.protocol import Feed, Sampling
from weft.model.provider import Model
from weft.model.spec import Local
from weft.web.chat_answer import framed
from weft.web.chat_question import Refused


class Hints(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The field `weft`."""

    program: str = ""
    priority: int = 0
    last: bool = False
    deterministic: bool = False
    threads: list[str] = []


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    include_usage: bool | None = None


class Wanted(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A request for a completion."""

    model: str
    prompt: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    user: str | None = None
    weft: Hints = Hints()

    @property
    def most(self) -> int:
        return 16 if self.max_tokens is None else self.max_tokens

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def sampling(self) -> Sampling:
        top_p = 1.0 if self.top_p is None else self.top_p
        return Sampling(self.temperature or 0.0, self.top_k or 0, top_p, self.seed or 0)

    def check(self) -> None:
        """Raises Refused for what is out of range, and for hints that exclude each other."""
        wrong = {
            "prompt": not self.prompt,
            "max_tokens": not 1 <= self.most <= 1 << 20,
            "temperature": not 0 <= (self.temperature or 0) <= 2,
            "top_p": self.top_p is not None and not 0 < self.top_p <= 1,
            "top_k": not 0 <= (self.top_k or 0) <= 1 << 20,
            "n": self.n not in (None, 1),
            "stop": len(self.stops) > 4 or not all(self.stops),
            "weft.threads": not len(self.weft.threads) <= 16 or not all(self.weft.threads),
            "stream_options": self.stream_options is not None and not self.stream,
        }
        for param, bad in wrong.items():
            if bad:
                raise Refused(400, f"{param} is out of range", param=param)
        kinds = [bool(self.weft.program or self.weft.priority), self.weft.deterministic, bool(self.weft.threads)]
        if sum(kinds) > 1:
            raise Refused(400, "use one of program, deterministic and threads", param="weft")
        if self.weft.threads and self.stream:
            raise Refused(400, "threads are answered whole; leave stream out", param="stream")


class Usage(msgspec.Struct):
    prompt: int = 0
    found: int = 0
    """Of these, in cells already."""
    drawn: int = 0

    def plain(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.drawn,
            "total_tokens": self.prompt + self.drawn,
            "prompt_tokens_details": {"cached_tokens": self.found},
        }


class Completions:
    """Answers with engines of its own, opened when they are first needed. Close it."""

    def __init__(self, local: Local, model: Model, name: str) -> None:
        self.name = name
        self._local, self._model = local, model
        self._engines: dict[str, LocalEngine] = {}
        self._opening = asyncio.Lock()
        self._batcher: Batcher | None = None
        self._exact: Exact | None = None

    async def whole(self, wanted: Wanted) -> dict[str, Any]:
        """A text completion."""
        if wanted.weft.threads:
            return await self._threads(wanted)
        usage, text, finish = Usage(), "", "stop"
        async with aclosing(self._written(wanted, usage)) as written:
            async for piece, ended in written:
                text, finish = text + piece, ended or finish
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
        return {**self._head(), "choices": [choice], "usage": usage.plain()}

    async def pieces(self, wanted: Wanted) -> AsyncGenerator[bytes]:
        """The same as server-sent events."""
        usage, head = Usage(), self._head()
        async with aclosing(self._written(wanted, usage)) as written:
            async for piece, ended in written:
                choice = {"index": 0, "text": piece, "logprobs": None, "finish_reason": ended or None}
                yield framed({**head, "choices": [choice]})
        if wanted.stream_options is not None and wanted.stream_options.include_usage:
            yield framed({**head, "choices": [], "usage": usage.plain()})
        yield b"data: [DONE]\n\n"

    async def calls(self, program: str, tool: str) -> float:
        """A program waits for a tool. Returns for how many seconds its cells are kept."""
        return (await self._batching()).calls(program, tool)

    async def forget(self, program: str) -> None:
        (await self._batching()).forget(program)

    async def close(self) -> None:
        if self._batcher is not None:
            await self._batcher.close()
        for engine in self._engines.values():
            await engine.close()
        self._engines.clear()

    def _head(self) -> dict[str, Any]:
        made = int(time.time())
        return {"id": f"cmpl-{secrets.token_hex(12)}", "object": "text_completion", "created": made, "model": self.name}

    # --- how it is written ----------------------------------------------------------------------------------

    async def _written(self, wanted: Wanted, usage: Usage) -> AsyncGenerator[tuple[str, str]]:
        """Pieces of the text, the last with why it ended. What may yet be the beginning of a stop is held back."""
        reader = codecs.getincrementaldecoder("utf-8")("replace")
        held, finish = "", "length"
        async with aclosing(self._tokens(wanted, usage)) as tokens:
            async for words, ends in tokens:
                if ends:
                    finish = "stop"
                    break
                held += reader.decode(words)
                places = [held.find(stop) for stop in wanted.stops if stop in held]
                if places:
                    yield held[: min(places)], "stop"
                    return
                safe = len(held) - _begun(held, wanted.stops)
                if safe:
                    yield held[:safe], ""
                    held = held[safe:]
        yield held + reader.decode(b"", True), finish

    async def _tokens(self, wanted: Wanted, usage: Usage) -> AsyncGenerator[tuple[bytes, bool]]:
        """The bytes of each token, and whether it is one that ends the text."""
        exact = await self._verifying() if wanted.weft.deterministic else None
        batcher = None if exact is not None else await self._batching()
        engine = self._engines["exact" if exact is not None else "batch"]
        begin = [] if engine.hello.begin is None else [engine.hello.begin]
        prompt = begin + await engine.tokenize(wanted.prompt, special=True)
        usage.prompt = len(prompt)
        if batcher is not None:
            hints = wanted.weft
            turn = batcher.generate(
                Ask(prompt=prompt, most=wanted.most, program=hints.program, sampling=wanted.sampling,
                    priority=hints.priority, last=hints.last)
            )  # fmt: skip
            source = _drawn(turn, usage)
        else:
            assert exact is not None
            source = _verified(exact, prompt, wanted)
        async with aclosing(source) as tokens:
            async for token in tokens:
                usage.drawn += 1
                yield engine.piece(token), token in engine.end
        if batcher is not None and turn.finish == "stop":
            yield b"", True

    async def _threads(self, wanted: Wanted) -> dict[str, Any]:
        sampling = wanted.sampling
        woven = await self._model.threads(
            wanted.prompt, wanted.weft.threads, stop=wanted.stops, max_tokens=wanted.most, seed=sampling.seed,
            temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k,
        )  # fmt: skip
        finish = "length" if woven.finish == "length" else "stop"
        choice = {"index": 0, "text": woven.text, "logprobs": None, "finish_reason": finish}
        threads = [{"text": each.text, "tokens": each.count, "finish": each.finish} for each in woven.threads]
        more = {"usage": Usage(drawn=woven.count).plain(), "weft": {"threads": threads, "longest": woven.longest}}
        return {**self._head(), "choices": [choice], **more}

    # --- engines ------------------------------------------------------------------------------------------------

    async def _batching(self) -> Batcher:
        async with self._opening:
            if self._batcher is None:
                slots, cells = 2 * self._local.slots, self._local.slots * self._local.context
                engine = await self._open("batch", cells, slots, unified=True)
                policy = Continuum(Reload(b=await _seconds_a_token(engine)))
                self._batcher = Batcher(engine, policy, cells=cells, slots=slots, store=4 * cells)
            return self._batcher

    async def _verifying(self) -> Exact:
        async with self._opening:
            if self._exact is None:
                slots = self._local.slots
                self._exact = Exact(await self._open("exact", slots * self._local.context, slots, unified=False))
            return self._exact

    async def _open(self, use: str, cells: int, slots: int, unified: bool) -> LocalEngine:
        path = await asyncio.to_thread(self._local.path)
        engine = await open_engine(path, cells=cells, sequences=slots, unified=unified, name=self.name)
        self._engines[use] = engine
        return engine


async def _drawn(turn: Generation, usage: Usage) -> AsyncGenerator[int]:
    try:
        async for token in turn:
            usage.found = turn.turn.reused
            yield token
    finally:
        turn.cancel()  # of no effect if it is over


async def _verified(exact: Exact, prompt: list[int], wanted: Wanted) -> AsyncGenerator[int]:
    generation = await exact.begin(prompt, wanted.most, wanted.sampling)
    try:
        follow: AsyncIterator[list[int]] = exact.follow(generation)
        async for tokens in follow:
            for token in tokens:
                yield token
    finally:
        await exact.end(generation)


async def _seconds_a_token(engine: LocalEngine) -> float:
    """What a token of a prompt takes now, by the clock."""
    sequence = await engine.sequence()
    began = time.monotonic()
    await engine.step([Feed(sequence, [*range(100, 132)], "none", None)])
    seconds = time.monotonic() - began
    await sequence.close()
    return seconds / 32


def _begun(text: str, stops: list[str]) -> int:
    """How much of the end of a text is the beginning of a stop."""
    return max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
