"""Schedules that are made to cause an anomaly: who reads, writes, retracts what, and who takes the next action.

A file of them has one JSON object a line:

    {"anomaly": "A1", "agents": [[["read", "x"], ["write", "x"]], [["write", "x"]]], "order": [0, 1, 0]}
    {"anomaly": "A6", "computed": [2, 0, 1]}

`agents`: the actions of each (`verify.scheduled.Action`); an operation commits in the turn after its last read or call.
`order`: which agent takes the next action; when it is used up, each goes on to its end. `tools`: those that are there
from the beginning, name -> number of its code. `computed`: in which order the steps of one operation finish computing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import msgspec

from verify.interleavings import turns_of
from verify.scheduled import Action
from weft.core.errors import BadInput
from weft.core.memory import Level

Anomaly = Literal["A1", "A2", "A3", "A6"]
ANOMALIES: tuple[Anomaly, ...] = get_args(Anomaly)
LEVELS: dict[Anomaly, tuple[Level, Level]] = {
    "A1": ("L0", "L1"), "A3": ("L1", "L2"), "A6": ("L2", "L3"), "A2": ("L3", "L4"),
}  # fmt: skip
"""The highest level that lets it happen, and the lowest that does not."""


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    anomaly: Anomaly
    agents: list[list[Action]] = []
    order: list[int] = []
    tools: dict[str, str] = {}
    computed: list[int] = []

    def __post_init__(self) -> None:
        if self.anomaly == "A6" and sorted(self.computed) != list(range(len(self.computed))):
            raise ValueError("computed: must be an order of the numbers from 0")
        if any(not 0 <= agent < len(self.agents) for agent in self.order):
            raise ValueError(f"order: there are {len(self.agents)} agents, numbered from 0")


def read(path: Path) -> list[Schedule]:
    """The schedules of a file. Raises BadInput that names the line."""
    decoder = msgspec.json.Decoder(Schedule)
    found: list[Schedule] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(decoder.decode(line))
            except msgspec.DecodeError as error:
                raise BadInput(f"{path}:{number}: not a schedule: {error}") from None
    return found


def write(path: Path, schedules: Sequence[Schedule]) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in schedules))


def make(anomaly: Anomaly, count: int, seed: int = 0) -> Iterator[Schedule]:
    """So many schedules for an anomaly; the same seed gives the same ones."""
    draw = random.Random(f"{anomaly} {seed}")
    makers = {"A1": _stale, "A2": _phantom, "A3": _cascade, "A6": _reordering}
    for _ in range(count):
        yield makers[anomaly](draw)


def _stale(draw: random.Random) -> Schedule:
    """A victim reads; another writes what it read and commits; the victim commits."""
    cells = ["a", "b", "c", "d"]
    read = draw.sample(cells, draw.randint(1, 3))
    hit = draw.choice(read)
    written = draw.sample(cells, draw.randint(1, 2)) if draw.random() < 0.5 else [hit]  # half: read, change, write
    agents: list[list[Action]] = [[*_reads(read), *_writes(written)]]
    for number in range(draw.randint(1, 3)):
        also = draw.sample(cells, draw.randint(0, 2))
        target = [hit] if number == 0 else draw.sample(cells, draw.randint(1, 2))
        agents.append([*_reads(also), *_writes(target)])
    left = [turns_of(actions) for actions in agents]
    before, after = [0] * len(read), [1] * left[1]  # the victim has read all before the first attacker begins
    others = [number for number in range(2, len(agents)) for _ in range(left[number])]
    return Schedule("A1", agents, _woven(draw, [*before, *after, 0], others))


def _cascade(draw: random.Random) -> Schedule:
    """A source commits; others build on it, one on the other; then the source is retracted."""
    depth = draw.randint(1, 4)
    agents: list[list[Action]] = [[["write", "c0"]]]
    order = [0]
    for number in range(1, depth + 1):
        also = ["e"] if draw.random() < 0.3 else []
        agents.append([*_reads([f"c{number - 1}", *also]), *_writes([f"c{number}"])])
        order += [number] * turns_of(agents[number])
    agents.append([["retract", "0"]])
    order.append(depth + 1)
    others: list[int] = []
    if draw.random() < 0.5:  # one that has nothing to do with it
        agents.append([["read", "z"], ["write", "z"]])
        others = [depth + 2] * 2
    return Schedule("A3", agents, _woven(draw, order, others))


def _phantom(draw: random.Random) -> Schedule:
    """A victim plans with a tool; another puts a different one in its place; the victim calls it."""
    also = draw.sample(["a", "b"], draw.randint(0, 2))
    victim: list[Action] = [["plan"], *_reads(also), ["call", "t"], ["write", "x"]]
    churn: list[Action] = [["withdraw", "t"], ["offer", "t", "2"]] if draw.random() < 0.5 else [["offer", "t", "2"]]
    order = [0, *_woven(draw, [1] * len(churn), [0] * len(also)), 0, 0]
    others: list[int] = []
    agents = [victim, churn]
    if draw.random() < 0.5:
        agents.append([["plan"], ["write", "y"]])
        others = [2] * 2
    return Schedule("A2", agents, _woven(draw, order, others), {"t": "1", "u": "1"})


def _reordering(draw: random.Random) -> Schedule:
    count = draw.randint(2, 7)
    computed = list(range(count))
    while computed == sorted(computed):
        draw.shuffle(computed)
    return Schedule("A6", computed=computed)


def _reads(cells: Sequence[str]) -> list[Action]:
    return [["read", cell] for cell in cells]


def _writes(cells: Sequence[str]) -> list[Action]:
    return [["write", cell] for cell in cells]


def _woven(draw: random.Random, order: Sequence[int], others: Sequence[int]) -> list[int]:
    """Both in their own order, the second anywhere in the first."""
    places = sorted(draw.randint(0, len(order)) for _ in others)
    found = list(order)
    for at, agent in sorted(zip(places, others, strict=True), reverse=True, key=lambda pair: pair[0]):
        found.insert(at, agent)
    return found
