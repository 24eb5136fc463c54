"""What the twin says of a small model, kept in a file, so that the engine is held to it where there is no torch.

    python -m tests.twin_says          writes tests/twin_says.npz anew; needs the extra `torch`

The model is `weights.toy`, the same numbers everywhere. Three things are said: the logits of a grid of streams after a
prefix, under an explicit mask; those after a splice that is computed again, which is a text without its middle; those
after one that is shifted.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from weft.model.engine import Feed, weights
from weft.model.engine.protocol import How

FILE = Path(__file__).with_suffix(".npz")
_DICE = random.Random(2605)
PREFIX = [_DICE.randrange(3, 260) for _ in range(5)]
GRID = [[_DICE.randrange(3, 260) for _ in range(3)] for _ in range(12)]
TEXT = [_DICE.randrange(3, 260) for _ in range(30)]
CUT = (8, 19)
ENDING = [_DICE.randrange(3, 260) for _ in range(6)]
"""Read after the splice; its logits are kept."""


async def rows(engine: Any, prefix: list[int] = PREFIX, grid: list[list[int]] = GRID) -> Any:
    """The logits of every token of a grid after a common prefix, row by row, by publishing."""
    stem = await engine.sequence()
    if prefix:
        await engine.step([Feed(stem, prefix, "none", sample=None)])
    columns = [await stem.fork() for _ in grid[0]]
    found = []
    for number, row in enumerate(grid, len(prefix)):
        feeds = [Feed(column, [token], sample=None, logits=True) for column, token in zip(columns, row, strict=True)]
        found += [told.logits[0] for told in await engine.step(feeds)]
        for column in columns:
            await column.publish(number, [other for other in columns if other is not column])
    for each in [stem, *columns]:
        await each.close()
    return np.array(found)


async def spliced(engine: Any, how: How) -> Any:
    """The logits of the ending after the text without its middle."""
    sequence = await engine.sequence()
    await engine.step([Feed(sequence, TEXT, "none", sample=None)])
    await sequence.splice(*CUT, how)
    (told,) = await engine.step([Feed(sequence, ENDING, "all", sample=None, logits=True)])
    await sequence.close()
    return told.logits


def recorded(path: Path) -> dict[str, Any]:
    """What the twin of the model at `path` says."""
    import torch

    from weft.model.engine.twin import Twin

    twin = Twin.load(path, cells=64)
    tokens = PREFIX + [token for row in GRID for token in row]
    at = torch.tensor([*range(len(PREFIX)), *(len(PREFIX) + n for n, row in enumerate(GRID) for _ in row)])
    seen = (at[None, :] < at[:, None]) | torch.eye(len(tokens), dtype=torch.bool)
    short = TEXT[: CUT[0]] + TEXT[CUT[1] :] + ENDING
    causal = torch.ones(len(short), len(short), dtype=torch.bool).tril()
    with torch.inference_mode():
        return {
            "rows": twin.decoder.forward(tokens, at.tolist(), seen)[len(PREFIX) :].numpy(),
            "reencode": twin.decoder.forward(short, [*range(len(short))], causal)[-len(ENDING) :].numpy(),
            "shift": asyncio.run(spliced(twin, "shift")),
        }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        np.savez_compressed(FILE, **recorded(weights.toy(Path(folder) / "toy.gguf")))
    print(FILE.name, FILE.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
