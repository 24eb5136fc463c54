"""python -m verify.model [--small] [--json FILE]: the model of shared memory, checked by TLC.

Every level against every anomaly, with the verdict that the level's definition demands: what a level excludes is in
no reachable state of the whole space, what it admits is reached. Then wider bounds, and mixed levels. Then faults are
put into the model, and each must be found. Exits 1 if a verdict is not the expected one.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from verify.bounds import FULL, SMALL, Bounds
from verify.mutants import MUTANTS
from verify.tlc import MODELS, Unavailable, Verdict, check

MODEL = (MODELS / "memory.tla").read_text()
EXPLORE = (MODELS / "explore.tla").read_text()
EXCLUDED_FROM = {"A1": 1, "A3": 2, "A6": 3, "A2": 4}
"""Anomaly -> the lowest level that excludes it (arXiv 2606.17182)."""


@dataclass(frozen=True)
class Finding:
    """One verdict of TLC and the one that was expected: an invariant, or "holds" for none violated.

    `cells`: the cells of the matrix that it decides. One exploration decides all that a level excludes: TLC checks
    every invariant in every state. Counts and seconds as in `verify.tlc.Verdict`.
    """

    part: str
    name: str
    bounds: str
    cells: list[str]
    expected: str
    found: str
    states: int
    generated: int
    seconds: float
    witness: list[str]

    @property
    def right(self) -> bool:
        return self.found == self.expected


def matrix(bounds: Bounds, workers: int) -> Iterator[Finding]:
    """5 levels x 4 anomalies."""
    for level in range(5):
        for anomaly, lowest in EXCLUDED_FROM.items():
            if level < lowest:
                found = _explored(MODEL, bounds.configuration((level,), (f"No{anomaly}",)), workers)
                yield _finding(
                    "matrix", f"L{level} admits {anomaly}", bounds, f"No{anomaly}", found, [(level, anomaly)]
                )
        excluded = [anomaly for anomaly, lowest in EXCLUDED_FROM.items() if level >= lowest]
        if excluded:
            names = (*(f"No{anomaly}" for anomaly in excluded), "LiveValues")
            found = _explored(MODEL, bounds.configuration((level,), names), workers)
            title = f"L{level} excludes {', '.join(excluded)}"
            yield _finding("matrix", title, bounds, "holds", found, [(level, anomaly) for anomaly in excluded])


WIDER = (
    ("three operations at L2: no stale generation, no cascade", Bounds(operations=3, tools=0, effects=0), (2,),
     ("NoA1", "NoA3", "LiveValues")),
    ("three effects of ordered and free tools at L3: in order", Bounds(cells=1, operations=1, free=1, effects=3,
     signatures=1), (3,), ("NoA6",)),
    ("every operation chooses its level: each gets what it chose", Bounds(signatures=1, effects=1), (0, 1, 2, 3, 4),
     ("Promise", "LiveValues")),
    ("the same among three operations, without tools", Bounds(cells=1, operations=3, tools=0, signatures=1, effects=0),
     (0, 1, 2), ("Promise", "LiveValues")),
)  # fmt: skip


def wider(workers: int) -> Iterator[Finding]:
    """What must also hold elsewhere."""
    for name, bounds, levels, invariants in WIDER:
        found = _explored(MODEL, bounds.configuration(levels, invariants), workers)
        yield _finding("wider", name, bounds, "holds", found)


def faults(workers: int) -> Iterator[Finding]:
    """Broken models, in which TLC must find the fault."""
    for mutant in MUTANTS:
        configuration = mutant.bounds.configuration(mutant.levels, (mutant.broken,))
        found = _explored(mutant.applied(MODEL), configuration, workers)
        yield _finding("fault", mutant.name, mutant.bounds, mutant.broken, found)


def _explored(model: str, configuration: str, workers: int) -> Verdict:
    return check(EXPLORE, configuration, workers=workers, beside={"memory": model})


def _finding(
    part: str, name: str, bounds: Bounds, expected: str, found: Verdict, cells: list[tuple[int, str]] | None = None
) -> Finding:
    return Finding(
        part=part,
        name=name,
        bounds=str(bounds),
        cells=[f"L{level} {anomaly}" for level, anomaly in cells or []],
        expected=expected,
        found=found.violated or "holds",
        states=found.states,
        generated=found.generated,
        seconds=round(found.seconds, 2),
        witness=found.witness,
    )


def everything(small: bool) -> Iterator[Finding]:
    """`small`: bounds for CI, one core, without the wider ones; else all, on all cores."""
    workers = 1 if small else os.cpu_count() or 1
    yield from matrix(SMALL if small else FULL, workers)
    if not small:
        yield from wider(workers)
    yield from faults(1)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m verify.model", description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="bounds for CI: under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings there")
    chosen = parser.parse_args(arguments)
    findings = []
    try:
        for finding in everything(chosen.small):
            findings.append(finding)
            print(_line(finding), flush=True)
    except Unavailable as missing:
        print(missing, file=sys.stderr)
        return 2
    if chosen.json:
        chosen.json.write_bytes(
            msgspec.json.format(msgspec.json.encode([asdict(f) | {"right": f.right} for f in findings]))
        )
    wrong = [finding for finding in findings if not finding.right]
    cells = sum(len(finding.cells) for finding in findings if finding.right)
    broken = sum(finding.right for finding in findings if finding.part == "fault")
    print(f"{cells} of 20 cells as expected, {broken} of {len(MUTANTS)} faults found, {len(wrong)} deviations")
    return 1 if wrong else 0


def _line(finding: Finding) -> str:
    mark = "ok " if finding.right else "BAD"
    said = (
        f"{finding.found:<10} {finding.states:>9,} states {finding.seconds:>7.1f} s  {finding.part:<6} {finding.name}"
    )
    return f"{mark} {said}" if finding.right else f"{mark} {said} (expected: {finding.expected})"


if __name__ == "__main__":
    sys.exit(main())
