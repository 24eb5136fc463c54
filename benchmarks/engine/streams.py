"""Streams on the real model: rows against the twin's explicit mask, words in between, cost of a row, escapes."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.engine.escapes import fuzz
from benchmarks.report import Measure, Report
from tests import twin_says
from weft.model.engine import LocalEngine, open_engine
from weft.model.engine.streams import Stream, Streams
from weft.model.engine.weights import convert

if TYPE_CHECKING:
    from weft.model.engine.twin import Twin

MODEL = "smollm2-135m"
Grid = list[list[int]]


def figures(report: Report, quick: bool) -> None:
    asyncio.run(_figures(report, quick))


async def _figures(report: Report, quick: bool) -> None:
    path = await asyncio.to_thread(convert, MODEL, "f32")
    engine = await open_engine(path, cells=1024, sequences=8, kind="f32")
    try:
        twin = await asyncio.to_thread(_twin, path)
        grids = [(3, 6)] if quick else [(2, 40), (3, 20), (5, 8)]
        await _against_mask(report, engine, twin, grids, "f32")
        await _said_between(report, engine, 8 if quick else 24)
        await _cost(report, engine, 4 if quick else 16)
    finally:
        await engine.close()
    engine = await open_engine(path, cells=1024, sequences=8)
    try:
        await _against_mask(report, engine, twin, grids, "f16")
    finally:
        await engine.close()
    escapes = await fuzz(100 if quick else 1000)
    report.bar(
        "streams", f"{escapes.bait} commands in streams that are read: escapes", escapes.escaped, most=0,
        why=f"{escapes.called} called with the right to it, {escapes.denied} denied",
    )  # fmt: skip


def _grid(engine: LocalEngine, seed: int, streams: int, rows: int) -> Grid:
    rng = random.Random(seed)
    return [[rng.randrange(100, engine.vocabulary) for _ in range(streams)] for _ in range(rows)]


def _twin(path: Path) -> Twin:
    from weft.model.engine.twin import Twin

    return Twin.load(path, cells=1)


def _masked(twin: Twin, prefix: list[int], grid: Grid, cells: str) -> Any:
    """The same by an explicit mask over all tokens."""
    import torch

    from weft.model.engine.twin import attention

    start = len(prefix)
    positions = [*range(start), *(start + number for number, row in enumerate(grid) for _ in row)]
    tokens = prefix + [token for row in grid for token in row]
    at = torch.tensor(positions)
    seen = (at[None, :] < at[:, None]) | torch.eye(len(positions), dtype=torch.bool)
    reads = attention if cells == "f32" else _in_halves
    with torch.inference_mode():
        hidden = twin.decoder.hidden(torch.tensor(tokens), at, lambda _, q, k, v: reads(q, k, v, seen))
        return twin.decoder.logits(hidden)[start:].numpy()


def _in_halves(q: Any, k: Any, v: Any, seen: Any) -> Any:
    """Attention as the engine computes it on f16 cells: one cell after the other, with the largest score so far taken
    out (FlashAttention, arXiv 2205.14135, section 3.1), and what was read so far rounded to half precision."""
    import torch

    def half(x: Any) -> Any:
        return x.half().float()

    shared = q.shape[1] // k.shape[1]
    k, v = (half(x).repeat_interleave(shared, 1) for x in (k, v))
    scores = torch.einsum("ihd,jhd->hij", half(q), k) / q.shape[2] ** 0.5
    scores = scores.masked_fill(~seen, -torch.inf)
    most, total = torch.full(scores.shape[:2], -torch.inf), torch.zeros(scores.shape[:2])
    read = torch.zeros(*scores.shape[:2], q.shape[2])
    for cell in range(scores.shape[2]):
        score = scores[:, :, cell]
        larger = torch.maximum(most, score)
        kept = torch.where(score > most, (most - larger).exp(), 1.0)
        weight = torch.where(score > -torch.inf, (score - larger).exp(), 0.0)
        read = half(half(read * kept[..., None]) + v[cell][:, None, :] * weight[..., None])
        total, most = total * kept + weight, larger
    return (read / total[..., None]).transpose(0, 1)


async def _against_mask(
    report: Report, engine: LocalEngine, twin: Twin, sizes: list[tuple[int, int]], cells: str
) -> None:
    import numpy as np

    common = await engine.tokenize("What follows is a talk between two people, who both speak at the same time.\n")
    for name, prefix in (("after a common prefix", common), ("without one", [])):
        differences, same = [], []
        for seed, (streams, rows) in enumerate(sizes):
            grid = _grid(engine, seed, streams, rows)
            found, expected = await twin_says.rows(engine, prefix, grid), _masked(twin, prefix, grid, cells)
            differences += list(np.abs(found - expected).max(1))
            same += list(found.argmax(1) == expected.argmax(1))
        worst, equal = float(max(differences)), 100 * float(np.mean(same))
        more = {"median": float(np.median(differences)), "same likeliest, %": equal, "tokens": len(same)}
        figure = "largest difference of a logit from the explicit mask"
        report.add(figure, Measure(name=f"{cells} cells, {name}", unit="", runs=[worst], more=more))
        why = "the twin" if cells == "f32" else "the twin, its attention in half precision as well"
        report.bar("streams", f"{figure}: {cells} cells, {name}", worst, most=0.05, why=why)
        report.bar("streams", f"same likeliest token: {cells} cells, {name}", equal, least=99, unit="%")


async def _said_between(report: Report, engine: LocalEngine, rows: int) -> None:
    """The same streams twice; in the second something is said in the middle."""
    user, answer = await engine.tokenize("User:"), await engine.tokenize("Answer:")
    word, at, written = await engine.tokenize(" Stop! Speak of horses."), rows // 2, []
    for said in (False, True):
        streams = await Streams.open(engine, [Stream("user", user), Stream("answer", answer, writes=True)], [1])
        found = []
        for number in range(rows):
            if said and number == at:
                streams.feed("user", word)
            found.append((await streams.row()).tokens["answer"])
        written.append(found)
        await streams.close()
    quiet, spoken = written
    changed = next((n for n in range(rows) if quiet[n] != spoken[n]), rows)
    report.bar("streams", "rows before a word that it changed", max(at + 1 - changed, 0), most=0)
    report.add("a word said while it writes", Measure(name="answer differs after", unit="rows", runs=[changed - at]))


async def _cost(report: Report, engine: LocalEngine, rows: int) -> None:
    """What a row costs, against as many tokens one after the other."""
    for streams in (1, 2, 4):
        before = engine.cpu()
        await twin_says.rows(engine, [], _grid(engine, 9, streams, rows))
        each = 1000 * (engine.cpu() - before) / rows
        figure = "CPU of a row"
        alone = report.one(figure, "1 streams")
        ratio = streams * alone.value / each if alone is not None and alone.value else 1.0
        report.add(figure, Measure(name=f"{streams} streams", unit="ms", runs=[each], more={"tokens for one": ratio}))
