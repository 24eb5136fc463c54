"""An engine without a model, for tests of what drives one: tokens are bytes, and what it says next is a hash.

The hash is of every cell that can be seen, and a cell remembers what was seen when it was computed. So a driver that
loses a token, keeps one too many, puts one in a wrong place or doesn't compute again what it must, is told something
else. Cells are counted one by one, and every use is checked as the real engine does.
"""

from __future__ import annotations

import asyncio
import hashlib
import pickle
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from weft.core.errors import BadInput, OutOfCells
from weft.model.engine.protocol import Feed, How, Sampling, Sequence, Told
from weft.model.engine.sample import draw, likeliest

END = 256


@dataclass(eq=False)
class Cell:
    position: int
    token: int
    key: int
    own: bool = True


class HashSequence:
    """A sequence of `HashEngine`."""

    def __init__(self, engine: HashEngine, label: str, parent: HashSequence | None = None) -> None:
        self.engine, self.label, self.parent = engine, label, parent
        self.cells: list[Cell] = []
        self.closed = False
        self.until = 0.0
        engine.sequences.add(self)

    def _open(self) -> None:
        if self.closed:
            raise AssertionError(f"the sequence {self.label!r} is used after it was closed")

    @property
    def tokens(self) -> list[int]:
        return [cell.token for cell in self.cells]

    @property
    def positions(self) -> list[int]:
        return [cell.position for cell in self.cells]

    @property
    def length(self) -> int:
        return max((cell.position + 1 for cell in self.cells), default=0)

    async def fork(self, upto: int | None = None) -> HashSequence:
        self._open()
        if upto is not None and not 0 <= upto <= self.length:
            raise BadInput(f"upto={upto} of {self.length}")
        self.engine.seats()
        fork = HashSequence(self.engine, self.label, self)
        fork.cells = [cell for cell in self.cells if upto is None or cell.position < upto]
        return fork

    async def trim(self, start: int) -> None:
        self._open()
        if not 0 <= start <= self.length:
            raise BadInput(f"start={start} of {self.length}")
        self.cells = [cell for cell in self.cells if cell.position < start]

    async def splice(self, start: int, end: int, how: How = "reencode") -> int:
        self._open()
        if not 0 <= start <= end <= self.length:
            raise BadInput(f"{start}..{end} of {self.length}")
        after = [cell for cell in self.cells if cell.position >= end]
        self.cells = [cell for cell in self.cells if cell.position < start]
        if how == "shift":
            self.cells += [Cell(cell.position - (end - start), cell.token, cell.key) for cell in after]
            return 0
        for cell in after:
            self.add(cell.token)
        self.engine.computed += len(after)
        return len(after)

    async def publish(self, row: int, to: Iterable[Sequence]) -> None:
        raise NotImplementedError

    async def save(self) -> bytes:
        self._open()
        return pickle.dumps([(cell.position, cell.token, cell.key) for cell in self.cells])

    async def restore(self, saved: bytes) -> None:
        self._open()
        self.cells = []
        cells = [Cell(*each) for each in pickle.loads(saved)]
        self.engine.room(len(cells))
        self.cells = cells

    def pin(self, seconds: float) -> None:
        self.until = seconds

    def unpin(self) -> None:
        self.until = 0.0

    @property
    def pinned(self) -> bool:
        return self.until > 0

    async def close(self) -> None:
        self.closed = True
        self.cells = []
        self.engine.sequences.discard(self)

    def add(self, token: int) -> None:
        position = self.length
        key = _hash("cell", self.seen(), token, position)
        self.cells.append(Cell(position, token, key))

    def seen(self) -> int:
        return sum(cell.key for cell in self.cells) % 2**64


@dataclass
class HashEngine:
    """`cells` for all; `most` sequences."""

    cells: int = 1 << 20
    most: int = 64
    batch: int = 1 << 20
    vocabulary: int = 257
    end: frozenset[int] = frozenset({END})
    controls: frozenset[int] = frozenset({END})
    sequences: set[HashSequence] = field(default_factory=set)
    computed: int = 0
    """Tokens that went through the model."""
    steps: int = 0
    widest: int = 0
    """The most feeds of a step."""
    fails: list[Exception] = field(default_factory=list)
    """What the next steps raise."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    @property
    def pieces(self) -> list[bytes]:
        return [*(bytes([n]) for n in range(256)), b"<|end|>"]

    @property
    def used(self) -> int:
        return len({id(cell) for sequence in self.sequences for cell in sequence.cells})

    def room(self, new: int) -> None:
        if self.used + new > self.cells:
            raise OutOfCells(f"{new} more do not fit beside {self.used} of {self.cells}")

    def seats(self) -> None:
        if len(self.sequences) >= self.most:
            raise OutOfCells(f"there are {self.most} sequences")

    async def tokenize(self, text: str, special: bool = False) -> list[int]:
        return list(text.encode())

    async def detokenize(self, tokens: Iterable[int]) -> bytes:
        return bytes(token for token in tokens if token < 256)

    async def sequence(self, label: str = "") -> HashSequence:
        self.seats()
        return HashSequence(self, label)

    async def step(self, feeds: list[Feed]) -> list[Told]:
        if self.fails:
            raise self.fails.pop(0)
        lines: list[Any] = [feed.sequence for feed in feeds]
        for feed, line in zip(feeds, lines, strict=True):
            line._open()
            assert line.engine is self
            if not feed.tokens or any(not 0 <= token < self.vocabulary for token in feed.tokens):
                raise BadInput(f"no tokens, or none that there are: {feed.tokens}")
        if len(set(lines)) < len(lines) or sum(len(feed.tokens) for feed in feeds) > self.batch:
            raise BadInput("a sequence is fed twice, or the batch is too large")
        self.room(sum(len(feed.tokens) for feed in feeds))
        for _ in range(3):
            await asyncio.sleep(0)  # others get on while it computes
        self.steps += 1
        self.widest = max(self.widest, len(feeds))
        return [self._fed(feed, line) for feed, line in zip(feeds, lines, strict=True)]

    def _fed(self, feed: Feed, line: HashSequence) -> Told:
        drawn, best, rows = [], [], []
        for number, token in enumerate(feed.tokens, 1):
            line.add(token)
            self.computed += 1
            if feed.want == "all" or (feed.want == "last" and number == len(feed.tokens)):
                row = self.logits(line)
                rows.append(row)
                if feed.sample is not None:
                    drawn.append(draw(row, feed.sample, line.length, feed.allow, feed.bias))
                if feed.likely:
                    best.append(likeliest(row, feed.likely, feed.allow))
        return Told(drawn, best, np.stack(rows) if feed.logits and rows else None)

    def logits(self, line: HashSequence) -> Any:
        row = np.random.default_rng(_hash("next", line.seen())).normal(0, 2, self.vocabulary).astype(np.float32)
        row[END] -= 2.0
        return row

    async def close(self) -> None:
        self.sequences.clear()


def _hash(*parts: Any) -> int:
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


async def alone(prompt: list[int], most: int, sampling: Sampling | None = None) -> list[int]:
    """What a `HashEngine` says after a prompt, with nothing else in it; nothing ends it."""
    engine = HashEngine()
    sequence = await engine.sequence()
    drawn: list[int] = []
    tokens = prompt
    for _ in range(most):
        (told,) = await engine.step([Feed(sequence, tokens, sample=sampling or Sampling())])
        tokens = told.tokens
        drawn += tokens
    return drawn
