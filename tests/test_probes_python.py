"""Probes in Python functions and tools: what they count, that nothing else changes, and that off is as before."""

from __future__ import annotations

import asyncio
import runpy
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from weft.core.errors import BadInput
from weft.runtime.probes.python import Watch, watching
from weft.tool.declare import tool


def collatz(n: int) -> int:
    """Steps until 1."""
    steps = 0
    while n != 1:
        if n % 2:
            n = 3 * n + 1
        else:
            n //= 2
        steps += 1
    return steps


def closing(factor: int) -> Callable[..., list[int]]:
    offset = factor + 1

    def scaled(*values: int, more: int = 0) -> list[int]:
        def one(value: int) -> int:
            try:
                if value < 0:
                    raise ValueError
                return value * factor + more
            except ValueError:
                return offset
            finally:
                seen.append(value)

        seen: list[int] = []
        return [one(value) for value in values] + seen

    return scaled


@tool(effect="pure")
async def probed_look(at: int) -> str:
    """Look there."""
    if at > 2:
        return "far"
    return "near"


@weft.workflow(name="probes.looking")
async def looking() -> list[str]:
    return [await probed_look(n) for n in range(5)]


def first(function: Any) -> int:
    return int(function.__code__.co_firstlineno)


def test_lines_branches_loops_and_calls() -> None:
    at = first(collatz)
    with watching(collatz) as seen:
        assert [collatz(6), collatz(1)] == [8, 0]
    assert seen.lines == {at + 2: 2, at + 3: 2, at + 4: 8, at + 5: 2, at + 7: 6, at + 8: 8, at + 9: 2}
    assert seen.branches == {at + 4: (6, 2)}
    assert seen.loops == {at + 3: 8}
    assert seen.entered == {"collatz": 2}
    assert seen.coverage == (7, 7)


def test_off_is_the_original_code_object_also_after_an_error() -> None:
    original = collatz.__code__
    with pytest.raises(KeyError), watching(collatz):
        assert collatz.__code__ is not original
        raise KeyError
    assert collatz.__code__ is original
    with watching(collatz) as seen:
        pass
    assert seen.coverage == (0, 7) and collatz.__code__ is original


def test_closures_handlers_and_functions_within_do_what_they_did() -> None:
    scaled = closing(3)
    expected = scaled(1, -2, more=5)
    with watching(scaled) as seen:
        assert scaled(1, -2, more=5) == expected == [8, 4, 1, -2]
    assert seen.entered == {"scaled": 1, "scaled.one": 2}
    assert sorted(seen.branches.values()) == [(1, 1)]


class Base:
    def told(self) -> int:
        return 1


class Named(Base):
    __secret = 2

    def told(self) -> int:
        if self.__secret > 1:
            return super().told() + self.__secret + len(Counter("aab").most_common(1))
        return 0

    @staticmethod
    def plain(n: int) -> int:
        return n


def test_methods_and_calls_of_what_a_module_imports_do_what_they_did() -> None:
    one = Named()
    with watching(Named.told) as seen, watching(one.plain) as plain:
        assert (one.told(), Named.plain(3)) == (4, 3)
    assert seen.entered == {"told": 1} and list(seen.branches.values()) == [(0, 1)] and plain.entered == {"plain": 1}
    assert one.told() == 4

    async def resting(n: int) -> int:
        for _ in range(n):
            await asyncio.sleep(0)
        return sys.maxsize

    with watching(resting) as rested:
        assert asyncio.run(resting(3)) == sys.maxsize
    assert list(rested.loops.values()) == [3]


def test_a_source_that_has_changed_since_is_refused_even_where_only_a_number_did(tmp_path: Path) -> None:
    (tmp_path / "changing.py").write_text("def changing(n):\n    return n + 1\n")
    made = runpy.run_path(str(tmp_path / "changing.py"))["changing"]
    with watching(made) as seen:
        assert made(1) == 2
    assert seen.lines == {2: 1}
    (tmp_path / "changing.py").write_text("def changing(n):\n    return n + 22\n")
    with pytest.raises(BadInput, match="isn't what it was compiled from"), watching(made):
        pass


def test_a_watch_catches_values_where_its_condition_holds() -> None:
    watch = Watch(first(collatz) + 4, "n > 7 and steps < 5")
    with watching(collatz, watch) as seen:
        collatz(6)
    assert seen.watched[watch] == [{"n": 10, "steps": 2}, {"n": 16, "steps": 4}]
    few = Watch(first(collatz) + 4, "True", limit=2)
    with watching(collatz, few) as seen:
        collatz(6)
    assert seen.watched[few] == [{}, {}]


def test_a_tool_is_watched_while_a_run_calls_it(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_STORE", str(tmp_path / "journal.db"))
    monkeypatch.setenv("WEFT_POLICY", "all")
    with watching(probed_look) as seen:
        assert weft.run(looking) == ["near", "near", "near", "far", "far"]
    assert seen.entered == {"probed_look": 5} and list(seen.branches.values()) == [(3, 2)]


def test_a_call_that_is_running_keeps_the_code_it_began_with() -> None:
    gate = asyncio.Event()

    async def waiting() -> int:
        await gate.wait()
        return 7

    async def main() -> tuple[int, int]:
        before = asyncio.ensure_future(waiting())
        await asyncio.sleep(0)
        with watching(waiting) as seen:
            during = asyncio.ensure_future(waiting())
            await asyncio.sleep(0)
        gate.set()
        assert await before == await during == 7
        return tuple(seen.lines.values())  # type: ignore[return-value]

    assert asyncio.run(main()) == (1, 1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 50), max_size=4))
def test_counts_are_those_of_the_interpreters_own_tracing(values: list[int]) -> None:
    traced: Counter[int] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code is not code:
            return None
        traced[frame.f_lineno] += event == "line"
        return trace

    code = collatz.__code__
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for value in values:
            collatz(value)
    finally:
        sys.settrace(before)
    with watching(collatz) as seen:
        for value in values:
            collatz(value)
    loop = first(collatz) + 3  # a statement begins once; its condition is looked at once more a turn
    assert {line: count for line, count in seen.lines.items() if line != loop and count} == {
        line: count for line, count in traced.items() if line != loop and count
    }
    assert seen.lines[loop] + seen.loops[loop] == traced[loop]


def test_what_cannot_take_probes_is_said() -> None:
    made: dict[str, Any] = {}
    exec("def made(): pass", made)
    for function, said in [
        (len, "no Python function"), (made["made"], "source of made"),
        (lambda: 0, "isn't written as a function"),
    ]:  # fmt: skip
        with pytest.raises(BadInput, match=said), watching(function):
            pass
    for watch, said in [
        (Watch(1, "n"), "begins at line 1"), (Watch(1, "n +"), "is no expression"), (Watch(1, "(n := 2)"), "change"),
    ]:  # fmt: skip
        with pytest.raises(BadInput, match=said), watching(collatz, watch):
            pass
    with watching(collatz), pytest.raises(BadInput, match="has probes already"), watching(collatz):
        pass
    assert collatz(6) == 8
