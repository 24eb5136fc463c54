"""What a check costs: CPU of a protected effect over that of the same effect without a need, in turns."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

import weft

ROUNDS = 21


@weft.step(effect="pure")
async def bare(path: str) -> None: ...


@weft.step(effect="pure", needs="read:{path}")
async def guarded(path: str) -> None: ...


@weft.workflow(name="safety.effects")
async def effects(step: str, path: str, count: int) -> None:
    made = guarded if step == "guarded" else bare
    for _ in range(count):
        await made(path)


async def added(held: int, count: int) -> list[float]:
    """Microseconds of CPU of one authorised effect more than of a free one, with `held` capabilities; each round."""
    with tempfile.TemporaryDirectory(prefix="weft-safety-") as folder:
        for number in range(held):
            Path(folder, f"f{number}.txt").touch()  # noqa: ASYNC240
        allow = tuple(f"read:./f{number}.txt" for number in range(held))
        policy = weft.Policy(base="program", allow=allow, workspace=folder)
        path = str(Path(folder, f"f{held - 1}.txt"))
        async with weft.Runtime(Path(folder, "journal.db"), durability="process", policy=policy) as runtime:
            await runtime.run(effects, "guarded", path, 20)
            rounds = []
            for number in range(ROUNDS):
                spent = {}
                for step in ("bare", "guarded") if number % 2 else ("guarded", "bare"):
                    began = time.process_time()
                    await runtime.run(effects, step, path, count)
                    spent[step] = (time.process_time() - began) / count * 1e6
                rounds.append(spent["guarded"] - spent["bare"])
            return rounds


def middle(rounds: list[float]) -> float:
    return median(rounds)
