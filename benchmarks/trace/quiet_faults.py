"""Faults that raise nothing, and in which no single call need stand out: an agent that reviews changes, and agents that
translate pages; twelve kinds of faults.

A database that is slower for all, a model that says twice as much, a tool that exits with 0 and says an error. They are
told by the mean over many calls, or by one line among a hundred.
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


# --- pages that are translated by an agent each: written when the organs were finished -------------------------------


@weft.step(effect="pure")
async def glossary(page: int) -> list[str]:
    await _takes(0.04)
    return [World.chance.choice(WORDS) for _ in range(3)]


async def _translates(request: Request) -> Reply:
    fault = World.fault
    terse = 0.35 if fault == "a terse translator" else 1
    usage = Usage(input=round(700 * _varied(0.4)), output=round(650 * terse * _varied(0.35)))
    await _takes(usage.output / 300 * (2.2 if fault == "a slow translator" else 1), 0.25)
    return Reply(message=Message("assistant", "Voila."), usage=usage, model="translator")


translator = script(_translates, name="quiet-translator")


@weft.step(effect="pure")
async def typeset(page: int) -> str:
    """Prints what it does; some pages need a second pass."""
    await _takes(0.5)
    weft.charge(money=0.002 * _varied(0.2) * (3 if World.fault == "a dearer typesetter" else 1))
    chance = World.chance
    said = [f"[{at}] box {chance.randint(100, 999)} at {chance.uniform(0, 30):.1f}mm filled" for at in range(40)]
    said += ["labels changed, second pass"] * chance.randint(0, 1)
    if World.fault == "a font is gone" and page % 3 == 0:
        said.insert(chance.randrange(40), "Warning: font Lindow-Serif is not installed, substituted by a default")
    if World.fault == "typesetting breaks" and page % 3 == 2:
        raise RuntimeError(
            "\n".join([*said, "! Emergency stop: unbalanced braces in paragraph 7", "no output written"])
        )
    return "\n".join([*said, f"output written: {chance.randint(1, 4)} pages, {chance.randint(20_000, 90_000)} bytes"])


@weft.step(effect="pure")
async def uploaded(page: int, part: int) -> bool:
    await _takes(0.02)
    if World.chance.random() < (0.5 if World.fault == "uploads time out" else 0.03):
        raise TimeoutError(f"part {part} was not taken within 5 s")
    return True


@weft.workflow
async def translated(page: int) -> int:
    terms = await glossary(page)
    for passage in range(4):
        await translator.chat(f"Passage {passage} of page {page}, with {terms}")
    await typeset(page)
    done = 0
    for part in range(6):
        with suppress(TimeoutError):
            done += await uploaded(page, part)
    return done


@weft.workflow
async def translate(book: int) -> int:
    return sum(await asyncio.gather(*(translated(book * 3 + at) for at in range(3))))


QUIET_LATE: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "a slow translator": (translate, ("cause", "slow"), "^model translator/seconds|^generation took"),
    "a dearer typesetter": (translate, ("cause",), "^step typeset/money"),
    "a terse translator": (translate, ("cause",), "^model translator/tokens"),
    "a font is gone": (translate, ("said",), "typeset said .*not installed"),
    "typesetting breaks": (translate, ("failed",), "typeset failed"),
    "uploads time out": (translate, ("cause",), "^step uploaded/errors"),
}
