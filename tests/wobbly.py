"""An engine for tests whose arithmetic depends on the shape of the batch, much more than any real one's.

A token's cell remembers the batch it was computed in (now and then), and what is predicted is a hash of all cells
before. Computed twice in the same shape, the same; otherwise soon something else.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from weft.core.errors import BadInput, OutOfCells
from weft.model.engine import Feed, Told

Shape = tuple[int, ...]
Kin = Callable[[Shape], Any]
"""What of a batch's shape leaves a trace."""


class WobblySequence:
    parent = None
    pinned = False

    def __init__(self, engine: Wobbly, label: str) -> None:
        self.engine = engine
        self.label = label
        self.tokens: list[int] = []
        self.states: list[bytes] = [b""]
        engine.alive.append(self)

    @property
    def positions(self) -> list[int]:
        return list(range(len(self.tokens)))

    @property
    def length(self) -> int:
        return len(self.tokens)

    def append(self, token: int, trace: Any) -> None:
        state = hashlib.blake2b(self.states[-1] + b"%d" % token, digest_size=8).digest()
        if state[0] < 64:  # a quarter of the cells are touchy
            state = hashlib.blake2b(state + repr(trace).encode(), digest_size=8).digest()
        self.tokens.append(token)
        self.states.append(state)

    async def trim(self, start: int) -> None:
        assert 0 <= start <= self.length
        del self.tokens[start:], self.states[start + 1 :]

    async def save(self) -> bytes:
        return pickle.dumps((self.tokens, self.states))

    async def restore(self, saved: bytes) -> None:
        self.tokens, self.states = pickle.loads(saved)

    async def close(self) -> None:
        if self in self.engine.alive:
            self.engine.alive.remove(self)


class Wobbly:
    """`crash_at`: the numbers of the steps on whose way the engine dies and makes everything again."""

    vocabulary = 97
    end = frozenset({0})

    def __init__(self, kin: Kin = lambda shape: shape, cells: int = 100_000, crash_at: Iterable[int] = ()) -> None:
        self.kin = kin
        self.cells = cells
        self.crashes = 0
        self.shapes: list[Shape] = []
        self.alive: list[WobblySequence] = []
        self._crash_at = set(crash_at)

    @property
    def used(self) -> int:
        return sum(each.length for each in self.alive)

    async def sequence(self, label: str = "") -> WobblySequence:
        return WobblySequence(self, label)

    async def step(self, feeds: list[Feed]) -> list[Told]:
        if len(self.shapes) in self._crash_at:
            self.crashes += 1
            for each in self.alive:
                tokens = list(each.tokens)
                await each.trim(0)
                for token in tokens:
                    each.append(token, "made again")
        if self.used + sum(len(feed.tokens) for feed in feeds) > self.cells:
            raise OutOfCells("full")
        assert len({id(feed.sequence) for feed in feeds}) == len(feeds)
        shape = tuple(len(feed.tokens) for feed in feeds)
        self.shapes.append(shape)
        return [self._fed(feed, self.kin(shape)) for feed in feeds]

    def _fed(self, feed: Feed, trace: Any) -> Told:
        sequence: Any = feed.sequence
        rows = []
        for token in feed.tokens:
            if not 0 <= token < self.vocabulary:
                raise BadInput("no token")
            sequence.append(token, trace)
            rows.append((sequence.states[-1], sequence.length))
        rows = {"none": [], "last": rows[-1:], "all": rows}[feed.want]
        told: list[int] = []
        if feed.sample is not None:
            told = [self._drawn(state, feed.sample.seed, position) for state, position in rows]
        return Told(told, [], self._logits(rows, trace) if feed.logits else None)

    def _logits(self, rows: list[tuple[bytes, int]], trace: Any) -> Any:
        """In their last bits the shape shows always."""
        bits = [hashlib.blake2b(state + repr(trace).encode(), digest_size=8).digest() for state, _ in rows]
        return np.array([np.frombuffer(each, np.uint8) for each in bits], np.float32)

    def _drawn(self, state: bytes, seed: int, position: int) -> int:
        digest = hashlib.blake2b(state + repr((seed, position)).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") % self.vocabulary
