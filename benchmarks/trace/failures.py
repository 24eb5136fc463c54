"""Pairs of failures with a label, made up: the same cause in another instance and wording, or another cause in the same
words.

Each group is a subject with four causes, told in two wordings each; what stands in braces is drawn. A *true* pair is
one cause twice, in either wording; a *decoy* is two causes of one group, whose errors come from the same tool.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from weft.trace.causal import Failure

FILE = Path(__file__).parents[1] / "data" / "failures.tsv"


class Cause(NamedTuple):
    """Type of its error, and its message in one version of a library and in another."""

    error: str
    wordings: tuple[str, str]


def _groups() -> dict[str, list[Cause]]:
    found: dict[str, list[Cause]] = {}
    for line in FILE.read_text().splitlines()[1:]:
        tool, error, one, other = line.split("\t")
        found.setdefault(tool, []).append(Cause(error, (one, other)))
    return found


GROUPS = _groups()
WRAPS = ("{}", "{}", "step {n} of the plan: {}", "{} (attempt {n} of {n})", "worker {name}: {}")


class Pair(NamedTuple):
    """Two failures, and whether they are the same one."""

    group: str
    one: Failure
    other: Failure
    same: bool


def pairs(count: int, groups: Sequence[str], seed: int) -> list[Pair]:
    """Half of them true, half decoys, of these groups in turn."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        group = groups[number // 2 % len(groups)]
        same = number % 2 == 0
        first, second = chance.sample(GROUPS[group], 2)
        one = failure_of(first, group, f"{number}-a", chance)
        other = failure_of(first if same else second, group, f"{number}-b", chance)
        found.append(Pair(group, one, other, same))
    return found


def failure_of(cause: Cause, tool: str, run: str, chance: random.Random) -> Failure:
    """One instance of a cause."""
    text = chance.choice(WRAPS).replace("{}", chance.choice(cause.wordings))
    return Failure(run=run, error=cause.error, tool=tool, message=_filled(text, chance), at=chance.random())


NAMES = ("orders", "billing", "alpha", "shop_v2", "eu-west", "carts", "ledger", "p7", "north", "main")


def _filled(text: str, chance: random.Random) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: _drawn(found[1], chance), text)


def _drawn(what: str, chance: random.Random) -> str:
    name, number = chance.choice(NAMES), chance.randint(1, 9999)
    return {
        "name": name,
        "n": str(number),
        "hex": f"0x{number % 256:02x}",
        "host": f"10.0.{number % 99}.{number % 77}:{number + 1000}",
        "path": f"/srv/{name}/{name}-{number}.txt",
        "url": f"https://{name}.example/{number}",
        "mail": f"{name}{number}@example.org",
    }[what]
