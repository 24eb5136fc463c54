"""How fast a model is on this machine, in seconds of CPU: drawing, alone and in a batch; reading; saving and loading.

What reading costs is what a policy needs to know (`Reload.fitted(speed.reads)`): for so long it pays to keep a prefix.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from weft.core.errors import BadInput
from weft.model.engine.local import LocalEngine
from weft.model.engine.opening import open_engine
from weft.model.engine.protocol import Feed


class Drawn(NamedTuple):
    """`at_once` sequences drew tokens together."""

    at_once: int
    a_second: float
    """Tokens of all, for a second of CPU."""


class Speed(msgspec.Struct, frozen=True):
    """What was measured; seconds are of the engine's CPU, in one thread."""

    draws: list[Drawn]
    reads: list[tuple[int, float]]
    """Tokens of a prompt, and the seconds to compute them."""
    saves: float
    """Seconds to save the largest of these prompts."""
    loads: float
    bytes_a_token: float
    wall: float
    """Seconds that passed for a second of the engine's CPU: above 1, the machine is busy."""


async def measured(path: Path, tokens: int = 24, at_once: tuple[int, ...] = (1, 2, 4, 8), reads: int = 256) -> Speed:
    """Measure the model at `path`. Raises BadInput for counts below 1, and what `open_engine` raises."""
    if tokens < 1 or reads < 4 or not at_once or not all(1 <= count <= 64 for count in at_once):
        raise BadInput("measure at least 1 token, 1 to 64 sequences at once, and a prompt of at least 4 tokens")
    most = max(at_once)
    engine = await open_engine(path, cells=most * (tokens + 16) + 2 * reads + 64, sequences=most + 2)
    try:
        began, cpu = time.monotonic(), engine.cpu()
        draws = [await _drawn(engine, count, tokens) for count in at_once]
        read = [await _read(engine, count) for count in (reads // 4, reads // 2, reads)]
        saves, loads, size = await _saved(engine, reads)
        wall = (time.monotonic() - began) / max(1e-9, engine.cpu() - cpu)
        return Speed(draws, read, saves, loads, size / reads, wall)
    finally:
        await engine.close()


async def _drawn(engine: LocalEngine, count: int, tokens: int) -> Drawn:
    sequences = [await engine.sequence() for _ in range(count)]
    told = await engine.step([Feed(sequence, [100 + n]) for n, sequence in enumerate(sequences)])
    began = engine.cpu()
    for _ in range(tokens):
        feeds = [Feed(sequence, each.tokens) for sequence, each in zip(sequences, told, strict=True)]
        told = await engine.step(feeds)
    seconds = engine.cpu() - began
    for sequence in sequences:
        await sequence.close()
    return Drawn(count, count * tokens / max(1e-9, seconds))


async def _read(engine: LocalEngine, count: int) -> tuple[int, float]:
    sequence = await engine.sequence()
    began = engine.cpu()
    await engine.step([Feed(sequence, _prompt(engine, count), "none", None)])
    seconds = engine.cpu() - began
    await sequence.close()
    return count, seconds


async def _saved(engine: LocalEngine, count: int) -> tuple[float, float, int]:
    sequence, other = await engine.sequence(), await engine.sequence()
    await engine.step([Feed(sequence, _prompt(engine, count), "none", None)])
    began = engine.cpu()
    saved = await sequence.save()
    between = engine.cpu()
    await other.restore(saved)
    ended = engine.cpu()
    await sequence.close()
    await other.close()
    return between - began, ended - between, len(saved)


def _prompt(engine: LocalEngine, count: int) -> list[int]:
    """Ordinary tokens without a pattern."""
    words = [token for token in range(engine.vocabulary) if token not in engine.controls and token not in engine.end]
    return [words[(n * 7919 + 100) % len(words)] for n in range(count)]
