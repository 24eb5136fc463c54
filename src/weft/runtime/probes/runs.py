"""Probes in runs: steps, tools and WebAssembly jobs are seen as they are carried out, and their figures are journaled.

Figures belong to the call that they came from. A step's function is never changed: each attempt runs a copy of it whose
counters are its own, made where the function would have been called (`weft.core.crossing.probed`); so calls at the same
time, in threads or tasks, count for themselves, and a function that nobody watches is called as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from weft.core.errors import BadInput
from weft.core.step import Step, steps
from weft.core.workflow import registry
from weft.runtime.probes.asked import WASM, Probe, probe_of
from weft.runtime.probes.figures import Figures, of_function, said
from weft.runtime.probes.python import Prepared, Seen, Watch, function_of

MOST_JOBS = 100
"""Jobs of one attempt whose figures are kept, for each probe."""


@dataclass(slots=True)
class _Target:
    prepared: Prepared
    probes: list[tuple[Probe, Watch | None]] = field(default_factory=list)


class Probes:
    """The probes of a runtime. Raises BadInput for one that has no such monitor, or is on what there is not."""

    def __init__(self, asked: Sequence[Probe | str]) -> None:
        if isinstance(asked, str | Probe):
            raise BadInput(f"probes={asked!r}: give a list")
        probes = list(dict.fromkeys(map(probe_of, asked)))
        self.jobs = tuple(probe.text for probe in probes if probe.on == WASM)
        self.functions: dict[FunctionType, _Target] = {}
        on: dict[FunctionType, list[Probe]] = {}
        for probe in probes:
            if probe.on != WASM:
                on.setdefault(_function(probe), []).append(probe)
        for function, mine in on.items():
            each = [(probe, Watch(int(probe.at), probe.when) if probe.monitor == "watch" else None) for probe in mine]
            watches = [watch for _, watch in each if watch is not None]
            self.functions[function] = _Target(Prepared(function, watches), each)

    def of_attempt(self, number: int) -> Observing:
        """What sees an attempt of a step, from its beginning on."""
        return Observing(self, number)


def _function(probe: Probe) -> FunctionType:
    step = _step(probe)
    if step.executor is not None:
        raise BadInput(f"probe {probe.text}: {step.name} runs on Ray, where no probe sees it")
    while (beneath := getattr(step, "beneath", None)) is not None:
        step = beneath
    found = function_of(step)
    if found is not getattr(step, "written", step.fn):
        raise BadInput(
            f"probe {probe.text}: a decorator stands around {found.__qualname__}, so that no call can be given a copy; "
            f"see it from within a step, by weft.runtime.probes.python.watching"
        )
    return found


def _step(probe: Probe) -> Step[..., Any]:
    if isinstance(probe.on, Step):
        return probe.on
    if not isinstance(probe.on, str):
        raise BadInput(f"probe {probe.text}: {probe.on!r} is no step and no tool")
    if probe.on in steps:
        return steps[probe.on]
    found = [name for name in steps if name.endswith(f".{probe.on}")]
    if len(found) == 1:
        return steps[found[0]]
    if found:
        raise BadInput(f"probe {probe.text}: {probe.on!r} may be {' or '.join(sorted(found))}")
    if probe.on in registry or any(name.endswith(f".{probe.on}") for name in registry):
        raise BadInput(f"probe {probe.text}: {probe.on} is a workflow: probes are on what it calls, steps and tools")
    raise BadInput(
        f"probe {probe.text}: no step or tool {probe.on!r} is declared here "
        f"(declared: {', '.join(sorted(steps)) or 'none'}, and {WASM!r} is the jobs of the sandbox)"
    )


class Observing:
    """One attempt of a step as the probes of its runtime see it. Safe in any thread."""

    __slots__ = ("_copies", "_jobs", "_over", "attempt", "probes")

    def __init__(self, probes: Probes, attempt: int) -> None:
        self.probes = probes
        self.attempt = attempt
        self._copies: dict[Any, tuple[FunctionType, Seen]] = {}
        self._jobs: list[tuple[str, Figures]] = []
        self._over: Counter[str] = Counter()

    @property
    def jobs(self) -> Sequence[str]:
        """The probes that go into each WebAssembly job."""
        return self.probes.jobs

    def copy_of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """This attempt's copy of a function that is watched; any other itself."""
        target = self.probes.functions.get(function) if isinstance(function, FunctionType) else None
        if target is None:
            return function
        made = self._copies.get(function)
        if made is None:
            made = self._copies.setdefault(function, _copied(target.prepared))
        return made[0]

    def saw(self, figures: Sequence[Figures]) -> None:
        """What the probes of a job saw, in the order of `jobs`."""
        for probe, one in zip(self.jobs, figures, strict=False):
            self._over[probe] += 1
            if self._over[probe] <= MOST_JOBS:
                self._jobs.append((probe, one))

    def figures(self) -> Iterator[tuple[str, Figures]]:
        """What was seen, with the probe that saw it."""
        for function, (_, seen) in self._copies.items():
            for probe, watch in self.probes.functions[function].probes:
                yield probe.text, of_function(probe.monitor, seen, function.__code__.co_filename, watch)
        yield from self._jobs
        for text, jobs in self._over.items():
            if jobs > MOST_JOBS:
                yield text, Figures(note=f"{jobs - MOST_JOBS} more jobs: their figures were not kept")


def _copied(prepared: Prepared) -> tuple[FunctionType, Seen]:
    function = prepared.function
    code, seen = prepared.code(said)
    made = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    return made, seen
