"""A deterministic generation, and where it goes on after the process that began it has died.

Every so many tokens what is final is kept on disk with its cells, under a name that says all that decides the tokens.
Who asks for the same again goes on from there, and comes to the same end. Who reads to the end drops what was kept.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from weft.core.errors import BadInput
from weft.model.engine import kept
from weft.model.engine.asked import Rules
from weft.model.engine.calibrate import machine
from weft.model.engine.exact import Exact, Generation
from weft.model.engine.local import LocalEngine
from weft.model.engine.protocol import Sampling

PASSAGE = 64
"""Tokens after which what is final is kept: what is computed again, at most, after a crash."""


class _Kept(msgspec.Struct, frozen=True):
    tokens: list[int]
    cells: bytes


def place_of(exact: Exact, prompt: list[int], limit: int, sampling: Sampling, schema: Any) -> Path:
    """Where such a generation is kept: by the machine that computes it, and by all that decides its tokens."""
    assert isinstance(exact.engine, LocalEngine)
    shape = None if exact.quick is not None else exact.shape
    said = (machine(exact.engine), exact.quick, shape, prompt, limit, sampling, schema)
    return kept.place_of(hashlib.blake2b(msgspec.msgpack.encode(said), digest_size=16).hexdigest())


async def resumed(
    exact: Exact, prompt: list[int], limit: int, sampling: Sampling, rules: Rules | None, place: Path | None
) -> AsyncGenerator[int]:
    """The tokens of a generation of at most `limit`, as they become final. `place`: where it is kept, and was if it was
    begun before; None: nowhere."""
    generation = await _begun(exact, prompt, limit, sampling, rules, place)
    told, safe = 0, len(generation.tokens)
    try:
        async for tokens in exact.follow(generation):
            for token in tokens:
                yield token
            told += len(tokens)
            if place is not None and told >= safe + PASSAGE and not generation.done:
                safe = told
                state = _Kept(generation.tokens, await exact.save(generation))
                await asyncio.to_thread(kept.keep, place, msgspec.msgpack.encode(state))
    finally:
        await exact.end(generation)


async def _begun(
    exact: Exact, prompt: list[int], limit: int, sampling: Sampling, rules: Rules | None, place: Path | None
) -> Generation:
    found = await asyncio.to_thread(kept.read, place) if place is not None else b""
    with suppress(msgspec.MsgspecError, BadInput):  # damaged, or by another engine: begun anew
        before = msgspec.msgpack.decode(found, type=_Kept) if found else _Kept([], b"")
        return await exact.begin(prompt, limit, sampling, written=before.tokens, saved=before.cells, rules=rules)
    return await exact.begin(prompt, limit, sampling, rules=rules)
