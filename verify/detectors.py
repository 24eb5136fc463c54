"""The detectors equal the definitions: on random histories, and by z3 for all histories up to a bound.

    python -m verify.detectors [--histories 100000] [--operations 5] [--seed 1] [--json FILE]

Three comparisons. *Oracle*: the findings of `weft.trace.anomalies` on random histories are those of the definitions,
evaluated by brute force. *Account*: on the same histories, the formulas of `verify.encoding` say what the detectors
say. *Solver*: z3 finds no history, up to the bound, on which the encoding and the definition differ. And the checks
bite: of each seeded bug the oracle and the solver find a history that shows it. Exits with 1 if anything is not so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, NamedTuple

from msgspec.structs import replace

from verify import definitions, encoding
from verify.logic import PLAIN
from verify.random_histories import CELLS, TOOLS, random_history
from verify.table import Shape, Table, tabulated, untabulated
from weft.trace.anomalies import DETECTORS, Finding, Kind, residues
from weft.trace.history import Operation

KINDS: tuple[Kind, ...] = ("A1", "A2", "A3", "A6")

Found = Counter[tuple[str, ...]]
"""Findings as (kind, operation, cell, value, moment) for reads, (kind, operation, tool), or (kind, operation)."""


# --- random histories ---------------------------------------------------------------------------------------------


def oracle(history: Sequence[Operation]) -> Found:
    """What the definitions say."""
    return _judged(history, definitions)


def account(history: Sequence[Operation]) -> Found:
    """What the encoding says that the detectors say."""
    return _judged(sorted(history, key=lambda one: one.end), encoding)


def _judged(history: Sequence[Operation], by: Any) -> Found:
    table = tabulated(history, CELLS, TOOLS)
    found: Found = Counter()
    for i, one in enumerate(history):
        slots = zip(one.reads, table[i].reads, strict=True)
        found.update(_read("A1", one, r) for r, slot in slots if by.stale(PLAIN, table, i, slot))
        found.update(("A2", one.id, tool) for t, tool in enumerate(TOOLS) if by.phantom(PLAIN, table, i, t))
        found.update([("A3", one.id)] if by.cascade(PLAIN, table, i) else [])
        found.update([("A6", one.id)] if by.reordered(PLAIN, table, i) else [])
    return found


def _read(kind: str, one: Operation, read: Any) -> tuple[str, ...]:
    return (kind, one.id, read.cell, str(read.value), str(read.at))


def detected(history: Sequence[Operation], kinds: Iterable[Kind] = KINDS) -> Found:
    """What the detectors say."""
    return Counter(_key(one) for kind in kinds for one in DETECTORS[kind](history))


def _key(one: Finding) -> tuple[str, ...]:
    if one.kind in ("A1", "residue"):
        return (one.kind, one.operation, str(one.cell), str(one.values["read"]), str(one.times["read"]))
    return (one.kind, one.operation, *(one.tools if one.kind == "A2" else ()))


def residue_difference(history: Sequence[Operation], initial: dict[str, str] | None) -> bool:
    """Whether the residue is another one than by its definition."""
    numbered = None if initial is None else {CELLS.index(cell): int(value) for cell, value in initial.items()}
    expected = definitions.residue(tabulated(history, CELLS, TOOLS), numbered)
    wanted = Counter(
        ("residue", history[i].id, CELLS[slot.cell], str(slot.value), str(slot.at)) for i, slot in expected
    )
    return wanted != Counter(_key(one) for one in residues(history, initial))


def false_witness(history: Sequence[Operation]) -> Finding | None:
    """A finding whose witness, by itself, does not show the anomaly; None if all do."""
    by_id = {one.id: one for one in history}
    for kind in KINDS:
        for found in DETECTORS[kind](history):
            involved = [by_id[id] for id in dict.fromkeys((found.operation, *found.others))]
            if _key(found) not in oracle(involved):
                return found
    return None


class Compared(NamedTuple):
    """`differences`: histories on which something differs, with what. `anomalies`: how many of each kind there were."""

    histories: int
    anomalies: dict[str, int]
    differences: list[tuple[str, list[Operation]]]
    seconds: float


def compare(count: int, seed: int) -> Compared:
    """Detectors, definitions and encoding on random histories."""
    random, began = Random(seed), perf_counter()
    anomalies: Counter[str] = Counter()
    differences: list[tuple[str, list[Operation]]] = []
    for _ in range(count):
        history = random_history(random)
        initial = random.choice((None, {}, {cell: str(random.randrange(3)) for cell in CELLS[:2]}))
        expected, found = oracle(history), detected(history)
        anomalies.update(kind for kind, *_ in expected.elements())
        anomalies.update("residue" for _ in residues(history, initial))
        checks = {
            "oracle": found != expected,
            "account": account(history) != found,
            "residue": residue_difference(history, initial),
            "witness": false_witness(history) is not None,
        }
        differences += [(name, history) for name, differs in checks.items() if differs]
    return Compared(count, dict(sorted(anomalies.items())), differences, perf_counter() - began)


# --- seeded bugs --------------------------------------------------------------------------------------------------


class Bug(NamedTuple):
    """A detector with a test left out. `blind` hides from the real one what that test looks at: the same outcome."""

    kind: Kind
    without: str
    blind: Callable[[Sequence[Operation]], list[Operation]]


def _unsigned(history: Sequence[Operation]) -> list[Operation]:
    return [replace(one, agent=one.id) for one in history]


def _unplanned(history: Sequence[Operation]) -> list[Operation]:
    return [replace(one, planned=()) for one in history]


def _finished(history: Sequence[Operation]) -> list[Operation]:
    return [replace(one, calls=tuple(call for call in one.calls if call.done is not None)) for one in history]


def _direct(history: Sequence[Operation]) -> list[Operation]:
    """Each operation keeps only those predecessors that were themselves retracted."""
    gone = {one.id for one in history if one.retracted}
    return [replace(one, predecessors=tuple(p for p in one.predecessors if p in gone)) for one in history]


BUGS = (
    Bug("A1", "agent", _unsigned),
    Bug("A2", "planned", _unplanned),
    Bug("A3", "way", _direct),
    Bug("A6", "permutation", _finished),
)


def shows(bug: Bug, history: Sequence[Operation]) -> bool:
    """Whether a history tells the detector with the bug from the definitions."""
    expected = {key: n for key, n in oracle(history).items() if key[0] == bug.kind}
    return dict(detected(bug.blind(history), [bug.kind])) != expected


def first_that_shows(bug: Bug, count: int, seed: int) -> int | None:
    """How many random histories it takes to find a bug."""
    random = Random(seed)
    return next((n for n in range(1, count + 1) if shows(bug, random_history(random))), None)


# --- the solver ---------------------------------------------------------------------------------------------------

SHAPES: dict[Kind, tuple[int, int, int, int]] = {
    "A1": (3, 1, 2, 1),
    "A2": (1, 2, 0, 3),
    "A3": (1, 1, 0, 0),
    "A6": (1, 1, 0, 5),
}
"""Cells, tools, and slots for reads and calls of each operation, per anomaly: the others would not take part."""


def shape(kind: Kind, operations: int, cells: int | None = None) -> Shape:
    """A2 and A6 speak of one operation, so one stands for all."""
    most, *rest = SHAPES[kind]
    return Shape(operations if kind in ("A1", "A3") else 1, cells or most, *rest)


def formulas(kind: Kind, table: Table, without: str = "") -> list[tuple[Any, Any]]:
    """For each place where an anomaly of a kind may be: what the definition says, and what the encoding."""
    from verify.symbolic import SYMBOLIC

    left_out = frozenset({without} if without else ())
    places: Iterable[tuple[Any, ...]]
    match kind:
        case "A1":
            places, name = [(i, read) for i, row in enumerate(table) for read in row.reads], "stale"
        case "A2":
            places, name = list(product(range(len(table)), range(len(table[0].tools)))), "phantom"
        case "A3":
            places, name = [(i,) for i in range(len(table))], "cascade"
        case _:
            places, name = [(i,) for i in range(len(table))], "reordered"
    specified, computed = getattr(definitions, name), getattr(encoding, name)
    return [
        (specified(SYMBOLIC, table, *place), computed(SYMBOLIC, table, *place, without=left_out)) for place in places
    ]


def counterexample(kind: Kind, of: Shape, without: str = "", *, apart: bool = False) -> list[Operation] | None:
    """A history within a bound on which encoding and definition differ; None if there is none.

    `apart`: among histories in which no two operations of an agent overlap.
    """
    from verify import symbolic

    table = symbolic.variables(of)
    differ = symbolic.SYMBOLIC.any(a != b for a, b in formulas(kind, table, without))
    rules = [symbolic.well_formed(table, of), *([symbolic.one_at_a_time(table)] if apart else [])]
    model = symbolic.solve(*rules, differ)
    return None if model is None else untabulated(symbolic.valued(model, table))


class Solved(NamedTuple):
    """`found`: z3 has a history on which they differ. `shown`, of seeded bugs: the real detector differs, too."""

    question: str
    expected: bool
    found: bool
    shown: bool | None
    seconds: float


class Question(NamedTuple):
    """Does the encoding, without one of its tests, differ from the definition? `apart`: as in `counterexample`."""

    words: str
    kind: Kind
    shape: Shape
    without: str = ""
    apart: bool = False
    differs: bool = False


def questions(operations: int) -> list[Question]:
    """What z3 is asked, with the answers that are expected."""
    asked = [Question(f"{kind} = definition", kind, shape(kind, operations)) for kind in KINDS]
    for bug in BUGS:
        words = f"{bug.kind} without {bug.without}"
        asked.append(Question(words, bug.kind, shape(bug.kind, operations), bug.without, differs=True))
    for n, cells in product(range(3, operations + 1), (2, 3)):
        words = f"A1 without agent = definition, one agent's operations apart, {n} operations, {cells} cells"
        asked.append(Question(words, "A1", shape("A1", n, cells), "agent", apart=True))
    return asked


def solved(operations: int) -> list[Solved]:
    """Ask all questions for up to `operations` operations."""
    found = []
    for asked in questions(operations):
        began = perf_counter()
        example = counterexample(asked.kind, asked.shape, asked.without, apart=asked.apart)
        shown = None
        if example is not None and asked.without:
            shown = shows(next(bug for bug in BUGS if bug.without == asked.without), example)
        found.append(Solved(asked.words, asked.differs, example is not None, shown, perf_counter() - began))
    return found


# --- the command --------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m verify.detectors", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--histories", type=int, default=100_000)
    parser.add_argument("--operations", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    compared = compare(args.histories, args.seed)
    print(f"{compared.histories:,} random histories, {compared.anomalies}: {len(compared.differences)} differ")
    for name, history in compared.differences[:3]:
        print(f"  {name}: {history}")
    bugs = {f"{bug.kind} without {bug.without}": first_that_shows(bug, args.histories, args.seed) for bug in BUGS}
    for name, after in bugs.items():
        print(f"  seeded bug {name}: {'NOT FOUND' if after is None else f'found by history {after:,}'}")
    answers = solved(args.operations)
    for one in answers:
        verdict = "a history differs" if one.found else "no history differs"
        shown = {None: "", True: "; the detector, too", False: "; but the DETECTOR DOES NOT"}[one.shown]
        verdict += "" if one.found == one.expected else " (NOT EXPECTED)"
        print(f"  z3, {one.question}: {verdict}{shown}, {one.seconds:.1f} s")
    good = (
        not compared.differences
        and None not in bugs.values()
        and all(one.found == one.expected and one.shown is not False for one in answers)
    )
    if args.json:
        figures = {
            "good": good,
            "histories": compared.histories,
            "anomalies": compared.anomalies,
            "differences": len(compared.differences),
            "seconds": round(compared.seconds, 1),
            "operations": args.operations,
            "bugs": bugs,
            "solver": [one._asdict() for one in answers],
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
