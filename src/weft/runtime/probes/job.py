"""Probes in one WebAssembly job, on the side of the process that runs it: several monitors in one module.

What goes wrong with the probes is a note among the figures: the program runs as if there were none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from weft.core.errors import BadInput
from weft.runtime.probes.asked import Probe, probe_of
from weft.runtime.probes.asked import monitor as named
from weft.runtime.probes.binary import Module
from weft.runtime.probes.figures import Figures, of_module
from weft.runtime.probes.monitors import Monitor
from weft.runtime.probes.points import Event, Point, Points
from weft.runtime.probes.rewrite import Rewriter
from weft.runtime.probes.wasm import begin, settle

if TYPE_CHECKING:
    from wasmtime import Instance, Store

LIMIT = 1000
"""Values that a watch keeps."""


class Several(Monitor):
    """Monitors that look at one program together."""

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        super().__init__()
        self.monitors = monitors

    def attach(self, rewriter: Rewriter) -> None:
        for place, one in enumerate(self.monitors):
            rewriter.share = place, len(self.monitors)
            one.attach(rewriter)

    def called(self, site: int, operand: int) -> None:
        site, place = divmod(site, len(self.monitors))
        self.monitors[place].called(site, operand)

    def begun(self, arm: Callable[[int, int], None]) -> None:
        for one in self.monitors:
            one.begun(arm)


class Watching(Points):
    """Catches the values in a condition where it holds."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        function, plus, offset = str(probe.at).rpartition("+")
        if plus and offset.isdecimal():
            point = Point("local", function, int(offset), probe.when)
        else:
            point = Point("entry", str(probe.at), when=probe.when)
        super().__init__([point])
        self.caught: list[dict[str, int | float]] = []
        self.insert(point, self._catch)

    def _catch(self, event: Event) -> None:
        if len(self.caught) < LIMIT:
            self.caught.append(event.values)

    def figures(self, module: str) -> Figures:
        names = sorted(self.caught[0]) if self.caught else []
        rows = [[one[name] for name in names] for one in self.caught]
        note = f"the first {LIMIT}" if len(rows) == LIMIT else ""
        return Figures(columns=tuple(names), rows=rows, of=module, note=note)


class Job:
    """The probes of one job, by their texts, in `module` (a name for people)."""

    def __init__(self, asked: Sequence[str], module: str) -> None:
        self._module = module
        probes = [probe_of(text) for text in asked]
        self._monitors = [Watching(probe) if probe.monitor == "watch" else named(probe.monitor) for probe in probes]
        self._wrong: dict[Monitor, str] = {}
        self._together = Several([])

    def put(self, data: bytes) -> bytes | None:
        """The module (or its text) with those in it that can be; None if none can."""
        from wasmtime import wat2wasm

        try:
            module = Module(data if data.startswith(b"\0asm") else bytes(wat2wasm(data)))
            for one in self._monitors:
                if isinstance(one, Watching):
                    self._try(one, module)
            self._together = Several([one for one in self._monitors if one not in self._wrong])
            rewriter = Rewriter(module)
            self._together.attach(rewriter)
            return rewriter.encode() if self._together.monitors else None
        except Exception as error:  # whatever a module is made for
            self.out(error)
            return None

    def _try(self, one: Watching, module: Module) -> None:
        """One that names what the module hasn't keeps no other out."""
        try:
            Watching(one.probe).attach(Rewriter(module))
        except BadInput as error:
            self._wrong[one] = str(error)

    def out(self, error: Exception) -> None:
        """None can be in this module."""
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        self._wrong |= {one: f"it couldn't be put in: {why}" for one in self._monitors if one not in self._wrong}

    def begin(self, store: Store, instance: Instance) -> None:
        """Before the program's first function is called."""
        begin(store, instance, self._together)

    def figures(self, store: Store, instance: Instance | None) -> bytes:
        """What they saw, as JSON; `instance`: None if there is none with probes in it."""
        if instance is not None:
            settle(store, instance, self._together)
            for one in self._together.monitors:
                one.counts = self._together.counts
        return msgspec.json.encode([self._of(one) for one in self._monitors])

    def _of(self, one: Monitor) -> Figures:
        if one in self._wrong:
            return Figures(of=self._module, note=self._wrong[one])
        return one.figures(self._module) if isinstance(one, Watching) else of_module(one, self._module)
