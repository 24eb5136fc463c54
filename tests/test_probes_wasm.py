"""Probes in WebAssembly: the published monitors' own outputs, and programs whose counts are known by hand."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.core.errors import BadInput
from weft.runtime.probes import instrument, monitor, observe, published
from weft.runtime.probes.asking import Calls, Memory
from weft.runtime.probes.binary import Module, Reader, signed, unsigned
from weft.runtime.probes.monitors import Blocks, Branches, Coverage, Globals, Hotness, Loops, Opcodes

wasmtime = pytest.importorskip("wasmtime", reason="weft[wasm] is not installed")
DATA = Path(__file__).parents[2] / "shared" / "data" / "wizard_monitors.tar.gz"
PROGRAM = """(module (type $t (func (param i32) (result i32)))
 (import "env" "host" (func $host (param i32) (result i32)))
 (table 4 funcref) (memory 2) (global $g (mut i32) (i32.const 0)) (elem (i32.const 0) $a $b $host)
 (func $a (type $t) local.get 0 i32.const 1 i32.add)
 (func $b (type $t) (local i64)
  (block $x (block $y (block $z (br_table $z $y $x (local.get 0))) (return (i32.const 7))) (br 1 (i32.const 9)))
  i32.const 3)
 (func $multi (result i32 i64) (br 0 (i32.const 1) (i64.const 2)))
 (func $null (param funcref) (block $l (block $k (br_on_null $k (local.get 0)) drop br $l)))
 (func $main (export "main") (local $i i32)
  (loop $l (drop (call_indirect (type $t) (local.get $i) (i32.rem_u (local.get $i) (i32.const 3))))
   (global.set $g (i32.add (global.get $g) (i32.const 1)))
   (i32.store8 offset=70000 (local.get $i) (i32.const 1))
   (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5))))
  call $multi drop drop
  (call $null (ref.null func)) (call $null (ref.func $a))
  (memory.fill (i32.const 9) (i32.const 1) (i32.const 3))
  (drop (memory.grow (i32.const 1)))
  (if (i32.eqz (global.get $g)) (then nop) (else nop nop))
  unreachable)
 (elem declare func $a))"""
HOST = {("env", "host"): lambda value: value}


def binary(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


@pytest.fixture(scope="module")
def wizard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not DATA.exists():
        pytest.skip("shared/data/wizard_monitors.tar.gz is not here")
    folder = tmp_path_factory.mktemp("wizard")
    with tarfile.open(DATA) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize(
    ("name", "form", "code"),
    [
        ("hotness", "hotness", False), ("hotness", "hotness-c-", True), ("coverage", "coverage", False),
        ("coverage", "coverage-i-", True), ("blocks", "coverage-c-", True), ("branches", "branches", False),
        ("branches", "branches-c-", True), ("loops", "loops", False), ("loops", "loops-c-", True),
        ("calls", "calls", False), ("calls", "calls-c-", True), ("memory", "memstats", False),
        ("globals", "globals", False),
    ],
)  # fmt: skip
def test_the_published_outputs_line_for_line(wizard: Path, name: str, form: str, code: bool) -> None:
    outputs = sorted((wizard / "expected").glob(f"*.wasm.{form}.out"))
    assert outputs
    for output in outputs:
        watching = monitor(name)
        observe((wizard / output.name.removesuffix(f".{form}.out")).read_bytes(), watching)
        assert published(watching, code=code) == output.read_text(), output.name


def test_every_instruction_is_counted_as_often_as_it_is_executed() -> None:
    watching = Hotness()
    trap = observe(binary(PROGRAM), watching, HOST)
    assert trap is not None and "unreachable" in trap
    counts: dict[int, list[int]] = {}
    for place in watching.places():
        counts.setdefault(place.function.index, []).append(place.count)
    assert counts[1] == [2, 2, 2, 2]
    assert counts[2] == [2] * 5 + [0, 0, 0, 1, 1, 1, 1, 1, 2]  # `return` skips the last end, a branch to it doesn't
    assert counts[3] == [1, 1, 1, 1]
    assert counts[4] == [2, 2, 2, 2, 1, 1, 1, 2, 2]  # a branch to an end executes that end
    assert counts[5][:17] == [5] * 17
    assert counts[5][-8:] == [1, 0, 0, 1, 1, 1, 1, 0]  # the `if`; nop else, passed by; nop nop end; the trap; the end


def test_branches_calls_globals_memory_and_opcodes_of_a_program() -> None:
    data = binary(PROGRAM)
    seen: dict[str, object] = {}
    for name in ("branches", "calls", "globals", "memory", "opcodes", "loops"):
        watching = monitor(name)
        observe(data, watching, HOST)
        if isinstance(watching, Branches):
            seen[name] = [branch.taken for branch in watching.branches()]
        elif isinstance(watching, Calls):
            sites = [site for _, _, sites in watching.calls() for site in sites]
            seen[name] = (sites[0].targets, [site.count for site in sites])
        elif isinstance(watching, Globals) and type(watching) is Globals:
            seen[name] = watching.globals()
        elif isinstance(watching, Memory):
            use = watching.memories[0]
            seen[name] = (dict(use.writes), use.fill, use.grows, use.largest)
        elif isinstance(watching, Opcodes):
            seen[name] = (watching.opcodes()["br"], watching.opcodes()["local.tee"])
        elif isinstance(watching, Loops):
            seen[name] = [loop.count for loop in watching.loops()]
    assert seen == {
        "branches": [[0, 1, 1], [1, 1], [1, 4], [1, 0]],
        "calls": ({1: 2, 2: 2, None: 1}, [5, 1, 1, 1]),
        "globals": [(6, 5)],
        "memory": ({0: 1, 1: 5}, (1, 3), 1, 3),
        "opcodes": ((3, 3), (1, 5)),
        "loops": [5],
    }


def test_the_ways_of_a_branch_add_up_to_how_often_it_was_executed() -> None:
    text = """(module (func (export "main") (local $i i32)
      (loop $l (block $out (block $x (block $y
        (br_if $x (i32.eq (local.get $i) (i32.const 1))) (br_if $y (i32.eq (local.get $i) (i32.const 2)))
        (if (i32.eq (local.get $i) (i32.const 3)) (then (br_if $out (local.get $i)) (br_if $x (local.get $i)))
          (else (br_if $y (i32.eqz (local.get $i))))) (br_if $out (i32.const 0)))
       nop))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 7))))))"""
    for program in (text, PROGRAM):
        branches, hotness = Branches(), Hotness()
        for watching in (branches, hotness):
            observe(binary(program), watching, HOST)
        counts = {(place.function.index, place.instruction.offset): place.count for place in hotness.places()}
        for branch in branches.branches():
            assert sum(branch.taken) == counts[branch.function.index, branch.instruction.offset]
            assert min(branch.taken) >= 0


def test_a_table_of_branches_is_counted_with_and_without_values_that_go_along() -> None:
    text = """(module (func (export "main") (result i32) (local $i i32) (local $sum i32)
      (loop $l
       (block $c (block $b (block $a (br_table $a $b $c $b (local.get $i))) (br $c)) (local.set $sum (i32.const 5)))
       (local.set $sum (i32.add (local.get $sum) (block $y (result i32)
         (drop (block $x (result i32) (br_table $x $y $x (i32.const 7) (local.get $i)))) (i32.const 1))))
       (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 6))))
      (local.get $sum)))"""
    watching = Branches()
    assert observe(binary(text), watching) is None
    assert [branch.taken for branch in watching.branches()] == [[1, 1, 1, 3], [1, 1, 4], [1, 5]]
    engine = wasmtime.Engine()
    found = []
    for data in (binary(text), instrument(binary(text), Branches())):
        store = wasmtime.Store(engine)
        found.append(wasmtime.Instance(store, wasmtime.Module(engine, data), []).exports(store)["main"](store))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["hotness", "blocks", "branches", "loops", "calls", "memory"])
def test_a_program_computes_the_same_with_probes_in_it(name: str) -> None:
    text = """(module (memory (export "m") 1) (func $f (param i32) (result i32)
      (if (result i32) (i32.lt_s (local.get 0) (i32.const 2)) (then (local.get 0)) (else
       (i32.store (i32.mul (local.get 0) (i32.const 4)) (local.get 0))
       (i32.add (call $f (i32.sub (local.get 0) (i32.const 1))) (call $f (i32.sub (local.get 0) (i32.const 2)))))))
      (func (export "main") (result i32) (call $f (i32.const 12))))"""
    from weft.runtime.probes.wasm import begin

    engine = wasmtime.Engine()
    found = []
    for data in (binary(text), instrument(binary(text), watching := monitor(name))):
        store = wasmtime.Store(engine)
        instance = wasmtime.Instance(store, wasmtime.Module(engine, data), [])
        begin(store, instance, watching)
        exports = instance.exports(store)
        found.append((exports["main"](store), bytes(exports["m"].read(store, 0, 200))))
    assert found[0] == found[1] and found[0][0] == 144


def test_nothing_that_was_there_gets_another_number() -> None:
    data = binary(PROGRAM)
    for watching in (Hotness(), Blocks(), Branches(), Memory(), Calls()):
        before, after = Module(data), Module(instrument(data, watching))
        assert after.types[: len(before.types)] == before.types
        assert {name: after.exports[name] for name in before.exports} == before.exports
        assert after.memories == before.memories and after.counts["functions"] == before.counts["functions"]
        for old, new in zip(before.functions, after.functions, strict=True):
            own = [one.raw for one in old.instructions if one.code in (0x10, 0x11, 0x20, 0x21, 0x22, 0x36)]
            assert [one for one in own if one not in [each.raw for each in new.instructions]] == []


@given(st.integers(-(2**63), 2**63 - 1))
def test_numbers_are_written_as_they_are_read(value: int) -> None:
    assert Reader(signed(value)).whole() == value
    assert Reader(unsigned(abs(value))).number() == abs(value)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_bytes_that_are_no_module_are_refused_in_words(data: st.DataObject) -> None:
    whole = bytearray(binary(PROGRAM))
    watching = data.draw(st.sampled_from([Coverage, Branches, Calls, Memory, Globals]))()
    place = data.draw(st.integers(8, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        instrument(bytes(whole[: data.draw(st.integers(place, len(whole)))]), watching)
    except BadInput as error:
        assert str(error)


def test_what_cannot_be_watched_is_said() -> None:
    with pytest.raises(BadInput, match="no WebAssembly module"):
        instrument(b"#!/bin/sh", Hotness())
    with pytest.raises(BadInput, match="there is no monitor 'heat'; there are hotness"):
        monitor("heat")
    with pytest.raises(BadInput, match="exports no function main or _start"):
        observe(binary("(module)"), Hotness())
    with pytest.raises(BadInput, match="can't be begun"):
        observe(binary(PROGRAM), Hotness())
