"""Threads inside one generation (ThreadWeaver): the model outlines parts that do not need each other, they are written
at the same time, and the text goes on with all of them in it.

    <Parallel> <Outlines> <Outline>1: …</Outline> … </Outlines> <Thread>\\n1: … </Thread> … </Parallel>

The machine has five phases: write until the outlines end; read their numbers; write a thread for each, in parallel;
join them in the order of the outlines; write on. It needs a `Hand` that can go on, fork and join: the engine's, whose
forks share the prefix (`EngineHand`), or one of requests to a server with a prefix cache (`weft.model.threads`).

Method: ThreadWeaver, arXiv 2512.07843. Written from its description.
"""

from __future__ import annotations

import re
from collections.abc import Sequence as Many
from typing import Literal, Protocol

import msgspec

from weft.core.errors import BadInput
from weft.model.engine.protocol import Engine, Feed, Sampling, Sequence
from weft.model.engine.sample import number

OUTLINES, OUTLINES_END, THREAD, THREAD_END = "<Outlines>", "</Outlines>", "<Thread>", "</Thread>"
_NUMBER = re.compile(r"<Outline>\s*(\d+(?:\.\d+)*)\s*:")
Finish = Literal["stop", "end", "length"]
"""A piece ended at the text that it was to stop at, by itself, or at the most tokens."""


class Written(msgspec.Struct, frozen=True):
    """A piece of text: with the stop in it, if it came to that."""

    text: str
    count: int
    """Its tokens."""
    finish: Finish


class Thread(msgspec.Struct, frozen=True):
    """One of the parts that were written at the same time."""

    head: str
    """What it began with."""
    text: str
    count: int
    finish: Finish


class Woven(msgspec.Struct, frozen=True):
    """A text with threads in it."""

    text: str
    """All that was written, without the prefix: the threads too, in the order of their outlines."""
    threads: tuple[Thread, ...]
    count: int
    """Tokens written in all."""
    longest: int
    """Tokens on the longest path: those outside threads, and of each block the longest thread."""
    finish: Finish


class Hand(Protocol):
    """Writes: on, in several places at once, and joins what was written there."""

    async def go_on(self, stop: str, most: int) -> Written:
        """Go on with the text until `stop` (which then is in it), the model's end, or `most` tokens."""
        ...

    async def fork(self, heads: Many[str], stops: Many[str], most: int) -> list[Written]:
        """Go on from here with each of `heads`, at the same time. The text itself stays where it is."""
        ...

    async def join(self, heads: Many[str], parts: Many[Written], tail: str) -> str:
        """Put each head and its part into the text, and then `tail`. Returns what was put in."""
        ...


def numbers_of(text: str) -> list[str]:
    """The numbers of the last outlines in a text: "1", "2", "2.1"; none if there are no outlines."""
    _, found, rest = text.rpartition(OUTLINES)
    return [*dict.fromkeys(_NUMBER.findall(rest))] if found else []


async def weave(hand: Hand, most: int) -> Woven:
    """Write at most about `most` tokens, with threads wherever the model outlines some.

    A thread that comes to its most tokens without its end ends the whole, as published."""
    threads: list[Thread] = []
    text, count, longest = "", 0, 0
    while True:
        piece = await hand.go_on(OUTLINES_END, most - count)
        text, count, longest = text + piece.text, count + piece.count, longest + piece.count
        numbers = numbers_of(text) if piece.finish == "stop" else []
        if not numbers or count >= most:
            return Woven(text, tuple(threads), count, longest, "end" if piece.finish == "end" else "length")
        heads = [f"\n{THREAD}\n{n}:" for n in numbers]
        parts = await hand.fork(heads, [THREAD_END], most - count)
        threads += [Thread(head, part.text, part.count, part.finish) for head, part in zip(heads, parts, strict=True)]
        count += sum(part.count for part in parts)
        longest += max(part.count for part in parts)
        again = [head if n == 0 else head[1:] for n, head in enumerate(heads)]
        text += await hand.join(again, parts, "\n")
        if any(part.finish == "length" for part in parts) or count >= most:
            return Woven(text, tuple(threads), count, longest, "length")


async def spread(hand: Hand, heads: Many[str], stops: Many[str], most: int) -> Woven:
    """Threads for a model that was not trained to outline: each goes on from the prefix and its own head, for at most
    `most` tokens; they are joined in this order."""
    if not heads:
        raise BadInput("threads need at least one outline to go on from")
    parts = await hand.fork(heads, stops, most)
    text = await hand.join(heads, parts, "")
    threads = tuple(Thread(h, p.text, p.count, p.finish) for h, p in zip(heads, parts, strict=True))
    total, longest = sum(part.count for part in parts), max(part.count for part in parts)
    finish: Finish = "length" if any(part.finish == "length" for part in parts) else "end"
    return Woven(text, threads, total, longest, finish)


# --- by the engine --------------------------------------------------------------------------------------------------


class EngineHand:
    """Writes with an engine: the threads are forks of one sequence, decoded in one batch."""

    def __init__(self, engine: Engine, sequence: Sequence, prompt: list[int], sampling: Sampling | None = None) -> None:
        """Goes on from `sequence` and then `prompt`, which is not fed yet."""
        self.sequence = sequence
        self._engine = engine
        self._ahead = list(prompt)
        self._sampling = sampling or Sampling()
        self._kept: list[list[int]] = []

    async def go_on(self, stop: str, most: int) -> Written:
        if most <= 0:
            return Written("", 0, "length")
        run = Run(self.sequence, self._ahead, self._sampling, [stop], most)
        written, tokens = (await self._write([run]))[0]
        fed = run.start + len(self._ahead)
        keep = max(fed, min(self.sequence.length, fed + len(tokens) - 1))  # the last is fed with what comes next
        keep = fed + _alike(self.sequence.tokens[fed:keep], tokens)
        await self.sequence.trim(keep)
        self._ahead = tokens[keep - fed :]
        return written

    async def fork(self, heads: Many[str], stops: Many[str], most: int) -> list[Written]:
        if len(self._ahead) > 1:  # the prefix is computed once
            await self._engine.step([Feed(self.sequence, self._ahead, "none", None)])
            self._ahead = []
        forks = [await self.sequence.fork() for _ in heads]
        try:
            runs = [
                Run(
                    fork,
                    [*self._ahead, *await self._engine.tokenize(head)],
                    msgspec.structs.replace(self._sampling, seed=int(number(self._sampling.seed, n) * (1 << 53))),
                    list(stops),
                    most,
                )
                for n, (fork, head) in enumerate(zip(forks, heads, strict=True))
            ]
            written = await self._write(runs)
        finally:
            for fork in forks:
                await fork.close()
        self._kept = [tokens for _, tokens in written]
        return [piece for piece, _ in written]

    async def join(self, heads: Many[str], parts: Many[Written], tail: str) -> str:
        for head, tokens in zip(heads, self._kept, strict=True):
            self._ahead += [*await self._engine.tokenize(head), *tokens]
        self._ahead += await self._engine.tokenize(tail) if tail else []
        return "".join(head + part.text for head, part in zip(heads, parts, strict=True)) + tail

    async def _write(self, runs: list[Run]) -> list[tuple[Written, list[int]]]:
        await decode(self._engine, runs)
        return [await self._cut(run) for run in runs]

    async def _cut(self, run: Run) -> tuple[Written, list[int]]:
        """What a run wrote, and tokens that stand for just that: the last one may have gone beyond the stop."""
        tokens = run.tokens[:-1] if run.finish == "end" else run.tokens
        words = await self._engine.detokenize(tokens)
        text = words.decode("utf-8", "replace")
        found = [text.find(stop) + len(stop) for stop in run.stops if stop in text]
        if found and run.finish == "stop":
            text = text[: min(found)]
            while tokens and len(await self._engine.detokenize(tokens)) > len(text.encode()):
                tokens = tokens[:-1]
            rest = text.encode()[len(await self._engine.detokenize(tokens)) :]
            tokens = [*tokens, *(await self._engine.tokenize(rest.decode("utf-8", "replace")) if rest else [])]
        return Written(text, len(run.tokens), run.finish), tokens


class Run:
    """One sequence that is being decoded."""

    def __init__(self, sequence: Sequence, feed: list[int], sampling: Sampling, stops: list[str], most: int) -> None:
        self.sequence = sequence
        self.start = sequence.length
        self.feed = feed
        """What is to be fed next."""
        self.sampling = sampling
        self.stops = [stop for stop in stops if stop]
        self.most = most
        self.tokens: list[int] = []
        """What was drawn; the last is not fed yet."""
        self.finish: Finish = "length"
        self._tail = b""

    def take(self, token: int, words: bytes, ends: bool) -> bool:
        """A token was drawn. Returns whether it is the last."""
        self.tokens.append(token)
        self.feed = [token]
        if ends:
            self.finish = "end"
            return True
        longest = max((len(stop.encode()) for stop in self.stops), default=0)
        self._tail = (self._tail + words)[-longest - len(words) :]
        if any(stop.encode() in self._tail for stop in self.stops):
            self.finish = "stop"
            return True
        return len(self.tokens) >= self.most


async def decode(engine: Engine, runs: list[Run]) -> None:
    """Decode all runs together, one step for a token of each, until every one has ended."""
    under_way = [run for run in runs if run.most > 0]
    while under_way:
        told = await engine.step([Feed(run.sequence, run.feed, "last", run.sampling) for run in under_way])
        going = []
        for run, heard in zip(under_way, told, strict=True):
            token = heard.tokens[0]
            if not run.take(token, await engine.detokenize([token]), token in engine.end):
                going.append(run)
        under_way = going


def _alike(some: list[int], others: list[int]) -> int:
    """With how many of the same tokens both begin."""
    for n, (one, other) in enumerate(zip(some, others, strict=False)):
        if one != other:
            return n
    return min(len(some), len(others))
