"""Faults that raise nothing, and in which no single call need stand out: an agent that reviews changes, a pipeline that
translates; ten kinds of faults.

A database that is slower for all, a model that says twice as much, a tool that exits with 0 and says an error. Most are
told by the mean over many calls, or by one line among a hundred. The pipeline, `quiet`'s second half, was written when
the organs were finished.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import Any

import weft
from benchmarks.trace.faults import World
from weft.model import Message, Reply, Usage, script
from weft.model.request import Request

WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "mu", "nu", "xi", "pi")


async def _takes(seconds: float, spread: float = 0.6) -> None:
    """About so long: times have long tails."""
    await World.sleep(seconds * _varied(spread))


def _varied(spread: float) -> float:
    return math.exp(World.chance.gauss(0, spread))


# --- an agent that reviews changes: rows of a database, a model, a tool that prints a lot ----------------------------


@weft.step(effect="pure")
async def read_row(key: int) -> dict[str, Any]:
    await _takes(0.03 * (2.5 if World.fault == "a slow database" else 1))
    return {"key": key, "size": World.chance.randint(1, 40)}


@weft.step(effect="pure")
async def write_row(key: int) -> bool:
    await _takes(0.05 * (2.5 if World.fault == "a slow database" else 1))
    return True


@weft.step(effect="pure")
async def shaky(key: int) -> int:
    """A service that fails now and then."""
    await _takes(0.01)
    if World.chance.random() < (0.7 if World.fault == "a shaky service" else 0.08):
        raise ConnectionError(f"the index did not answer for {key}")
    return key


@weft.step(effect="pure")
async def check(change: int) -> dict[str, Any]:
    """A command: its exit status is 0 whatever it says."""
    await _takes(0.2)
    chance = World.chance
    lines = [f"checking module {chance.choice(WORDS)}_{chance.choice(WORDS)} ... ok ({chance.uniform(0, 2):.2f} s)"
             for _ in range(chance.randint(60, 120))]  # fmt: skip
    lines += [f"warning: {chance.choice(WORDS)}.py:{chance.randint(1, 400)}: unused import"
              for _ in range(chance.randint(0, 4))]  # fmt: skip
    lines.append(f"upload finished with status {507 if World.fault == 'another status' else 200}")
    if World.fault == "says an error":
        lines.insert(chance.randrange(len(lines)), "error: the report could not be written: no space left on device")
    return {"code": 0, "stdout": "\n".join([*lines, f"checked {len(lines)} modules in {chance.uniform(3, 9):.1f} s"])}


async def _reviews(request: Request) -> Reply:
    much = 2 if World.fault == "twice the tokens" else 1
    usage = Usage(input=round(900 * much * _varied(0.3)), output=round(240 * much * _varied(0.3)))
    await _takes(usage.output / 400, 0.2)
    model = "reviewer-3" if World.fault == "another model" else "reviewer-2"
    return Reply(message=Message("assistant", "It is fine."), usage=usage, model=model)


reviewer = script(_reviews, name="quiet-reviewer")


@weft.workflow
async def review(change: int) -> int:
    return len(await _reviewed(change))


async def _reviewed(change: int) -> list[dict[str, Any]]:
    rows = await asyncio.gather(*(read_row(key) for key in range(10 + change % 5)))
    for row in rows[: 5 + change % 3]:
        await reviewer.chat(f"What of row {row['key']} of change {change}?")
    for row in rows:
        with suppress(ConnectionError):
            await shaky(row["key"])
    await check(change)
    for row in rows[:8]:
        await write_row(row["key"])
    return rows


@weft.workflow
async def long_review(first: int) -> int:
    """300 effects and more."""
    return sum([len(await _reviewed(first + at)) for at in range(8)])


QUIET: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "a slow database": (review, ("cause",), "^step (read|write)_row/seconds"),
    "twice the tokens": (review, ("cause",), "^model reviewer-2/tokens"),
    "another model": (review, ("answer",), "generation answered"),
    "a shaky service": (review, ("cause",), "^step shaky/errors"),
    "says an error": (review, ("said",), "check said .*no space left"),
    "another status": (review, ("said",), "check said .*507"),
}
