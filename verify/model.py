"""python -m verify.model [--small] [--json FILE]: the model of shared memory, checked by TLC.

Every level against every anomaly, with the verdict that the level's definition demands: what a level excludes is in
no reachable state of the whole space, what it admits is reached. Then wider bounds, and mixed levels. Then faults are
put into the model, and each must be found. Exits 1 if a verdict is not the expected one.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from verify.bounds import FULL, SMALL, Bounds
from verify.mutants import MUTANTS
from verify.tlc import MODELS, Unavailable, check

MODEL = (MODELS / "memory.tla").read_text()
EXPLORE = (MODELS / "explore.tla").read_text()
EXCLUDED_FROM = {"A1": 1, "A3": 2, "A6": 3, "A2": 4}
"""Anomaly -> the lowest level that excludes it (arXiv 2606.17182)."""


@dataclass(frozen=True)
class Question:
    """What TLC is asked, and the answer that is expected: the invariant that must break, or "holds" if none may.

    `cells`: the cells of the matrix that it decides. One exploration decides all that a level excludes: TLC checks
    every invariant in every state.
    """

    part: str
    name: str
    bounds: Bounds
    levels: tuple[int, ...]
    invariants: tuple[str, ...]
    expected: str = "holds"
    cells: tuple[str, ...] = ()
    model: str = MODEL


@dataclass(frozen=True)
class Finding:
    """A question and its answer. Counts and seconds as in `verify.tlc.Verdict`."""

    question: Question
    found: str
    states: int
    generated: int
    seconds: float
    witness: list[str]

    @property
    def right(self) -> bool:
        return self.found == self.question.expected

    def told(self) -> dict[str, Any]:
        """As JSON: without the model's text."""
        asked = {name: value for name, value in asdict(self.question).items() if name != "model"}
        return (
            asked | {name: value for name, value in asdict(self).items() if name != "question"} | {"right": self.right}
        )


def matrix(bounds: Bounds) -> Iterator[Question]:
    """5 levels x 4 anomalies."""
    for level in range(5):
        excluded = [anomaly for anomaly, lowest in EXCLUDED_FROM.items() if level >= lowest]
        for anomaly in (one for one in EXCLUDED_FROM if one not in excluded):
            title, broken, cell = f"L{level} admits {anomaly}", f"No{anomaly}", f"L{level} {anomaly}"
            yield Question("matrix", title, bounds, (level,), (broken,), broken, (cell,))
        if excluded:
            names = (*(f"No{anomaly}" for anomaly in excluded), "LiveValues")
            title, cells = f"L{level} excludes {', '.join(excluded)}", tuple(f"L{level} {one}" for one in excluded)
            yield Question("matrix", title, bounds, (level,), names, cells=cells)


def wider() -> Iterator[Question]:
    """What must also hold elsewhere."""
    both = ("Promise", "LiveValues")
    three, chain = Bounds(operations=3, tools=0, effects=0), Bounds(cells=1, operations=3, tools=0, effects=0)
    turn, mixed = Bounds(cells=1, operations=1, free=1, effects=3, signatures=1), Bounds(signatures=1, effects=1)
    yield Question("wider", "three operations at L2", three, (2,), ("NoA1", "NoA3", "LiveValues"))
    yield Question("wider", "three effects of ordered and free tools at L3", turn, (3,), ("NoA6",))
    yield Question("wider", "every operation chooses its level, and gets what it chose", mixed, (0, 1, 2, 3, 4), both)
    yield Question("wider", "the same among three operations at L0 to L2", chain, (0, 1, 2), both)


def faults() -> Iterator[Question]:
    """Broken models, in which TLC must find the fault."""
    for one in MUTANTS:
        broken = one.applied(MODEL)
        yield Question("fault", one.name, one.bounds, one.levels, (one.broken,), one.broken, model=broken)


def answer(question: Question, workers: int = 1) -> Finding:
    configuration = question.bounds.configuration(question.levels, question.invariants)
    verdict = check(EXPLORE, configuration, workers=workers, beside={"memory": question.model})
    return Finding(
        question=question,
        found=verdict.violated or "holds",
        states=verdict.states,
        generated=verdict.generated,
        seconds=round(verdict.seconds, 2),
        witness=verdict.witness,
    )


def answers(questions: Iterable[Question]) -> Iterator[Finding]:
    """For small questions: as many at once as there are cores, since most of the time is TLC's start."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(answer, questions)


def everything(small: bool) -> Iterator[Finding]:
    """`small`: bounds for CI, without the wider ones."""
    if not small:
        for question in (*matrix(FULL), *wider()):
            yield answer(question, workers=os.cpu_count() or 1)
    yield from answers([*(matrix(SMALL) if small else ()), *faults()])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m verify.model", description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="bounds for CI: under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings there")
    chosen = parser.parse_args(arguments)
    findings: list[Finding] = []
    try:
        for finding in everything(chosen.small):
            if not findings or finding.question.bounds != findings[-1].question.bounds:
                print(f"With {finding.question.bounds}:")
            findings.append(finding)
            print(_line(finding), flush=True)
    except Unavailable as missing:
        print(missing, file=sys.stderr)
        return 2
    if chosen.json:
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode([one.told() for one in findings])))
    wrong = [finding for finding in findings if not finding.right]
    cells = sum(len(finding.question.cells) for finding in findings if finding.right)
    broken = sum(finding.right for finding in findings if finding.question.part == "fault")
    print(f"{cells} of 20 cells as expected, {broken} of {len(MUTANTS)} faults found, {len(wrong)} deviations")
    return 1 if wrong else 0


def _line(finding: Finding) -> str:
    asked, counts = finding.question, f"{finding.states:>9,} states {finding.seconds:>7.1f} s"
    said = f"{finding.found:<10} {counts}  {asked.part:<6} {asked.name}"
    return f"ok  {said}" if finding.right else f"BAD {said}; expected: {asked.expected}"


if __name__ == "__main__":
    sys.exit(main())
