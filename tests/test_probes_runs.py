"""Probes in runs: what they see is in the journal with the call that it came from, and nothing else changes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from weft.core.content import ToolCall
from weft.core.errors import BadInput
from weft.core.resources import Resources
from weft.core.step import steps
from weft.runtime.probes import Probe
from weft.runtime.probes.asked import probe_of
from weft.runtime.sandbox import Job, choose, report
from weft.runtime.sandbox import run as sandboxed
from weft.store import open_store
from weft.tool.declare import tool
from weft.trace.probed import Sight, read_probed

gate = threading.Barrier(4)


@weft.step(name="probed.tally")
def tally(n: int) -> int:
    total = 0
    for i in range(n):
        if i % 3 == 0:
            total += i
    return total


@weft.step(name="probed.together")
def together(n: int) -> int:
    total = 0
    for i in range(n):
        if i == n // 2:
            gate.wait(10)  # all four are in the middle of it
        total += i
    return total


@weft.step(name="probed.turns")
async def turns(n: int) -> int:
    for _ in range(n):
        await asyncio.sleep(0)
    return n


tries: list[int] = []


@weft.step(name="probed.wobbly", retries=3)
def wobbly(n: int) -> int:
    tries.append(n)
    if len(tries) < 3:
        raise ValueError("not yet")
    return n


@tool(effect="pure", name="probed_glance")
async def look(at: int = 3) -> str:
    """Look there.

    Args:
        at: Where.
    """
    if at > 2:
        return "far"
    return "near"


made_of_a_step = tool(tally, name="probed_sum")  # type: ignore[call-overload]


@weft.step(name="probed.outer")
async def outer(n: int) -> int:
    return await tally(n) + await tally(n + 1)


def shouting(fn: Any) -> Any:
    @wraps(fn)
    def around(*args: Any) -> Any:
        return fn(*args)

    return around


@weft.step(name="probed.wrapped")
@shouting
def wrapped(n: int) -> int:
    return n


@weft.workflow(name="probed.adding")
async def adding(most: int) -> list[int]:
    return list(await asyncio.gather(*(tally(n) for n in range(most))))


@weft.workflow(name="probed.crowd")
async def crowd() -> list[int]:
    return list(await asyncio.gather(*(together(n) for n in (10, 20, 30, 40)), *(turns(n) for n in (1, 2, 3))))


@weft.workflow(name="probed.trying")
async def trying() -> int:
    return await wobbly(7)


@weft.workflow(name="probed.parent")
async def parent() -> tuple[list[int], int]:
    return await adding(2), await outer(4)


@weft.workflow(name="probed.calls")
async def calls() -> list[Any]:
    answered = await look.call(ToolCall(id="1", name=look.shown, arguments={"at": 1}))
    return [await look(5), answered.text, await made_of_a_step(4)]  # type: ignore[misc]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("WEFT_STORE", str(tmp_path / "journal.db"))
    return str(tmp_path / "journal.db")


def seen(place: str) -> list[Sight]:
    """What probes saw of all runs, the oldest first, in the order of their effects."""

    async def read() -> list[Sight]:
        store = open_store(place)
        try:
            rows = reversed(await store.rows(roots=True))
            found = [[one async for one in read_probed(store, row.id)] for row in rows]
            return [one for mine in found for one in sorted(mine, key=lambda one: (one.run, one.effect))]
        finally:
            await store.close()

    return asyncio.run(read())


def rows(sights: list[Sight], probe: str) -> list[list[list[Any]]]:
    return [one.rows for one in sights if one.probe == probe]


def in_runtime(work: Any, **settings: Any) -> Any:
    async def main() -> Any:
        async with weft.Runtime(**settings) as runtime:
            return await work(runtime)

    return asyncio.run(main())


# --- Python ---------------------------------------------------------------------------------------------------------


def test_each_call_has_its_own_figures(place: str) -> None:
    original = tally.fn.__code__
    probes: list[Any] = [f"{name}:tally" for name in ("hotness", "coverage", "branches", "loops")]
    assert weft.run(adding, 5, probes=[*probes, Probe("calls", tally)]) == [0, 0, 0, 0, 3]
    found = seen(place)
    assert {(one.name, one.attempt, one.left_out, one.note) for one in found} == {("probed.tally", 1, 0, "")}
    assert [one.effect for one in found if one.probe == "loops:tally"] == [1, 2, 3, 4, 5]
    first = original.co_firstlineno
    assert rows(found, "loops:tally") == [[[first + 3, n]] for n in range(5)]
    assert rows(found, "branches:tally")[4] == [[first + 4, 2, 2]]
    assert rows(found, "hotness:tally")[4][:2] == [[first + 4, 4], [first + 5, 2]]
    assert rows(found, "coverage:tally")[0][-2:] == [[first + 5, False], [first + 6, True]]
    assert rows(found, "calls:probed.tally") == [[["tally", 1]]] * 5
    assert found[0].of == __file__ and tally.fn.__code__ is original


def test_calls_at_the_same_time_in_threads_and_tasks_count_for_themselves(place: str) -> None:
    assert weft.run(crowd, probes=["loops:together", "loops:turns"]) == [45, 190, 435, 780, 1, 2, 3]
    found = {one.effect: one.rows[0][1] for one in seen(place)}
    assert found == {1: 10, 2: 20, 3: 30, 4: 40, 5: 1, 6: 2, 7: 3}


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=6))
def test_figures_are_those_of_the_function_alone(sizes: list[int]) -> None:
    from weft.runtime.probes.python import watching
    from weft.runtime.probes.runs import Probes

    observed = [Probes(["hotness:tally", "branches:tally"]).of_attempt(1) for _ in sizes]
    copies = [one.copy_of(tally.fn) for one in observed]
    threads = [threading.Thread(target=copy, args=(n,)) for copy, n in zip(copies, sizes, strict=True)]
    for thread in threads:
        thread.start()
    for thread, one, n in zip(threads, observed, sizes, strict=True):
        thread.join()
        with watching(tally) as alone:
            tally.fn(n)
        figures = dict(one.figures())
        assert dict(figures["hotness:tally"].rows) == alone.lines
        assert [tuple(row[1:]) for row in figures["branches:tally"].rows] == [*alone.branches.values()]


def test_a_failed_attempt_is_seen_and_so_is_the_next(place: str) -> None:
    tries.clear()
    assert weft.run(trying, probes=["hotness:wobbly"]) == 7
    found = seen(place)
    assert [one.attempt for one in found] == [1, 2, 3]
    raised = [dict(one.rows) for one in found]  # type: ignore[arg-type]
    assert [one[wobbly.fn.__code__.co_firstlineno + 4] for one in raised] == [1, 1, 0]


def test_a_child_and_a_step_within_a_step_are_seen_with_the_effect_they_are_in(place: str) -> None:
    assert weft.run(parent, probes=["calls:tally", "loops:tally"]) == ([0, 0], 6)
    found = seen(place)
    assert sorted((one.name, one.effect, one.rows[0][1]) for one in found if one.probe == "calls:tally") == [
        ("probed.outer", 3, 2), ("probed.tally", 1, 1), ("probed.tally", 2, 1),
    ]  # fmt: skip
    assert [one.rows[0][1] for one in found if one.name == "probed.outer" and one.probe == "loops:tally"] == [4 + 5]


def test_tools_are_seen_called_by_a_body_and_by_a_model_and_made_of_a_step(place: str) -> None:
    assert weft.run(calls, probes=["branches:probed_glance", "loops:probed_sum"]) == ["far", "near", 3]
    found = seen(place)
    assert [one.rows[0][1:] for one in found if one.name == "probed_glance"] == [[1, 0], [0, 1]]
    assert [one.rows[0][1] for one in found if one.name == "probed_sum"] == [4]


def test_a_watch_keeps_what_it_caught_and_changes_nothing_where_its_condition_fails(place: str) -> None:
    line = tally.fn.__code__.co_firstlineno + 6  # `return total`, at which `i` isn't bound if n is 0
    assert weft.run(adding, 6, probes=[Probe("watch", tally, line, "i > 2"), f"watch:tally:{line}:[n]"])[:2] == [0, 0]
    found = seen(place)
    watch = f"watch:probed.tally:{line}:i > 2"
    assert rows(found, watch) == [[], [], [], [], [[3]], [[4]]]
    assert [one.note for one in found if one.probe == watch] == ["the condition raised 1 times", *[""] * 5]
    assert rows(found, f"watch:tally:{line}:[n]")[5] == [[5]]


def test_values_that_are_caught_are_plain_and_as_they_were() -> None:
    from weft.runtime.probes.figures import said

    class Odd:
        def __repr__(self) -> str:
            raise KeyError("odd")

    growing = [1]
    kept = said(growing)
    growing.append(2)
    assert (kept, said(1.5), said("x" * 201)[:3]) == ("[1]", 1.5, "'xx") and "Odd" in said(Odd())
    assert len(said(["x" * 1000] * 1000)) < 3000


# --- replay ---------------------------------------------------------------------------------------------------------

PROGRAM = """
import os, sys, weft

@weft.step
def work(n: int) -> int:
    if n == 2 and not os.path.exists("again"):
        open("again", "w").close()
        os.kill(os.getpid(), 9)
    return n * 10

@weft.workflow(name="flow")
async def flow() -> list:
    return [await work(n) for n in range(4)]
"""


@pytest.mark.parametrize("before", [True, False], ids=["on before", "off before"])
@pytest.mark.parametrize("after", [True, False], ids=["on after", "off after"])
def test_a_run_that_was_killed_goes_on_with_and_without_probes(tmp_path: Path, before: bool, after: bool) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    place = str(tmp_path / "journal.db")

    def weft_(*words: str, on: bool) -> subprocess.CompletedProcess[str]:
        probe = ["--probe", "branches:work"] if on else []
        return subprocess.run(
            [sys.executable, "-m", "weft", *words, *probe, "--store", place], cwd=tmp_path, text=True,
            capture_output=True, env={**os.environ, "WEFT_POLICY": "all"}, check=False,
        )  # fmt: skip

    assert weft_("run", "program.py", on=before).returncode == -9
    run = asyncio.run(_first(place))
    done = weft_("resume", run, on=after)
    assert (done.returncode, done.stdout.strip()) == (0, "[0, 10, 20, 30]"), done.stderr
    assert [one.effect for one in seen(place)] == [1, 2] * before + [3, 4] * after


async def _first(place: str) -> str:
    store = open_store(place)
    try:
        return (await store.rows())[0].id
    finally:
        await store.close()


def test_a_fork_is_seen_from_where_it_is_made_anew(place: str) -> None:
    weft.run(adding, 4, probes=["loops:tally"])

    async def again(runtime: weft.Runtime) -> Any:
        return await (await runtime.fork(await _first(place), at=3)).result()

    assert in_runtime(again, probes=["branches:tally"]) == [0, 0, 0, 0]
    assert [(one.effect, one.probe) for one in seen(place)[4:]] == [(3, "branches:tally"), (4, "branches:tally")]


# --- WebAssembly ----------------------------------------------------------------------------------------------------

WAT = """(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1) (table 1 funcref) (elem (i32.const 0) $odd)
  (func $odd (param $n i32) (result i32) (i32.and (local.get $n) (i32.load8_u (i32.const 0))))
  (data (i32.const 0) "\\01")
  (func (export "_start") (local $i i32) (local $sum i32)
    (loop $l
      (if (call_indirect (param i32) (result i32) (local.get $i) (i32.const 0))
        (then (local.set $sum (i32.add (local.get $sum) (local.get $i)))))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 7))))
    (call $exit (local.get $sum))))"""
ALL = ("hotness", "coverage", "blocks", "branches", "loops", "calls", "opcodes", "memory", "globals")


@weft.step(name="probed.guest")
async def guest(module: str, seconds: float | None = None) -> list[Any]:
    done = await sandboxed(choose("wasm"), Job(argv=[module], resources=Resources(seconds=seconds)))
    return [done.status, done.limit, done.stderr.text]


@weft.workflow(name="probed.guests")
async def guests(modules: list[str], seconds: float | None = None) -> list[Any]:
    return list(await asyncio.gather(*(guest(one, seconds) for one in modules)))


@pytest.fixture
def module(tmp_path: Path) -> Any:
    if not report()["wasm"].ok:
        pytest.skip("the wasm wall is not available here")

    def written(text: str, name: str = "guest.wat") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return written


def test_all_monitors_see_a_job_of_the_sandbox_as_they_would_alone(place: str, module: Any) -> None:
    wasmtime = pytest.importorskip("wasmtime")
    from weft.runtime.probes import monitor, observe
    from weft.runtime.probes.figures import of_module

    probes = [*(f"{name}:wasm" for name in ALL), "watch:wasm:odd:n > 4", "watch:wasm:odd+1:n == 2"]
    assert weft.run(guests, [module(WAT)], probes=probes) == [[9, None, ""]]
    found = {one.probe: one for one in seen(place)}
    data = bytes(wasmtime.wat2wasm(WAT))
    for name in ALL:
        alone = monitor(name)
        observe(data, alone)
        assert found[f"{name}:wasm"].rows == of_module(alone, "").rows, name
    assert found["branches:wasm"].rows == [["#2", found["branches:wasm"].rows[0][1], "if", [4, 3]],
                                           ["#2", found["branches:wasm"].rows[1][1], "br_if", [1, 6]]]  # fmt: skip
    assert found["watch:wasm:odd:n > 4"].rows == [[5], [6]] and found["watch:wasm:odd+1:n == 2"].rows == [[2]]
    assert found["loops:wasm"].of == "guest.wat" and found["loops:wasm"].rows[0][-1] == 7


def test_jobs_at_the_same_time_count_for_themselves(place: str, module: Any) -> None:
    made = [module(WAT.replace("const 7)", f"const {n})"), f"{n}.wat") for n in (3, 5, 8)]
    ended = weft.run(guests, made, probes=["loops:wasm"])
    assert [one[0] for one in ended] == [1, 4, 16]
    assert {(one.effect, one.of, one.rows[0][-1]) for one in seen(place)} == {
        (1, "3.wat", 3), (2, "5.wat", 5), (3, "8.wat", 8),
    }  # fmt: skip


def test_limits_hold_as_without_probes_and_what_was_counted_until_then_is_told(place: str, module: Any) -> None:
    endless = '(module (func (export "_start") (loop $l (br $l))))'
    grows = """(module (memory 1) (func (export "_start") (local $i i32) (loop $l
      (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable))"""
    deep = '(module (func $f (param i32) (call $f (local.get 0))) (func (export "_start") (call $f (i32.const 0))))'
    for text, told in ((grows, "unreachable"), (deep, "call stack exhausted")):
        for probes in ((), ("branches:wasm", "calls:wasm")):
            [[status, _, said]] = weft.run(guests, [module(text)], probes=probes)
            assert status == 1 and told in said
    found = {one.probe: one for one in seen(place)[:2]}
    assert found["branches:wasm"].rows[0][-1] == [1, 511]  # 512 MiB, 1 MiB at a time, but for a page to begin with
    deepest = next(one for one in seen(place)[2:] if one.probe == "calls:wasm").rows[0][-1]
    assert deepest > 1000
    [[status, limit, _]] = weft.run(guests, [module(endless)], seconds=1.5, probes=["loops:wasm"])
    assert (status, limit) == (None, "time")
    assert seen(place)[-1].note == "the job was ended before it could tell"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('(module (func (export "_start")) (func (export "weft.begin") unreachable))', "a name that probes use"),
        (f'(module (func (export "_start")) (func {"(local i64) " * 3} {"(local i32)" * 49_999}))', "more locals"),
        ("(module (func $start", "couldn't be put in"),
        ('(module (func (export "other")))', ""),
    ],
    ids=["takes a name", "too many locals", "no module", "no program"],
)
def test_a_guest_into_which_no_probe_can_go_does_what_it_does(place: str, module: Any, text: str, said: str) -> None:
    plain = weft.run(guests, [module(text)])
    assert weft.run(guests, [module(text)], probes=["hotness:wasm", "memory:wasm"]) == plain
    assert all(said in one.note for one in seen(place)) and len(seen(place)) == 2


def test_a_watch_that_names_what_a_module_has_not_keeps_no_other_out(place: str, module: Any) -> None:
    weft.run(guests, [module(WAT)], probes=["watch:wasm:even:n > 1", "watch:wasm:odd:m > 1", "loops:wasm"])
    even, odd, loops = seen(place)
    assert "no function 'even'" in even.note and "no local number 'm'" in odd.note and loops.rows[0][-1] == 7


def test_a_module_knows_nothing_of_probes_that_are_on_something_else(place: str, module: Any) -> None:
    assert weft.run(guests, [module(WAT)], probes=["calls:guest"]) == [[9, None, ""]]
    assert [one.probe for one in seen(place)] == ["calls:guest"]


# --- seen by people -------------------------------------------------------------------------------------------------


def test_show_and_the_page_tell_what_was_seen(place: str) -> None:
    from typer.testing import CliRunner

    from tests.servers.page import page
    from weft.cli.app import app

    weft.run(adding, 2, probes=["loops:tally", f"watch:tally:{tally.fn.__code__.co_firstlineno + 3}:j > 1"])
    run = asyncio.run(_first(place))
    told = CliRunner().invoke(app, ["show", run, "--probes"])
    assert (
        told.exit_code == 0 and "#1 probed.tally: loops:tally" in told.stdout and "the condition raised" in told.stdout
    )
    assert "probe loops:tally" in CliRunner().invoke(app, ["show", run]).stdout
    both = CliRunner().invoke(app, ["show", run, "--probes", "--tree"])
    assert both.exit_code == 2 and "say one of" in both.stderr
    with page(place) as client:
        effect = next(row["id"] for row in client.get(f"/api/runs/{run}/rows?kind=step")["rows"])
        loops, watch = client.get(f"/api/effects/{effect}")["probes"]
        assert (loops["columns"], len(loops["rows"])) == (["line", "iterations"], 1) and "raised" in watch["note"]


# --- what can't be -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        ("heat:tally", "a probe is one of hotness, coverage"), ("opcodes:tally", "a probe is one of hotness, coverage"),
        ("hotness:", "say what it is on"), ("hotness", "say what it is on"), ("", "a probe is one of"),
        ("hotness:nothing", "no step or tool 'nothing' is declared here"), ("hotness:adding", "is a workflow"),
        ("hotness:probed.parent", "is a workflow"), ("hotness:wrapped", "a decorator stands around wrapped"),
        ("watch:tally", "needs a place and a condition"), ("watch:tally:3", "needs a place and a condition"),
        ("watch:tally:here:n", "is the number of a line"), ("watch:tally:1:n", "begins at line 1"),
        ("watch:tally:1:n +", "is no expression"), ("hotness:wasm:3", "no step or tool 'wasm:3'"),
        ("watch:wasm:odd", "needs a place"), (3, "is no probe"), (Probe("loops", len), "is no step"),
    ],
    ids=str,
)  # fmt: skip
def test_what_can_be_no_probe_is_said_before_the_run_begins(place: str, probe: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        weft.run(adding, 2, probes=[probe])
    assert not Path(place).exists()


def test_a_name_that_may_be_two_is_refused_and_one_text_is_no_list(place: str) -> None:
    twin = weft.step(name="probed.more.tally")(tally.fn)
    try:
        with pytest.raises(BadInput, match=r"may be probed\.more\.tally or probed\.tally"):
            weft.run(adding, 2, probes=["hotness:tally"])
    finally:
        del steps[twin.name]
    with pytest.raises(BadInput, match="give a list"):
        weft.run(adding, 2, probes="hotness:tally")
    with pytest.raises(BadInput, match="runs on Ray"):
        weft.run(adding, 2, probes=[Probe("hotness", tally.options(executor="ray"))])


def test_a_probe_is_written_as_it_is_read() -> None:
    for text in ("hotness:shop.parse", "loops:wasm", "watch:parse:12:n > 1:2", "watch:wasm:f+3:n == 2"):
        assert probe_of(text).text == text and probe_of(probe_of(text)) == probe_of(text)


def test_a_workflow_that_takes_probes_itself_gets_them(place: str) -> None:
    @weft.workflow(name="probed.taking")
    async def taking(probes: list[str]) -> list[str]:
        return probes

    assert weft.run(taking, probes=["heat:x"]) == ["heat:x"]
