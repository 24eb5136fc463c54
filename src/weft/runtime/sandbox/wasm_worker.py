"""Runs one WebAssembly module: a program of its own, it imports nothing of Weft, unless probes are
to be in the module. Its plan is JSON in a descriptor."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import signal
import sys
from typing import Any

STACK = 512 * 1024
"""Bytes of stack that a module has."""
FUEL_OF_PROBE = 32
"""What an instruction may take of fuel, at the most, for each probe that sees it."""


def main() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # it ends with the thread that started it
    with open(int(sys.argv[1])) as file:
        plan = json.load(file)
    sys.exit(_run(plan))


def _run(plan: dict[str, Any]) -> int:
    from wasmtime import Config, Engine, ExitTrap, Func, Instance, Linker, Store, Trap, WasiConfig, WasmtimeError

    probes = _probes(plan)
    config = Config()
    config.consume_fuel = True
    if probes is not None:
        config.max_wasm_stack = 2 * STACK  # their locals take room in each frame
    engine = Engine(config)
    store = Store(engine)
    store.set_limits(memory_size=plan["memory"], memories=16, tables=16 + (probes is not None), instances=16)
    wasi = WasiConfig()
    wasi.argv = plan["argv"]
    wasi.env = plan["env"].items()
    wasi.inherit_stdin()
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    for host, guest, writable in plan["places"]:
        wasi.preopen_dir(host, guest, writable)
    store.set_wasi(wasi)
    os.write(plan["status"], b"begun")
    os.close(plan["status"])
    seen: Instance | None = None
    try:
        linker = Linker(engine)
        linker.define_wasi()
        module, probed = _compiled(engine, plan, probes)
        store.set_fuel(plan["fuel"] * (FUEL_OF_PROBE * len(plan["probes"]["asked"]) if probed else 1))
        instance = linker.instantiate(store, module)
        start = instance.exports(store).get("_start")
        if not isinstance(start, Func):
            raise WasmtimeError("the module exports no _start: it is a library, not a program")
        if probed:
            seen = instance
            probes.begin(store, instance)
        start(store)
    except ExitTrap as end:
        return int(end.code)
    except (Trap, WasmtimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        if probes is not None:
            _tell(plan, probes.figures(store, seen))
    return 0


def _probes(plan: dict[str, Any]) -> Any:
    """The probes that are to be in the module, if any are: the one case in which Weft is imported."""
    asked = plan.get("probes")
    if asked is None:
        return None
    sys.path.insert(0, asked["weft"])
    from weft.runtime.probes.job import Job

    return Job(asked["asked"], asked["module"])


def _compiled(engine: Any, plan: dict[str, Any], probes: Any) -> tuple[Any, bool]:
    """The module, and whether there are probes in it: where they can't be, it is the plain one."""
    from wasmtime import Module, WasmtimeError

    data = base64.b64decode(plan["module"])
    if probes is not None and (rewritten := probes.put(data)) is not None:
        try:
            return Module(engine, rewritten), True
        except WasmtimeError as error:
            probes.out(error)
    return Module(engine, data), False


def _tell(plan: dict[str, Any], figures: bytes) -> None:
    with open(plan["probes"]["handle"], "wb") as sheet:
        sheet.write(figures)


if __name__ == "__main__":
    main()
