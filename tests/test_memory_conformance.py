"""Recorded histories against the model, step by step: what Weft may do passes, and the first wrong step is named."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from verify import recorded
from verify.conformance import Deviation, deviations, main

Event = dict[str, Any]


pytestmark = pytest.mark.usefixtures("model_checker")


def begin(op: str, agent: str, level: str) -> Event:
    return {"event": "begin", "op": op, "agent": agent, "level": level}


def read(op: str, cell: str, version: int) -> Event:
    return {"event": "read", "op": op, "cell": cell, "version": version}


def commit(op: str, **writes: int) -> Event:
    return {"event": "commit", "op": op, "writes": writes}


def retract(op: str, *others: str, **restored: tuple[int, int]) -> Event:
    back = {cell: {"version": version, "copy_of": copy_of} for cell, (version, copy_of) in restored.items()}
    return {"event": "retract", "op": op, "fell": [op, *others], "restored": back}


def registry(tool: str, signature: str | None) -> Event:
    return {"event": "registry", "tool": tool, "signature": signature}


def issue(op: str, call: int, tool: str, signature: str | None, effect: str = "ordered") -> Event:
    return {"event": "issue", "op": op, "call": call, "tool": tool, "signature": signature, "effect": effect}


def release(op: str, call: int) -> Event:
    return {"event": "release", "op": op, "call": call}


def simple(event: str, op: str) -> Event:
    return {"event": event, "op": op}


def judge(*histories: Sequence[Event]) -> list[Deviation]:
    lines = "\n".join(json.dumps({"name": str(n), "events": list(events)}) for n, events in enumerate(histories))
    return deviations(recorded.read(lines.encode()))


def both(level: str) -> list[Event]:
    """Two agents read the same plan, and the first commits."""
    return [
        begin("a", "ann", level), begin("b", "bob", level), read("a", "plan", 0), read("b", "plan", 0),
        commit("a", plan=1),
    ]  # fmt: skip


def chain(level: str) -> list[Event]:
    """a writes x; b reads it and writes y; c reads that and writes x."""
    return [
        begin("a", "ann", level), commit("a", x=1),
        begin("b", "bob", level), read("b", "x", 1), commit("b", y=1),
        begin("c", "cyd", level), read("c", "y", 1), commit("c", x=2),
    ]  # fmt: skip


def two_calls(level: str) -> list[Event]:
    return [
        registry("mail", "s1"), registry("file", "s1"), begin("a", "ann", level), issue("a", 1, "mail", "s1"),
        issue("a", 2, "file", "s1"),
    ]  # fmt: skip


ALLOWED: dict[str, list[Event]] = {
    "L0 lets a stale commit through": [*both("L0"), commit("b", plan=2)],
    "L1 refuses it, and the retry passes": [
        *both("L1"), simple("conflict", "b"), begin("b", "bob", "L1"), read("b", "plan", 1), commit("b", plan=2),
    ],
    "a blind write needs no validation": [begin("a", "ann", "L4"), begin("b", "bob", "L4"), commit("a", x=1),
                                          commit("b", x=2)],
    "a program may give up": [*both("L2"), simple("abort", "b"), begin("b", "bob", "L2"), commit("b")],
    "a cascade over two steps": [*chain("L2"), retract("a", "b", "c", x=(3, 0), y=(2, 0))],
    "below L2 what depended on it stays": [*chain("L1"), retract("a"), retract("b", y=(2, 0))],
    "retracted in the middle": [*chain("L2"), retract("b", "c", x=(3, 1), y=(2, 0))],
    "effects in turn": [*two_calls("L3"), release("a", 1), release("a", 2), commit("a")],
    "below L3 in any order": [*two_calls("L2"), release("a", 2), release("a", 1), commit("a")],
    "what commutes may overtake": [
        registry("mail", "s1"), registry("ask", "s1"), begin("a", "ann", "L4"), issue("a", 1, "mail", "s1"),
        issue("a", 2, "ask", "s1", "commutes"), release("a", 2), release("a", 1), commit("a"),
    ],
    "a pinned tool is what it was": [
        registry("mail", "s1"), begin("a", "ann", "L4"), registry("mail", None), issue("a", 1, "mail", "s1"),
        release("a", 1), commit("a"),
    ],
    "below L4 the tool is gone": [
        registry("mail", "s1"), begin("a", "ann", "L3"), registry("mail", None), issue("a", 1, "mail", None),
        release("a", 1), commit("a"),
    ],
}  # fmt: skip

FORBIDDEN: dict[str, tuple[int, list[Event]]] = {
    "stale commit at L1, of a cell that it also writes": (6, [*both("L1"), commit("b", plan=2)]),
    "stale commit at L1, of another cell": (6, [*both("L1"), commit("b", other=1)]),
    "stale read-only commit at L1": (6, [*both("L1"), commit("b")]),
    "a fresh commit is refused": (3, [begin("a", "ann", "L4"), read("a", "x", 0), simple("conflict", "a")]),
    "a read of an old version": (6, [*both("L0")[:5], read("b", "plan2", 1)]),
    "a version is left out": (2, [begin("a", "ann", "L0"), commit("a", x=2)]),
    "begun twice": (2, [begin("a", "ann", "L0"), begin("a", "ann", "L0")]),
    "a dependant stays at L2": (9, [*chain("L2"), retract("a", "b", y=(2, 0))]),
    "a bystander falls": (5, [begin("a", "ann", "L2"), commit("a", x=1), begin("b", "bob", "L2"), commit("b", y=1),
                              retract("a", "b", x=(2, 0), y=(2, 0))]),
    "a value is not restored": (9, [*chain("L2"), retract("a", "b", "c", x=(3, 0))]),
    "a value is restored to a retracted one": (9, [*chain("L2"), retract("a", "b", "c", x=(3, 1), y=(2, 0))]),
    "a value is restored that nobody took back": (9, [*chain("L1"), retract("a", x=(3, 0))]),
    "out of order at L3": (6, [*two_calls("L3"), release("a", 2)]),
    "a call lands twice": (7, [*two_calls("L0"), release("a", 1), release("a", 1)]),
    "committed before its effects have landed": (7, [*two_calls("L0"), release("a", 1), commit("a")]),
    "a phantom tool at L4": (4, [registry("mail", "s1"), begin("a", "ann", "L4"), registry("mail", "s2"),
                                 issue("a", 1, "mail", "s2")]),
    "a new tool at L4": (3, [begin("a", "ann", "L4"), registry("mail", "s1"), issue("a", 1, "mail", "s1")]),
    "a stale resolution below L4": (4, [registry("mail", "s1"), begin("a", "ann", "L3"), registry("mail", "s2"),
                                        issue("a", 1, "mail", "s1")]),
    "after the end": (3, [begin("a", "ann", "L0"), commit("a"), read("a", "x", 0)]),
    "at L2, on what stems from a retracted operation": (9, [
        begin("a", "ann", "L1"), commit("a", x=1), begin("b", "bob", "L1"), read("b", "x", 1), commit("b", y=1),
        retract("a", x=(2, 0)), begin("c", "cyd", "L2"), read("c", "y", 1), commit("c", z=1),
    ]),
}  # fmt: skip


def test_what_the_levels_allow_is_allowed() -> None:
    assert judge(*ALLOWED.values()) == []


def test_the_first_step_that_is_not_allowed_is_named() -> None:
    names = list(FORBIDDEN)
    found = {names[int(deviation.history)]: deviation.at for deviation in judge(*(e for _, e in FORBIDDEN.values()))}
    assert found == {name: at for name, (at, _) in FORBIDDEN.items()}


def test_one_bad_history_among_good_ones() -> None:
    found = judge(*ALLOWED.values(), FORBIDDEN["out of order at L3"][1], *ALLOWED.values())
    assert [(int(deviation.history), deviation.at) for deviation in found] == [(len(ALLOWED), 6)]
    assert "ordered ones land as they were issued" in str(found[0])


def test_a_tool_is_ordered_or_not() -> None:
    with pytest.raises(ValueError, match="'mail' is ordered in one call and not in another"):
        judge([registry("mail", "s1"), begin("a", "ann", "L0"), issue("a", 1, "mail", "s1"),
               issue("a", 2, "mail", "s1", "none")])  # fmt: skip


def serial(chance: random.Random, operations: int) -> list[Event]:
    """Operations one after the other at chosen levels, with retractions of the last: what any store may do."""
    events: list[Event] = []
    versions = dict.fromkeys("wxyz", 0)
    for number in range(operations):
        name = f"o{number}"
        events.append(begin(name, chance.choice(["ann", "bob"]), f"L{chance.randrange(5)}"))
        events += [read(name, cell, versions[cell]) for cell in chance.sample("wxyz", chance.randrange(4))]
        written = {cell: versions[cell] + 1 for cell in chance.sample("wxyz", chance.randrange(3))}
        events.append(commit(name, **written))
        versions |= written
        if chance.random() < 0.2:
            events.append(retract(name, **{cell: (version + 1, version - 1) for cell, version in written.items()}))
            versions |= {cell: version + 1 for cell, version in written.items()}
    return events


def test_many_long_histories_in_one_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(5)
    histories = [serial(chance, operations=12) for _ in range(50)]
    histories[7].append(commit("o0"))
    file = tmp_path / "histories.jsonl"
    file.write_text("\n".join(json.dumps({"name": f"run {n}", "events": e}) for n, e in enumerate(histories)))
    assert main([str(file)]) == 1
    said = capsys.readouterr().out
    assert f"run 7: event {len(histories[7])} " in said
    assert "49 allowed, 1 not" in said
