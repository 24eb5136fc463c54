"""Probes of one's own in WebAssembly: where they fire, conditions, and the guarantees when they come and go."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.core.errors import BadInput
from weft.runtime.probes import observe
from weft.runtime.probes.firing import Firing
from weft.runtime.probes.points import Event, Point, Points

wasmtime = pytest.importorskip("wasmtime", reason="weft[wasm] is not installed")
TEXT = """(module
 (func $step (param $n i32) (param $x f64) (result i32)
  (if (i32.eqz (local.get $n)) (then (return (i32.const 0))))
  (i32.add (local.get $n) (i32.const 1)))
 (func $main (export "main") (local $i i32)
  (loop $l
   (drop (call $step (local.get $i) (f64.convert_i32_s (local.get $i))))
   (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5))))))"""


def run(points: Points) -> None:
    assert observe(bytes(wasmtime.wat2wasm(TEXT)), points) is None


@pytest.mark.parametrize(
    ("point", "times"),
    [
        (Point("entry", "step"), 5), (Point("exit", "step"), 5), (Point("global", "step"), 5 * 3 + 2 + 4 * 5),
        (Point("before", "main", 10), 5), (Point("after", "main", 10), 5), (Point("local", "main", 3), 5),
        (Point("before", "main", 3), 1), (Point("entry", "step", when="n > 2"), 2),
        (Point("entry", "step", when="x >= 1.5 and not (n == 3 or n != 4)"), 1),
        (Point("entry", "step", when="local0 * 2 - 1 < x + 1"), 2), (Point("entry", "step", when="n & 1"), 2),
        (Point("entry", "step", when="-1 < n <= 2"), 3),
    ],
)  # fmt: skip
def test_a_probe_fires_where_and_when_it_is_told(point: Point, times: int) -> None:
    points, seen = Points([point]), list[Event]()
    points.insert(point, seen.append)
    run(points)
    assert len(seen) == times and {event.function for event in seen} == {point.function}


def test_values_of_the_names_in_a_condition_are_told() -> None:
    point = Point("entry", "step", when="n > 2 and x < 4")
    points, seen = Points([point]), list[Event]()
    points.insert(point, seen.append)
    run(points)
    assert [event.values for event in seen] == [{"n": 3, "x": 3.0}]


def test_probes_are_put_in_and_taken_out_in_the_middle_of_a_call() -> None:
    first, second = Point("entry", "step"), Point("exit", "step")
    points, seen = Points([first, second]), list[str]()

    def on_exit(event: Event) -> None:
        seen.append("exit")
        points.remove(second, on_exit)

    def on_entry(event: Event) -> None:
        seen.append("entry")
        if seen.count("entry") == 2:
            points.insert(second, on_exit)
        if seen.count("entry") == 4:
            points.remove(first, on_entry)

    points.insert(first, on_entry)
    run(points)
    assert seen == ["entry", "entry", "exit", "entry", "entry"]


def test_a_probe_that_raises_stops_the_program() -> None:
    point = Point("entry", "step", when="n == 3")
    points = Points([point])

    def stop(event: Event) -> None:
        raise RuntimeError("enough")

    points.insert(point, stop)
    with pytest.raises(RuntimeError, match="enough"):
        observe(bytes(wasmtime.wat2wasm(TEXT)), points)


CHANGES = st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=4)


@settings(max_examples=1000, deadline=None)
@given(
    start=st.lists(st.integers(0, 3), max_size=4),
    script=st.dictionaries(st.integers(0, 3), CHANGES),
    turns=st.integers(1, 4),
)
def test_any_changes_from_within_a_firing_count_from_the_next_occurrence(
    start: list[int], script: dict[int, list[tuple[bool, int]]], turns: int
) -> None:
    firing: Firing[int] = Firing()
    seen: list[tuple[int, int]] = []

    def probe(number: int) -> Any:
        def fired(turn: int) -> None:
            seen.append((turn, number))
            for put, other in script.get(number, ()):
                (firing.insert if put else firing.remove)(probes[other])

        return fired

    probes = [probe(number) for number in range(4)]
    for number in start:
        firing.insert(probes[number])
    waiting, expected = list(start), []  # the model: a list, and a copy of it for each occurrence
    for turn in range(turns):
        firing.fire(turn)
        now = list(waiting)
        for number in list(waiting):
            expected.append((turn, number))
            for put, other in script.get(number, ()):
                if put:
                    now.append(other)
                elif other in now:
                    now.remove(other)
        waiting = now
        if len(waiting) > 40:
            break
    assert seen == expected
    assert firing.waiting == bool(waiting)


def test_a_place_that_is_reached_again_from_its_own_probe_changes_when_the_outermost_is_over() -> None:
    firing: Firing[int] = Firing()
    seen: list[tuple[str, int]] = []

    def late(depth: int) -> None:
        seen.append(("late", depth))

    def again(depth: int) -> None:
        seen.append(("again", depth))
        if depth < 2:
            firing.insert(late)
            firing.fire(depth + 1)

    firing.insert(again)
    firing.fire(0)
    assert seen == [("again", 0), ("again", 1), ("again", 2)]
    seen.clear()
    firing.fire(2)
    assert seen == [("again", 2), ("late", 2), ("late", 2)]


def test_all_fire_before_the_last_that_raised_stops() -> None:
    firing: Firing[int] = Firing()
    seen: list[int] = []

    def stop(number: int) -> Any:
        def raising(event: int) -> None:
            raise RuntimeError(f"stop {number}")

        return raising

    for probe in (stop(1), stop(2), seen.append):
        firing.insert(probe)
    with pytest.raises(RuntimeError, match="stop 2"):
        firing.fire(7)
    assert seen == [7]


@pytest.mark.parametrize(
    ("point", "said"),
    [
        (Point("entry", "walk"), "no function 'walk'"), (Point("local", "step", 2), "at offset 2"),
        (Point("entry"), "needs a function"), (Point("entry", "step", when="m > 1"), "no local number 'm'"),
        (Point("entry", "step", when="n >"), "is no expression"),
        (Point("entry", "step", when="n // 2"), "nothing that"),
        (Point("entry", "step", when="n in x"), "nothing that"),
    ],
)  # fmt: skip
def test_points_that_are_none_are_said(point: Point, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        run(Points([point]))
    with pytest.raises(BadInput, match="isn't one of the points"):
        Points([]).insert(point, print)
