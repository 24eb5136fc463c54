"""Probes: are the published monitors' outputs met line for line, and what do probes cost, in WebAssembly and in Python?

- *published*: every expected output of Wizard's tests that is in `wizard_monitors.tar.gz`, beside what ours prints.
- *CoreMark*: minima of 9 interleaved runs (`--quick`: a tenth of the work) in CPU seconds, as ratios to the plain
  module. A clock that counts its calls gives every variant the same work.
- *Python*: one function as it is, with probes, under `sys.settrace` and under coverage.py (which traces in C).
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.report import Measure, Report
from weft.runtime.probes import instrument, monitor, observe, published
from weft.runtime.probes.python import Prepared, watching

FIRST = ("hotness", "coverage", "branches", "loops")
NAMES = {"memstats": "memory"}
BARS = {"off": 1.02, "branches": 1.15, "blocks": 1.6, "loops": None, "hotness": None}


def figures(report: Report, directory: Path, quick: bool) -> None:
    archive = directory / "wizard_monitors.tar.gz"
    if archive.exists():
        with tempfile.TemporaryDirectory(prefix="weft-probes-") as folder:
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
            _published(report, Path(folder))
            _coremark(report, (Path(folder) / "coremark-minimal.wasm").read_bytes(), quick)
    else:
        report.bar("published", f"lines equal to those in {archive}", None, least=1.0)
    _python(report, 9)


def _published(report: Report, folder: Path) -> None:
    lines: dict[str, list[int]] = {}
    for expected in sorted((folder / "expected").iterdir()):
        program, _, form = expected.name.removesuffix(".out").partition(".wasm.")
        kind, _, option = form.partition("-")
        name = "blocks" if form == "coverage-c-" else NAMES.get(kind, kind)
        if kind.startswith("profile"):
            continue  # the published one is empty for these programs
        watched = monitor(name)
        observe((folder / f"{program}.wasm").read_bytes(), watched)
        ours, theirs = published(watched, code=bool(option)).splitlines(), expected.read_text().splitlines()
        found = lines.setdefault(kind, [0, 0])
        found[0] += sum(one == other for one, other in zip(ours, theirs, strict=False)) * (len(ours) == len(theirs))
        found[1] += len(theirs)
    for kind, (equal, all_) in sorted(lines.items(), key=lambda one: one[0] not in FIRST):
        report.bar("published", f"{kind}: share of {all_} lines equal", equal / all_ if all_ else None, least=1.0)


def _coremark(report: Report, plain: bytes, quick: bool) -> None:
    variants = {"plain": _prepared(plain, quick), "off": _prepared(plain, quick)}
    for name in ("branches", "blocks", "loops", "hotness"):
        began = process_time()
        instrumented = instrument(plain, monitor(name))
        report.add("putting in", Measure(name=name, unit="s of CPU", runs=[process_time() - began]))
        variants[name] = _prepared(instrumented, quick)
    times = _interleaved(variants, 9)
    for name, most in BARS.items():
        ratio = min(times[name]) / min(times["plain"])
        report.add("CoreMark", Measure(name=name, unit="s of CPU", runs=times[name]))
        report.bar("CoreMark", f"{name}: time / plain, minima", ratio, most=most, unit="×", why="the plain module")


def _prepared(data: bytes, quick: bool) -> Callable[[], object]:
    from wasmtime import Engine, Func, FuncType, Linker, Module, Store, ValType

    engine = Engine()
    module = Module(engine, data)

    def run() -> object:
        store, linker, asked = Store(engine), Linker(engine), [0]

        def clock() -> int:  # too fast for CoreMark until it has grown its work thrice (quick: twice), then slow enough
            asked[0] += 1
            return 0 if asked[0] <= (5 if quick else 7) else 20_000

        linker.define(store, "env", "clock_ms", Func(store, FuncType([], [ValType.i64()]), clock))
        exports: Any = linker.instantiate(store, module).exports(store)
        return exports["run"](store)

    return run


def _interleaved(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():
        run()
    for _ in range(rounds):
        for name, run in variants.items():
            began = process_time()
            run()
            times[name].append(process_time() - began)
    return times


def _steps(limit: int) -> int:
    total = 0
    for start in range(1, limit):
        n = start
        while n != 1:
            if n % 2:
                n = 3 * n + 1
            else:
                n //= 2
            total += 1
    return total


def _python(report: Report, rounds: int) -> None:
    original = _steps.__code__
    began = process_time()
    prepared = Prepared(_steps)
    report.add("putting in", Measure(name="Python", unit="s of CPU", runs=[process_time() - began]))

    def probed() -> None:
        _steps.__code__, _ = prepared.code()
        try:
            _steps(400)
        finally:
            _steps.__code__ = original

    def after() -> None:
        with watching(_steps):
            pass
        _steps(400)

    def traced() -> None:
        def trace(frame: Any, event: str, argument: Any) -> Any:
            lines[frame.f_lineno] = lines.get(frame.f_lineno, 0) + 1
            return trace

        lines: dict[int, int] = {}
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            _steps(400)
        finally:
            sys.settrace(before)

    variants: dict[str, Callable[[], object]] = {"plain": lambda: _steps(400), "probes": probed, "sys.settrace": traced}
    if find_spec("coverage"):
        variants["coverage.py"] = _covered
    times = _interleaved(variants, rounds)
    for name, runs in times.items():
        ratio = min(runs) / min(times["plain"])
        report.add("Python", Measure(name=name, unit="s of CPU", runs=runs, more={"× plain": ratio}))
    after()
    report.bar("Python", "off: the original code object (1: it is)", float(_steps.__code__ is original), least=1.0)
    ratio = min(times["sys.settrace"]) / min(times["probes"])
    report.bar("Python", "probes: times as fast as sys.settrace", ratio, least=1.0, unit="×", why="sys.settrace")


def _covered() -> None:
    import coverage

    watch = coverage.Coverage(data_file=None, branch=True, include=[__file__])
    watch.start()
    try:
        _steps(400)
    finally:
        watch.stop()
