"""Branches are counted as by two counters at each, however a program ends, and whatever else is in the module."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.runtime.probes import monitor, observe
from weft.runtime.probes.job import Several
from weft.runtime.probes.monitors import CONDITIONAL, Branches, Monitor
from weft.runtime.probes.opcodes import IF
from weft.runtime.probes.rewrite import Rewriter

wasmtime = pytest.importorskip("wasmtime", reason="weft[wasm] is not installed")

HEAD = """(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1) (global $s (mut i32) (i32.const {seed})) (global $left (mut i32) (i32.const {left}))
  (table 3 3 funcref) (elem (i32.const 0) $f0 $f1 $f2)
"""
DRAW = """(global.set $s (i32.add (i32.mul (global.get $s) (i32.const 1664525)) (i32.const 1013904223)))"""
CHANCE = f"{DRAW} (i32.lt_u (i32.shr_u (global.get $s) (i32.const 16)) (i32.const {{share}}))"
TICK = """(global.set $left (i32.sub (global.get $left) (i32.const 1)))
 (drop (i32.load (select (i32.const -8) (i32.const 0) (i32.lt_s (global.get $left) (i32.const 0)))))"""
SIMPLE = {
    "load": "(drop (i32.load (i32.const 4)))",
    "store": "(i32.store (i32.const 4) (i32.const 7))",
    "divide": "(drop (i32.div_u (i32.const 5) (i32.and (i32.shr_u (global.get $s) (i32.const 10)) (i32.const 15))))",
    "return": "return",
    "tick": TICK,
    "exit": f"{CHANCE.format(share=300)} if (call $exit (i32.const 0)) end",
    "trap": f"{CHANCE.format(share=300)} if unreachable end",
    "call": "(call $f1)",
    "again": "(call $f2)",
    "through": f"{DRAW} (call_indirect (i32.and (i32.shr_u (global.get $s) (i32.const 20)) (i32.const 3)))",
}
leaf = st.one_of(
    st.sampled_from([*SIMPLE]),
    st.tuples(st.sampled_from(["br", "br_if", "br_if", "br_if"]), st.integers(0, 3)),
    st.tuples(st.just("br_table"), st.lists(st.integers(0, 3), min_size=1, max_size=4)),
)
tree = st.recursive(
    leaf,
    lambda inner: st.tuples(st.sampled_from(["block", "loop", "if", "if else"]), st.lists(inner, max_size=5),
                            st.lists(inner, max_size=3)),
    max_leaves=25,
)  # fmt: skip
body = st.lists(tree, min_size=1, max_size=6)


def text(statements: list[Any], depth: int) -> str:
    return "\n".join(one_text(one, depth) for one in statements)


def one_text(one: Any, depth: int) -> str:
    if isinstance(one, str):
        return SIMPLE[one]
    share = 20_000 + 12_000 * (len(str(one)) % 3)
    if one[0] in ("br", "br_if"):
        chance = CHANCE.format(share=share) if one[0] == "br_if" else ""
        return f"{chance} {one[0]} {min(one[1], depth)}"
    if one[0] == "br_table":
        labels = " ".join(str(min(label, depth)) for label in one[1])
        return f"{DRAW} (i32.and (i32.shr_u (global.get $s) (i32.const 20)) (i32.const 3)) br_table {labels}"
    kind, inside, other = one
    if kind in ("block", "loop"):
        return f"{kind} {TICK if kind == 'loop' else ''} {text(inside, depth + 1)} end"
    otherwise = f"else {text(other, depth + 1)}" if kind == "if else" else ""
    return f"{CHANCE.format(share=share)} if {text(inside, depth + 1)} {otherwise} end"


class Everywhere(Monitor):
    """Two counters at each branch, without a thought."""

    def attach(self, rewriter: Rewriter) -> None:
        self.module = rewriter.module
        self.places: list[tuple[int, int, int, int]] = []
        for function in self.module.functions:
            for place, instruction in enumerate(function.instructions):
                if instruction.code in CONDITIONAL or instruction.code == IF:
                    before, on = rewriter.counter(), rewriter.counter()
                    rewriter.before(function, place, rewriter.bump(before))
                    rewriter.after(function, place, rewriter.bump(on))
                    self.places.append((function.index, instruction.offset, before, on))

    def seen(self) -> dict[tuple[int, int], list[int]]:
        return {(f, o): sorted([self.of(before) - self.of(on), self.of(on)]) for f, o, before, on in self.places}


@settings(max_examples=50, deadline=None)
@given(st.lists(body, min_size=3, max_size=3), st.integers(0, 2**31 - 1), st.integers(1, 400))
def test_counts_are_exact_after_traps_exits_and_deep_recursion(bodies: list[Any], seed: int, left: int) -> None:
    functions = [f"(func $f{n} {TICK} {text(one, 0)})" for n, one in enumerate(bodies)]
    start = '(func (export "_start") (call $f0) (call $f0) (call $f2))'
    data = bytes(wasmtime.wat2wasm(HEAD.format(seed=seed, left=left) + "\n".join(functions) + start + ")"))
    plain, few = Everywhere(), Branches()
    ended = observe(data, plain), observe(data, few)
    assert (ended[0] is None) == (ended[1] is None)
    conditional = [one for one in few.branches() if one.instruction.code in CONDITIONAL or one.instruction.code == IF]
    found = {(one.function.index, one.instruction.offset): sorted(one.taken) for one in conditional}
    assert found == plain.seen()
    beside = Branches()
    together = Several([Everywhere(), beside, monitor("hotness"), monitor("calls")])
    observe(data, together)
    beside.counts = together.counts
    assert [one.taken for one in beside.branches()] == [one.taken for one in few.branches()]


COUNTED = """(module (memory 1) (func (export "main") (local $i i32)
  (loop $l
    (drop (i32.load (local.get $i)))
    (if (i32.and (local.get $i) (i32.const 1)) (then (drop (i32.load (local.get $i)))))
    (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {most}))))))"""


@pytest.mark.parametrize(("most", "ways"), [(10, [[5, 5], [1, 9]]), (70_000, [[32767, 32766], [0, 65533]])], ids=str)
def test_a_trap_in_the_middle_of_a_loop_is_told_apart(most: int, ways: list[Any]) -> None:
    data = bytes(wasmtime.wat2wasm(COUNTED.format(most=most)))
    seen = Branches()
    observe(data, seen)
    assert [one.taken for one in seen.branches()] == ways


def test_ends_by_exceptions_and_by_a_stack_that_is_full_are_counted() -> None:
    deep = """(module (func $f (param $n i32) (if (i32.eqz (local.get $n)) (then return))
      (call $f (i32.sub (local.get $n) (i32.const 1))) (if (local.get $n) (then nop)))
      (func (export "main") (call $f (i32.const {n}))))"""
    for n, ended in ((100, False), (10_000_000, True)):
        plain, few = Everywhere(), Branches()
        data = bytes(wasmtime.wat2wasm(deep.format(n=n)))
        trap, _ = observe(data, few), observe(data, plain)
        assert (trap is not None) == ended
        first, second = few.branches()
        assert second.taken == ([0, 0] if ended else [0, n])
        assert first.taken[1] == (0 if ended else 1) and first.taken[0] >= n * (not ended) + 1000 * ended
