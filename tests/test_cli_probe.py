"""`weft trace probe` as a user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from weft.cli.app import app

wasmtime = pytest.importorskip("wasmtime", reason="weft[wasm] is not installed")
PROGRAM = """(module (func $main (export "main") (local $i i32)
 (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5))))))"""


def write(folder: Path, text: str) -> str:
    (folder / "program.wasm").write_bytes(bytes(wasmtime.wat2wasm(text)))
    return str(folder / "program.wasm")


def probe(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["trace", "probe", *words])
    return done.exit_code, done.stdout, done.stderr


def test_a_program_is_run_and_what_it_did_is_told(tmp_path: Path) -> None:
    program = write(tmp_path, PROGRAM)
    assert probe(program, "--monitor", "branches") == (0, 'func "main":\n  +15 br_if:\t [1, 4]\n', "")
    assert "loop:     5" in probe(program, "--monitor", "loops")[1]
    code, out, _ = probe(program, "--code")
    assert code == 0 and "+15      5\t\tbr_if[depth=0]" in out


def test_a_trap_is_said_and_what_was_counted_until_then_is_told(tmp_path: Path) -> None:
    code, out, said = probe(write(tmp_path, '(module (func (export "main") nop unreachable))'), "--monitor", "coverage")
    assert code == 1 and out.startswith("Instr coverage:\t2 / 3 (66.6%)") and "the program ended early" in said


def test_what_cannot_be_done_is_said_before_the_program_runs(tmp_path: Path) -> None:
    program = write(tmp_path, PROGRAM)
    for words, told in [
        (["--monitor", "heat"], "there is no monitor 'heat'"),
        (["--monitor", "blocks"], "blocks is told with the program's text only"),
        (["--export", "walk"], "exports no function walk"),
    ]:
        code, out, said = probe(program, *words)
        assert (code, out) == (2, "") and told in said
    assert "can't be read" in probe(str(tmp_path / "none.wasm"))[2]
    (tmp_path / "text.wasm").write_text("(module)")
    assert "no WebAssembly module" in probe(str(tmp_path / "text.wasm"))[2]
