"""The wall of WebAssembly: a WASI module in wasmtime, which sees the folders that it is given and nothing else.

`Job(argv=["/path/module.wasm", "argument"])`; a module may also be given as text (.wat). Each module runs in a process
of its own, so that one that sleeps in the host or breaks the engine is ended like any other.

In a run with probes on "wasm" that process puts them into the module (`weft.runtime.probes.job`), and runs that in its
place; without, it never hears of them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib.metadata
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from weft.core.crossing import crossing
from weft.core.errors import BadInput, SandboxMissing
from weft.runtime.governor import Group
from weft.runtime.sandbox import wasm_worker
from weft.runtime.sandbox.job import Job
from weft.runtime.sandbox.launch import hidden_in, interpreter, memory_file
from weft.runtime.sandbox.live import Launch, Live, copied, end_group, watched
from weft.runtime.sandbox.scratch import Scratch
from weft.runtime.sandbox.wall import Availability

FUEL = 10**12
"""Instructions, about, that a module may execute."""
MEMORY = 512 * 2**20
"""Bytes of its memories if its resources say nothing."""

LARGEST = 64_000_000
"""Bytes of figures that are read."""


class Wasm:
    name = "wasm"
    grouped = True

    def __init__(self, fuel: int = FUEL) -> None:
        self._fuel = fuel

    def available(self) -> Availability:
        if importlib.util.find_spec("wasmtime") is None:
            return Availability(False, "wasmtime is not installed", fix="pip install 'weft[wasm]'")
        if not hasattr(os, "pidfd_open"):
            return Availability(False, "its processes are watched as Linux lets them be", fix="run Weft on Linux")
        weaker = "WASI modules only; a folder to be read or written in place may hold nothing hidden"
        return Availability(True, f"wasmtime {importlib.metadata.version('wasmtime')}", (weaker,))

    async def start(self, job: Job, group: Group | None = None) -> Live:
        found = self.available()
        if not found.ok:
            raise SandboxMissing(f"no WebAssembly: {found.found}; {found.fix}")
        if job.network:
            raise BadInput("the wasm wall gives no module a network")
        if job.python is not None:
            raise BadInput("the wasm wall runs modules: Job(argv=['/path/module.wasm', ...])")
        for place in (*job.read, *job.write):
            if hidden := hidden_in(Path(place), job):
                raise SandboxMissing(f"the wasm wall can't hide {hidden[0]}: give the folder as copy=")
        if files := [str(place) for place in job.places if not place.is_dir()]:
            raise BadInput(f"the wasm wall is given folders, not single files: {files[0]}")
        try:
            module = await asyncio.to_thread(Path(job.argv[0]).read_bytes)
        except OSError as error:
            raise BadInput(f"the module can't be read: {error}") from error
        with Scratch.begun() as scratch:
            return await self._start(job, group, scratch, module)

    async def _start(self, job: Job, group: Group | None, scratch: Scratch, module: bytes) -> Live:
        copies = await copied(job, scratch, None)
        places = {copy.source: copy.target for copy in copies.made}
        writable = [(str(places.get(path, path)), str(path), True) for path in map(Path, (*job.write, *job.copy))]
        readable = [(str(path), str(path), False) for path in job.read]
        disk = await watched(job, scratch, copies)
        status, told = os.pipe()
        plan = {
            "module": base64.b64encode(module).decode(),
            "argv": [*job.argv],
            "env": dict(job.env),
            "places": [
                *readable,
                *writable,
                (str(scratch.tmp), "/tmp", True),
            ],
            "fuel": self._fuel,
            "memory": MEMORY if job.resources.memory is None else job.resources.memory,
            "parent": os.getpid(),
            "status": told,
        }
        seeing = None if (here := crossing()) is None else here.probes
        sheet = _Sheet(seeing, Path(job.argv[0]).name) if seeing is not None and seeing.jobs else None
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, told)
            if sheet is not None:
                plan["probes"] = sheet.plan
                failed = stack.enter_context(contextlib.ExitStack())
                failed.callback(sheet.close)
            handle = stack.enter_context(memory_file(json.dumps(plan).encode()))
            words = [interpreter(), "-I", wasm_worker.__file__, str(handle)]
            launch = Launch(
                name="wasm",
                words=[*(group.enter if group else []), *words],
                inherit=[handle, told] if sheet is None else [handle, told, sheet.handle],
                kill=lambda live: end_group(live.pid),
                status=status,
                begun=b"begun",
                inside="",
                disk=disk,
                copies=copies,
            )
            if sheet is None:
                return Live(job, group, scratch, launch)
            launch.ended = sheet.read
            live = Live(job, group, scratch, launch)
            failed.pop_all()
            return live


class _Sheet:
    """Where the process of a job writes what probes saw of it: a file in memory, read when it has ended."""

    def __init__(self, seeing: Any, module: str) -> None:
        self._seeing = seeing
        self._module = module
        self.handle = os.memfd_create("weft")

    @property
    def plan(self) -> dict[str, Any]:
        """What the process is told of it."""
        weft = str(Path(wasm_worker.__file__).parents[3])
        return {"asked": [*self._seeing.jobs], "module": self._module, "handle": self.handle, "weft": weft}

    def read(self) -> None:
        from weft.runtime.probes.figures import Figures, read

        try:
            found = read(os.pread(self.handle, LARGEST, 0))
        except BadInput:
            found = [Figures(of=self._module, note="the job was ended before it could tell")] * len(self._seeing.jobs)
        self.close()
        self._seeing.saw(found)

    def close(self) -> None:
        os.close(self.handle)
