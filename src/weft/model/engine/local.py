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
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from weft.core.errors import BadInput, ModelCrashed, OutOfCells
from weft.model.engine import wire
from weft.model.engine.abi import SEQUENCES
from weft.model.engine.line import Book, Cell, Line
from weft.model.engine.process import Child
from weft.model.engine.protocol import Feed, How, Sequence, Told
from weft.model.engine.remake import remake
from weft.model.engine.saved import Saved, pack, unpack

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
        self._kind = _fingerprint(settings, self.hello)
        self._book = Book(settings.sequences, settings.unified)
        self._ends = frozenset(self.hello.ends)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"weft-engine-{name}")
        self._forgotten: deque[Line] = deque()
        self._closed = False

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def cells(self) -> int:
        return self.hello.cells

    @property
    def used(self) -> int:
        return self._book.used

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
    def unified(self) -> bool:
        """Whether sequences share cells; else each has a buffer of its own, which no other can influence."""
        return self._settings.unified

    @property
    def pid(self) -> int | None:
        """The child's process id, or None when none is running."""
        return self._child.pid if self._child is not None else None

    def cpu(self) -> float:
        """Seconds of CPU that the child took so far (that of children before it is forgotten)."""
        return self._child.cpu() if self._child is not None else 0.0

    # --- words ------------------------------------------------------------------------------------------------------

    async def tokenize(self, text: str, special: bool = False) -> list[int]:
        tokens: list[int] = await self._do(lambda: self._ask(wire.Tokenize(text, special)))
        return tokens

    async def detokenize(self, tokens: Iterable[int]) -> bytes:
        return b"".join(self.piece(token) for token in tokens)

    def piece(self, token: int) -> bytes:
        """The bytes of one token. Raises BadInput for a number that is none."""
        if not 0 <= token < self.vocabulary:
            raise BadInput(f"{token} is none of the {self.vocabulary} tokens of {self.name}")
        return self.hello.pieces[token]

    async def chat(self, messages: Iterable[tuple[str, str]], answer: bool = True) -> str:
        """Messages, (role, text) each, as one text by the model's own template; tokenize it with `special`.
        `answer`: up to where the model's answer begins. Raises BadInput for a template that llama.cpp doesn't know."""
        listed = list(messages)
        text: str = await self._do(lambda: self._ask(wire.Chat(listed, answer)))
        return text

    # --- sequences --------------------------------------------------------------------------------------------------

    async def sequence(self, label: str = "") -> LocalSequence:
        return await self._do(lambda: LocalSequence(self, self._open(label), None))

    def _open(self, label: str) -> Line:
        if self._book.full:
            raise OutOfCells(
                f"{self.name} holds {self._settings.sequences} sequences already; close some, or open it with more"
            )
        return self._book.open(label)

    async def step(self, feeds: list[Feed]) -> list[Told]:
        lines = [self._mine(feed.sequence) for feed in feeds]
        return await self._do(lambda: self._step(feeds, lines)) if feeds else []

    def _step(self, feeds: list[Feed], lines: list[Line]) -> list[Told]:
        if len(set(lines)) < len(lines):
            raise BadInput("a step feeds a sequence twice; join the tokens")
        new = sum(len(feed.tokens) for feed in feeds)
        if self._book.unified and self.used + new > self.cells:
            raise OutOfCells(
                f"{new} more tokens do not fit: {self.used} of the {self.cells} cells of {self.name} are in use; "
                "close or trim sequences"
            )
        parts = [
            wire.Part(line.number, line.length, f.tokens, f.want, f.sample, f.allow, f.likely, f.logits)
            for f, line in zip(feeds, lines, strict=True)
        ]
        answers = self._ask(wire.Step(parts))
        self.steps += 1
        for feed, line in zip(feeds, lines, strict=True):
            self._book.append(line, feed.tokens)
        return [self._told(feed.logits, *answer) for feed, answer in zip(feeds, answers, strict=True)]

    def _told(self, wanted: bool, tokens: list[int], likely: list[list[Any]], logits: bytes) -> Told:
        rows = None
        if wanted:
            import numpy as np

            rows = np.frombuffer(logits, np.float32).reshape(-1, self.vocabulary)
        return Told(tokens, [[(token, score) for token, score in row] for row in likely], rows)

    def _mine(self, sequence: Sequence) -> Line:
        if not isinstance(sequence, LocalSequence) or sequence.engine is not self:
            raise BadInput(f"the sequence {getattr(sequence, 'label', sequence)!r} is none of {self.name}")
        return sequence.line

    # --- the child --------------------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise BadInput(f"the engine of {self.name} was closed; open another")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._done, work)

    def _done(self, work: Callable[[], T]) -> T:
        while self._forgotten:  # sequences that nobody holds any more
            self._give_back(self._forgotten.popleft())
        return work()

    def _give_back(self, line: Line) -> None:
        if self._book.lines.get(line.number) is not line:
            return
        if line.cells:
            self._ask(wire.Remove(line.number, 0, -1))
        self._book.close(line)

    def _ask(self, order: wire.Order) -> Any:
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
            if self._closed:
                raise BadInput(f"the engine of {self.name} was closed; open another")
            child = Child(self.name, self._settings)
            try:
                self.remade += remake(self._book, child.ask, self._settings.batch)
            except BaseException:
                child.close()
                raise
            self._child = child
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
        self._closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)
        child, self._child = self._child, None
        if child is not None:
            child.close()


class LocalSequence:
    """Some cells of a `LocalEngine`. One that nobody holds any more gives its cells back by itself."""

    def __init__(self, engine: LocalEngine, line: Line, parent: LocalSequence | None) -> None:
        self.engine = engine
        self._line: Line | None = line
        self._parent = weakref.ref(parent) if parent is not None else None
        self._until = 0.0

    @property
    def line(self) -> Line:
        """Its books. Raises BadInput when it is closed."""
        if self._line is None:
            raise BadInput("the sequence was closed")
        return self._line

    @property
    def label(self) -> str:
        return self.line.label

    @label.setter
    def label(self, label: str) -> None:
        self.line.label = label

    @property
    def tokens(self) -> list[int]:
        return [cell.token for cell in self.line.cells]

    @property
    def positions(self) -> list[int]:
        return [cell.position for cell in self.line.cells]

    @property
    def length(self) -> int:
        return self.line.length

    @property
    def parent(self) -> LocalSequence | None:
        """The sequence that it was forked from, as long as somebody holds that."""
        return self._parent() if self._parent is not None else None

    async def fork(self, upto: int | None = None) -> LocalSequence:
        return await self.engine._do(lambda: self._fork(upto))

    def _fork(self, upto: int | None) -> LocalSequence:
        line, engine = self.line, self.engine
        end = line.length if upto is None else upto
        if not 0 <= end <= line.length:
            raise BadInput(f"cannot fork at {end}: the sequence has {line.length} positions")
        child = engine._open(line.label)
        try:
            if end:
                engine._ask(wire.Copy(line.number, [child.number], 0, end))
        except BaseException:
            engine._book.close(child)
            raise
        engine._book.take(child, line.cells[: line.index(end)])
        child.woven = line.woven
        return LocalSequence(engine, child, self)

    async def trim(self, start: int) -> None:
        await self.engine._do(lambda: self._trim(start))

    def _trim(self, start: int) -> None:
        line = self.line
        if not 0 <= start <= line.length:
            raise BadInput(f"cannot trim at {start}: the sequence has {line.length} positions")
        if start < line.length:
            self.engine._ask(wire.Remove(line.number, start, -1))
            self.engine._book.drop(line, line.index(start), len(line.cells))

    async def splice(self, start: int, end: int, how: How = "reencode") -> int:
        return await self.engine._do(lambda: self._splice(start, end, how))

    def _splice(self, start: int, end: int, how: How) -> int:
        line = self.line
        if not 0 <= start <= end <= line.length:
            raise BadInput(f"cannot splice {start} to {end}: the sequence has {line.length} positions")
        if line.woven:
            raise BadInput("a sequence with published rows cannot be spliced; trim it, or begin another")
        if how not in ("reencode", "shift"):
            raise BadInput(f"splice by 'reencode' or 'shift', not {how!r}")
        if start == end:
            return 0
        tail = [cell.token for cell in line.cells[end:]]
        if how == "shift":
            self._cut(line, start, end, tail)
            return 0
        self._trim(start)
        if tail:
            self.engine._step([Feed(self, tail, "none", None)], [line])
        return len(tail)

    def _cut(self, line: Line, start: int, end: int, tail: list[int]) -> None:
        book, engine = self.engine._book, self.engine
        if book.unified and any(cell.holders > 1 for cell in line.cells[end:]):
            self._unshare(line)  # a moved cell moves in all sequences that share it
        engine._ask(wire.Cut(line.number, start, end))
        book.drop(line, start, len(line.cells))
        book.append(line, tail)

    def _unshare(self, line: Line) -> None:
        book, engine = self.engine._book, self.engine
        if engine.used + len(line.cells) > engine.cells:
            raise OutOfCells(f"{len(line.cells)} shared cells are to be moved, and there is no room for a copy of them")
        engine._ask(wire.Load(line.number, engine._ask(wire.Save(line.number))))
        own = [Cell(cell.token, cell.position, line) for cell in line.cells]
        book.drop(line, 0, len(line.cells))
        book.take(line, own)

    async def publish(self, row: int, to: Iterable[Sequence]) -> None:
        others = [self.engine._mine(other) for other in to]
        await self.engine._do(lambda: self._publish(row, others))

    def _publish(self, row: int, others: list[Line]) -> None:
        line, book = self.line, self.engine._book
        if not book.unified:
            raise BadInput("rows can be published in a unified engine only; open it with unified=True")
        own = [cell for cell in line.row(row) if cell.home is line]
        if line.length != row + 1 or len(own) != 1:
            raise BadInput(
                f"the sequence's last position is {line.length - 1}, not {row}: its last own token is published"
            )
        wrong = [other.length for other in others if other is line or other.length not in (row, row + 1)]
        if wrong:
            raise BadInput(f"row {row} cannot be published to a sequence with {wrong[0]} positions")
        new = [other for other in others if own[0] not in other.row(row)]
        self.engine._ask(wire.Publish(line.number, row, [other.number for other in new]))
        for other in new:
            book.weave(other, own[0])
        line.woven = True

    async def save(self) -> bytes:
        return await self.engine._do(self._save)

    def _save(self) -> bytes:
        line = self.line
        state: bytes = self.engine._ask(wire.Save(line.number)) if line.cells else b""
        if line.cells and not line.woven:
            line.saved = (list(line.cells), state)
        saved = Saved(self.engine._kind, line.label, self.tokens, self.positions, state)
        return pack(saved)

    async def restore(self, saved: bytes) -> None:
        await self.engine._do(lambda: self._restore(unpack(saved, self.engine._kind)))

    def _restore(self, saved: Saved) -> None:
        line, book = self.line, self.engine._book
        freed = sum(cell.holders == 1 for cell in line.cells)
        if len(saved.tokens) > self.engine.room or (
            book.unified and self.engine.used - freed + len(saved.tokens) > self.engine.cells
        ):
            raise OutOfCells(f"the {len(saved.tokens)} tokens of the saved sequence do not fit; close or trim others")
        if saved.tokens:
            self.engine._ask(wire.Load(line.number, saved.state))
        elif line.cells:
            self.engine._ask(wire.Remove(line.number, 0, -1))
        cells = [Cell(t, p, line) for t, p in zip(saved.tokens, saved.positions, strict=True)]
        book.drop(line, 0, len(line.cells))
        book.take(line, cells)
        line.woven = len(set(saved.positions)) < len(cells)
        line.saved = (list(cells), saved.state) if cells and not line.woven else None

    def pin(self, seconds: float) -> None:
        if not seconds >= 0:
            raise BadInput(f"a sequence can be pinned for a time from 0 s on, not {seconds}")
        self._until = time.monotonic() + seconds

    def unpin(self) -> None:
        self._until = 0.0

    @property
    def pinned(self) -> bool:
        return time.monotonic() < self._until

    async def close(self) -> None:
        line, self._line = self._line, None
        if line is not None and not self.engine._closed:
            await self.engine._do(lambda: self.engine._give_back(line))

    def __del__(self) -> None:
        line = getattr(self, "_line", None)
        if line is not None:
            self.engine._forgotten.append(line)

    def __repr__(self) -> str:
        return f"<{self.label or 'sequence'}: {self.length} positions>" if self._line else "<closed sequence>"


async def open_engine(
    path: Path | str,
    *,
    cells: int = 4096,
    sequences: int = 32,
    unified: bool = True,
    batch: int = 512,
    chunk: int = 512,
    kind: str = "f16",
    name: str = "",
) -> LocalEngine:
    """Start an engine for the model file at `path`.

    `cells`: the tokens of all sequences together (rounded up by llama.cpp); where sequences are not `unified`, each has
    cells / sequences of its own. `batch`: the most tokens in one call; `chunk`: of those, computed together. `kind`:
    how keys and values are kept: f16, f32, bf16 or q8_0. It computes in one thread.

    Raises EngineUnfit if the library is not the release that Weft knows, ModelUnavailable if the model cannot be
    loaded, MissingExtra without the extra `local`.
    """
    settings = settings_of(path, cells, sequences, unified, batch, chunk, kind)
    return await asyncio.to_thread(LocalEngine, name or Path(path).stem, settings)


def settings_of(
    path: Path | str, cells: int, sequences: int, unified: bool, batch: int, chunk: int, kind: str
) -> wire.Settings:
    """The settings, if they make sense. Raises BadInput."""
    from weft.model.engine.llama import TYPES

    numbers = sequences * (2 if unified else 1)  # those of the library; a unified engine keeps some for publishing
    if sequences < 1 or numbers > SEQUENCES:
        raise BadInput(f"an engine holds 1 to {SEQUENCES // 2 if unified else SEQUENCES} sequences, not {sequences}")
    if not sequences <= cells <= 1 << 24:
        raise BadInput(f"an engine of {sequences} sequences has {sequences} to {1 << 24} cells, not {cells}")
    if not numbers <= batch <= 1 << 16:
        raise BadInput(f"a batch has {numbers} to {1 << 16} tokens if there are {sequences} sequences, not {batch}")
    if not 1 <= chunk <= batch:
        raise BadInput(f"a chunk has 1 to {batch} tokens, as many as a batch, not {chunk}")
    if kind not in TYPES:
        raise BadInput(f"keys and values are kept as one of {', '.join(TYPES)}, not {kind!r}")
    return wire.Settings(str(path), cells, sequences, unified, batch, chunk, kind, 1)


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
