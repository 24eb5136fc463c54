"""What an engine does: it holds sequences of tokens whose keys and values are computed once, and steps many at a time.

An `Engine` is a model in memory with a budget of `cells`, one for a token's keys and values. A `Sequence` is a view of
cells: a fork shares them, so a prefix of many threads is there once. Places in a sequence are *positions*: in a plain
sequence the n-th token stands at position n; where rows were published to it, several tokens share a position.

Everything that drives a model (batching, threads, subtasks, streams, exactness) is written against these classes;
llama.cpp in a child process is one such engine, the twin in torch another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Logits = NDArray[numpy.float32]

Want = Literal["none", "last", "all"]
"""Of which tokens of a feed the prediction is wanted."""
How = Literal["reencode", "shift"]
"""How what follows a cut is kept: computed again, which is exact, or moved, which is quick."""


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a token is drawn from a prediction. The draw for position p depends on (seed, p) and the logits alone."""

    temperature: float = 0.0
    """0: the likeliest token."""
    top_k: int = 0
    """Only the k likeliest; 0: all."""
    top_p: float = 1.0
    """Only the likeliest that together have this probability."""
    seed: int = 0


class Feed(msgspec.Struct, frozen=True):
    """Tokens to append to a sequence in a step, and what is wanted of the predictions after them."""

    sequence: Sequence
    tokens: list[int]
    want: Want = "last"
    sample: Sampling | None = Sampling()
    """Draw a token for each wanted place; None: don't."""
    allow: bytes | None = None
    """Which tokens may be drawn (and are told in `likely`): bit t % 8 of byte t // 8 for token t. None: all."""
    likely: int = 0
    """How many of the likeliest to tell for each wanted place; the drawn token is told too, last if it is none of
    them."""
    logits: bool = False
    """Whether to tell all logits of each wanted place."""
    bias: dict[int, float] | None = None
    """What is added to the logits of some tokens before one is drawn. `likely` and `logits` are without it."""


class Told(msgspec.Struct, frozen=True):
    """What a step says of one feed, one entry for each wanted place, in order."""

    tokens: list[int] = []
    """The drawn tokens. They are not appended: feed them, or don't."""
    likely: list[list[tuple[int, float]]] = []
    """The likeliest tokens and their log-probabilities."""
    logits: Any = None
    """float32, places x vocabulary; None if not asked for."""


class Sequence(Protocol):
    """Some cells in order. After `close` no method may be called."""

    label: str
    """For people and metrics."""

    @property
    def tokens(self) -> list[int]: ...
    @property
    def positions(self) -> list[int]:
        """The position of each of `tokens`."""
        ...

    @property
    def length(self) -> int:
        """The position that the next token gets."""
        ...

    @property
    def parent(self) -> Sequence | None:
        """The sequence that it was forked from."""
        ...

    async def fork(self, upto: int | None = None) -> Sequence:
        """A new sequence that shares the cells at positions below `upto` (all)."""
        ...

    async def trim(self, start: int) -> None:
        """Drop everything at `start` and after."""
        ...

    async def splice(self, start: int, end: int, how: How = "reencode") -> int:
        """Drop what is at positions from `start` to before `end`; what follows moves up. Returns how many tokens were
        computed again. Raises BadInput for a range outside the sequence."""
        ...

    async def publish(self, row: int, to: Iterable[Sequence]) -> None:
        """Let the sequences `to` see this one's own token at position `row` from now on."""
        ...

    async def save(self) -> bytes:
        """Its cells as bytes, which `restore` of the same model and engine settings takes."""
        ...

    async def restore(self, saved: bytes) -> None:
        """Become, bit for bit, the sequence that was saved. What was here before is dropped.
        Raises BadInput for bytes that are no saved sequence of this model."""
        ...

    def pin(self, seconds: float) -> None:
        """Ask that it not be evicted within the next `seconds`."""
        ...

    def unpin(self) -> None: ...

    @property
    def pinned(self) -> bool: ...

    async def close(self) -> None:
        """Give its cells back, those that no other sequence shares. A second call does nothing."""
        ...


class Engine(Protocol):
    """A model in memory."""

    @property
    def cells(self) -> int:
        """How many tokens' keys and values fit, of all sequences together."""
        ...

    @property
    def used(self) -> int:
        """How many cells are in use; one that several sequences share counts once."""
        ...

    @property
    def vocabulary(self) -> int:
        """The number of tokens that it knows."""
        ...

    @property
    def end(self) -> frozenset[int]:
        """The tokens that end a generation."""
        ...

    async def tokenize(self, text: str, special: bool = False) -> list[int]:
        """`special`: texts like <|im_end|> mean the token of that name; else they are words as any other."""
        ...

    async def detokenize(self, tokens: Iterable[int]) -> bytes:
        """The bytes that the tokens stand for; a character may be split over several tokens."""
        ...

    async def sequence(self, label: str = "") -> Sequence:
        """A new, empty sequence. Raises OutOfCells when there are too many."""
        ...

    async def step(self, feeds: list[Feed]) -> list[Told]:
        """Append the tokens of all feeds in one batch, one feed for a sequence at most, and tell what was asked.
        Raises OutOfCells, with nothing appended, when they do not fit; BadInput for tokens that are none."""
        ...

    async def close(self) -> None: ...
