"""Which batches of an engine agree bit for bit, on this machine: found by trying.

The same token after the same tokens is computed in batches of 1, 2, ... sequences (`rows`), and the end of the same
text in chunks of 1, 2, ... tokens (`chunks`); those whose logits are equal in every bit are a class. One row that is
computed by another kernel than two is usual on a CPU with float weights, not with 4-bit ones. `slots`: whether a
window's place in a group, and who else is in it, leaves no trace, which verification in groups relies on.

What is found holds for this model file, this library, this processor and this number of threads.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from weft.core.errors import BadInput, ModelError
from weft.core.whole import write_whole
from weft.model.catalogue import models_dir
from weft.model.engine import abi
from weft.model.engine.opening import open_engine
from weft.model.engine.protocol import Engine, Feed

if TYPE_CHECKING:
    from weft.model.engine.local import LocalEngine

ROWS = (1, 2, 3, 4, 8)
CHUNKS = (1, 2, 4, 8, 16)
_PREFIX = 24


class Known(msgspec.Struct, frozen=True):
    """What was found: sizes, class by class."""

    rows: list[list[int]]
    chunks: list[list[int]]
    slots: bool

    @property
    def invariant(self) -> bool:
        """Whether batches of all sizes that were tried agree."""
        return len(self.rows) == 1

    @property
    def quick(self) -> int | None:
        """Up to how many sequences in a batch every size agrees with every other, one alone too; None if two don't
        agree with one. (That one alone is among them matters: llama.cpp computes a batch in parts where the numbers of
        its sequences have gaps, and a part may be one sequence.)"""
        tried = sorted(size for sizes in self.rows for size in sizes)
        alike = next((sizes for sizes in self.rows if 1 in sizes), [])
        most = 0
        for size in tried:
            if size not in alike:
                break
            most = size
        return most if most > 1 else None


async def calibrate(
    engine: Engine, rows: Sequence[int] = ROWS, chunks: Sequence[int] = CHUNKS, group: int = 2, window: int = 16
) -> Known:
    """Find the classes of sizes. Computes a few hundred tokens, and needs max(rows) sequences for the time.

    Raises BadInput for sizes that are none, ModelError if the engine contradicts itself on one and the same batch."""
    if not rows or not chunks or min(*rows, *chunks) < 1 or group < 1 or window < 2:
        raise BadInput(f"sizes are 1 or more: rows={rows}, chunks={chunks}, group={group}, window={window}")
    text = await _text(engine, _PREFIX + 2 * max(*chunks, window))
    if await _rows(engine, text, rows[0]) != await _rows(engine, text, rows[0]):
        raise ModelError("the engine computed the same batch twice with different results; does it use one thread?")
    places = {await _slot(engine, text, place, group, window) for place in range(group)}
    return Known(
        await _classes(rows, lambda size: _rows(engine, text, size)),
        await _classes(chunks, lambda size: _chunks(engine, text, size, max(chunks))),
        len(places) == 1,
    )


async def _text(engine: Engine, length: int) -> list[int]:
    """Some tokens, the same for every calibration of a model."""
    return [
        int.from_bytes(hashlib.blake2b(b"%d" % n).digest()[:4], "little") % engine.vocabulary for n in range(length)
    ]


async def _classes(sizes: Sequence[int], bits: Callable[[int], Awaitable[str]]) -> list[list[int]]:
    found: dict[str, list[int]] = {}
    for size in sorted(set(sizes)):
        found.setdefault(await bits(size), []).append(size)
    return list(found.values())


async def _rows(engine: Engine, text: list[int], size: int) -> str:
    """The bits of a token's logits next to `size` - 1 sequences of other lengths."""
    lengths = [_PREFIX - 5 * n % 19 for n in range(size)]
    sequences = [await _begun(engine, text[:length]) for length in lengths]
    logits = []
    for n in range(2):
        told = await engine.step([Feed(each, [text[_PREFIX + n]], sample=None, logits=True) for each in sequences])
        logits.append(told[0].logits)
    return await _bits(sequences, logits)


async def _chunks(engine: Engine, text: list[int], size: int, whole: int) -> str:
    """The bits of the last token's logits of a text that was computed in chunks of `size`."""
    sequence = await _begun(engine, text[:_PREFIX])
    told = []
    for begin in range(_PREFIX, _PREFIX + whole, size):
        told = await engine.step(
            [Feed(sequence, text[begin : min(begin + size, _PREFIX + whole)], sample=None, logits=True)]
        )
    return await _bits([sequence], [told[0].logits])


async def _slot(engine: Engine, text: list[int], place: int, group: int, window: int) -> str:
    """The bits of a window's logits at this place of a group."""
    sequences = [await _begun(engine, text[: _PREFIX if n == place else 1 + 3 * n + 7 * place]) for n in range(group)]
    wanted, other = text[_PREFIX : _PREFIX + window], text[:window]
    feeds = [
        Feed(each, wanted if n == place else other, "all", sample=None, logits=True) for n, each in enumerate(sequences)
    ]
    told = await engine.step(feeds)
    return await _bits(sequences, [told[place].logits])


async def _begun(engine: Engine, tokens: list[int]) -> Any:
    sequence = await engine.sequence("calibration")
    await engine.step([Feed(sequence, tokens, want="none", sample=None)])
    return sequence


async def _bits(sequences: list[Any], logits: list[Any]) -> str:
    for sequence in sequences:
        await sequence.close()
    return hashlib.blake2b(b"".join(rows.tobytes() for rows in logits), digest_size=16).hexdigest()


def machine(engine: LocalEngine) -> str:
    """A digest of what exactness depends on: the model, how its cells are kept, the library, the processor."""
    try:
        processor = next(
            line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
        )
    except (OSError, StopIteration):
        processor = platform.processor()
    said = (engine.kind, abi.VERSION, processor, platform.machine())
    return hashlib.blake2b(repr(said).encode(), digest_size=16).hexdigest()


async def calibrated(engine: LocalEngine) -> Known:
    """What is known of an engine's model on this machine: found when first asked for, on an engine of its own, and kept
    in the cache of models."""
    kept = models_dir() / "calibrated" / f"{machine(engine)}.json"
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(await asyncio.to_thread(kept.read_bytes), type=Known)
    rows = max(ROWS)
    own = await open_engine(
        engine.path, cells=128 * rows, sequences=rows, unified=False, kind=engine.cell, name=engine.name
    )
    try:
        known = await calibrate(own)
    finally:
        await own.close()
    with suppress(OSError):  # it is found again then
        write_whole(kept, msgspec.json.encode(known))
    return known
