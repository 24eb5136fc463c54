"""Completions of OpenAI's API by the engine itself, with what it can do and the API has no word for in a field `weft`:

    {"prompt": "...", "weft": {"program": "agent-7", "priority": 1}}           what it said before stays in cells
    {"prompt": "...", "weft": {"threads": ["\\n1. First,", "\\n2. Then,"]}}    several places at once
    {"prompt": "...", "weft": {"streams": [{"name": "user", "open": "User:", "say": "Hi"}, ...]}}   a row at a time
    {"prompt": "...", "weft": {"deterministic": true}}                         the same whatever else goes on

POST /v1/programs/NAME {"tool": "run_tests"} tells what a program waits for, so that its cells are kept for as long as
pays; DELETE /v1/programs/NAME that it is over.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from weft.model.engine.asked import Ask
from weft.model.engine.host import Host
from weft.model.engine.protocol import Sampling
from weft.model.engine.resumed import resumed
from weft.model.engine.words import Words
from weft.model.provider import Model
from weft.model.spec import Local
from weft.model.streams import Column
from weft.web.chat_answer import framed
from weft.web.chat_question import Hints, Refused


class Streamed(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One of several streams: `say` is to be read in one that the model does not write."""

    name: str
    open: str
    writes: bool = False
    say: str = ""


class Several(Hints, frozen=True):
    """The field `weft` of a completion: several texts at once, too."""

    threads: tuple[str, ...] = ()
    streams: tuple[Streamed, ...] = ()


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
    weft: Several = Several()

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
            "weft.streams": not len(self.weft.streams) <= 16
            or any(each.say and each.writes for each in self.weft.streams),
            "stream_options": self.stream_options is not None and not self.stream,
        }
        for param, bad in wrong.items():
            if bad:
                raise Refused(400, f"{param} is out of range", param=param)
        hints = self.weft
        if sum(map(bool, (hints.extra, hints.deterministic, hints.threads, hints.streams))) > 1:
            raise Refused(400, "use one of program, deterministic, threads and streams", param="weft")
        if (hints.threads or hints.streams) and self.stream:
            raise Refused(400, "threads and streams are answered whole; leave stream out", param="stream")
        if hints.streams and self.stops:
            raise Refused(400, "streams have no stop; leave it out", param="stop")


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
    """Answers with the engine that chats have, too."""

    def __init__(self, local: Local, model: Model, name: str) -> None:
        self.name = name
        self._local, self._model = local, model

    async def whole(self, wanted: Wanted) -> dict[str, Any]:
        """A text completion."""
        if wanted.weft.threads:
            return await self._threads(wanted)
        if wanted.weft.streams:
            return await self._streams(wanted)
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
        host = await self._host()

        async def tell() -> float:
            return host.batcher.calls(program, tool)

        return await host.run(tell())

    async def forget(self, program: str) -> None:
        """A program is over: its cells are given back."""
        host = await self._host()

        async def tell() -> None:
            host.batcher.forget(program)

        await host.run(tell())

    def _head(self) -> dict[str, Any]:
        made = int(time.time())
        return {"id": f"cmpl-{secrets.token_hex(12)}", "object": "text_completion", "created": made, "model": self.name}

    # --- how it is written ----------------------------------------------------------------------------------

    async def _written(self, wanted: Wanted, usage: Usage) -> AsyncGenerator[tuple[str, str]]:
        """Pieces of the text, the last with why it ended."""
        host = await self._host()
        words, finish = Words(wanted.stops), "length"
        drawn = _verified if wanted.weft.deterministic else _drawn
        async with aclosing(host.each(drawn(host, wanted, usage))) as tokens:
            async for token in tokens:
                if token is None:
                    finish = "stop"
                    break
                usage.drawn += 1
                piece = words.add(host.engine.piece(token))
                if words.stopped:
                    yield piece, "stop"
                    return
                if piece:
                    yield piece, ""
        yield words.end(), finish

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

    async def _streams(self, wanted: Wanted) -> dict[str, Any]:
        """Rows, `max_tokens` at most. The text of the answer is that of the first stream that is written."""
        asked, sampling = wanted.weft.streams, wanted.sampling
        columns = [
            Column(each.name, each.open, each.writes, temperature=sampling.temperature, seed=sampling.seed + number)
            for number, each in enumerate(asked)
        ]
        texts, rows = {each.name: "" for each in asked if each.writes}, 0
        async with self._model.streams(columns, wanted.prompt) as grid:
            for each in asked:
                if each.say:
                    grid.say(each.name, each.say)
            async for some in grid.rows(wanted.most):
                rows += len(some.rows)
                texts = {name: text + some.texts[name] for name, text in texts.items()}
            finish = "stop" if grid.idle else "length"
        choice = {"index": 0, "text": next(iter(texts.values()), ""), "logprobs": None, "finish_reason": finish}
        more = {"usage": Usage(drawn=rows * len(texts)).plain(), "weft": {"streams": texts, "rows": rows}}
        return {**self._head(), "choices": [choice], **more}

    async def _host(self) -> Host:
        return await asyncio.to_thread(self._local.host)


# --- in the engine's own loop -----------------------------------------------------------------------------------------


async def _prompt(host: Host, wanted: Wanted, usage: Usage) -> list[int]:
    begin = [] if host.engine.hello.begin is None else [host.engine.hello.begin]
    prompt = begin + await host.engine.tokenize(wanted.prompt, special=True)
    usage.prompt = len(prompt)
    return prompt


async def _drawn(host: Host, wanted: Wanted, usage: Usage) -> AsyncGenerator[int | None]:
    """The tokens of a turn in the batch; None at the end of a text that ends by itself."""
    hints = wanted.weft
    turn = host.batcher.generate(
        Ask(prompt=await _prompt(host, wanted, usage), most=wanted.most, program=hints.program,
            sampling=wanted.sampling, priority=hints.priority, last=hints.last)
    )  # fmt: skip
    try:
        async for token in turn:
            usage.found = turn.turn.reused
            yield token
        if turn.finish == "stop":
            yield None
    finally:
        turn.cancel()  # of no effect if it is over


async def _verified(host: Host, wanted: Wanted, usage: Usage) -> AsyncGenerator[int | None]:
    """The same for one that is to repeat itself exactly."""
    prompt = await _prompt(host, wanted, usage)
    exact = await host.exactly()
    async with (
        host.exact_places,
        aclosing(resumed(exact, prompt, wanted.most, wanted.sampling, None, None)) as tokens,
    ):
        async for token in tokens:
            yield None if token in exact.engine.end else token
