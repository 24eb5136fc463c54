"""The detectors find each anomaly, with a witness, and nothing else: by example, by brute force, and by z3."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path
from random import Random

import msgspec
import pytest

from verify.detectors import (
    BUGS,
    KINDS,
    Bug,
    Question,
    compare,
    counterexample,
    first_that_shows,
    questions,
    shape,
    shows,
)
from verify.random_histories import random_history
from weft.core.errors import BadInput
from weft.core.memory import Level
from weft.trace.anomalies import EXCLUDES, Finding, Kind, check
from weft.trace.history import Call, Effect, Operation, Read, Write, read_history, write_history

HISTORIES = int(os.environ.get("WEFT_DETECTOR_HISTORIES", "2000"))


def kinds(history: list[Operation], level: Level = "L4") -> list[tuple[str, str]]:
    return [(one.kind, one.operation) for one in check(history, level, residue=False)]


def one(history: list[Operation], level: Level = "L4") -> Finding:
    [found] = check(history, level, residue=False)
    return found


# --- A1 -----------------------------------------------------------------------------------------------------------


def stale(*, writer: str = "b", written: str | None = "v2", wrote_at: float = 5, own: bool = False) -> list[Operation]:
    """a reads the plan at 2 and commits at 9; another operation writes the plan in the meantime."""
    writes = (Write("plan", "v3"),) if own else (Write("report", "r"),)
    return [
        Operation("slow", "a", 1, 9, reads=(Read("plan", "v1", 2),), writes=writes),
        Operation("quick", writer, 1, wrote_at, writes=(Write("plan", written),)),
    ]


def test_a_write_between_read_and_commit_makes_a_generation_stale() -> None:
    found = one(stale())
    assert (found.kind, found.operation, found.others, found.cell) == ("A1", "slow", ("quick",), "plan")
    assert found.values == {"read": "v1", "written": "v2"}
    assert found.times == {"read": 2, "written": 5, "committed": 9}
    assert found.words == (
        "slow of a read plan = 'v1' at 2; quick of b wrote 'v2' at 5; the first committed at 9 what it had made of the "
        "old value"
    )


def test_a_cell_that_the_operation_writes_too_is_no_exception() -> None:
    assert kinds(stale(own=True)) == [("A1", "slow")]


@pytest.mark.parametrize(
    "history",
    [stale(writer="a"), stale(written="v1"), stale(wrote_at=2), stale(wrote_at=9), stale(wrote_at=10)],
    ids=["same agent", "same value", "at the read", "at the commit", "after the commit"],
)
def test_what_is_no_stale_generation(history: list[Operation]) -> None:
    assert kinds(history) == []


def test_a_write_whose_value_is_not_told_counts_as_a_change() -> None:
    assert kinds(stale(written=None)) == [("A1", "slow")]


def test_the_first_write_that_made_it_stale_is_the_witness() -> None:
    others = [
        Operation(f"w{at}", agent, 0, at, writes=(Write("plan", value),))
        for at, agent, value in [(3, "a", "x"), (4, "b", "v1"), (5, "a", "y"), (6, "c", "z"), (7, "b", "w")]
    ]
    assert one([stale()[0], *others]).others == ("w6",)


# --- A2 -----------------------------------------------------------------------------------------------------------


def planning(at_end: dict[str, str] | None, *calls: Call, planned: tuple[str, ...] = ("mail",)) -> list[Operation]:
    return [Operation("op", "a", 0, 9, calls=calls, tools={"mail": "s1"}, tools_at_end=at_end, planned=planned)]


@pytest.mark.parametrize(
    ("history", "now"),
    [
        (planning({}), {"commit": None}),
        (planning({"mail": "s2"}), {"commit": "s2"}),
        (planning(None, Call("mail", 0, None, None), planned=()), {"dispatch": None}),
        (planning({"mail": "s1"}, Call("mail", 0, 1, "s2"), planned=()), {"dispatch": "s2"}),
    ],
    ids=["gone", "changed", "gone at dispatch", "changed at dispatch"],
)
def test_a_planned_tool_that_is_not_the_same_any_more(history: list[Operation], now: dict[str, str | None]) -> None:
    found = one(history)
    assert (found.kind, found.tools, found.values) == ("A2", ("mail",), {"begin": "s1", **now})


@pytest.mark.parametrize(
    "history",
    [
        planning({"mail": "s1", "new": "s"}),
        planning({}, planned=()),
        planning({}, planned=("fax",)),
        planning(None),
        planning({"mail": "s1"}, Call("mail", 0, 1)),
    ],
    ids=["still there", "not planned", "never there", "not recorded", "unknown at dispatch"],
)
def test_what_is_no_phantom_tool(history: list[Operation]) -> None:
    assert kinds(history) == []


# --- A3 and its residue -------------------------------------------------------------------------------------------


def chain(*retracted: str) -> list[Operation]:
    """d comes from c, c from b, b from a."""
    pairs = [("a", ()), ("b", ("a",)), ("c", ("b",)), ("d", ("c",))]
    return [Operation(id, "x", n, n + 1, predecessors=p, retracted=id in retracted) for n, (id, p) in enumerate(pairs)]


def test_live_operations_that_come_from_a_retracted_one() -> None:
    found = check(chain("a"), "L2")
    assert [(one.kind, one.operation, one.others) for one in found] == [
        ("A3", "b", ("a",)),
        ("A3", "c", ("b", "a")),
        ("A3", "d", ("c", "b", "a")),
    ]
    assert found[1].words == "c of x is live, but comes over b from a of x, which was retracted"


def test_a_cascade_that_was_followed_to_its_end_is_clean() -> None:
    assert kinds(chain("a", "b", "c", "d")) == kinds(chain()) == []
    assert kinds(chain("a", "b", "c")) == [("A3", "d")]


def test_predecessors_in_a_ring_or_outside_of_the_trace() -> None:
    ring = [Operation(id, "x", 0, 1, predecessors=(other, "elsewhere")) for id, other in (("a", "b"), ("b", "a"))]
    assert kinds(ring) == []
    assert kinds([*ring, Operation("c", "x", 0, 1, predecessors=("a",), retracted=True)]) == []


def reading(*values: str, first: str | None = None) -> list[Operation]:
    """Somebody writes v1 at 10 (and `first` at 0); after that, and one before it, values are read."""
    genesis = [Operation("init", "", 0, 0, writes=(Write("plan", first),))] if first is not None else []
    reads = [
        Operation(f"r{n}", "a", 5 + 10 * n, 6 + 10 * n, reads=(Read("plan", v, 5 + 10 * n),))
        for n, v in enumerate(values)
    ]
    return [*genesis, Operation("w", "b", 9, 10, writes=(Write("plan", "v1"),)), *reads]


@pytest.mark.parametrize(
    ("history", "initial", "expected"),
    [
        (reading("v0", "v1", "lost"), None, ["r2"]),
        (reading("v0", "v1", "v0"), None, []),
        (reading("v1"), {}, ["r0"]),
        (reading("v0"), {}, ["r0"]),
        (reading("v0", "v1"), {"plan": "v0"}, []),
        (reading("lost", "v1"), {"plan": "v0"}, ["r0"]),
        (reading("v0", "v1", first="v0"), {}, []),
        (reading("v0", "lost", first="v0"), {}, ["r1"]),
        (reading("lost"), None, []),
    ],
    ids=[
        "lost writer",
        "first value again",
        "written later",
        "nothing there at first",
        "told at first",
        "not the told one",
        "written at first",
        "written at first, then lost",
        "the price: the first unexplained value is granted",
    ],
)
def test_values_that_nobody_wrote(
    history: list[Operation], initial: dict[str, str] | None, expected: list[str]
) -> None:
    found = check(history, "L2", initial=initial)
    assert [(one.kind, one.operation) for one in found] == [("residue", id) for id in expected]
    assert all("no earlier operation of this trace wrote" in one.words for one in found)


def test_residue_is_looked_for_where_there_is_no_provenance_or_where_asked() -> None:
    history = reading("v0", "v1", "lost")
    known = [*history, Operation("z", "c", 50, 51, predecessors=("w",))]
    assert len(check(history, "L2")) == len(check(known, "L2", residue=True)) == 1
    assert check(known, "L2") == check(history, "L1") == check(history, "L2", residue=False) == []


# --- A6 -----------------------------------------------------------------------------------------------------------


def turn(*done: float | None, second: Effect = "ordered") -> list[Operation]:
    calls = [Call(f"t{n}", n, at, effect=second if n == 1 else "ordered") for n, at in enumerate(done)]
    return [Operation("op", "a", 0, 9, calls=tuple(reversed(calls)))]


def test_effects_in_another_order_than_issued() -> None:
    found = one(turn(3, 1, 2))
    assert (found.kind, found.tools) == ("A6", ("t0", "t1", "t2"))
    assert found.words == "op of a issued t0 #1, t1 #2, t2 #3; they took effect in the order t1 #2, t2 #3, t0 #1"
    assert found.times == {"earlier call done": 3, "later call done": 1}


@pytest.mark.parametrize(
    "history",
    [turn(), turn(4), turn(1, 2, 3), turn(1, 1, 2), turn(2, 1, None), turn(2, 1, 3, second="commutes")],
    ids=["none", "one", "in order", "at once", "one never took effect", "one commutes"],
)
def test_what_is_no_reordering(history: list[Operation]) -> None:
    assert kinds(history) == []


# --- levels -------------------------------------------------------------------------------------------------------


def everything() -> list[Operation]:
    """One operation of each anomaly."""
    return [*stale(), *chain("a")[:2], msgspec.structs.replace(turn(2, 1)[0], id="six"), *planning({})]


@pytest.mark.parametrize(("level", "excluded"), EXCLUDES.items())
def test_a_level_finds_what_it_excludes(level: Level, excluded: tuple[Kind, ...]) -> None:
    assert {one.kind for one in check(everything(), level)} == set(excluded)


def test_without_a_level_each_operation_is_judged_by_its_own_or_l1() -> None:
    for level, expected in ((None, []), ("L2", []), ("L3", ["A6"]), ("L4", ["A6"])):
        history = [msgspec.structs.replace(turn(2, 1)[0], level=level)]
        assert [one.kind for one in check(history)] == expected
    assert [one.kind for one in check(stale())] == ["A1"]
    assert check([msgspec.structs.replace(stale()[0], level="L0"), stale()[1]]) == []


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(BadInput, match="no level 'L5'"):
        check([], "L5")  # type: ignore[arg-type]


# --- files --------------------------------------------------------------------------------------------------------


def test_a_file_gives_back_the_history(tmp_path: Path) -> None:
    random = Random(5)
    history = [
        msgspec.structs.replace(one, id=f"{n}-{one.id}") for n in range(50) for one in random_history(random)
    ] + [Operation("ns", "a", 1_764_169_000_123_456_789, 1_764_169_000_123_456_790)]
    write_history(tmp_path / "h.jsonl", history)
    assert read_history(tmp_path / "h.jsonl") == history


GOOD = '{"id": "a", "agent": "x", "begin": 1, "end": 2}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not an operation: Input data was truncated"),
        ('{"id": "b", "agent": "x", "begin": 1}', "missing required field `end`"),
        ('{"id": "b", "agent": "x", "begin": 1, "end": 2, "reed": []}', "unknown field `reed`"),
        ('{"id": "b", "agent": "x", "begin": 1, "end": 2, "reads": [{"cell": 1}]}', r"\$.reads\[0\].cell"),
        ('{"id": "b", "agent": "x", "begin": 3, "end": 2}', "before it begins"),
        (
            '{"id": "b", "agent": "x", "begin": 1, "end": 2, "reads": [{"cell": "c", "value": "v", "at": 3}]}',
            "reads 'c' at 3, outside of 1 to 2",
        ),
        (
            '{"id": "b", "agent": "x", "begin": 1, "end": 2, "writes": [{"cell": "c", "value": "1"}, '
            '{"cell": "c", "value": "2"}]}',
            "writes 'c' twice",
        ),
        (
            '{"id": "b", "agent": "x", "begin": 1, "end": 2, "calls": [{"tool": "t", "issue": 1, "done": 1}, '
            '{"tool": "u", "issue": 1, "done": 2}]}',
            "the place 1 in the order of issue",
        ),
        ('{"id": "b", "agent": "x", "begin": 1, "end": 2, "level": "L9"}', "Invalid enum value 'L9'"),
        (GOOD, "operation 'a' is also in line 1"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "h.jsonl"
    file.write_text(f"{GOOD}\n\n{line}\n")
    with pytest.raises(BadInput, match=f"h.jsonl:3: .*{said}"):
        read_history(file)


# --- against the definitions --------------------------------------------------------------------------------------


def test_random_histories_by_brute_force() -> None:
    compared = compare(HISTORIES, seed=HISTORIES)
    assert compared.differences == []
    assert all(compared.anomalies[kind] > HISTORIES / 20 for kind in (*KINDS, "residue"))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.kind} without {bug.without}")
def test_brute_force_finds_seeded_bugs(bug: Bug) -> None:
    assert first_that_shows(bug, 1000, seed=1) is not None


@pytest.mark.parametrize("question", questions(4), ids=lambda question: question[0])
def test_by_z3_for_all_histories_up_to_four_operations(question: Question) -> None:
    pytest.importorskip("z3", reason="z3-solver, of the extra 'test', is not installed")
    example = counterexample(question.kind, question.shape, question.without, apart=question.apart)
    assert (example is not None) == question.differs
    if example is not None:
        [bug] = [bug for bug in BUGS if bug.without == question.without]
        assert shows(bug, example)


def test_a1_without_the_agent_test_errs_only_where_an_agent_overlaps_itself() -> None:
    pytest.importorskip("z3", reason="z3-solver, of the extra 'test', is not installed")
    example = counterexample("A1", shape("A1", 3), "agent")
    assert example is not None
    assert any(a.agent == b.agent and a.begin < b.end and b.begin < a.end for a, b in combinations(example, 2))
    assert counterexample("A1", shape("A1", 3), "agent", apart=True) is None
