"""The engine of a program: llama.cpp in a child process, behind the protocol.

    engine = await open_engine(weft.model.fetch("smollm2-135m"), cells=4096)
    sequence = await engine.sequence()
    told, = await engine.step([Feed(sequence, await engine.tokenize("Once upon a time"))])

All that is done to an engine is done in one thread of its own, in the order in which it was asked for, from whatever
event loop; so the books (`weft.model.engine.line`) are always those of the child. When the child dies, a new one is
started, everything is made again in it (`weft.model.engine.remake`), and what was asked is asked once more.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from weft.core.errors import BadInput, ModelCrashed, OutOfCells
from weft.model.engine import wire
from weft.model.engine.line import Book, Line
from weft.model.engine.process import Child
from weft.model.engine.protocol import Feed, Sequence, Told
from weft.model.engine.remake import remake
from weft.model.engine.sample import check_sampling
from weft.model.engine.sequence import LocalSequence

T = TypeVar("T")
_LIVES = 3
"""How many children in a row one order may cost before it is given up."""


class LocalEngine:
    """A model in a child process. Implements `weft.model.engine.protocol.Engine`."""

    def __init__(self, name: str, settings: wire.Settings) -> None:
        """Starts the child: blocks until the model is loaded. Use `open_engine` where an event loop runs."""
        self.name = name
        self.crashes = 0
        """How many children died so far."""
        self.remade = 0
        """How many tokens were computed again because of that."""
        self.steps = 0
        """How many batches were computed."""
        self._settings = settings
        self._child: Child | None = Child(name, settings)
        self.hello = self._child.hello
        self.kind = _fingerprint(settings, self.hello)
        self.book = Book(settings.sequences, settings.unified)
        words = msgspec.convert(self._child.ask(wire.Tell()), wire.Words)
        self._pieces = words.pieces
        self._ends, self._controls = frozenset(words.ends), frozenset(words.controls)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"weft-engine-{name}")
        self.forgotten: deque[Line] = deque()
        self._over = threading.Event()

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def cells(self) -> int:
        return self.hello.cells

    @property
    def used(self) -> int:
        return self.book.used

    @property
    def room(self) -> int:
        """The most tokens in one sequence."""
        return self.hello.room

    @property
    def vocabulary(self) -> int:
        return self.hello.vocabulary

    @property
    def end(self) -> frozenset[int]:
        return self._ends

    @property
    def pieces(self) -> list[bytes]:
        """The bytes of each token."""
        return self._pieces

    @property
    def controls(self) -> frozenset[int]:
        """The tokens that mean something else than their words."""
        return self._controls

    @property
    def path(self) -> str:
        """The model's file."""
        return self._settings.path

    @property
    def cell(self) -> str:
        """How keys and values are kept: f16, ..."""
        return self._settings.kind

    @property
    def unified(self) -> bool:
        """Whether sequences share cells; else each has a buffer of its own, which no other can influence."""
        return self._settings.unified

    @property
    def closed(self) -> bool:
        return self._over.is_set()

    @property
    def pid(self) -> int | None:
        """The child's process id, or None when none is running."""
        return self._child.pid if self._child is not None else None

    def cpu(self) -> float:
        """Seconds of CPU that the child took so far (that of children before it is forgotten)."""
        return self._child.cpu() if self._child is not None else 0.0

    # --- words ------------------------------------------------------------------------------------------------------

    async def tokenize(self, text: str, special: bool = False) -> list[int]:
        tokens: list[int] = await self.do(lambda: self.ask(wire.Tokenize(text.encode("utf-8", "replace"), special)))
        return tokens

    async def detokenize(self, tokens: Iterable[int]) -> bytes:
        return b"".join(self.piece(token) for token in tokens)

    def piece(self, token: int) -> bytes:
        """The bytes of one token. Raises BadInput for a number that is none."""
        if not 0 <= token < self.vocabulary:
            raise BadInput(f"{token} is none of the {self.vocabulary} tokens of {self.name}")
        return self._pieces[token]

    # --- sequences --------------------------------------------------------------------------------------------------

    async def sequence(self, label: str = "") -> LocalSequence:
        return await self.do(lambda: LocalSequence(self, self.opened(label), None))

    def opened(self, label: str) -> Line:
        if self.book.full:
            raise OutOfCells(
                f"{self.name} holds {self._settings.sequences} sequences already; close some, or open it with more"
            )
        return self.book.open(label)

    async def step(self, feeds: list[Feed]) -> list[Told]:
        lines = [self.mine(feed.sequence) for feed in feeds]
        return await self.do(lambda: self.stepped(feeds, lines)) if feeds else []

    def stepped(self, feeds: list[Feed], lines: list[Line]) -> list[Told]:
        if len(set(lines)) < len(lines):
            raise BadInput("a step feeds a sequence twice; join the tokens")
        for feed in feeds:
            self._check(feed)
        new = sum(len(feed.tokens) for feed in feeds)
        if self.book.unified and self.used + new > self.cells:
            raise OutOfCells(
                f"{new} more tokens do not fit: {self.used} of the {self.cells} cells of {self.name} are in use; "
                "close or trim sequences"
            )
        parts = [
            wire.Part(line.number, line.length, f.tokens, f.want, f.sample, f.allow, f.likely, f.logits, f.bias)
            for f, line in zip(feeds, lines, strict=True)
        ]
        answers = self.ask(wire.Step(parts))
        self.steps += 1
        for feed, line in zip(feeds, lines, strict=True):
            self.book.append(line, feed.tokens)
        return [self._told(feed.logits, *answer) for feed, answer in zip(feeds, answers, strict=True)]

    def _told(self, wanted: bool, tokens: list[int], likely: list[list[Any]], logits: bytes) -> Told:
        rows = None
        if wanted:
            import numpy as np

            rows = np.frombuffer(logits, np.float32).reshape(-1, self.vocabulary)
        return Told(tokens, [[(token, score) for token, score in row] for row in likely], rows)

    def _check(self, feed: Feed) -> None:
        """What the child could not answer, or only by dying, does not get there. Raises BadInput."""
        if not feed.tokens or not all(0 <= token < self.vocabulary for token in feed.tokens):
            raise BadInput(f"a feed has at least one token, and each is one of the {self.vocabulary} of {self.name}")
        if feed.want not in ("none", "last", "all") or not 0 <= feed.likely <= self.vocabulary:
            raise BadInput("a feed wants none, last or all, and at most as many of the likeliest as there are tokens")
        if feed.allow is not None:
            allowed = int.from_bytes(feed.allow, "little") & (1 << self.vocabulary) - 1
            if len(feed.allow) * 8 < self.vocabulary or not allowed:
                raise BadInput(f"`allow` has a bit for each of the {self.vocabulary} tokens, and at least one is set")
        if feed.bias and not all(0 <= token < self.vocabulary for token in feed.bias):
            raise BadInput(f"`bias` is for tokens of the {self.vocabulary} of {self.name}")
        if feed.sample is not None:
            check_sampling(feed.sample)

    def mine(self, sequence: Sequence) -> Line:
        """The books of a sequence of this engine. Raises BadInput for any other."""
        if not isinstance(sequence, LocalSequence) or sequence.engine is not self:
            raise BadInput(f"the sequence {getattr(sequence, 'label', sequence)!r} is none of {self.name}")
        return sequence.line

    # --- the child --------------------------------------------------------------------------------------------------

    async def do(self, work: Callable[[], T]) -> T:
        """Do it in the engine's thread, after what was asked for before."""
        if self.closed:
            raise BadInput(f"the engine of {self.name} was closed; open another")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._done, work)

    def _done(self, work: Callable[[], T]) -> T:
        while self.forgotten:  # sequences that nobody holds any more
            self.give_back(self.forgotten.popleft())
        return work()

    def give_back(self, line: Line) -> None:
        if self.book.lines.get(line.number) is not line:
            return
        if line.cells:
            self.ask(wire.Remove(line.number, 0, -1))
        self.book.close(line)

    def ask(self, order: wire.Order) -> Any:
        """What the child says. One that dies of it, or died before, is replaced, and asked again."""
        for life in range(_LIVES):
            try:
                return self._alive().ask(order)
            except ModelCrashed:
                self._lost()
                if life == _LIVES - 1:
                    raise
        raise AssertionError

    def _alive(self) -> Child:
        if self._child is None:
            if self._over.is_set():
                raise BadInput(f"the engine of {self.name} was closed; open another")
            child = Child(self.name, self._settings)
            try:
                self.remade += remake(self.book, child.ask, self._settings.batch, self.cells)
            except BaseException:
                child.close()
                raise
            self._child = child
            if self._over.is_set():  # meanwhile
                self._lost()
                raise BadInput(f"the engine of {self.name} was closed; open another")
        return self._child

    def _lost(self) -> None:
        self.crashes += 1
        child, self._child = self._child, None
        if child is not None:
            child.close()

    async def close(self) -> None:
        self.shut()

    def shut(self) -> None:
        """End the child now. What is under way there fails; a second call does nothing."""
        self._over.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
        child, self._child = self._child, None
        if child is not None:
            child.close()


def _fingerprint(settings: wire.Settings, hello: wire.Hello) -> str:
    """What a saved state depends on: the model and the way that its cells are kept."""
    path = Path(settings.path)
    with path.open("rb") as file:
        head = (
            hashlib.file_digest(file, "sha256") if path.stat().st_size < 1 << 20 else hashlib.sha256(file.read(1 << 20))
        )
    streams = 1 if settings.unified else settings.sequences
    said = (path.stat().st_size, hello.description, settings.kind, streams)
    head.update(msgspec.msgpack.encode(said))
    return head.hexdigest()[:32]
