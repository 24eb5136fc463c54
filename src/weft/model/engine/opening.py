"""Open a local engine: with settings that make sense, one for each caller or one that a process shares."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from pathlib import Path

from weft.core.errors import BadInput
from weft.model.engine import wire
from weft.model.engine.abi import SEQUENCES
from weft.model.engine.llama import TYPES
from weft.model.engine.local import LocalEngine


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


_shared: dict[wire.Settings, LocalEngine] = {}
_lock = threading.Lock()


async def shared_engine(
    path: Path | str, *, name: str = "", cells: int = 4096, sequences: int = 32, unified: bool = True
) -> LocalEngine:
    """This process's engine for the file, started when first asked for, closed by `close_engines`. Raises as
    `open_engine` does."""
    settings = settings_of(path, cells, sequences, unified, 512, 512, "f16")

    def opened() -> LocalEngine:
        with _lock:
            engine = _shared.get(settings)
            if engine is None or engine.closed:
                engine = _shared[settings] = LocalEngine(name or Path(path).stem, settings)
            return engine

    return await asyncio.to_thread(opened)


def close_shared() -> None:
    """Close the engines that are shared. A later call opens what it needs."""
    with _lock:
        while _shared:
            _shared.popitem()[1].shut()


def _forget() -> None:
    """In a forked process: the engines belong to the parent."""
    global _lock
    _shared.clear()
    _lock = threading.Lock()


atexit.register(close_shared)
os.register_at_fork(after_in_child=_forget)
