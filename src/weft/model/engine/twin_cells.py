"""The twin's memory: a pool of cells, each with the keys and values of a token, and sequences, lists of such cells.

A cell that several sequences have is there once; it is copied before one of them moves it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from weft.core.errors import BadInput, OutOfCells
from weft.model.engine.protocol import Feed, How, Sequence

if TYPE_CHECKING:
    from weft.model.engine.twin import Decoder, Twin


class Cells:
    """Keys (turned to their positions) and values of `count` tokens, for each layer."""

    def __init__(self, decoder: Decoder, count: int) -> None:
        import torch

        shape = decoder.shape
        self.count = count
        self.decoder = decoder
        self.keys = torch.zeros(shape.layers, count, shape.kv_heads, shape.head, dtype=decoder.type)
        self.values = torch.zeros_like(self.keys)
        self.positions = torch.zeros(count, dtype=torch.long)
        self._holders = [0] * count
        self._free = list(range(count - 1, -1, -1))
        self.mark = hashlib.blake2b(repr((shape, str(decoder.type))).encode(), digest_size=8).digest()

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def used(self) -> int:
        return self.count - len(self._free)

    def take(self, positions: Iterable[int]) -> list[int]:
        """A cell for each of these positions. Raises OutOfCells."""
        wanted = [*positions]
        if len(wanted) > len(self._free):
            raise OutOfCells(f"{len(wanted)} more cells, and {len(self._free)} of {self.count} are free")
        cells = [self._free.pop() for _ in wanted]
        for cell, position in zip(cells, wanted, strict=True):
            self._holders[cell] = 1
            self.positions[cell] = position
        return cells

    def share(self, cells: Iterable[int]) -> None:
        for cell in cells:
            self._holders[cell] += 1

    def drop(self, cells: Iterable[int]) -> None:
        for cell in cells:
            self._holders[cell] -= 1
            if not self._holders[cell]:
                self._free.append(cell)

    def seen(self, cells: list[int], row: list[int]) -> tuple[Any, Any]:
        """The cells of a sequence, and which of them each new token of `row` sees: those at its position or before."""
        import torch

        at = torch.tensor(cells)
        return at, self.positions[at][None, :] <= self.positions[torch.tensor(row)][:, None]

    def moved(self, cells: list[int], by: int) -> list[int]:
        """The cells `by` positions further, in their place or, where others have them too, as copies."""
        import torch

        shared = [cell for cell in cells if self._holders[cell] > 1]
        copies = dict(zip(shared, self.take(int(self.positions[cell]) for cell in shared), strict=True))
        for old, new in copies.items():
            self.keys[:, new], self.values[:, new] = self.keys[:, old], self.values[:, old]
        self.drop(shared)
        after = [copies.get(cell, cell) for cell in cells]
        at = torch.tensor(after, dtype=torch.long)
        self.positions[at] += by
        self.keys[:, at] = self._turned(self.keys[:, at], by)
        return after

    def _turned(self, keys: Any, by: int) -> Any:
        import torch

        from weft.model.engine.twin import rotated

        return rotated(keys, self.decoder.rotation(torch.tensor([by])))


class _Saved(msgspec.Struct, array_like=True):
    mark: bytes
    tokens: list[int]
    positions: list[int]
    own: list[bool]
    keys: bytes
    values: bytes


class TwinSequence:
    """Cells in order. Its methods are those of `weft.model.engine.protocol.Sequence`."""

    def __init__(self, engine: Twin, memory: Cells, label: str, parent: Sequence | None = None) -> None:
        self.label = label
        self.parent = parent
        self.memory = memory
        self.cells: list[int] = []
        self.tokens: list[int] = []
        self._own: list[bool] = []
        self._woven = False
        self._engine = engine
        self._closed = False
        self._pinned_until = 0.0

    @property
    def positions(self) -> list[int]:
        return [int(self.memory.positions[cell]) for cell in self.cells]

    @property
    def length(self) -> int:
        return max(self.positions, default=-1) + 1

    def check_open(self) -> None:
        if self._closed:
            raise BadInput(f"the sequence {self.label!r} was closed; make a new one")

    def append(self, tokens: list[int]) -> list[int]:
        """Cells for tokens that are about to be computed."""
        start = self.length
        cells = self.memory.take(range(start, start + len(tokens)))
        self.cells += cells
        self.tokens += tokens
        self._own += [True] * len(tokens)
        return cells

    async def fork(self, upto: int | None = None) -> TwinSequence:
        self.check_open()
        end = self.length if upto is None else upto
        self._check_range(0, end)
        child = TwinSequence(self._engine, self.memory, self.label, self)
        for cell, token, position in zip(self.cells, self.tokens, self.positions, strict=True):
            if position < end:
                child._add(cell, token, own=False)
        child._woven = self._woven
        return child

    def _add(self, cell: int, token: int, own: bool) -> None:
        self.memory.share([cell])
        self.cells.append(cell)
        self.tokens.append(token)
        self._own.append(own)

    async def trim(self, start: int) -> None:
        self.check_open()
        self._check_range(start, self.length)
        self._remove(start, self.length)

    def _check_range(self, start: int, end: int) -> None:
        if not 0 <= start <= end <= self.length:
            raise BadInput(f"{start} to {end} is no range of a sequence of {self.length} positions")

    def _remove(self, start: int, end: int) -> None:
        gone = [start <= position < end for position in self.positions]
        self.memory.drop(cell for cell, out in zip(self.cells, gone, strict=True) if out)
        kept = [place for place, out in enumerate(gone) if not out]
        self.cells = [self.cells[place] for place in kept]
        self.tokens = [self.tokens[place] for place in kept]
        self._own = [self._own[place] for place in kept]

    async def splice(self, start: int, end: int, how: How = "reencode") -> int:
        self.check_open()
        self._check_range(start, end)
        if how not in ("reencode", "shift"):
            raise BadInput(f"splice(how={how!r}): must be 'reencode' or 'shift'")
        if self._woven:
            raise BadInput("a sequence with published rows cannot be spliced; trim it, or begin another")
        if start == end:
            return 0
        if how == "shift":
            self._remove(start, end)
            after = [place for place, position in enumerate(self.positions) if position >= end]
            for place, cell in zip(after, self.memory.moved([self.cells[n] for n in after], start - end), strict=True):
                self.cells[place] = cell
            return 0
        rest = self.tokens[end:]
        self._remove(start, self.length)
        if rest:
            await self._engine.step([Feed(self, rest, want="none", sample=None)])
        return len(rest)

    async def publish(self, row: int, to: Iterable[Sequence]) -> None:
        self.check_open()
        places = [place for place, position in enumerate(self.positions) if position == row and self._own[place]]
        targets = [self._engine.own(each) for each in to]
        if not places or self.length != row + 1:
            raise BadInput(f"publish({row}): the last position is {self.length - 1}; its last own token is published")
        wrong = [each.length for each in targets if each is self or each.length not in (row, row + 1)]
        if wrong:
            raise BadInput(f"row {row} cannot be published to a sequence with {wrong[0]} positions")
        cell, token = self.cells[places[0]], self.tokens[places[0]]
        self._woven = True
        for target in targets:
            if cell not in target.cells:
                target._add(cell, token, own=False)
                target._woven = True

    async def save(self) -> bytes:
        self.check_open()
        at = self.cells
        keys, values = self.memory.keys[:, at], self.memory.values[:, at]
        return msgspec.msgpack.encode(
            _Saved(self.memory.mark, self.tokens, self.positions, self._own, _raw(keys), _raw(values))
        )

    async def restore(self, saved: bytes) -> None:
        import torch

        self.check_open()
        try:
            state = msgspec.msgpack.decode(saved, type=_Saved)
        except msgspec.DecodeError as error:
            raise BadInput(f"these bytes are no saved sequence ({error})") from None
        memory = self.memory
        shape = (memory.keys.shape[0], len(state.tokens), *memory.keys.shape[2:])
        size = memory.keys[:, :1].nbytes * len(state.tokens)
        if state.mark != memory.mark or {len(state.keys), len(state.values)} != {size}:
            raise BadInput("the saved sequence is of another model or another type of numbers")
        self._remove(0, self.length)
        self.cells = memory.take(state.positions)
        self.tokens, self._own = state.tokens, state.own
        self._woven = len(set(state.positions)) < len(state.positions)
        if size:
            for held, raw in ((memory.keys, state.keys), (memory.values, state.values)):
                held[:, self.cells] = torch.frombuffer(bytearray(raw), dtype=held.dtype).view(shape)

    def pin(self, seconds: float) -> None:
        self.check_open()
        self._pinned_until = time.monotonic() + seconds

    def unpin(self) -> None:
        self._pinned_until = 0.0

    @property
    def pinned(self) -> bool:
        return time.monotonic() < self._pinned_until

    async def close(self) -> None:
        if not self._closed:
            self._remove(0, self.length)
            self._closed = True


def _raw(tensor: Any) -> bytes:
    import torch

    return bytes(tensor.contiguous().view(torch.uint8).numpy())
